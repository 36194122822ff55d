"""A run whose settings ask for Marvin: one job more for each shard, and the same stamps to the last bit."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from astropy.io import fits

from tullyflow.maps.shards import build_shard
from tullyflow.settings import parse_settings
from tullyflow.surveys.mock import make_archive

ROOT = Path(__file__).resolve().parents[2]
RELEASES = str(ROOT / "config/releases.csv")
SHARDS = {"DR15": 1, "DR17": 2}  # galaxies of the one shard of a release


def snakemake(folder: Path, config: dict, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    tools = Path(sys.executable).parent
    command = [str(tools / "snakemake"), "--snakefile", str(ROOT / "workflow/Snakefile"), "--configfile", "config.yaml", "--cores", "2"]
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run([*command, *arguments], cwd=folder, env={**os.environ, "PATH": path, **environment}, capture_output=True,
                          text=True, timeout=600, check=False)  # fmt: skip


def jobs(said: subprocess.CompletedProcess) -> dict[str, int]:
    """Rules and their numbers of jobs, of a run or a dry run."""
    assert said.returncode == 0, said.stdout + said.stderr
    return {m[1]: int(m[2]) for m in re.finditer(r"^(\w+) +(\d+)$", said.stdout + said.stderr, re.MULTILINE) if m[1] != "total"}


def config_of(folder: Path, reader: str, **manga) -> dict:
    return {"run": "run", "surveys": ["manga"], "releases": RELEASES, "mirror": str(folder / "archive"),
            "manga": {"releases": ["DR15", "DR17"], "train_release": "DR17", "reader": reader, **manga}}  # fmt: skip


@pytest.fixture(scope="module")
def run(marvin_python, tmp_path_factory) -> SimpleNamespace:
    """The stamps of two shards by way of Marvin: its ``results``, the ``jobs`` it had, and those a ``native`` run would have."""
    folder = tmp_path_factory.mktemp("marvin")
    mock = {"manga_dr15": 1, "manga_dr17": 2, "sami": 0, "things": 0, "samples": 20_000}
    make_archive(parse_settings({"releases": RELEASES, "seed": 3, "mock": mock}), folder / "archive")
    jobs(snakemake(folder, config_of(folder, "marvin"), *(f"results/run/targets/manga-{release}" for release in SHARDS)))
    stamps = [f"results/run/maps/manga-{release}-000.fits" for release in SHARDS]
    done = jobs(snakemake(folder, config_of(folder, "marvin"), *stamps))
    native = jobs(snakemake(folder, config_of(folder, "native"), "--dry-run", "--forceall", *stamps))
    return SimpleNamespace(results=folder / "results/run", folder=folder, jobs=done, native=native)


def test_marvin_has_a_job_for_every_shard_and_a_native_run_has_none(run):
    assert run.jobs == {"fetch_shard": 2, "read_with_marvin": 2, "build_maps": 2}
    assert run.native["build_maps"] == 2
    assert "read_with_marvin" not in run.native


@pytest.mark.parametrize("release", SHARDS)
def test_the_stamps_are_the_same_to_the_last_bit(run, release, monkeypatch):
    monkeypatch.chdir(run.folder)
    shard, out = f"manga-{release}-000", run.folder / f"native-{release}.fits"
    settings = parse_settings(config_of(run.folder, "native"))
    build_shard(run.results / f"fetch/{shard}.csv", run.results / f"targets/manga-{release}/{shard}.parquet", settings, out)
    with fits.open(run.results / f"maps/{shard}.fits") as marvin, fits.open(out) as native:
        assert [hdu.name for hdu in marvin] == [hdu.name for hdu in native]
        for ours, theirs in zip(native[1:], marvin[1:], strict=True):
            assert ours.data.tobytes() == theirs.data.tobytes(), ours.name
        assert len(native["GALAXIES"].data) == SHARDS[release]
        assert (native["MASK"].data == 0).sum() > 500
    log = (run.results / f"logs/maps/marvin-{shard}.log").read_text()
    assert f"{SHARDS[release]} galaxies, 0 of them not readable" in log


@pytest.mark.parametrize(
    ("manga", "environment", "words"),
    [
        ({}, {"TULLYFLOW_MARVIN": "/nowhere/python"}, "Marvin's environment is not there (/nowhere/python): run `make marvin`"),
        ({"product": "pipe3d"}, {}, "Marvin reads the pipeline's MAPS only"),
    ],
)
def test_what_marvin_lacks_is_one_sentence_before_anything_runs(tmp_path, manga, environment, words):
    (tmp_path / "archive").mkdir()
    said = snakemake(tmp_path, config_of(tmp_path, "marvin", **manga), "--dry-run", **environment)
    (line,) = [line for line in said.stderr.splitlines() if line.startswith("tullyflow:")]
    assert said.returncode == 2
    assert words in line
