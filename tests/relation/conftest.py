"""A small shard whose galaxies each fail one cut, and a mock sample on a known relation."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table

from tullyflow.settings import parse_settings
from tullyflow.tables import GALAXIES, KINEMATICS, PARAMETERS, SAMPLE, TARGETS, VELOCITIES, conform, write_table


def settings_with(**relation):
    return parse_settings({"mock": {}, "relation": relation})


def write_maps(path, frame):
    """A maps file without stamps: the sample stage reads the table only."""
    frame = conform(frame, GALAXIES)
    table = Table({c.name: frame[c.name].to_numpy(dtype=str if c.kind == "s" else None) for c in GALAXIES})
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(table, name="GALAXIES")]).writeto(path, overwrite=True)


def good_rows(names):
    """Targets, maps and kinematics of galaxies that pass every cut; the values differ from galaxy to galaxy."""
    n = np.arange(len(names), dtype=float)
    common = {"galaxy": names, "survey": "manga", "release": "DR17", "shard": "manga-DR17-000"}
    targets = pd.DataFrame(common | {"log_mstar": 10 + 0.01 * n, "abs_mag_r": -20.5 - 0.01 * n, "r_e_arcsec": 6.0, "drp3qual": 0})
    galaxies = pd.DataFrame(common | {
        "pa_deg": 40 + n, "r_max_arcsec": 12.0, "outer_dispersion_kms": 20.0, "outer_dispersion_err_kms": 1.0, "intensity_kind": "data",
    })  # fmt: skip
    kinematics = pd.DataFrame(common | {
        "mode": "combined", "inclination_kind": "kinematic", "inclination_used_deg": 50 + 0.1 * n, "inclination_used_err_deg": 1.0,
        "inclination_deg": 50 + 0.1 * n, "r_scale_arcsec": 3.5, "r_scale_arcsec_err": 0.1, "r_scale_used_arcsec": 3.5, "r_turn_arcsec": 1.5,
        "v_max_sini_kms": 120.0, "chi2_velocity": 1 + 0.01 * n, "mse_over_v": 0.001 + 1e-5 * n,
    })  # fmt: skip
    for k, velocity in enumerate(VELOCITIES):
        kinematics[f"{velocity}_kms"], kinematics[f"{velocity}_kms_err"] = 160.0 - 10 * k + n, 4.0
        kinematics[f"log_{velocity}_err"] = 0.011
    return targets, galaxies, kinematics


@pytest.fixture
def shard(tmp_path):
    """Write a shard from a function that spoils its three tables; returns the arguments of `select_sample` but the settings."""

    def write(names, spoil=lambda *tables: None, drop_kinematics=(), threshold='{"statistic": "chi2", "threshold": 2.0}'):
        tables = good_rows(names)
        for table in tables:
            table.index = pd.Index(names)
        spoil(*tables)
        targets, galaxies, kinematics = tables
        write_table(tmp_path / "targets.parquet", targets.reset_index(drop=True), TARGETS)
        write_maps(tmp_path / "maps.fits", galaxies.reset_index(drop=True))
        write_table(tmp_path / "kinematics.parquet", kinematics.drop(index=list(drop_kinematics)).reset_index(drop=True), KINEMATICS)
        (tmp_path / "threshold.json").write_text(threshold)
        return [tmp_path / name for name in ("targets.parquet", "maps.fits", "kinematics.parquet", "threshold.json")]

    return write


def mock_sample(rng, n=120, slope=0.26, intercept=2.26, scatter=0.05, v_err=0.03):
    """A merged sample and its truth: log V = slope (log M* - 10.09) + intercept, V measured with an error, masses exact."""
    mass = rng.uniform(8.8, 11.3, n)
    log_v = slope * (mass - 10.09) + intercept + scatter * rng.standard_normal(n)
    names = [f"mock-{k}" for k in range(n)]
    inclination, pa = rng.uniform(35, 80, n), rng.uniform(0, 360, n)
    truth = pd.DataFrame({
        "galaxy": names, "survey": "manga", "release": "DR17", "hard_case": "", "expected_flags": "", "log_mstar": mass,
        "abs_mag_r": -20 - 2.2 * (mass - 10.09) + 0.2 * rng.standard_normal(n), "v_max_kms": 10**log_v, "inclination_deg": inclination,
        "pa_deg": pa, "v_sys_kms": rng.normal(0, 30, n), "r_scale_arcsec": rng.uniform(2, 5, n), "r_turn_arcsec": rng.uniform(0.5, 2, n),
        "gas_dispersion_kms": 20.0, "z": 0.03,
    })  # fmt: skip
    found = 10 ** (log_v + v_err * rng.standard_normal(n))
    sample = truth[["galaxy", "survey", "release", "log_mstar", "abs_mag_r", "z"]].assign(
        used=True, v_max_kms=found, v_max_kms_err=found * v_err * np.log(10), log_v_max_err=v_err,
        v_max_circ_kms=found, log_v_max_circ_err=v_err,
        inclination_used_deg=inclination + 2 * rng.standard_normal(n), inclination_used_err_deg=2.0,
        pa_deg=(pa + 3 * rng.standard_normal(n)) % 360, pa_err_deg=3.0,
        v_sys_kms=truth["v_sys_kms"] + rng.standard_normal(n), v_sys_err_kms=1.0,
        outer_dispersion_kms=24.0, outer_dispersion_err_kms=2.0,
    )  # fmt: skip
    for name in PARAMETERS[1:3]:
        sample[name], sample[f"{name}_err"] = truth[name] + 0.1 * rng.standard_normal(n), 0.1
    return conform(sample, SAMPLE), truth
