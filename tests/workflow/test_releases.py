"""Releases are rows of a table: what is not in it is said at once, what is on disk is counted, what archives have is asked for."""

import csv
import os
from pathlib import Path

import pytest
import yaml
from astropy.table import Table

from tullyflow.cli import main
from tullyflow.errors import CatalogueError, FetchError, SettingsError
from tullyflow.fetch.preflight import check_access, choose_training, resolve_releases
from tullyflow.settings import parse_settings
from tullyflow.surveys.asked import check_asked
from tullyflow.surveys.catalogue import UNKNOWN
from tullyflow.surveys.releases import release_rows

ROOT = Path(__file__).resolve().parents[2]
TABLE = str(ROOT / "config" / "releases.csv")
COLUMNS = ("survey", "release", "dataset", "version", "url", "sha256", "added", "note")


def configure(**data):
    return parse_settings({"releases": TABLE, **data}, source="my.yaml")


def write_releases(path: Path, *rows: tuple) -> str:
    with open(path, "w", newline="") as handle:
        csv.writer(handle).writerows([COLUMNS, *((*row, "", "2020-01-01", "") for row in rows)])
    return str(path)


@pytest.mark.parametrize("key", ["releases", "train_release"])
def test_a_release_that_the_table_does_not_list_is_one_sentence_with_those_it_does(key):
    value = ["DR15", "DR99"] if key == "releases" else "DR99"
    with pytest.raises(SettingsError) as info:
        resolve_releases(configure(manga={"releases": ["DR15"], key: value}), source="my.yaml")
    message = str(info.value)
    assert "\n" not in message
    assert message.startswith(f"my.yaml: manga.{key}: ")
    for word in ("'DR99'", "DR15, DR16, DR17"):
        assert word in message


def test_a_new_release_is_a_row_of_the_table(tmp_path):
    rows = [tuple(row[c] for c in COLUMNS[:5]) for row in release_rows(configure())]
    table = write_releases(tmp_path / "r.csv", *rows, ("manga", "DR18", "drpall", "v4", "https://data.sdss.org/sas/dr18/drpall-v4.fits"))
    settings = resolve_releases(configure(releases=table, manga={"releases": ["DR17", "DR18"], "train_release": "DR15"}))
    assert settings.manga.releases == ["DR17", "DR18"]
    assert settings.manga.train_release == "DR15"


def test_latest_is_the_release_added_last():
    settings = resolve_releases(
        configure(surveys=["manga", "sami", "things"], **{s: {"releases": ["latest"]} for s in ("manga", "sami", "things")})
    )
    assert [getattr(settings, survey).releases for survey in settings.surveys] == [["DR17"], ["DR3"], ["NA"]]
    with pytest.raises(SettingsError, match="listed twice"):
        resolve_releases(configure(manga={"releases": ["DR17", "latest"]}))


def test_the_network_that_a_run_has_is_used_for_releases_added_later(tmp_path):
    def chosen(releases, **manga):
        settings, said = choose_training(configure(manga={"releases": releases, **manga}), tmp_path)
        return settings.manga.train_release, " ".join(said)

    assert chosen(["DR16", "DR15"]) == (
        "DR16",
        "manga: the network is trained on DR16, the first of the releases (train_release is not given)",
    )
    assert chosen(["DR15"]) == ("DR15", "")
    weights = tmp_path / "network/manga-DR15/weights.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_text("")
    assert chosen(["DR17", "DR15"])[0] == "DR15"
    assert "the network of DR15 serves DR17 too" in chosen(["DR17"])[1]
    release, said = chosen(["DR15", "DR17"], train_release="DR17")
    assert release == "DR17"
    assert "this run has one of DR15" in said
    other = tmp_path / "network/manga-DR16/training.json"
    other.parent.mkdir()
    other.write_text("{}")
    os.utime(other, (weights.stat().st_mtime + 10,) * 2)
    assert chosen(["DR17"])[0] == "DR16", "of several the one written last"


def test_an_archive_that_needs_an_address_of_yours_is_said_before_its_catalogues_are_asked(tmp_path, monkeypatch):
    for name in ("DATACENTRAL_EMAIL", "DATACENTRAL_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    settings = configure(surveys=["manga", "sami"], resources=str(tmp_path / "resources"))
    with pytest.raises(FetchError, match=r"sami DR3: .*DATACENTRAL_EMAIL.*'mirror'"):
        check_access(settings)
    check_access(configure(surveys=["manga", "sami"], mirror=str(tmp_path)))


def test_a_release_without_an_analysis_type_is_said_before_anything_runs(tmp_path):
    url = "https://data.sdss.org/sas/dr18/{daptype}/{plate}-{ifu}.fits"
    table = write_releases(
        tmp_path / "r.csv", ("manga", "DR18", "drpall", "v4", "https://x.org/drpall.fits"), ("manga", "DR18", "maps", "v4", url)
    )
    with pytest.raises(SettingsError, match=r"manga\.daptype has no entry for DR18"):
        check_access(configure(releases=table, manga={"releases": ["DR18"]}, resources=str(tmp_path)))


def unknown(folder: Path, place: str, names: dict[str, str]) -> None:
    (folder / place).mkdir(parents=True, exist_ok=True)
    Table({"galaxy": list(names), "close": list(names.values())}, dtype=["U40", "U40"]).write(folder / place / UNKNOWN, overwrite=True)


def test_a_name_must_be_in_one_release_and_need_not_be_in_all(tmp_path):
    settings = configure(
        surveys=["manga", "sami"], manga={"releases": ["DR15", "DR17"]}, galaxies=["8485-1901", "DR17/7443-1902", "209807"],
    )  # fmt: skip
    unknown(tmp_path, "manga-DR15", {"209807": ""})
    unknown(tmp_path, "manga-DR17", {"8485-1901": "", "209807": ""})
    unknown(tmp_path, "sami-DR3", {"8485-1901": ""})
    assert check_asked(settings, tmp_path, tmp_path / "named.txt") == 3
    unknown(tmp_path, "manga-DR17", {"8485-1901": "", "209807": "", "7443-1902": "7443-1901, 7443-12701"})
    (tmp_path / "named.txt").unlink()
    with pytest.raises(CatalogueError) as info:
        check_asked(settings, tmp_path, tmp_path / "named.txt")
    assert str(info.value) == (
        "galaxies: DR17/7443-1902 is in none of the releases of this run (manga DR15, manga DR17, sami DR3) (close: 7443-1901, 7443-12701)."
    )
    assert not (tmp_path / "named.txt").exists()


def test_a_survey_has_galaxies_of_its_own(tmp_path):
    settings = configure(surveys=["manga", "sami"], galaxies=["209807"], manga={"releases": ["DR17"], "galaxies": ["8485-1901"]})
    assert settings.for_survey("manga").galaxies == ["8485-1901"]
    assert settings.for_survey("sami").galaxies == ["209807"]
    unknown(tmp_path, "manga-DR17", {"8485-1901": "8485-1902"})
    unknown(tmp_path, "sami-DR3", {})
    with pytest.raises(CatalogueError, match=r"manga\.galaxies: 8485-1901 .*\(manga DR17\) \(close: 8485-1902\)"):
        check_asked(settings, tmp_path, tmp_path / "named.txt")


def test_the_command_refuses_a_release_that_is_not_listed(tmp_path, capsys):
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({"releases": TABLE}))
    files = ["--settings", str(tmp_path / "my.yaml"), "--out", str(tmp_path / "m.csv")]
    assert main(["fetch", "--survey", "manga", "--release", "DR99", *files]) == 2
    assert "lists no release 'DR99' of manga; there are: DR15, DR16, DR17." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["manga={releases: [DR15, DR18]}"],
            "manga.releases: config/releases.csv lists no release 'DR18' of manga; there are: DR15, DR16, DR17.",
        ),
        (["surveys=[sami]"], "sami DR3: Halpha, gas-velocity, gas-vdisp, stellar-velocity come from datacentral.org.au's bulk service"),
    ],
)
def test_snakemake_says_it_before_anything_runs(snakemake, tmp_path, arguments, words):
    (tmp_path / "config").symlink_to(ROOT / "config")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"surveys": ["manga"]}))
    result = snakemake(tmp_path, "--cores", "1", "--dry-run", "--configfile", "config.yaml", "--config", *arguments, DATACENTRAL_EMAIL="")
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


def test_a_run_in_a_folder_of_one_s_own_finds_the_tables_of_the_checkout(snakemake, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"surveys": ["manga"], "mirror": ".", "run": "mine"}))
    result = snakemake(tmp_path, "--cores", "1", "--dry-run", "--configfile", "mine.yaml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Listing the galaxies of manga" in result.stdout + result.stderr
    monkeypatch.chdir(tmp_path)
    assert main(["releases", "--settings", "mine.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"releases: {TABLE}")


def test_a_table_in_the_working_folder_goes_before_the_checkout_s_and_one_s_own_is_never_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = configure(releases="config/releases.csv", catalogue="mine.csv", overrides="config/none.csv")
    found = settings.in_checkout(ROOT)
    assert (found.releases, found.catalogue, found.overrides) == (TABLE, "mine.csv", "config/none.csv")
    assert configure(catalogue="config/wisdom.csv").in_checkout(ROOT).catalogue == str(ROOT / "config/wisdom.csv")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/releases.csv").touch()
    assert settings.in_checkout(ROOT) == settings, "so a run in the checkout passes on what it always did"


@pytest.mark.parametrize(("name", "trained"), [("latest", ["manga-DR17", "sami-DR3", "things-NA"]),
                                               ("dawson2021", ["manga-DR15", "sami-DR2", "things-NA", "local-user"])])  # fmt: skip
def test_a_shipped_config_is_walked_without_an_error(snakemake, tmp_path, name, trained):
    (tmp_path / "config").symlink_to(ROOT / "config")
    config = ["--configfile", str(ROOT / f"config/{name}.yaml"), "--config", "mirror=."]
    networks = [f"results/{name}/network/{network}/training.json" for network in trained]
    result = snakemake(tmp_path, *networks, "--cores", "1", "--dry-run", *config)
    assert result.returncode == 0, result.stdout + result.stderr
    result = snakemake(tmp_path, "--cores", "1", "--dry-run", *config)
    assert result.returncode == 0, result.stdout + result.stderr
    said = result.stdout + result.stderr
    assert said.count("Listing the galaxies of") == len(trained)
    assert ("Training a network on synthetic discs" in said) == (name == "latest")
