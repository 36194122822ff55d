"""SAMI: the best cube of each galaxy, tables under any spelling, the total plane of each map."""

import logging

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from tullyflow.errors import CatalogueError, DataError
from tullyflow.fetch.manifest import fetch_catalogue
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.surveys import sami
from tullyflow.tables import TARGETS, conform

TARGET = {"galaxy": "77", "observation": "77_B", "release": "DR3", "psf_fwhm_arcsec": 2.0}
EMPTY = {"mu_1re": np.nan}


def write_tables(folder, changes=None):
    """Tables of six objects: repeats, a star, a filler, a cluster galaxy, a bad class, one galaxy under two names."""
    cubes = pd.DataFrame(
        [
            ("77_A", 77, 2.1, "False", 0, 0), ("77_B", 77, 1.9, "True", 0, 1), ("10000001_A", 10000001, 2.0, "True", 1, 0),
            ("5_A", 5, 2.2, "True", 0, 0), ("9008500001_A", 9008500001, 2.3, "True", 0, 0), ("9008500002_A", 9008500002, 2.3, "True", 0, 0),
            ("600_A", 600, 2.4, "True", 0, 0),
        ],
        columns=["cubeidpub", "catid", "cubefwhm", "isbest", "warnstar", "warnmult"],
    )  # fmt: skip
    names = ["catid", "ra_obj", "dec_obj", "z_spec", "m_r", "r_e", "ellip", "pa", "mstar", "bad_class"]
    field = pd.DataFrame(
        [(77, 150.0, 1.0, 0.03, -20.5, 4.0, 0.3, 200.0, 10.1, 0), (600, 151.0, 1.0, 0.04, -99, 4.0, 0.2, -10.0, -99, 4)], columns=names
    )
    cluster = pd.DataFrame([(9008500001, 10.0, -9.0, 0.05, -21.0, 3.0, 0.4, 10.0, 10.5, 5),
                            (9008500002, 10.0, -9.0, 0.05, -21.0, 3.0, 0.4, 10.0, 10.5, 8)],
                           columns=names)  # fmt: skip
    morphology = pd.DataFrame([(77, 2.5), (600, -9.0), (9008500001, 5.0)], columns=["catid", "type"])
    tables = {"CubeObs": cubes, "InputCatGAMADR3": field, "InputCatClustersDR3": cluster, "VisualMorphologyDR3": morphology}
    tables |= changes or {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        if table is not None:
            table.columns = [c.upper() if name == "CubeObs" else c for c in table.columns]
            table.to_csv(folder / f"{name}.csv")
    return {name: folder / f"{name}.csv" for name, table in tables.items() if table is not None}


def test_one_row_per_galaxy_of_its_best_cube_without_stars(tmp_path, configure):
    frame = sami.targets(write_tables(tmp_path), "DR3", configure())
    conform(frame, TARGETS)
    assert list(frame["galaxy"]) == ["5", "77", "600", "9008500001", "9008500002"]
    frame = frame.set_index("galaxy")
    assert frame.loc["77", "observation"] == "77_B"
    assert frame.loc["77", "psf_fwhm_arcsec"] == 1.9
    assert frame.loc["77", ["log_mstar", "abs_mag_r", "axis_ratio", "pa_phot_deg"]].tolist() == pytest.approx([10.1, -20.5, 0.7, 20.0])
    assert frame.loc["77", "morphology"] == "2.5"
    assert frame.loc["600", "pa_phot_deg"] == pytest.approx(170.0)


def test_the_surveys_warnings_and_nulls_become_flags(tmp_path, configure):
    flags = sami.targets(write_tables(tmp_path), "DR3", configure()).set_index("galaxy")["flags"]
    assert flags["77"] == GALAXY.QUALITY_WARNING  # warnmult
    assert flags["600"] == GALAXY.QUALITY_BAD | GALAXY.MISSING_MASS | GALAXY.MISSING_MAGNITUDE  # bad_class 4, -99
    assert flags["5"] == GALAXY.MISSING_MASS | GALAXY.MISSING_MAGNITUDE  # a filler is in no input catalogue
    assert flags["9008500001"] == GALAXY.DUPLICATE
    assert flags["9008500002"] == 0  # classes 5 and 8 are good


def test_clusters_and_morphology_may_be_absent_the_rest_may_not(tmp_path, configure):
    tables = write_tables(tmp_path, {"InputCatClustersDR3": None, "VisualMorphologyDR3": None})
    frame = sami.targets(tables, "DR3", configure()).set_index("galaxy")
    assert np.isnan(frame.loc["9008500002", "log_mstar"])
    assert frame.loc["77", "morphology"] == ""
    for needed in ("CubeObs", "InputCatGAMADR3"):
        with pytest.raises(CatalogueError, match=needed):
            sami.targets({k: v for k, v in tables.items() if k != needed}, "DR3", configure())


@pytest.mark.parametrize("spelling", ["{}", "sami_{}", "samiDR3{}"])
def test_tables_are_found_under_every_spelling(tmp_path, configure, spelling):
    written = write_tables(tmp_path / "here")
    folder = tmp_path / "mirror/datacentral/sami/dr3/catalogues"
    folder.mkdir(parents=True)
    for name, path in written.items():
        path.rename(folder / (spelling.format(name.removesuffix("DR3") if "samiDR3" in spelling else name) + ".csv"))
    settings = configure(mirror=str(tmp_path / "mirror"), resources=str(tmp_path / "resources"))
    manifest = fetch_catalogue("sami", "DR3", settings, tmp_path / "m.csv")
    assert set(manifest.loc[manifest["status"] == "ok", "product"]) == set(written)
    assert set(manifest["status"]) == {"ok", "missing"}  # tables the run can do without


def sami_files(folder, change=None):
    """Four maps of 20x24 pixels: the total differs from the components, and everything from everything."""
    y, x = np.mgrid[:20, :24].astype("f4")
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 12.5, "CRPIX2": 10.5, "CRVAL1": 150.0, "CRVAL2": 1.0,
                          "CDELT1": -0.5 / 3600, "CDELT2": 0.5 / 3600, "CUNIT1": "deg", "CUNIT2": "deg"})  # fmt: skip
    outside = np.hypot(x - 12, y - 10) > 8
    velocity = np.where(outside, np.nan, 3 * x - y)
    maps = {
        "Halpha": ([np.where(outside, np.nan, 10 + x), 90 + x], "HALPHA_ERR", [0.5 + 0 * x, 7 + 0 * x]),
        "gas-velocity": ([velocity, 900 + x], "V_ERR", [2 + 0 * x, 5 + 0 * x]),
        "gas-vdisp": ([np.where(outside, np.nan, 30 + y), 1 + x], "VDISP_ERR", [4 + 0 * x, 5 + 0 * x]),
        "stellar-velocity": (np.where(np.hypot(x - 12, y - 10) > 9, np.nan, -x), "VEL_ERR", 1 + 0 * x),
    }
    folder.mkdir(exist_ok=True)
    paths = {}
    for name, (data, error_name, error) in maps.items():
        hdus = fits.HDUList([fits.PrimaryHDU(np.array(data, "f4"), header), fits.ImageHDU(np.array(error, "f4"), header, name=error_name)])
        if change is not None:
            change(name, hdus)
        paths[name] = folder / f"{name}.fits"
        hdus.writeto(paths[name], overwrite=True)
    return paths


def test_the_total_plane_is_read_and_the_dispersion_is_free_of_the_instrument(tmp_path, configure):
    maps = sami.read(sami_files(tmp_path), TARGET, configure())
    y, x = np.mgrid[:20, :24]
    inside = np.hypot(x - 12, y - 10) <= 8
    np.testing.assert_allclose(maps.velocity[inside], (3 * x - y)[inside])
    np.testing.assert_allclose(maps.intensity[inside], (10 + x)[inside])
    np.testing.assert_allclose(maps.intensity_err, 0.5)
    np.testing.assert_allclose(maps.dispersion_sq[inside], (30 + y)[inside] ** 2)
    np.testing.assert_allclose(maps.dispersion_sq_err[inside], 8 * (30 + y)[inside])
    np.testing.assert_array_equal(maps.mask == 0, inside)
    assert maps.centre == (11.5, 9.5)
    assert maps.pixel_scale_arcsec == pytest.approx(0.5)


def test_an_error_of_zero_is_no_value(tmp_path, configure):
    def spoil(name, hdus):
        if name == "gas-velocity":
            hdus["V_ERR"].data[0, 10, 12] = 0
        if name == "Halpha":
            hdus["HALPHA_ERR"].data[0, 10, 13] = np.nan

    mask = sami.read(sami_files(tmp_path, spoil), TARGET, configure()).mask
    assert [int(m) for m in mask[10, 11:15]] == [0, PIXEL.NO_VALUE, PIXEL.NO_VALUE, 0]


def test_the_stellar_velocity_is_optional(tmp_path, configure):
    paths = sami_files(tmp_path)
    whole = sami.read(paths, TARGET, configure())
    assert np.isfinite(whole.stellar_velocity).sum() == whole.fov_pixels
    del paths["stellar-velocity"]
    without = sami.read(paths, TARGET, configure())
    assert without.stellar_velocity is None
    assert without.flags == 0


def test_what_is_wrong_with_a_file_is_named(tmp_path, configure):
    def rename(name, hdus):
        if name == "gas-vdisp":
            hdus[1].name = "OTHER"

    with pytest.raises(DataError, match="VDISP_ERR") as caught:
        sami.read(sami_files(tmp_path, rename), TARGET, configure())
    assert caught.value.flag == GALAXY.MISSING_HDU
    paths = sami_files(tmp_path)
    content = paths["gas-velocity"].read_bytes()
    paths["gas-velocity"].write_bytes(content[: len(content) - 2880 * 2])
    with pytest.raises(DataError) as caught:
        sami.read(paths, TARGET, configure())
    assert caught.value.flag == GALAXY.UNREADABLE_FILE
    del paths["gas-velocity"]
    with pytest.raises(DataError) as caught:
        sami.read(paths, TARGET, configure())
    assert caught.value.flag == GALAXY.MISSING_FILE


def test_real_catalogue_has_the_3068_galaxies_of_the_release(shared, configure, tmp_path, caplog):
    settings = configure(mirror=str(shared / "mirror"), resources=str(tmp_path / "resources"))
    manifest = fetch_catalogue("sami", "DR3", settings, tmp_path / "m.csv")
    with caplog.at_level(logging.INFO):
        found = manifest[manifest["status"] == "ok"]
        frame = sami.targets(dict(zip(found["product"], found["path"], strict=True)), "DR3", settings).set_index("galaxy")
    assert len(frame) == 3068
    assert "358 repeats, 286 cubes of stars" in caplog.text
    assert frame.loc["209807", ["log_mstar", "abs_mag_r", "axis_ratio", "psf_fwhm_arcsec", "r_e_arcsec"]].tolist() == pytest.approx(
        [10.81, -21.92, 0.7487, 2.5074956, 3.48]
    )
    assert frame.loc["41144", "observation"] == "41144_A"  # the best of four
    assert frame.loc[["209807", "41144", "56140", "230776"], "flags"].tolist() == [0, 0, 0, 0]
    assert list(frame.index[(frame["flags"] & GALAXY.DUPLICATE) != 0]) == ["9008500001"]
    assert ((frame["flags"] & GALAXY.QUALITY_BAD) != 0).sum() == 8
    assert ((frame["flags"] & GALAXY.MISSING_MASS) != 0).sum() == 72


def test_real_maps(shared, configure):
    for name, valid in (("209807", 728), ("41144", 754), ("56140", 720), ("230776", 394)):
        target = {"galaxy": name, "observation": f"{name}_A", "psf_fwhm_arcsec": 2.0}
        paths = {p.product: shared / "mirror" / p.urls[0].removeprefix("archive://") for p in sami.products(target, "DR3", configure())}
        assert all(path.exists() for path in paths.values())
        maps = sami.read(paths, target, configure())
        with fits.open(paths["gas-velocity"]) as hdus:
            np.testing.assert_array_equal(maps.velocity, hdus[0].data[0].astype(float))
        assert (maps.mask == 0).sum() == valid
        assert maps.fov_pixels >= valid
        assert maps.centre == (24.5, 24.5)
        assert maps.intensity_unit.startswith("10**(-16) erg/s")
