"""One bad file costs one galaxy: a flag, a sentence and a row, and the rest of the shard is done."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from tullyflow.fetch.manifest import fetch_shard
from tullyflow.flags import GALAXY
from tullyflow.maps.shards import build_shard
from tullyflow.settings import parse_settings
from tullyflow.surveys.catalogue import list_targets
from tullyflow.tables import MANIFEST, write_table

CASES = {
    "good": None,
    "absent": "MISSING_FILE",
    "truncated": "UNREADABLE_FILE",
    "text": "UNREADABLE_FILE",
    "empty": "UNREADABLE_FILE",
    "no_hdu": "MISSING_HDU",
    "all_nan": "NO_VALID_PIXEL",
    "constant": "PA_FAILED",
    "few": "TOO_FEW_PIXELS",
    "last": None,
}


def velocity_field() -> np.ndarray:
    y, x = np.mgrid[:50, :50] - 24.5
    radius = np.hypot(x, y / 0.6)
    field = 150 * 2 / np.pi * np.arctan(radius / 4) * (0.8 * x + 0.2 * y) / np.maximum(radius, 0.5)
    return np.where(radius < 20, field, np.nan)


def write_map(path, values, name="VELOCITY"):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.0, 2.0], [25.5, 25.5]
    wcs.wcs.cdelt = [-0.5 / 3600, 0.5 / 3600]
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(values.astype("f4"), wcs.to_header(), name=name)]).writeto(path)


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    field = velocity_field()
    for name in ("good", "last"):
        write_map(folder / f"{name}.fits", field)
    write_map(folder / "no_hdu.fits", field, name="SOMETHING")
    write_map(folder / "all_nan.fits", np.full_like(field, np.nan))
    write_map(folder / "constant.fits", np.where(np.isfinite(field), 12.0, np.nan))
    write_map(folder / "few.fits", np.where(np.hypot(*(np.mgrid[:50, :50] - 24.5)) < 4, field, np.nan))
    (folder / "truncated.fits").write_bytes((folder / "good.fits").read_bytes()[:9000])
    (folder / "text.fits").write_text("<html>Sign in</html>")
    (folder / "empty.fits").write_bytes(b"")
    table = folder / "galaxies.csv"
    rows = {"galaxy": list(CASES), "velocity": [f"{name}.fits" for name in CASES], "velocity_hdu": "VELOCITY"}
    pd.DataFrame(rows).assign(axis_ratio=0.6, r_e_arcsec=4.0, pa_phot_deg=80.0, log_mstar=10.0).to_csv(table, index=False)
    places = {"catalogue": str(table), "resources": str(folder / "resources")}
    settings = parse_settings({"surveys": ["local"], **places, "fetch": {"failures_allowed": 1}})
    manifest = pd.DataFrame({"galaxy": ["user"], "product": ["catalogue"], "status": ["ok"], "path": [str(table)]})
    write_table(folder / "catalogue.csv", manifest, MANIFEST)
    (targets,) = list_targets("local", "user", folder / "catalogue.csv", settings, folder / "targets")
    fetch_shard(targets, settings, folder / "manifest.csv")
    return build_shard(folder / "manifest.csv", targets, settings, folder / "maps.fits").galaxies.set_index("galaxy")


def test_every_galaxy_keeps_its_row(shard):
    assert list(shard.index) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_flagged_and_said(shard, name):
    row = shard.loc[name]
    excluding = set(GALAXY.names(int(row["flags"]) & GALAXY.excluding).split(",")) - {""}
    if CASES[name] is None:
        assert not excluding
        assert np.isfinite(row["pa_deg"])
    else:
        assert CASES[name] in excluding
        assert row["messages"]
