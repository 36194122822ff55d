"""A made-up finished run, with images that no flip or turn leaves unchanged, for the tests of the report."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table

from tullyflow.flags import GALAXY
from tullyflow.relation.closure import check_closure
from tullyflow.relation.record import write_record
from tullyflow.relation.tully_fisher import fit_relation
from tullyflow.settings import Settings, parse_settings
from tullyflow.tables import SAMPLE, STAMP_HDUS, TRUTH, read_table, write_table

HOSTILE = "</script><script>alert('NGC & \"1\"')</script>"  # of a galaxy in the relation
HOSTILE_OUT = '"><img src=x onerror=alert(1)>'  # of one that is not


@dataclass(frozen=True)
class Run:
    """Paths of everything `build_report` takes."""

    sample: Path
    relations: list[Path]
    maps: list[Path]
    models: list[Path]
    networks: list[Path]
    benchmarks: Path
    closure: Path
    settings: Settings


def make_sample(rng: np.random.Generator, sizes: dict[tuple[str, str], int]) -> pd.DataFrame:
    """Galaxies on a reverse relation of slope 0.26; one in three flagged, one of each survey without maps."""
    parts = []
    for (survey, release), n in sizes.items():
        low, high = {"manga": (9.0, 11.3), "sami": (8.3, 11.0), "things": (7.8, 10.4)}[survey]
        mass = rng.uniform(low, high, n)
        log_v = 2.26 + 0.26 * (mass - 10.09) + rng.normal(0, 0.06, n)
        inclination = np.degrees(np.arccos(rng.uniform(0.05, 0.98, n)))
        v = 10**log_v
        frame = pd.DataFrame({
            "galaxy": [f"{survey[0].upper()}{release[-2:]}-{8000 + k}" for k in range(n)], "survey": survey, "release": release,
            "shard": f"{survey}-{release}-000",
            "log_mstar": mass, "log_mstar_err": np.where(rng.uniform(size=n) < 0.5, 0.08, np.nan),
            "abs_mag_r": -19.7 - 5.3 * (log_v - 2.256) + rng.normal(0, 0.3, n),
            "r_e_arcsec": 6.0, "n_spaxels": 900, "fill_factor": 0.6, "pa_deg": rng.uniform(0, 360, n), "pa_err_deg": rng.uniform(0.5, 4, n),
            "v_sys_kms": 12.0, "r_max_arcsec": rng.uniform(9, 14, n), "inclination_deg": inclination, "inclination_kind": "kinematic",
            "inclination_used_deg": inclination, "inclination_used_err_deg": rng.uniform(1, 5, n), "r_turn_arcsec": rng.uniform(1, 5, n),
            "v_max_sini_kms": v * np.sin(np.radians(inclination)), "r_scale_arcsec": rng.uniform(2, 5, n),
        })  # fmt: skip
        for name, factor in (("v_max", 1.0), ("v_22", 0.86), ("v_re", 0.75), ("v_rmax", 0.9)):
            frame[f"{name}_kms"], frame[f"{name}_kms_err"], frame[f"log_{name}_err"] = v * factor, v * factor * 0.07, 0.03
            frame[f"{name}_circ_kms"] = np.hypot(v * factor, rng.uniform(15, 60, n))
            frame[f"log_{name}_circ_err"] = 0.035
        flags = np.where(inclination < 30, GALAXY.FACE_ON, 0) | np.where(rng.uniform(size=n) < 0.08, GALAXY.POOR_RECONSTRUCTION, 0)
        flags |= (
            np.where(rng.uniform(size=n) < 0.1, GALAXY.EXTRAPOLATED, 0)
            | np.where(rng.uniform(size=n) < 0.05, GALAXY.AT_BOUND_V_MAX, 0)
            | GALAXY.MOCK
        )
        frame["v_max_sini_kms_at_bound"] = (flags & GALAXY.AT_BOUND_V_MAX) != 0
        frame["flags"] = flags
        lost = frame.index[-1]
        frame.loc[lost, "flags"] |= GALAXY.MISSING_FILE
        frame.loc[lost, [c for c in frame if c.endswith(("_kms", "_deg", "_arcsec"))]] = np.nan
        frame.loc[lost, "n_spaxels"] = 0
        parts.append(frame)
    sample = pd.concat(parts, ignore_index=True)
    sample["used"] = (sample["flags"] & GALAXY.excluding) == 0
    sample["flag_names"] = sample["flags"].map(GALAXY.names)
    sample["flag_sentences"] = sample["flags"].map(GALAXY.sentences)
    return sample


def disc_stamps(row: pd.Series, scale_arcsec: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intensity, velocity and model velocity (y, x) of a disc with one spiral arm, a hole in a corner and noise."""
    offsets = (np.arange(64) - 31.5) * scale_arcsec
    x, y = np.meshgrid(offsets, offsets)
    inclination = np.radians(row["inclination_used_deg"])
    radius = np.hypot(x, y / max(np.cos(inclination), 0.15))
    model = 2 / np.pi * row["v_max_kms"] * np.arctan(radius / row["r_turn_arcsec"]) * np.sin(inclination) * x / radius
    arm = 1 + 0.5 * np.cos(np.arctan2(y, x) - radius / 3)
    intensity = np.exp(-radius / row["r_scale_arcsec"]) * arm + rng.normal(0, 0.01, x.shape)
    velocity = model + rng.normal(0, 6, x.shape) + 8 * np.exp(-((x - 5) ** 2 + (y - 3) ** 2) / 8)
    masked = (radius > row["r_max_arcsec"]) | ((x > 4) & (y > 6))
    intensity, velocity = (np.where(masked, np.nan, image) for image in (intensity, velocity))
    return intensity / np.nanmax(intensity), velocity, model


def write_shard(folder: Path, rows: pd.DataFrame, rng: np.random.Generator) -> tuple[Path, Path]:
    """Write maps and models of one shard; a galaxy without maps has NaN stamps."""
    n, shard = len(rows), rows["shard"].iloc[0]
    scale = 0.47
    stamps = {name: np.full((n, 64, 64), np.nan, dtype="float32") for name in (*STAMP_HDUS[:-1], "MODEL_INTENSITY", "MODEL_VELOCITY")}
    radius = np.linspace(0.2, 15, 50)
    curve = np.full((3, n, 50), np.nan)
    for k, (_, row) in enumerate(rows[rows["n_spaxels"] > 0].iterrows()):
        stamps["INTENSITY"][k], stamps["VELOCITY"][k], stamps["MODEL_VELOCITY"][k] = disc_stamps(row, scale, rng)
        stamps["MODEL_INTENSITY"][k], stamps["VELOCITY_ERR"][k] = stamps["INTENSITY"][k], 6.0
        for c, factor in enumerate((0.92, 1.0, 1.08)):
            curve[c, k] = 2 / np.pi * row["v_max_kms"] * factor * np.arctan(radius / row["r_turn_arcsec"])
    stamps["MASK"] = np.where(np.isfinite(stamps["VELOCITY"]), 0, 1).astype("int32")
    table = Table(
        {"galaxy": rows["galaxy"].to_numpy(dtype=str), "stamp_scale_arcsec": np.full(n, scale), "psf_fwhm_arcsec": np.full(n, 2.5)}
    )
    maps, models = folder / "maps" / f"{shard}.fits", folder / "models" / f"{shard}.fits"
    for path in (maps, models):
        path.parent.mkdir(parents=True, exist_ok=True)
    images = [fits.ImageHDU(stamps[name], name=name) for name in STAMP_HDUS]
    fits.HDUList([fits.PrimaryHDU(), *images, fits.BinTableHDU(table, name="GALAXIES")]).writeto(maps)
    curves = Table({
        "galaxy": table["galaxy"], "radius_arcsec": np.tile(radius, (n, 1)),
        "v_rot_p16": curve[0], "v_rot_p50": curve[1], "v_rot_p84": curve[2],
    })  # fmt: skip
    images = [fits.ImageHDU(stamps[name], name=name) for name in ("MODEL_INTENSITY", "MODEL_VELOCITY")]
    fits.HDUList([fits.PrimaryHDU(), *images, fits.BinTableHDU(curves, name="CURVES")]).writeto(models)
    return maps, models


def write_relations(sample: Path, folder: Path, settings: Settings) -> list[Path]:
    """Four fits of the sample, and one that failed."""
    paths = []
    for relation, method in (("reverse", "lts"), ("reverse", "ols"), ("forward", "lts"), ("r_band", "lts")):
        paths.append(folder / f"{relation}-v_max-{method}.json")
        fit_relation(sample, relation, "v_max", method, settings, paths[-1])
    paths.append(folder / "forward-v_22-mnr.json")
    write_record(paths[-1], {"relation": "forward", "velocity": "v_22", "method": "mnr", "error": "4 galaxies are left, a fit needs 10."})
    return paths


def write_history(folder: Path, epochs: int, rng: np.random.Generator) -> None:
    """A training that flattens, its validation a little above."""
    epoch = np.arange(epochs)
    intensity, velocity = 0.004 + 0.03 * np.exp(-epoch / 9), 0.009 + 0.2 * np.exp(-epoch / 15)
    folder.mkdir(parents=True)
    history = pd.DataFrame({"epoch": epoch, "loss": intensity + velocity, "loss_intensity": intensity, "loss_velocity": velocity})
    history["validation_loss"] = history["loss"] * (1.1 + rng.normal(0, 0.02, epochs))
    history["learning_rate"] = 1e-4 * 0.975 ** (epoch // 2)
    history.to_csv(folder / "history.csv", index=False)


def write_card(folder: Path) -> None:
    """What a network's model.json says of its calibration; inclination and scale length were held in all discs."""
    one, two = [None, None, 0.55, 0.4, 0.5, 0.7, 0.66, 0.68], [None, None, 0.9, 0.8, 0.85, 0.95, 0.96, 0.94]
    one_after, two_after = [None, None, *[0.69] * 6], [None, None, *[0.95] * 6]
    widths = [[None, None, 0.2, 0.03, 1.1, 0.3, 0.4, 2.0], [None, None, 0.3, 0.06, 1.8, 0.3, 0.4, 21.0]]
    fitted = {"coverage": [[one, two], [one_after, two_after]], "width": widths, "discs": 1000, "source": "survey"}
    own = {"coverage_before": [0.355, 0.5, None, 0.7], "coverage_after": [0.68, 0.69, None, 0.67], "discs": 2000, "source": "synthetic"}
    (folder / "model.json").write_text(json.dumps({"calibration": own, "fit_calibration": fitted}))


def write_benchmarks(folder: Path) -> None:
    """Two jobs of one rule (one without a memory reading) and one of another."""
    header = "s\th:m:s\tmax_rss\tmax_vms\tmean_load\n"
    for rule, jobs in (
        ("build_maps", ["61.5\t0:01:01\t812.5\t900\t98", "30.5\t0:00:30\t-\t-\t97"]),
        ("train_network", ["754.0\t0:12:34\t2411.7\t3000\t180"]),
    ):
        for k, job in enumerate(jobs):
            path = folder / rule / f"{k}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(header + job + "\n")


def write_run(folder: Path, sizes: dict[tuple[str, str], int] | None = None) -> Run:
    """Write every file of a finished mock run into ``folder``."""
    rng = np.random.default_rng(20)
    sample = make_sample(rng, sizes or {("manga", "DR17"): 30, ("sami", "DR3"): 20})
    sample.loc[sample[sample["used"]]["v_max_kms"].idxmin(), "galaxy"] = HOSTILE  # it has a page
    sample.loc[sample[~sample["used"] & (sample["n_spaxels"] > 0)].index[0], "galaxy"] = HOSTILE_OUT
    write_table(folder / "sample.parquet", sample, SAMPLE)
    shards = [write_shard(folder, rows, rng) for _, rows in sample.groupby("shard", sort=False)]
    networks = [folder / "network" / name for name in ("manga-DR17", "sami-DR3")]
    for network, epochs in zip(networks, (60, 12), strict=True):
        write_history(network, epochs, rng)
    write_card(networks[0])
    write_benchmarks(folder / "benchmarks")
    settings = parse_settings({"run": "fake", "mock": {}, "report": {"pages": "used"}})
    relations = write_relations(folder / "sample.parquet", folder, settings)
    write_truth(folder / "truth.parquet", sample, rng)
    check_closure(folder / "sample.parquet", folder / "truth.parquet", relations, settings, folder / "closure.json")
    maps, models = (list(paths) for paths in zip(*shards, strict=True))
    return Run(
        folder / "sample.parquet",
        relations,
        maps,
        models,
        networks,
        folder / "benchmarks",
        folder / "closure.json",
        settings,
    )


def write_truth(path: Path, sample: pd.DataFrame, rng: np.random.Generator) -> None:
    """The truth a little beside what was found; the first two galaxies are hard cases, one of them not flagged as it should be."""
    truth = sample[["galaxy", "survey", "release", "log_mstar", "abs_mag_r", "r_scale_arcsec", "r_turn_arcsec", "v_sys_kms"]].copy()
    for name, column, spread in (
        ("v_max_kms", "v_max_circ_kms", 10.0),
        ("inclination_deg", "inclination_used_deg", 3.0),
        ("pa_deg", "pa_deg", 2.0),
    ):
        truth[name] = sample[column] + rng.normal(0, spread, len(sample))
    truth.loc[truth.index[:2], "hard_case"] = ["seen from above", "two merging discs"]
    truth.loc[truth.index[:2], "expected_flags"] = ["", "PA_FAILED"]
    write_table(path, truth, TRUTH)


@pytest.fixture
def network(tmp_path) -> Path:
    """A folder with the card of a network."""
    folder = tmp_path / "sami-DR3"
    folder.mkdir()
    write_card(folder)
    return folder


@pytest.fixture(scope="session")
def judged_sample(finished_run) -> pd.DataFrame:
    """The finished run's sample with its velocity fields judged; about the two hostile names the tests contradict each other most."""
    sample, rng = read_table(finished_run.sample, SAMPLE), np.random.default_rng(31)
    n, there = len(sample), sample["n_spaxels"] > 0
    sample["usable_prob"], sample["usable_stellar_prob"] = rng.uniform(0.6, 0.9, n), rng.uniform(0.6, 0.9, n)
    sample["kappa"], sample["kappa_err"], sample["reconstruction_threshold"] = rng.uniform(0.6, 0.9, n), 0.1, 4.0
    sample["reconstruction"] = rng.uniform(0.5, 3.0, n)
    sample.loc[:5, "reconstruction"] = rng.uniform(5.0, 6.0, 6)
    hostile = sample["galaxy"].isin((HOSTILE, HOSTILE_OUT))
    sample.loc[hostile, ["usable_prob", "kappa", "kappa_err", "reconstruction"]] = 0.99, 0.02, 0.05, 0.1
    sample.loc[~there, ["usable_prob", "usable_stellar_prob", "kappa", "kappa_err", "reconstruction"]] = np.nan
    return sample


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> Run:
    return write_run(tmp_path_factory.mktemp("run"))
