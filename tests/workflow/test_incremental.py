"""A release that the archive gains costs what is new, and nothing else: jobs and requests are counted."""

import functools
import http.server
import re
import threading
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tullyflow import tables
from tullyflow.settings import parse_settings
from tullyflow.surveys.mock import make_archive

ROOT = Path(__file__).resolve().parents[2]
RELEASES = str(ROOT / "config" / "releases.csv")
GALAXIES = 7

CONFIG = {
    "run": "grows",
    "surveys": ["manga"],
    "releases": RELEASES,
    "fetch": {"tries": 1},
    "network": {"synthetic_steps": 20, "epochs": 1, "samples": 10, "calibration_fits": 20},
    "relation": {"drift": "off", "relations": ["reverse"], "velocities": ["v_max"], "methods": ["lts"]},
    "report": {"pages": "none", "figures": ["reverse", "cut_flow"]},
}


class _Archive(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; every request is noted."""

    def __init__(self, *arguments, asked, **options):
        self.asked = asked
        super().__init__(*arguments, **options)

    def send_head(self):
        self.asked.append((self.command, self.path))
        return super().send_head()

    def log_message(self, *arguments):
        """Keep the test's output clean."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Address of a mock archive that has DR15 and DR17, and the list of what it was asked."""
    folder = tmp_path_factory.mktemp("archive")
    mock = {"manga_dr15": GALAXIES, "manga_dr17": GALAXIES, "sami": 0, "things": 0, "samples": 20000}
    make_archive(parse_settings({"releases": RELEASES, "mock": mock}), folder)
    asked: list[tuple[str, str]] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Archive, asked=asked, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def run(snakemake, folder: Path, archive, **manga) -> tuple[list[str], list[tuple[str, str]], str]:
    """Walk the workflow; return what its jobs say of themselves, what the archive was asked, and all that was printed."""
    url, asked = archive
    asked.clear()
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "mirror": url, "manga": manga}))
    result = snakemake(folder, "--cores", "2", "--configfile", str(path))
    printed = result.stdout + result.stderr
    assert result.returncode == 0, printed[-6000:]
    return re.findall(r"^Job \d+: (.*)$", printed, re.MULTILINE), list(asked), printed


def paths(requests, *methods: str) -> list[str]:
    return sorted(path for method, path in requests if method in methods)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, archive, snakemake):
    """Three runs in one folder: DR15; DR15 and DR17; the same again."""
    folder = tmp_path_factory.mktemp("grows")
    first = run(snakemake, folder, archive, releases=["DR15"])
    before = {path: path.stat().st_mtime_ns for path in (folder / "results/grows").glob("*/*DR15*") if path.is_file()}
    second = run(snakemake, folder, archive, releases=["DR15", "DR17"])
    third = run(snakemake, folder, archive, releases=["DR15", "DR17"])
    return folder, before, first, second, third


def test_a_release_that_is_added_costs_its_own_jobs_and_requests_only(runs):
    folder, before, (jobs_1, requests_1, _), (jobs_2, requests_2, printed), (jobs_3, requests_3, _) = runs
    of_dr17 = {
        "Fetching the catalogues of manga DR17", "Listing the galaxies of manga DR17", "Fetching shard manga-DR17-000",
        "Building the stamps of manga-DR17-000", "Inferring the discs of manga-DR17-000", "Selecting the sample of manga-DR17-000",
    }  # fmt: skip
    of_all = {
        "Merging the samples of all shards", "Fitting the reverse relation with v_max by lts", "Writing the report",
        "Fitting every relation per survey and per class", "Fitting the relation again with each choice changed",
        "Correlating velocities and residuals with what galaxies are made of", "Writing all fits as tables",
        "Drawing the figure reverse", "Drawing the figure cut_flow",
    }  # fmt: skip
    training = {
        "Training a network on synthetic discs", "Freezing what the network of manga DR15 is trained with",
        "Training the network of manga on DR15", "Freezing the reconstruction threshold of manga DR15",
    }  # fmt: skip
    assert sorted(jobs_1) == sorted({job.replace("DR17", "DR15") for job in of_dr17} | of_all | training)
    assert sorted(jobs_2) == sorted(of_dr17 | of_all)
    assert jobs_3 == []

    gets = paths(requests_2, "GET")
    maps = [path for path in gets if "-MAPS-" in path]
    assert all("/dr17/" in path for _, path in requests_2)
    assert [path for path in gets if path not in maps] == ["/data.sdss.org/sas/dr17/manga/spectro/redux/v3_1_1/drpall-v3_1_1.fits"]
    targets = pd.concat([pd.read_parquet(path) for path in (folder / "results/grows/targets/manga-DR17").glob("*.parquet")])
    assert {path.rpartition("/")[2].split("-MAPS-")[0] for path in maps} == {f"manga-{name}" for name in targets["galaxy"]}
    assert len(set(maps)) == len(targets) == GALAXIES
    assert set(paths(requests_2, "HEAD")) <= set(gets)
    assert not any("/dr17/" in path for _, path in requests_1)
    assert requests_3 == []
    print(f"\nDR15: {len(jobs_1)} jobs, {len(requests_1)} requests; DR17 added: {len(jobs_2)} jobs, {len(requests_2)} requests; "
          f"once more: {len(jobs_3)} jobs, {len(requests_3)} requests")  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a file of DR15 was written again"
    assert "the network of DR15 serves DR17 too" in printed


def test_the_sample_and_the_report_tell_both_releases_apart(runs):
    folder = runs[0]
    sample = tables.read_table(folder / "results/grows/sample.parquet", tables.SAMPLE)
    assert sample["release"].value_counts().to_dict() == {"DR15": GALAXIES, "DR17": GALAXIES}
    page = (folder / "results/grows/report/index.html").read_text()
    assert "What is new" in page
    assert "DR17 is newer than the network, which DR15 trained" in page


def test_train_release_has_the_last_word(runs, snakemake, archive):
    folder = runs[0]
    url, _ = archive
    for train, trained in ((None, []), ("DR15", []), ("DR17", ["Training the network of manga on DR17"])):
        path = folder / "asked.yaml"
        path.write_text(yaml.safe_dump({**CONFIG, "mirror": url, "manga": {"releases": ["DR15", "DR17"], "train_release": train}}))
        result = snakemake(folder, "--cores", "2", "--configfile", str(path), "--dry-run")
        assert result.returncode == 0, result.stderr
        assert re.findall(r"^Job \d+: (Training .*)$", result.stdout + result.stderr, re.MULTILINE) == trained


def test_a_name_that_no_release_has_ends_the_run_before_anything_of_a_shard_is_fetched(runs, snakemake, archive):
    folder = runs[0]
    known = pd.read_parquet(folder / "results/grows/targets/manga-DR17/manga-DR17-000.parquet")["galaxy"].iloc[0]
    asked = {"galaxies": [known, "99999-1901"], "manga": {"releases": ["DR15", "DR17"], "train_release": "DR17"}}
    (folder / "named.yaml").write_text(yaml.safe_dump({**CONFIG, "run": "named", "mirror": archive[0], **asked}))
    result = snakemake(folder, "--cores", "2", "--configfile", "named.yaml")
    printed = result.stdout + result.stderr
    assert result.returncode != 0
    assert "tullyflow: galaxies: 99999-1901 is in none of the releases of this run (manga DR15, manga DR17)" in printed
    assert printed.count("Listing the galaxies of") == 2
    assert "Fetching shard" not in printed
    assert not (folder / "results/named/fetch").exists()
