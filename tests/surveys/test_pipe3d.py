"""Pipe3D cubes: the line by its name in both layouts, velocities in cz, and what disp is.

No MaNGA cube was to be had: these are built from the data model. The same pipeline's product of CALIFA is real.
"""

import logging

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from tullyflow.conventions import C_KMS, FWHM_PER_SIGMA
from tullyflow.errors import DataError, SettingsError
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.maps.galaxies import make_galaxy
from tullyflow.maps.position_angle import fit_position_angle
from tullyflow.maps.shards import build_shard
from tullyflow.settings import parse_settings
from tullyflow.surveys import manga
from tullyflow.surveys.pipe3d import BLOCKS, decide_width, odd_widths
from tullyflow.tables import MANIFEST, TARGETS, conform, write_table

N, SHAPE, Z, HALPHA = 57, (22, 26), 0.03, 45
TARGET = {"galaxy": "9999-3701", "release": "DR15", "z": Z, "psf_fwhm_arcsec": 2.5}
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
INSIDE = np.hypot(X - 13, Y - 11) < 9
SIGMA = 75.0 + 0.3 * X  # km/s, instrument included
VELOCITY = C_KMS * Z + 6 * (X - 13) + 2 * (Y - 11)
ANGSTROM = 6562.8 * (1 + Z) / C_KMS  # per km/s


def names_of_planes():
    lines = [f"[FeII]{4000 + 40 * k}" for k in range(N)]
    lines[28], lines[26], lines[46], lines[47], lines[HALPHA] = "Hbeta", "[OIII]5007", "[NII]6584", "[NII]6548", "Halpha"
    return {f"NAME{b * N + k}": f"{block.replace('ew', 'EW')} {line}" for b, block in enumerate(BLOCKS) for k, line in enumerate(lines)}


def names_of_lines():
    return {key: text.removeprefix("flux ").replace("Halpha", "Ha") for key, text in names_of_planes().items() if text.startswith("flux ")}


def cube_file(path, release="DR15", disp=SIGMA * FWHM_PER_SIGMA * ANGSTROM, names=None, change=None, n=N, k=HALPHA, velocity=VELOCITY):
    values = {"flux": 20 - 0.1 * Y, "vel": velocity, "disp": disp, "ew": -30.0, "e_flux": 0.5, "e_vel": 3.0, "e_disp": 0.1, "e_ew": 2.0}
    planes = np.full((8 * n, *SHAPE), 7.5, dtype=np.float32)
    for b, block in enumerate(BLOCKS):
        planes[b * n + k] = np.where(INSIDE, values[block], 0)
    header = fits.Header()
    header.update({"PLATEIFU": "9999-3701", "MNGTARG1": 1024, "DRP3QUAL": 0, "OBJRA": 150.0, "OBJDEC": 20.0, "CTYPE1": "RA---TAN",
                   "CTYPE2": "DEC--TAN", "CRPIX1": 14.0, "CRPIX2": 12.0, "CRVAL1": 150.0, "CRVAL2": 20.0, "CD1_1": -0.5 / 3600,
                   "CD2_2": 0.5 / 3600, "CUNIT1": "deg", "CUNIT2": "deg", "VERSDRP3": "v2_4_3"})  # fmt: skip
    lines = fits.ImageHDU(planes, name="FLUX_ELINES")
    lines.header.update(names_of_planes() if names is None else names)

    def other(name, count, value=1.0):
        return fits.ImageHDU(np.where(INSIDE, value, 0) * np.ones((count, 1, 1), dtype="f4"), name=name)

    if release == "DR15":
        hdus = [other("SSP", 20), other("SFH", 3), lines, other("INDICES", 16)]
    else:
        star, selected = np.zeros(SHAPE, "f4"), np.where(Y > 4, 1, 0).astype("f4")
        star[11, 15] = 1
        hdus = [other("SSP", 21), other("SFH", 3), other("INDICES", 16), other("ELINES", 11), lines, other("FLUX_ELINES_LONG", 2),
                fits.ImageHDU(star, name="GAIA_MASK"), fits.ImageHDU(selected, name="SELECT_REG")]  # fmt: skip
    made = fits.HDUList([fits.PrimaryHDU(header=header), *hdus])
    made[0].name = "ORG_HDR"
    if change:
        change(made)
    made.writeto(path, overwrite=True)
    return path


def settings(**keys):
    return parse_settings({"manga": {"product": "pipe3d", **keys}})


def read(path, release="DR15", **keys):
    return manga.read({"pipe3d_cube": path}, TARGET | {"release": release}, settings(**keys))


@pytest.mark.parametrize("release", ["DR15", "DR17"])
@pytest.mark.parametrize("names", [names_of_planes(), names_of_lines(), {f"WAVE{k}": 6562.68 + 9 * (k - HALPHA) for k in range(N)}])
def test_halpha_is_found_by_name_in_both_layouts(tmp_path, release, names):
    maps = read(cube_file(tmp_path / "c.fits.gz", release, names=names), release)
    np.testing.assert_allclose(maps.velocity[INSIDE], VELOCITY[INSIDE], rtol=1e-6)
    np.testing.assert_allclose(maps.intensity[INSIDE], (20 - 0.1 * Y)[INSIDE], rtol=1e-6)
    assert maps.absolute
    assert maps.fov_pixels == INSIDE.sum()
    np.testing.assert_array_equal((maps.mask & PIXEL.NO_COVERAGE) == 0, INSIDE)
    assert np.isnan(maps.velocity[0, 0])
    assert maps.centre == pytest.approx((13, 11), abs=1e-6)
    assert maps.pixel_scale_arcsec == pytest.approx(0.5)
    assert maps.velocity_err[11, 13] == 3
    assert maps.psf_fwhm_arcsec == 2.5


def test_the_name_is_trusted_over_the_number(tmp_path):
    names = names_of_planes()
    for b, block in enumerate(BLOCKS):
        names[f"NAME{b * N + 40}"], names[f"NAME{b * N + HALPHA}"] = f"{block} Ha", f"{block} OI6364"
    maps = read(cube_file(tmp_path / "c.fits", names=names, k=40))
    np.testing.assert_allclose(maps.velocity[INSIDE], VELOCITY[INSIDE], rtol=1e-6)
    assert "plane 40" in " ".join(maps.messages)


def test_masks_of_dr17_are_honoured(tmp_path):
    mask = read(cube_file(tmp_path / "c.fits", "DR17"), "DR17").mask
    assert mask[11, 15] == PIXEL.FOREGROUND
    np.testing.assert_array_equal((mask & PIXEL.UNRELIABLE) != 0, INSIDE & (Y <= 4))
    assert mask[11, 13] == 0


def test_zero_is_no_value(tmp_path):
    def spoil(hdus):
        hdus["FLUX_ELINES"].data[N + HALPHA, 10, 10] = 0  # velocity
        hdus["FLUX_ELINES"].data[4 * N + HALPHA, 10, 11] = 0  # error of the flux
        hdus["FLUX_ELINES"].data[0 + HALPHA, 10, 12] = np.nan

    mask = read(cube_file(tmp_path / "c.fits", change=spoil)).mask
    assert list(mask[10, 9:14]) == [0, PIXEL.NO_VALUE, PIXEL.NO_VALUE, PIXEL.NO_VALUE, 0]


@pytest.mark.parametrize(("kind", "factor"), [("fwhm", FWHM_PER_SIGMA), ("sigma", 1.0)])
def test_what_disp_is_follows_from_the_instrument(tmp_path, kind, factor):
    path = cube_file(tmp_path / "c.fits", disp=SIGMA * factor * ANGSTROM)
    maps = read(path)
    # cz velocities are 1 + z too large and later divided by it; dispersions travel with them
    np.testing.assert_allclose(maps.dispersion_sq[INSIDE], ((SIGMA**2 - 70**2) * (1 + Z) ** 2)[INSIDE], rtol=2e-5)
    assert maps.history["DISPKIND"] == kind
    assert {"fwhm": "FWHM", "sigma": "standard deviation"}[kind] in " ".join(maps.messages)
    error = 2 * SIGMA * (0.1 / ANGSTROM / factor) * (1 + Z) ** 2
    np.testing.assert_allclose(maps.dispersion_sq_err[INSIDE], error[INSIDE], rtol=1e-5)
    fixed = read(path, pipe3d_dispersion="sigma", pipe3d_instrument=60)
    np.testing.assert_allclose(fixed.dispersion_sq[INSIDE], (((SIGMA * factor) ** 2 - 60**2) * (1 + Z) ** 2)[INSIDE], rtol=2e-5)
    assert "disp of Pipe3D" not in " ".join(fixed.messages)


def test_files_of_a_shard_that_say_different_things_of_disp_are_a_warning(tmp_path, caplog):
    names = [f"9999-370{k}" for k in range(4)]

    def rename(name):
        def change(hdus):
            hdus[0].header["PLATEIFU"] = name
            if name == names[3]:
                hdus["FLUX_ELINES"].data[4 * N + HALPHA][INSIDE] = 10  # too faint to decide

        return change

    row = {c.name: {"f": np.nan, "i": 0, "s": "", "b": False}[c.kind] for c in TARGETS}
    row |= TARGET | {"survey": "manga", "axis_ratio": 0.6, "r_e_arcsec": 3.0}
    write_table(tmp_path / "targets.parquet", pd.DataFrame([row | {"galaxy": name} for name in names]), TARGETS)
    files = []
    for name, factor in zip(names, (FWHM_PER_SIGMA, 1.0, FWHM_PER_SIGMA, 1.0), strict=True):
        path = cube_file(tmp_path / f"{name}.fits", disp=SIGMA * factor * ANGSTROM, change=rename(name))
        files.append({"galaxy": name, "product": "pipe3d_cube", "status": "ok", "path": str(path)})
    write_table(tmp_path / "manifest.csv", conform(pd.DataFrame(files), MANIFEST), MANIFEST)

    def build(**keys):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="tullyflow"):
            return build_shard(tmp_path / "manifest.csv", tmp_path / "targets.parquet", settings(**keys), tmp_path / "maps.fits").galaxies

    mixed = build()
    assert "a standard deviation by 1 galaxies of this shard and a FWHM by 2" in caplog.text
    assert "manga.pipe3d_dispersion" in caplog.text
    np.testing.assert_array_equal((mixed["flags"] & GALAXY.QUALITY_WARNING) != 0, [False, True, False, False])
    assert "set manga.pipe3d_dispersion" in mixed["messages"][1]
    settled = build(pipe3d_dispersion="fwhm")
    assert "pipe3d_dispersion" not in caplog.text
    assert not (settled["flags"] & GALAXY.QUALITY_WARNING).any()


def test_two_and_two_are_all_in_doubt():
    marks, sentence = odd_widths(["sigma", "", "fwhm", "unknown"])
    np.testing.assert_array_equal(marks, [True, False, True, False])
    assert "by 1 galaxies" in sentence
    assert odd_widths(["fwhm", "", "fwhm"])[1] == ""


def test_without_bright_spaxels_the_dispersion_is_not_used(tmp_path):
    def faint(hdus):
        hdus["FLUX_ELINES"].data[4 * N + HALPHA][INSIDE] = 10

    maps = read(cube_file(tmp_path / "c.fits", change=faint))
    assert maps.dispersion_sq is None
    assert "pipe3d_dispersion" in " ".join(maps.messages)


def test_velocities_that_are_relative_or_of_another_redshift_are_said(tmp_path):
    relative = read(cube_file(tmp_path / "c.fits", velocity=VELOCITY - C_KMS * Z + 0.5))
    assert not relative.absolute
    assert "relative" in " ".join(relative.messages)
    other = read(cube_file(tmp_path / "d.fits", velocity=VELOCITY + 6000))
    assert other.flags & GALAXY.QUALITY_WARNING
    assert "cz of the catalogue" in " ".join(other.messages)


def test_a_cube_becomes_a_stamp_in_the_rest_frame(tmp_path):
    path = cube_file(tmp_path / "c.fits", "DR17")
    row = {c.name: {"f": np.nan, "i": 0, "s": "", "b": False}[c.kind] for c in TARGETS}
    row |= TARGET | {"survey": "manga", "release": "DR17", "axis_ratio": 0.6, "r_e_arcsec": 3.0}
    absent = {"status": "missing", "path": "", "message": ""}
    made = make_galaxy(row, {"pipe3d_cube": {"status": "ok", "path": str(path)}, "logcube": absent}, settings(extra=["logcube"]))
    assert made.row["flags"] == 0, made.row["messages"]
    assert made.row["pa_deg"] == pytest.approx(np.degrees(np.arctan2(2, 6)) - 90 + 360, abs=1.5)  # receding towards +x, +y: west, north
    assert made.row["v_sys_kms"] == pytest.approx(C_KMS * Z, abs=3)
    edge = np.hypot(6, 2) * 9 / (1 + Z)
    assert made.row["v_abs_max_kms"] == pytest.approx(edge, rel=0.06)
    assert made.row["outer_dispersion_kms"] == pytest.approx(np.sqrt(np.mean(SIGMA[INSIDE] ** 2) - 70**2), rel=0.05)


def _rename(hdus):
    hdus["FLUX_ELINES"].name = "ELINES"
    del hdus["ELINES"].header["NAME*"]


def _not_eight(hdus):
    hdus["FLUX_ELINES"].data = hdus["FLUX_ELINES"].data[:-3]


def _twice(hdus):
    hdus["FLUX_ELINES"].header["NAME3"] = "flux Ha"


def _blocks_disagree(hdus):
    hdus["FLUX_ELINES"].header[f"NAME{N + HALPHA}"] = "disp Halpha"


def _other(hdus):
    hdus[0].header["PLATEIFU"] = "9999-1901"


@pytest.mark.parametrize(
    ("change", "flag", "word"),
    [
        (_rename, GALAXY.MISSING_HDU, "NAME"), (_not_eight, GALAXY.MISSING_HDU, "eight blocks"), (_twice, GALAXY.MISSING_HDU, "2 planes"),
        (_blocks_disagree, GALAXY.MISSING_HDU, "should be vel"), (_other, GALAXY.UNREADABLE_FILE, "9999-1901"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_cube_is_named(tmp_path, change, flag, word):
    with pytest.raises(DataError, match=word) as caught:
        read(cube_file(tmp_path / "c.fits", change=change))
    assert caught.value.flag == flag


def test_a_line_pipe3d_does_not_have_is_the_callers_mistake(tmp_path):
    with pytest.raises(SettingsError, match="Ha-6564"):
        read(cube_file(tmp_path / "c.fits"), line="OI-6302")
    doublet = read(cube_file(tmp_path / "c.fits", k=46), line="NII-6585")
    np.testing.assert_allclose(doublet.velocity[INSIDE], VELOCITY[INSIDE], rtol=1e-6)


@pytest.fixture(scope="module")
def califa(shared):
    """Planes of NGC 4047 as Pipe3D made them of CALIFA data (V500: 6.0 Angstrom FWHM), and their header."""
    with fits.open(shared / "mirror/edge_ngc4047/NGC4047.ELINES.cube.fits.gz") as hdus:
        return hdus[0].data.astype(float), hdus[0].header


def test_real_planes_of_califa_are_what_the_data_model_says(califa):
    planes, header = califa
    described = [header[f"DESC_{k}"] for k in range(11)]
    lines = ("[OII]3727", "[OIII]5007", "[OIII]4959", "Hbeta", "Halpha", "[NII]6583", "[NII]6548", "[SII]6731", "[SII]6717")
    assert described[0].strip() == "Halpha velocity"
    assert "dispersion plus instrument" in described[1]
    assert all(line in text for line, text in zip(lines, described[2:], strict=True))
    assert [header[f"UNITS_{k}"].replace(" ", "") for k in (0, 1, 2)] == ["km", "AA", "10^-16erg"]
    velocity, good = planes[0], planes[6] > 10 * planes[15]
    assert abs(np.median(velocity[good]) - 3419) < 60  # cz of the galaxy, so absolute


def test_real_dispersions_of_califa_are_full_widths(califa):
    planes, _ = califa
    bright = (planes[6] > 10 * planes[15]) & (planes[15] > 0)
    width = planes[1][bright] * C_KMS / (6562.8 * (1 + 3419 / C_KMS))
    instrument = 6.0 / FWHM_PER_SIGMA / 6562.8 * C_KMS
    assert decide_width(width, instrument)[0] == "fwhm"
    assert np.sqrt(max(np.median((width / FWHM_PER_SIGMA) ** 2) - instrument**2, 0)) < 60  # a disc; 250 km/s if it were sigma


def test_the_receding_side_of_a_real_pipe3d_map_is_where_the_literature_has_it(califa):
    planes, _ = califa
    velocity, valid = planes[0], (planes[6] > 10 * planes[15]) & (planes[15] > 0)
    y, x = np.mgrid[: velocity.shape[0], : velocity.shape[1]]
    weight = np.where(valid, planes[6], 0)
    centre = (float((x * weight).sum() / weight.sum()), float((y * weight).sum() / weight.sum()))
    axis = fit_position_angle(velocity, np.full(velocity.shape, 5.0), valid, centre)
    pa = (axis.image_angle_deg - 90) % 360  # north up, east left
    assert abs((pa - 284 + 180) % 360 - 180) < 10
    assert abs(axis.v_sys_kms - 3419) < 30
