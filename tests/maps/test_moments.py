"""Promises of the moments of a cube."""

import gzip

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from tullyflow.conventions import FWHM_PER_SIGMA
from tullyflow.errors import DataError
from tullyflow.flags import BAD_VELOCITY, GALAXY
from tullyflow.maps.moments import moments, moments_from_cube
from tullyflow.settings import Maps

C = 299_792.458


def line_cube(n=40, channels=60, step=5.0, sigma=15.0, peak=0.05):
    """Gaussian lines on a velocity gradient, in a disc without symmetry: cube (channel, y, x), velocities, true centre."""
    y, x = np.indices((n, n + 6), dtype=float)
    velocity = step * (np.arange(channels) - channels / 2) + 1000
    centre = 1000 + 4 * (x - 18) - 2 * (y - 22)
    bright = np.exp(-np.hypot(x - 18, (y - 22) / 0.7) / 8)
    cube = peak * bright * np.exp(-0.5 * ((velocity[:, None, None] - centre) / sigma) ** 2)
    return cube, velocity, centre


def header_of(shape, step=5000.0, start=1e6 - 30 * 5000.0, **cards):
    header = fits.Header()
    base = {"CTYPE1": "RA---SIN", "CRVAL1": 150.0, "CDELT1": -1e-3, "CRPIX1": 20.0, "CUNIT1": "deg", "CTYPE2": "DEC--SIN", "CRVAL2": 30.0,
            "CDELT2": 1e-3, "CRPIX2": 20.0, "CUNIT2": "deg", "CTYPE3": "VELO-HEL", "CRVAL3": start, "CDELT3": step, "CRPIX3": 1.0,
            "CUNIT3": "m/s", "BUNIT": "Jy/beam", "BMAJ": 3e-3, "BMIN": 3e-3, "EQUINOX": 2000.0}  # fmt: skip
    for key, value in {**base, **cards}.items():
        if value is not None:
            header[key] = value
    header["NAXIS"] = 3
    for k, length in enumerate(reversed(shape)):
        header[f"NAXIS{k + 1}"] = length
    return header


def write(path, cube, **cards):
    header = header_of(cube.shape, **cards)
    fits.PrimaryHDU(cube.astype(np.float32), header).writeto(path)
    return path


def test_moments_of_a_noiseless_line_are_exact():
    cube, velocity, centre = line_cube()
    found = moments(cube, velocity, np.ones(cube.shape, dtype=bool), 0.001)
    inside = np.abs(centre - 1000) < 60
    np.testing.assert_allclose(found.velocity[inside], centre[inside], atol=0.05)
    np.testing.assert_allclose(found.dispersion_sq[inside], 225, rtol=0.02)
    np.testing.assert_allclose(found.intensity, cube.sum(axis=0) * 5.0, rtol=1e-9)


def test_errors_of_all_moments_match_monte_carlo():
    cube, velocity, _ = line_cube(n=6, peak=1.0)
    cube = cube[:, :3, 10:14]
    signal = np.ones(cube.shape, dtype=bool)
    signal[:, 0, 0] = np.abs(np.arange(len(velocity)) - 30) < 12  # a mask of its own
    cube = cube / cube.max(axis=0)
    rms, rng = 0.01, np.random.default_rng(8)
    said = moments(cube, velocity, signal, rms)
    drawn = [moments(cube + rng.normal(0, rms, cube.shape), velocity, signal, rms) for _ in range(600)]
    for name in ("intensity", "velocity", "dispersion_sq"):
        scatter = np.std([getattr(m, name) for m in drawn], axis=0)
        np.testing.assert_allclose(getattr(said, f"{name}_err"), scatter, rtol=0.15, err_msg=name)


def test_masked_voxels_never_enter():
    cube, velocity, _ = line_cube()
    signal = cube > 1e-4
    wild = np.where(signal, cube, 1e9)
    wild[0, 3, 3] = np.nan
    a, b = moments(cube, velocity, signal, 0.01), moments(wild, velocity, signal, 0.01)
    np.testing.assert_array_equal(a.velocity, b.velocity)
    np.testing.assert_array_equal(a.intensity_err, b.intensity_err)


def test_too_few_channels_give_no_velocity():
    cube, velocity, _ = line_cube()
    signal = np.zeros(cube.shape, dtype=bool)
    signal[30, :, :20] = signal[30:33, :, 20:] = True
    found = moments(cube, velocity, signal, 0.01, channels_min=2)
    assert np.isnan(found.velocity[:, :20]).all()
    assert np.isfinite(found.velocity[:, 20:]).any()


def test_a_cube_becomes_maps(tmp_path):
    cube, _, centre = line_cube()
    noisy = cube + np.random.default_rng(1).normal(0, 0.002, cube.shape)
    found = moments_from_cube(write(tmp_path / "c.fits", noisy), Maps())
    good = ((found.mask & BAD_VELOCITY) == 0) & (found.intensity > 20 * found.intensity_err) & (np.abs(centre - 1000) < 60)
    assert good.sum() > 60
    pull = (found.velocity - centre)[good] / found.velocity_err[good]
    assert abs(np.median(pull)) < 0.5
    assert np.mean(np.abs(pull) < 3) > 0.98
    assert np.isclose(found.pixel_scale_arcsec, 3.6)
    assert np.isclose(found.beam_fwhm_arcsec, 10.8)
    assert found.beam is None
    assert found.intensity_unit == "Jy/beam km/s"


def test_errors_hold_where_the_mask_is_found_in_the_noise(tmp_path):
    """The mask's edge is not drawn by noise: one of all connected voxels above 2 sigma has pulls of 1.06, 1.27 and 1.57."""
    cube, _, centre = line_cube()
    rng, pulls, ratio = np.random.default_rng(12), [], []
    bright = (cube.max(axis=0) > 0.01) & (np.abs(centre - 1000) < 80)
    for k in range(16):
        noise = ndimage.gaussian_filter(rng.standard_normal(cube.shape), (0, 3 / FWHM_PER_SIGMA, 3 / FWHM_PER_SIGMA), mode="wrap")
        found = moments_from_cube(write(tmp_path / f"{k}.fits", cube + 0.003 * noise / noise.std()), Maps())
        true = (cube.sum(axis=0) * 5, centre, np.full(centre.shape, 225.0))
        names = ("intensity", "velocity", "dispersion_sq")
        off = [(getattr(found, name) - t) / getattr(found, f"{name}_err") for name, t in zip(names, true, strict=True)]
        pulls.append(np.array(off)[:, bright])
        ratio.append(found.intensity[bright].sum() / true[0][bright].sum())
    pulls = np.concatenate(pulls, axis=1)
    assert np.isfinite(pulls).all()
    assert abs(np.mean(ratio) - 1) < 0.012
    widths = 1.4826 * np.median(np.abs(pulls - np.median(pulls, axis=1, keepdims=True)), axis=1)
    assert (widths < [1.1, 1.2, 1.35]).all()
    assert (widths > 0.9).all()
    assert (np.abs(np.median(pulls, axis=1)) < [0.2, 0.2, 0.4]).all()


def test_an_elliptical_beam_keeps_its_axes(tmp_path):
    cube, _, _ = line_cube()
    found = moments_from_cube(write(tmp_path / "c.fits", cube, BMAJ=4e-3, BMIN=2e-3, BPA=-30.0), Maps())
    np.testing.assert_allclose(found.beam, (14.4, 7.2, 150.0))
    assert np.isclose(found.beam_fwhm_arcsec, np.sqrt(14.4 * 7.2))


def test_a_gzipped_or_compressed_cube_is_the_same_cube(tmp_path):
    cube, _, _ = line_cube()
    plain = write(tmp_path / "a.fits", cube + np.random.default_rng(2).normal(0, 0.002, cube.shape))
    (tmp_path / "b.fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with fits.open(plain) as hdus:
        fits.CompImageHDU(hdus[0].data, hdus[0].header, compression_type="GZIP_2", quantize_level=0).writeto(tmp_path / "c.fits.fz")
    found = moments_from_cube(plain, Maps())
    for name, hdu in (("b.fits.gz", 0), ("c.fits.fz", 1)):
        np.testing.assert_array_equal(moments_from_cube(tmp_path / name, Maps(), hdu).velocity, found.velocity)
    (tmp_path / "torn.fits.gz").write_bytes((tmp_path / "b.fits.gz").read_bytes()[:-9000])
    with pytest.raises(DataError, match="torn") as caught:
        moments_from_cube(tmp_path / "torn.fits.gz", Maps())
    assert caught.value.flag == GALAXY.UNREADABLE_FILE


def test_a_stokes_axis_and_the_order_of_axes_do_not_matter(tmp_path):
    cube, _, _ = line_cube()
    plain = moments_from_cube(write(tmp_path / "a.fits", cube), Maps())
    header = header_of(cube.shape)
    for key in ("CTYPE", "CRVAL", "CDELT", "CRPIX"):
        header[f"{key}4"] = header[f"{key}3"]
    header["CUNIT4"] = header["CUNIT3"]
    del header["CUNIT3"]
    header["CTYPE3"], header["CRVAL3"], header["CDELT3"], header["CRPIX3"] = "STOKES", 1.0, 1.0, 1.0
    fits.PrimaryHDU(cube[:, None].astype(np.float32), header).writeto(tmp_path / "b.fits")
    found = moments_from_cube(tmp_path / "b.fits", Maps())
    np.testing.assert_array_equal(found.velocity, plain.velocity)


@pytest.mark.parametrize(
    ("cards", "flag", "word"),
    [
        ({"CTYPE3": "WAVE"}, GALAXY.NO_WCS, "frequency or velocity"),
        ({"CTYPE3": "FREQ", "CUNIT3": "Hz"}, GALAXY.NO_WCS, "RESTFRQ"),
        ({"CUNIT3": "kg"}, GALAXY.NO_WCS, "unit"),
        ({"CDELT3": None}, GALAXY.NO_WCS, "CDELT"),
        ({"CTYPE1": "X", "CTYPE2": "Y"}, GALAXY.NO_WCS, "sky"),
    ],
)
def test_a_header_that_does_not_say_is_a_flag_with_a_sentence(tmp_path, cards, flag, word):
    path = write(tmp_path / "c.fits", np.zeros((5, 6, 7)), **cards)
    with pytest.raises(DataError, match=word) as caught:
        moments_from_cube(path, Maps())
    assert caught.value.flag == flag


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_an_image_or_a_torn_file_is_unreadable(tmp_path):
    fits.PrimaryHDU(np.zeros((6, 7), dtype=np.float32)).writeto(tmp_path / "image.fits")
    whole = write(tmp_path / "whole.fits", np.ones((30, 20, 20)))
    (tmp_path / "torn.fits").write_bytes(whole.read_bytes()[:9000])
    (tmp_path / "text.fits").write_text("404 not found")
    for name in ("image.fits", "torn.fits", "text.fits"):
        with pytest.raises(DataError) as caught:
            moments_from_cube(tmp_path / name, Maps())
        assert caught.value.flag == GALAXY.UNREADABLE_FILE


def test_an_empty_cube_has_no_velocity(tmp_path):
    found = moments_from_cube(write(tmp_path / "nan.fits", np.full((20, 12, 14), np.nan)), Maps())
    assert ((found.mask & BAD_VELOCITY) != 0).all()


def test_ngc_2903_has_its_published_axis(shared):
    from tullyflow.maps.orientation import image_axes, image_to_sky_angle
    from tullyflow.maps.position_angle import fit_position_angle

    found = moments_from_cube(shared / "mirror" / "hi_cubes" / "NGC_2903.fits", Maps())
    centre = tuple(float(a) for a in found.wcs.wcs_world2pix([(143.0421, 21.5008)], 0)[0])
    good = ((found.mask & BAD_VELOCITY) == 0) & (found.intensity > 3 * found.intensity_err)
    fit = fit_position_angle(found.velocity, found.velocity_err, good, centre)
    assert abs(image_to_sky_angle(fit.image_angle_deg, *image_axes(found.wcs, centre)) - 204.3) < 3
    assert abs(fit.v_sys_kms - 555.6) < 8
