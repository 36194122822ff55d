"""Releases are rows of a table: what is not in it is said at once, what is on disk is counted, what archives have is asked for."""

import csv
import http.server
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import yaml
from astropy.table import Table

from tullyflow.cli import main
from tullyflow.errors import CatalogueError, FetchError, SettingsError
from tullyflow.fetch.archives import check_archives, holdings
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


def test_files_on_disk_are_counted_under_the_release_that_keeps_them(tmp_path, capsys):
    files = {
        "maps/1/2/manga-1-2-MAPS-HYB.fits.gz": 100, "maps/1/2/.manga-1-3-MAPS-HYB.fits.gz.part": 7, "catalogues/drpall-v2_4_3.fits": 30,
        "logcube/1/2/manga-1-2-LOGCUBE.fits.gz": 5, "modelcube/1/2/manga-1-2-LOGCUBE-HYB.fits.gz": 6,
    }  # fmt: skip
    for name, size in files.items():
        path = tmp_path / "resources/manga/DR15" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    found = {
        (h.release, h.dataset): (h.files, h.bytes)
        for h in holdings(configure(resources=str(tmp_path / "resources")))
        if h.survey == "manga"
    }
    for release in ("DR15", "DR16"):
        assert found[release, "maps"] == (1, 100)
        assert found[release, "drpall"] == (1, 30)
        assert (found[release, "logcube"], found[release, "modelcube"]) == ((1, 5), (1, 6))
    assert found["DR17", "maps"] == (0, 0)
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({"releases": TABLE, "resources": str(tmp_path / "resources")}))
    assert main(["releases", "--settings", str(tmp_path / "my.yaml")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith("4 files, 141 B below ")
    assert next(line for line in printed if "DR16" in line and " maps " in line).endswith("the files of DR15")


@dataclass
class Archives:
    """What the loopback server has: files and folders with their headers, tables, and what it was asked."""

    url: str = ""
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    tables: list[tuple[str, str]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def archives():
    made = Archives()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            """Keep the test's output clean."""

        def _answer(self, body: bytes, code: int = 200, **headers):
            self.send_response(code)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self):
            made.asked.append((self.command, self.path))
            if self.path in made.codes:
                self._answer(b"", made.codes[self.path])
            elif self.path in made.files:
                self._answer(b"", **made.files[self.path])
            elif self.path in made.pages:
                self._answer(made.pages[self.path].encode(), Content_Type="text/html")
            else:
                self._answer(b"", 404)

        do_HEAD = do_GET

        def do_POST(self):
            made.asked.append((self.command, self.path))
            query = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["QUERY"][0]
            assert "TAP_SCHEMA.tables" in query
            rows = [f"{schema},{table}" for schema, table in made.tables if f"'{schema[:4]}" in query]
            self._answer("\n".join(["schema_name,table_name", *rows]).encode(), Content_Type="text/csv")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def asking(archives, tmp_path):
    """Settings whose releases table names the loopback archives."""
    sas = f"{archives.url}/sas/dr17/manga/spectro"
    tap = f"tap+{archives.url}/vo/tap?table=sami_dr3."
    table = write_releases(
        tmp_path / "r.csv",
        ("manga", "DR17", "drpall", "v3_1_1", f"{sas}/redux/v3_1_1/drpall-v3_1_1.fits"),
        ("manga", "DR17", "maps", "v3_1_1-3.1.0", f"{sas}/analysis/v3_1_1/3.1.0/{{daptype}}/{{plate}}/{{ifu}}/MAPS-{{plate}}.fits.gz"),
        ("sami", "DR3", "CubeObs", "dr3", f"{tap}CubeObs"),
        ("sami", "DR3", "InputCat", "dr3", f"{tap}InputCat"),
        ("sami", "DR3", "maps", "dr3", f"bulk+{archives.url}/api?source={{catid}}"),
        ("things", "NA", "cube", "NA", f"{archives.url}/Data_files/{{name}}_NA_CUBE.FITS"),
        ("things", "RO", "cube", "RO", "archive://old/{name}_RO.FITS"),
    )  # fmt: skip
    archives.files["/sas/dr17/manga/spectro/redux/v3_1_1/drpall-v3_1_1.fits"] = {"Content_Length": "500", "ETag": '"one"'}
    archives.pages["/sas/dr17/manga/spectro/analysis/v3_1_1/3.1.0/"] = "files"
    archives.codes["/Data_files/"] = 403
    archives.tables = [("sami_dr3", "CubeObs"), ("sami_dr3", "sami_dr3.InputCat")]
    return configure(releases=table, resources=str(tmp_path / "resources"), fetch={"tries": 1, "timeout_s": 5})


def states(settings) -> dict[str, str]:
    return {f"{f.survey} {f.release} {f.dataset}": f.state for f in check_archives(settings).findings}


def test_archives_are_asked_what_is_there_changed_and_vanished(archives, asking):
    same = {"sami DR3 maps": "not asked", "things NA cube": "refused", "things RO cube": "not asked"}
    names = ("manga DR17 drpall", "manga DR17 maps", "sami DR3 CubeObs", "sami DR3 InputCat")
    assert states(asking) == same | dict.fromkeys(names, "new")
    assert {method for method, path in archives.asked if "/vo/" not in path} == {"HEAD"}, "no file is fetched"
    assert states(asking) == same | dict.fromkeys(names, "there")
    archives.files["/sas/dr17/manga/spectro/redux/v3_1_1/drpall-v3_1_1.fits"]["ETag"] = '"two"'
    archives.pages.clear()
    archives.tables.pop()
    now = states(asking)
    assert now == same | dict(zip(names, ("changed", "vanished", "there", "vanished"), strict=True))
    archives.codes["/sas/dr17/manga/spectro/redux/v3_1_1/drpall-v3_1_1.fits"] = 503
    assert states(asking)["manga DR17 drpall"] == "unreachable"
    record = (Path(asking.resources) / "releases.csv").read_text()
    assert '""two""' in record, "what was last there is remembered"


def test_a_catalogue_on_disk_that_differs_from_the_archive_s_is_said_at_the_first_look(archives, asking):
    path = Path(asking.resources) / "manga/DR17/catalogues/drpall-v3_1_1.fits"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 499)
    assert states(asking)["manga DR17 drpall"] == "changed"


def test_a_release_that_appears_comes_with_the_rows_to_add(archives, asking, tmp_path, capsys):
    assert check_archives(asking).rows == []
    redux, analysis = "/sas/dr19/manga/spectro/redux/", "/sas/dr19/manga/spectro/analysis/v4_0_10/"
    archives.pages |= {
        redux: '<a href="v4_0_9/">v4_0_9/</a> <a href="v4_0_10/">x</a> <a href="other/">other</a>',
        analysis: '<a href="4.1.0/">',
    }
    archives.pages["/sas/dr19/manga/spectro/analysis/"] = '<a href="v4_0_10/">v4_0_10/</a>'
    archives.files[f"{redux}v4_0_10/drpall-v4_0_10.fits"] = {"Content_Length": "5"}
    archives.tables += [("sami_dr4", "CubeObs"), ("hector_dr1", "hector_dr1.Targets")]
    found = list(csv.DictReader(check_archives(asking).rows, COLUMNS))
    assert [(row["survey"], row["release"], row["dataset"], row["version"]) for row in found] == [
        ("manga", "DR19", "drpall", "v4_0_10"), ("manga", "DR19", "maps", "v4_0_10-4.1.0"),
        ("sami", "DR4", "CubeObs", "dr4"), ("hector", "DR1", "Targets", "dr1"),
    ]  # fmt: skip
    assert found[0]["url"] == f"{archives.url}{redux}v4_0_10/drpall-v4_0_10.fits"
    assert found[0]["note"] == ""
    assert found[1]["url"] == f"{archives.url}{analysis}4.1.0/{{daptype}}/{{plate}}/{{ifu}}/MAPS-{{plate}}.fits.gz"
    assert found[1]["note"] == "address not confirmed"
    assert found[2]["url"] == f"tap+{archives.url}/vo/tap?table=sami_dr4.CubeObs"

    (tmp_path / "my.yaml").write_text(yaml.safe_dump(asking.model_dump(mode="json", exclude_defaults=True)))
    assert main(["releases", "--check", "--settings", str(tmp_path / "my.yaml")]) == 0
    printed = capsys.readouterr().out
    assert "appeared: 4 row(s) to add" in printed
    with open(asking.releases, "a") as table:
        table.write("\n".join(printed.splitlines()[-4:-1]) + "\n")
    assert "DR19" in {row["release"] for row in release_rows(asking)}, "the printed lines are rows of the table"
    assert not any(row.startswith("manga,DR19") for row in check_archives(asking).rows)


def test_the_plan_counts_what_is_still_to_come_and_asks_for_few_lengths(archives, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = {
        "run": "p",
        "releases": TABLE,
        "surveys": ["things"],
        "mirror": archives.url,
        "resources": "here",
        "things": {"releases": ["NA"]},
    }
    settings = configure(**data)
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(data))
    from tullyflow.surveys.things import products, targets

    names = list(targets({}, "NA", settings)["galaxy"])
    files = [products({"galaxy": name}, "NA", settings)[0] for name in names]
    for number, product in enumerate(files):
        path = product.urls[0].removeprefix("https:/")
        archives.files[path] = {"Content_Length": str(10_000_000 * (1 + number % 2))}
    for product in files[:4]:
        path = tmp_path / "here" / product.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert main(["fetch", "--plan", "--settings", "my.yaml"]) == 0
    printed = capsys.readouterr().out
    assert len(archives.asked) == 20
    assert {method for method, _ in archives.asked} == {"HEAD"}
    cells = next(line for line in printed.splitlines() if line.startswith("things")).split()
    assert cells[:6] == ["things", "NA", "cube", str(len(names)), "4", str(len(names) - 4)]
    assert "bytes scaled from 20 files" in printed
    total = float(cells[6])
    assert total == pytest.approx(15 * (len(names) - 4), rel=0.1)
    assert f"to fetch: {len(names) - 4} files, {cells[6]} MB; free in" in printed
    assert "this does not fit" not in printed

    (tmp_path / "my.yaml").write_text(yaml.safe_dump({**data, "fetch": {"disk_margin_gb": 1e9}}))
    main(["fetch", "--plan", "--settings", "my.yaml"])
    assert "this does not fit" in capsys.readouterr().out


def test_the_plan_says_that_catalogues_come_first(archives, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(
        yaml.safe_dump({"run": "p", "releases": TABLE, "mirror": archives.url, "manga": {"releases": ["DR17"]}})
    )
    archives.files["/data.sdss.org/sas/dr17/manga/spectro/redux/v3_1_1/drpall-v3_1_1.fits"] = {"Content_Length": "14000000"}
    assert main(["fetch", "--plan", "--settings", "my.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "to fetch: 1 files, 14.0 MB" in printed
    assert "manga DR17: its 1 catalogue file(s) come first" in printed
    assert "tullyflow fetch --survey manga --release DR17 --settings my.yaml --out results/p/catalogue/manga-DR17.csv" in printed


def test_the_command_refuses_a_release_that_is_not_listed(tmp_path, capsys):
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({"releases": TABLE}))
    arguments = [
        "fetch",
        "--survey",
        "manga",
        "--release",
        "DR99",
        "--settings",
        str(tmp_path / "my.yaml"),
        "--out",
        str(tmp_path / "m.csv"),
    ]
    assert main(arguments) == 2
    assert "lists no release 'DR99' of manga; there are: DR15, DR16, DR17." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["manga={releases: [DR15, DR18]}"],
            "manga.releases: config/releases.csv lists no release 'DR18' of manga; there are: DR15, DR16, DR17.",
        ),
        (["surveys=[sami]"], "sami DR3: any-galaxy Halpha and 3 other files come from datacentral.org.au's bulk service"),
    ],
)
def test_snakemake_says_it_before_anything_runs(snakemake, tmp_path, arguments, words):
    (tmp_path / "config").symlink_to(ROOT / "config")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"surveys": ["manga"]}))
    result = snakemake(tmp_path, "--cores", "1", "--dry-run", "--configfile", "config.yaml", "--config", *arguments, DATACENTRAL_EMAIL="")
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


@pytest.mark.parametrize(("name", "trained"), [("latest", ["manga-DR17", "sami-DR3", "things-NA"]),
                                               ("dawson2021", ["manga-DR15", "sami-DR2", "things-NA", "local-user"])])  # fmt: skip
def test_a_shipped_config_is_walked_without_an_error(snakemake, tmp_path, name, trained):
    (tmp_path / "config").symlink_to(ROOT / "config")
    config = ["--configfile", str(ROOT / f"config/{name}.yaml"), "--config", "mirror=."]
    result = snakemake(
        tmp_path, "--cores", "1", "--dry-run", *config, *(f"results/{name}/network/{network}/training.json" for network in trained)
    )
    assert result.returncode == 0, result.stdout + result.stderr
    result = snakemake(tmp_path, "--cores", "1", "--dry-run", *config)
    assert result.returncode == 0, result.stdout + result.stderr
    said = result.stdout + result.stderr
    assert said.count("Listing the galaxies of") == len(trained)
    assert ("Training a network on synthetic discs" in said) == (name == "latest")
