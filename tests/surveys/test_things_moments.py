"""THINGS's moment maps, in files laid out strictly as the archive's were audited: what is certain is read, what is not is checked."""

import numpy as np
import pytest
from astropy.io import fits

from tullyflow.errors import DataError
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.maps.galaxies import make_galaxy
from tullyflow.surveys import things
from tullyflow.tables import TARGETS, conform

PA_DEG = 123.7  # of the receding side, as NGC 2403's
V_SYS = 132.8
NY, NX = 120, 132  # unequal, the galaxy off centre
SCALE = 6.0  # arcsec


def header(unit, third="FREQ", rotation=-0.619, stokes_first=False, **changes):
    """As FACTS of the archive's headers: four axes, EPOCH, CROTA2, RESTFREQ, VELREF 2; no BMAJ."""
    spectral = {
        "FREQ": {"CTYPE": "FREQ", "CRVAL": 1.419776e9, "CDELT": -24414.0},
        "VELO-HEL": {"CTYPE": "VELO-HEL", "CRVAL": 132.8e3, "CDELT": -5157.0},
        "FELO-HEL": {"CTYPE": "FELO-HEL", "CRVAL": 38000.0, "CDELT": -2577.0},
    }[third]
    axes = ({"CTYPE": "STOKES", "CRVAL": 1.0, "CDELT": 1.0}, spectral)
    if not stokes_first:
        axes = axes[::-1]
    head = fits.Header({
        "CTYPE1": "RA---SIN", "CRVAL1": 114.2129, "CDELT1": -SCALE / 3600, "CRPIX1": 71.0, "CROTA1": 0.0,
        "CTYPE2": "DEC--SIN", "CRVAL2": 65.6008, "CDELT2": SCALE / 3600, "CRPIX2": 58.0, "CROTA2": rotation,
        "BUNIT": unit, "EPOCH": 2000.0, "RESTFREQ": 1.420405752e9, "VELREF": 2, "TELESCOP": "VLA", "OBJECT": "N2403",
    })  # fmt: skip
    for number, axis in enumerate(axes, 3):
        head.update({f"{key}{number}": value for key, value in {**axis, "CRPIX": 1.0, "CROTA": 0.0}.items()})
    for key, value in changes.items():
        if value is None:
            del head[key]
        else:
            head[key] = value
    return head


def field(rotation):
    """Velocity (km/s), flux (Jy/beam km/s) and dispersion of a disc at `PA_DEG` on the sky, its pixels turned by CROTA2.

    With (i, j) pixels from the centre: CDELT1 i cos - CDELT2 j sin is the way east, CDELT1 i sin + CDELT2 j cos the way north.
    """
    y, x = np.mgrid[:NY, :NX].astype(float)
    turn = np.radians(rotation)
    i, j = x - 70, y - 57
    east, north = -i * np.cos(turn) - j * np.sin(turn), -i * np.sin(turn) + j * np.cos(turn)
    pa = np.radians(PA_DEG)
    along, across = east * np.sin(pa) + north * np.cos(pa), east * np.cos(pa) - north * np.sin(pa)
    radius = np.hypot(along, across / 0.46)
    with np.errstate(invalid="ignore", divide="ignore"):
        velocity = V_SYS + 115 * (2 / np.pi) * np.arctan(radius / 6) * np.where(radius > 0, along / radius, 0)
    noise = np.random.default_rng(7).normal(0, 0.02, (NY, NX))
    flux = np.where(radius < 45, 3 * np.exp(-radius / 15), 0) + np.where(radius < 52, noise, 0)  # blanked planes sum to exactly 0
    return np.where(radius < 45, velocity, np.nan), flux, np.where(radius < 45, 9 + 0.05 * x, np.nan)


def write(folder, rotation=-0.619, **changes):
    velocity, flux, dispersion = field(rotation)
    rows = {"mom0": (1e3 * flux, "JY/B*M/S"), "mom1": (1e3 * velocity, "METR/SEC"), "mom2": (1e3 * dispersion, "METR/SEC")}
    paths = {}
    for name, (pixels, unit) in rows.items():
        change = {**changes.get("all", {}), **changes.get(name, {})}
        data = change.pop("data", lambda p: p)(pixels)
        history = change.pop("history", None)
        head = header(change.pop("unit", unit), rotation=rotation, **change)
        if history:
            head["HISTORY"] = history
        paths[name] = folder / f"NGC_2403_NA_{name.upper()}_THINGS.FITS"
        fits.PrimaryHDU(data[None, None].astype(">f4"), head).writeto(paths[name], overwrite=True)
    return paths


def target(**changes):
    row = {"galaxy": "NGC_2403", "ra_deg": 114.2129, "dec_deg": 65.6008, "z": V_SYS / 299_792.458, "psf_fwhm_arcsec": 8.18}
    return {**row, **changes}


def read(configure, paths, **changes):
    return things.read(paths, target(**changes), configure(things={"product": "moments"}))


def test_units_blanks_and_noise_are_those_of_the_archive(configure, tmp_path):
    velocity, flux, _ = field(-0.619)
    maps = read(configure, write(tmp_path))
    assert maps.velocity.shape == (NY, NX)
    np.testing.assert_allclose(maps.velocity, velocity, rtol=1e-5)
    np.testing.assert_allclose(maps.intensity, flux, rtol=1e-4, atol=1e-6)
    assert maps.intensity_unit == "JY/BEAM km/s"
    assert maps.absolute and maps.flags == GALAXY.NO_ERROR_MAP
    np.testing.assert_array_equal((maps.mask & PIXEL.NO_VALUE) != 0, np.isnan(velocity))
    np.testing.assert_array_equal((maps.mask & PIXEL.LOW_SNR) != 0, ~(flux > 0))
    assert maps.intensity_err[0, 0] == pytest.approx(0.02, rel=0.15)  # from the negative pixels
    assert maps.fov_pixels == np.isfinite(velocity).sum()
    assert maps.pixel_scale_arcsec == pytest.approx(SCALE, rel=1e-4)
    assert maps.centre == pytest.approx((70, 57), abs=1e-3)


@pytest.mark.parametrize("unit", ["M/S", "METR/SEC", "m/s", "m s-1"])
def test_spellings_of_metres_per_second_are_one_unit(configure, tmp_path, unit):
    maps = read(configure, write(tmp_path, mom1={"unit": unit}, mom2={"unit": unit}))
    assert np.nanmedian(maps.velocity) == pytest.approx(V_SYS, abs=10)
    assert not any("BUNIT" in message for message in maps.messages)


@pytest.mark.parametrize(("unit", "factor", "shift", "word"), [("", 1.0, 0, "m/s"), ("KELVIN", 1.0, 0, "m/s"), (None, 1e-3, 800, "km/s")])
def test_a_unit_that_is_none_is_told_from_the_systemic_velocity_and_said(configure, tmp_path, unit, factor, shift, word):
    change = {"unit": "M/S", "BUNIT": None} if unit is None else {"unit": unit}
    paths = write(tmp_path, mom1={**change, "data": lambda p: (p + 1e3 * shift) * factor})
    maps = read(configure, paths, z=(V_SYS + shift) / 299_792.458)
    assert np.nanmedian(maps.velocity) == pytest.approx(V_SYS + shift, abs=10)
    assert any("BUNIT" in m and f"taken as {word}," in m for m in maps.messages)


@pytest.mark.parametrize(("change", "z"), [({"unit": "KM/S"}, V_SYS / 299_792.458), ({"unit": "M/S"}, 0.01), ({"unit": "?"}, np.nan),
                                           ({"unit": "?", "data": lambda p: p * 1e3}, V_SYS / 299_792.458)])  # fmt: skip
def test_velocities_that_cannot_be_the_galaxys_put_it_out_with_what_to_do(configure, tmp_path, change, z):
    with pytest.raises(DataError, match=r"BUNIT.*overrides") as caught:
        read(configure, write(tmp_path, mom1=change), z=z)
    assert caught.value.flag == GALAXY.UNREADABLE_FILE


def test_a_flux_of_another_unit_is_kept_and_said(configure, tmp_path):
    maps = read(configure, write(tmp_path, mom0={"unit": "K*KM/S"}))
    assert maps.intensity_unit == "K*KM/S"
    assert any("MOM0" in m and "JY/B*M/S" in m for m in maps.messages)


def test_radio_velocities_are_made_optical_and_it_is_said(configure, tmp_path):
    optical = read(configure, write(tmp_path)).velocity
    radio = read(configure, write(tmp_path, mom1={"VELREF": 258}))
    np.testing.assert_allclose(radio.velocity, optical / (1 - optical / 299_792.458), rtol=1e-6)
    assert any("VELREF 258" in m for m in radio.messages)


@pytest.mark.parametrize("third", ["FREQ", "VELO-HEL", "FELO-HEL"])
@pytest.mark.parametrize("stokes_first", [False, True])
def test_the_third_and_fourth_axis_may_come_in_either_order(configure, tmp_path, third, stokes_first):
    maps = read(configure, write(tmp_path, all={"third": third, "stokes_first": stokes_first}))
    width = {"FREQ": 5.155, "VELO-HEL": 5.157, "FELO-HEL": 2.577}[third]
    expected = field(-0.619)[2] ** 2 - (width / 2.3548) ** 2
    np.testing.assert_allclose(maps.dispersion_sq, expected, rtol=1e-3)
    assert any(f"channel of {width:.2f} km/s removed" in m for m in maps.messages)
    assert maps.pixel_scale_arcsec == pytest.approx(SCALE, rel=1e-4)


def test_an_axis_that_is_no_longer_a_channels_removes_nothing(configure, tmp_path):
    maps = read(configure, write(tmp_path, all={"third": "VELO-HEL", "CDELT3": -250e3}))
    np.testing.assert_allclose(maps.dispersion_sq, field(-0.619)[2] ** 2, rtol=1e-5)
    assert any("nothing removed" in m for m in maps.messages)


def test_the_velocity_does_without_a_dispersion_but_not_without_its_flux(configure, tmp_path):
    paths = write(tmp_path)
    maps = read(configure, {k: p for k, p in paths.items() if k != "mom2"})
    assert maps.dispersion_sq is None and any("second moment" in m for m in maps.messages)
    unclear = read(configure, write(tmp_path, mom2={"unit": "?"}))
    assert unclear.dispersion_sq is None and any("MOM2" in m and "BUNIT" in m for m in unclear.messages)
    for absent in ("mom0", "mom1"):
        with pytest.raises(DataError, match=absent) as caught:
            read(configure, {k: p for k, p in paths.items() if k != absent})
        assert caught.value.flag == GALAXY.MISSING_FILE


def test_the_beam_is_the_files_where_its_history_says_else_the_tables(configure, tmp_path):
    paths = write(tmp_path)
    assert read(configure, paths).psf_fwhm_arcsec == 8.18
    assert any("how wide the beam" in m for m in read(configure, paths, psf_fwhm_arcsec=np.nan).messages)
    history = "AIPS   CLEAN BMAJ=  3.5593E-03 BMIN=  3.3050E-03 BPA=  46.81"
    maps = read(configure, write(tmp_path, mom0={"history": history}))
    assert maps.psf_fwhm_arcsec == pytest.approx(np.sqrt(12.813 * 11.898), rel=1e-3)
    assert any("the file's is used" in m for m in maps.messages)


@pytest.mark.parametrize(("change", "flag"), [({"mom2": {"data": lambda p: p[:-1]}}, GALAXY.MISSING_HDU),
                                              ({"mom0": {"data": lambda p: p[:, 1:]}}, GALAXY.MISSING_HDU),
                                              ({"mom1": {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}}, GALAXY.NO_WCS)])  # fmt: skip
def test_what_is_wrong_with_a_map_is_flagged(configure, tmp_path, change, flag):
    with pytest.raises(DataError) as caught:
        read(configure, write(tmp_path, **change))
    assert caught.value.flag == flag


def test_a_truncated_map_is_unreadable(configure, tmp_path):
    paths = write(tmp_path)
    paths["mom1"].write_bytes(paths["mom1"].read_bytes()[:-20_000])
    with pytest.raises(DataError) as caught:
        read(configure, paths)
    assert caught.value.flag == GALAXY.UNREADABLE_FILE


@pytest.mark.parametrize("rotation", [-0.619, 25.0])
def test_the_position_angle_is_that_on_the_sky_whatever_the_rotation_of_the_map(configure, tmp_path, rotation):
    settings = configure(things={"product": "moments"}).for_survey("things")
    row = conform(things.targets({}, "NA", settings), TARGETS).set_index("galaxy", drop=False).loc["NGC_2403"].to_dict()
    manifest = {name: {"path": str(path), "status": "ok", "message": ""} for name, path in write(tmp_path, rotation=rotation).items()}
    made = make_galaxy(row, manifest, settings)
    assert not made.row["flags"] & GALAXY.excluding, made.log
    assert made.row["pa_deg"] == pytest.approx(PA_DEG, abs=1)
    assert made.row["v_sys_kms"] == pytest.approx(V_SYS, abs=1)
    assert made.row["outer_dispersion_kms"] == pytest.approx(np.sqrt(12.2**2 - 2.19**2), abs=0.6)
    right = np.nanmean(made.stamp.velocity[28:36, 40:60])
    assert right > 60 and right > 5 * abs(np.nanmean(made.stamp.velocity[40:60, 28:36]))


@pytest.mark.parametrize("product", ["mom0", "mom1", "mom2"])
def test_a_map_of_another_galaxy_is_refused(configure, tmp_path, product):
    paths = write(tmp_path, **{product: {"CRVAL1": 154.9, "CRVAL2": 45.55}})
    with pytest.raises(DataError, match=rf"{product.upper()}.*not on this map") as caught:
        read(configure, paths)
    assert caught.value.flag == GALAXY.UNREADABLE_FILE
    assert any("no position is given" in m for m in read(configure, paths, ra_deg=np.nan).messages)
