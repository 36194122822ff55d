"""The workflow walks the whole way on a tiny mock universe, and re-runs the right things, and only they."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from astropy.table import Table

from tullyflow import flags, tables
from tullyflow.report.figures.listing import FIGURES

ROOT = Path(__file__).resolve().parents[2]

CONFIG = {
    "run": "tiny",
    "surveys": ["manga", "sami"],
    "releases": str(ROOT / "config" / "releases.csv"),
    "mock": {"manga_dr15": 0, "manga_dr17": 20, "sami": 14, "things": 0, "samples": 20000},
    "manga": {"releases": ["DR17"], "shard_size": 8},
    "network": {"synthetic_steps": 40, "epochs": 1, "samples": 20, "calibration_fits": 20},
    "relation": {"drift": "off", "velocities": ["v_max"], "methods": ["lts"], "log_v_err_max": 9, "reconstruction": "off"},
}


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [str(Path(sys.executable).parent / "snakemake"), "--snakefile", str(ROOT / "workflow" / "Snakefile")]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run([*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False)


def planned(folder: Path, **changes) -> dict[str, int]:
    """Rules a dry run would run, with their number of jobs, after these changes of the config."""
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    for key, value in changes.items():
        config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(config))
    result = snakemake(folder, "--cores", "2", "--configfile", str(path), "--dry-run")
    assert result.returncode == 0, result.stdout + result.stderr
    counts = re.finditer(r"^(\w+) +(\d+)$", result.stdout + result.stderr, re.MULTILINE)
    return {m[1]: int(m[2]) for m in counts if m[1] not in ("total", "all")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("workflow")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    result = snakemake(folder, "--cores", "2", "--configfile", "config.yaml")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-6000:]
    return folder


def test_every_target_is_one_row_of_the_sample(finished):
    sample = tables.read_table(finished / "results/tiny/sample.parquet", tables.SAMPLE)
    truth = pd.read_parquet(finished / "results/tiny/mock/truth.parquet")
    assert sorted(zip(sample.survey, sample.galaxy, strict=True)) == sorted(zip(truth.survey, truth.galaxy, strict=True))
    excluded = (sample["flags"] & flags.GALAXY.excluding) != 0
    assert not sample.loc[excluded, "used"].any()
    assert (sample.loc[excluded, "flag_sentences"] != "").all()


def test_hard_cases_carry_the_flag_they_should(finished):
    sample = tables.read_table(finished / "results/tiny/sample.parquet", tables.SAMPLE).set_index("galaxy")
    truth = pd.read_parquet(finished / "results/tiny/mock/truth.parquet")
    hard = truth[(truth.hard_case != "") & (truth.hard_case != "face_on")]  # an inclination needs a trained network: not this one
    assert len(hard) >= 5
    for row in hard.itertuples():
        found = set(sample.loc[row.galaxy, "flag_names"].split(","))
        assert found & set(row.expected_flags.split(",")), f"{row.galaxy} ({row.hard_case}): expected {row.expected_flags}, found {found}"


def test_tables_open_in_astropy_with_units(finished):
    table = Table.read(finished / "results/tiny/sample.ecsv")
    assert str(table["v_max_kms"].unit) == "km / s"
    assert np.isfinite(np.asarray(table["ra_deg"], dtype=float)).all()


def test_a_second_run_has_nothing_to_do(finished):
    assert planned(finished) == {}


def test_text_instead_of_a_number_re_runs_nothing(finished):
    assert planned(finished, relation={"log_v_err_max": "9"}) == {}


def test_a_fit_setting_re_runs_fits_and_report_only(finished):
    rules = set(planned(finished, relation={"clip": 3.0}))
    comparisons = {"fit_groups", "vary_choices", "measure_trends", "tabulate_fits"}
    assert rules == {"fit_relation", *comparisons, "check_closure", "plot_figure", "build_report"}


def test_every_figure_of_the_thesis_is_drawn_and_can_be_asked_for_by_its_name(finished):
    drawn = {path.stem for path in (finished / "results/tiny/figures").glob("*.png") if path.with_suffix(".pdf").is_file()}
    assert drawn == {entry.name for entry in FIGURES}
    options = ("--cores", "1", "--configfile", "config.yaml", "--dry-run", "--forcerun", "plot_figure")
    asked = snakemake(finished, *options, "--", "results/tiny/figures/age.png")
    assert asked.returncode == 0 and re.search(r"^plot_figure +1$", asked.stdout + asked.stderr, re.MULTILINE)


def test_a_cut_re_runs_selection_and_what_follows(finished):
    rules = set(planned(finished, relation={"inclination_min": 40}))
    assert {"select_sample", "merge_samples", "fit_relation", "build_report"} <= rules
    assert not rules & {"build_maps", "infer_kinematics", "train_network", "fetch_shard"}


def test_more_samples_re_run_inference_but_no_training(finished):
    rules = set(planned(finished, network={"samples": 30}))
    assert "infer_kinematics" in rules
    assert not rules & {"train_network", "pretrain_network", "build_maps"}


def test_a_training_setting_trains_again_even_while_maps_are_remade(finished):
    alone = planned(finished, network={"rehearsal": 0.5})
    assert alone["train_network"] == 2
    assert not set(alone) & {"pretrain_network", "build_maps"}
    both = planned(finished, network={"rehearsal": 0.5}, maps={"outlier_kms": 50})
    assert both["build_maps"] == 3
    assert both["train_network"] == 2


def test_networks_that_judge_are_trained_where_asked_and_nothing_else_is_trained(finished, tmp_path):
    """Classes of MaNGA by eye, and simulated galaxies: one shard's fields judged by both, in a folder of its own."""
    folder = shutil.copytree(finished, tmp_path / "judged", symlinks=True)
    truth = pd.read_parquet(folder / "results/tiny/mock/truth.parquet")
    manga = truth[truth.survey == "manga"]
    labels = pd.DataFrame({"galaxy": manga.galaxy, "quality": np.where(manga.hard_case == "", 2, 0), "quality_stellar": 2})
    labels.to_csv(folder / "labels.csv", index=False)
    judges = {"usability": {"labels": "labels.csv"}, "circularity": {"galaxies": 30, "views": 2}}
    jobs = planned(folder, network=judges)
    assert jobs["train_usability"] == 2 and jobs["simulate_fields"] == jobs["train_circularity"] == 1 and jobs["infer_kinematics"] == 3
    assert not set(jobs) & {"train_network", "pretrain_network", "build_maps"}
    name = "results/tiny/kinematics/manga-DR17-000.parquet"
    before = tables.read_table(folder / name, tables.KINEMATICS)
    result = snakemake(folder, "--cores", "2", "--configfile", "changed.yaml", "--", name)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-6000:]
    after = tables.read_table(folder / name, tables.KINEMATICS)
    for name in ("usable_prob", "kappa"):
        assert (after[name].notna() == before[name].notna()).all() and before[name].notna().sum() > 3
        assert not np.allclose(after[name].dropna(), before[name].dropna(), atol=1e-3)
    pd.testing.assert_series_equal(after["v_max_kms"], before["v_max_kms"])


def test_the_galaxies_pages_re_run_the_report_only(finished):
    assert set(planned(finished, report={"pages": "all"})) == {"build_report"}


def test_a_touched_raw_file_re_runs_nothing_and_replaced_content_its_shard(finished):
    manifests = [tables.read_table(p, tables.MANIFEST) for p in sorted((finished / "results/tiny/fetch").glob("manga-*.csv"))]
    assert len(manifests) == 2
    paths = [finished / p for p in manifests[0].loc[manifests[0].status == "ok", "path"]]
    real = paths[0].resolve()
    os.utime(real)
    assert planned(finished) == {}
    before = real.read_bytes()
    try:
        shutil.copyfile(paths[1].resolve(), real)
        jobs = planned(finished)
        assert jobs["build_maps"] == 1
        assert jobs["infer_kinematics"] == 1
        assert not set(jobs) & {"train_network", "pretrain_network", "list_targets"}
    finally:
        real.write_bytes(before)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["maps={snr_mim: 5}"], "maps.snr_mim: unknown key. Did you mean 'snr_min'?"),
        (["network={usability: {labels: nowhere.csv}}"], "network.usability.labels: no such file: nowhere.csv"),
        (["mirror=/no/such/folder"], "mirror: no such folder: /no/such/folder"),
        (["catalogue=missing.csv", "surveys=[local]"], "catalogue: no such file: missing.csv"),
    ],
)
def test_a_wrong_config_is_one_line_and_exit_code_2(tmp_path, arguments, words):
    config = {k: v for k, v in CONFIG.items() if k != "mock"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    result = snakemake(tmp_path, "--cores", "1", "--dry-run", "--configfile", "config.yaml", "--config", *arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("name,velocity\na,a.fits\n", "galaxy"),
        ("galaxy,intensity\na,a.fits\n", "column(s) velocity or cube missing"),
        ("galaxy,velocity\na,a.fits\na,b.fits\n", "a"),
        ("galaxy,velocity\n../x,a.fits\n", "../x"),
        ("galaxy,velocity,z\na,a.fits,far\n", "'far'"),
    ],
)
def test_a_wrong_table_of_galaxies_is_one_line_before_anything_runs(tmp_path, table, words):
    (tmp_path / "galaxies.csv").write_text(table)
    config = ["--configfile", str(ROOT / "config/local.yaml"), "--config", "catalogue=galaxies.csv"]
    result = snakemake(tmp_path, "--cores", "1", "--dry-run", *config)
    assert result.returncode == 2
    line = next(line for line in result.stderr.splitlines() if line.startswith("tullyflow: "))
    assert words in line
    assert "Traceback" not in result.stderr + result.stdout


@pytest.mark.parametrize("option", ["--dag", "--rulegraph"])
def test_graphs_can_be_drawn(finished, option):
    result = snakemake(finished, option, "--configfile", "config.yaml")
    assert result.returncode == 0, result.stderr
    assert "digraph" in result.stdout
