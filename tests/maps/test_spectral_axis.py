"""Promises of what is read from a cube's header: velocities, frame, beam, sky axes."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits

from tullyflow.conventions import optical_from_relativistic
from tullyflow.errors import DataError
from tullyflow.flags import GALAXY
from tullyflow.maps.spectral_axis import beam_fwhm_arcsec, channel_velocities, read_spectral_axis, sky_axes, velocity_frame

C = 299_792.458
REST = 1.420405752e9


def header_of(shape=(60, 40, 46), **cards):
    header = fits.Header()
    header["NAXIS"] = 3
    for k, length in enumerate(reversed(shape)):
        header[f"NAXIS{k + 1}"] = length
    base = {"CTYPE1": "RA---SIN", "CRVAL1": 150.0, "CDELT1": -1e-3, "CRPIX1": 20.0, "CUNIT1": "deg", "CTYPE2": "DEC--SIN", "CRVAL2": 30.0,
            "CDELT2": 1e-3, "CRPIX2": 20.0, "CUNIT2": "deg", "CTYPE3": "VELO-HEL", "CRVAL3": 850e3, "CDELT3": 5e3, "CRPIX3": 1.0,
            "CUNIT3": "m/s", "BUNIT": "Jy/beam", "BMAJ": 3e-3, "BMIN": 3e-3, "EQUINOX": 2000.0}  # fmt: skip
    for key, value in {**base, **cards}.items():
        if value is not None:
            header[key] = value
    return header


@pytest.mark.parametrize(
    "cards",
    [
        {"CTYPE3": "FREQ", "CUNIT3": "Hz", "RESTFRQ": 1.420405752e9, "CRVAL3": 1.420405752e9 / (1 + 1000 / C), "CDELT3": -2e4},
        {"CTYPE3": "FELO-HEL", "CRVAL3": 1e6, "CDELT3": 2e4 * 1e3 * C / 1.420405752e9 * (1 + 1000 / C) ** 2},
        {"CTYPE3": "VOPT-F2W", "CRVAL3": 1e3, "CUNIT3": "km/s", "CDELT3": 2e4 * C / 1.420405752e9 * (1 + 1000 / C) ** 2},
    ],
)
def test_frequency_and_its_optical_axes_agree(cards):
    velocity = channel_velocities(header_of(**cards), 3, "cube")
    rest = 1.420405752e9
    frequency = rest / (1 + 1000 / C) - 2e4 * np.arange(60)
    np.testing.assert_allclose(velocity, C * (rest / frequency - 1), atol=1e-3)


def test_radio_velocities_become_optical():
    optical = channel_velocities(header_of(), 3, "cube")
    radio = channel_velocities(header_of(CTYPE3="VRAD"), 3, "cube")
    aips = channel_velocities(header_of(VELREF=257), 3, "cube")
    np.testing.assert_allclose(radio - optical, optical**2 / C, rtol=0.01)
    np.testing.assert_array_equal(radio, aips)


def test_the_beam_is_found_in_the_history():
    header = header_of(BMAJ=None, BMIN=None)
    assert np.isnan(beam_fwhm_arcsec(header))
    header["HISTORY"] = "AIPS   CLEAN BMAJ=  3.5593E-03 BMIN=  3.3050E-03 BPA=  46.81"
    assert np.isclose(beam_fwhm_arcsec(header), np.sqrt(3.5593e-3 * 3.3050e-3) * 3600)


def test_a_1950_header_is_brought_to_icrs():
    wcs, scale = sky_axes(header_of(EQUINOX=1950.0), "cube")
    ra, dec = wcs.wcs_pix2world([[19.0, 19.0]], 0)[0]
    assert 150.6 < ra < 150.9  # 50 years of precession
    assert 29.7 < dec < 29.8
    assert np.isclose(scale, 3.6, rtol=1e-3)


@pytest.mark.parametrize(
    "cards",
    [
        {"CTYPE3": "VRAD", "CRVAL3": 3.4e6, "CDELT3": -2e4, "RESTFRQ": REST, "SPECSYS": "BARYCENT"},
        {"CTYPE3": "VRAD", "CRVAL3": 3400.0, "CDELT3": 20.0, "CUNIT3": "km/s", "RESTFRQ": REST, "SPECSYS": "LSRK"},
        {"CTYPE3": "VOPT", "CRVAL3": 3.4e6, "CDELT3": 2e4, "RESTFRQ": REST, "SPECSYS": "HELIOCEN"},
        {"CTYPE3": "VOPT-F2W", "CRVAL3": 3.4e6, "CDELT3": 2e4, "RESTFRQ": REST},
        {"CTYPE3": "VELO", "CRVAL3": 3.4e6, "CDELT3": 2e4, "RESTFRQ": REST, "SPECSYS": "LSRK"},
        {"CTYPE3": "VELO-F2V", "CRVAL3": 3.4e6, "CDELT3": 2e4, "RESTFRQ": REST},
        {"CTYPE3": "FREQ", "CRVAL3": 1.405e9, "CDELT3": -1e5, "CUNIT3": "Hz", "RESTFRQ": REST},
        {"CTYPE3": "FREQ", "CRVAL3": 1405.0, "CDELT3": 0.1, "CUNIT3": "MHz", "RESTFRQ": REST, "SPECSYS": "TOPOCENT"},
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_standard_axes_are_those_of_spectral_cube(tmp_path, cards):
    from spectral_cube import SpectralCube

    header = header_of((60, 4, 5), **cards)
    fits.PrimaryHDU(np.zeros((60, 4, 5), dtype=np.float32), header).writeto(tmp_path / "cube.fits")
    theirs = SpectralCube.read(tmp_path / "cube.fits")
    frequency = theirs.with_spectral_unit(u.Hz, rest_value=REST * u.Hz).spectral_axis
    velocity = channel_velocities(header, 3, "cube")
    optical = frequency.to_value(u.km / u.s, u.doppler_optical(REST * u.Hz))
    np.testing.assert_allclose(velocity, optical, atol=2e-3)


@pytest.mark.parametrize(
    ("text", "scale"),
    [("KM/S", 1), ("km s-1", 1), ("km.s**-1", 1), ("KM S^(-1)", 1), ("M/S", 1e-3), ("METR/SEC", 1e-3), ("m s-1", 1e-3), (None, 1e-3)],
)
def test_units_in_every_spelling(text, scale):
    velocity = channel_velocities(header_of(CRVAL3=850 / scale, CDELT3=5 / scale, CUNIT3=text), 3, "cube")
    np.testing.assert_allclose(velocity, 850 + 5 * np.arange(60))


def test_a_step_without_unit_that_no_galaxy_has_in_metres_is_taken_as_kilometres_and_said():
    axis = read_spectral_axis(header_of(CRVAL3=850.0, CDELT3=5.0, CUNIT3=None), 3, "cube")
    np.testing.assert_allclose(axis.velocity_kms, 850 + 5 * np.arange(60))
    assert "km/s" in axis.messages[0]


def test_velo_of_miriad_is_radio():
    plain = channel_velocities(header_of(), 3, "cube")
    miriad = channel_velocities(header_of(ORIGIN="Miriad fits: CVS Revision 1.19"), 3, "cube")
    np.testing.assert_allclose(miriad - plain, plain**2 / C, rtol=0.01)


def test_relativistic_velocities_lie_between_radio_and_optical():
    assert 3000 < optical_from_relativistic(3000.0) < 3000 / (1 - 3000 / C)
    np.testing.assert_allclose(optical_from_relativistic(3000.0) - 3000, 3000**2 / 2 / C, rtol=0.02)


@pytest.mark.parametrize(
    ("cards", "frame"),
    [
        ({"CTYPE3": "VELO-LSR"}, "LSRK"), ({"CTYPE3": "FELO-HEL"}, "HELIOCEN"), ({"CTYPE3": "VELO-OBS"}, "TOPOCENT"),
        ({"CTYPE3": "VELO", "VELREF": 257}, "LSRK"), ({"CTYPE3": "VELO", "VELREF": 2}, "HELIOCEN"), ({"CTYPE3": "VRAD"}, ""),
        ({"CTYPE3": "VELO-HEL", "SPECSYS": "LSRK"}, "LSRK"), ({"CTYPE3": "VOPT-F2W"}, ""), ({"CTYPE3": "FREQ-LSR"}, "LSRK"),
    ],
)  # fmt: skip
def test_the_frame_is_read_where_headers_say_it(cards, frame):
    assert velocity_frame(header_of(**cards), 3) == frame


@pytest.mark.parametrize("frame", ["LSRK", "LSRD"])
@pytest.mark.parametrize("direction", [(91.87, -61.84), (180.7, 48.6), (270.9, 30.0)])
@pytest.mark.filterwarnings("ignore")
def test_velocities_of_the_local_standard_of_rest_become_those_of_the_sun(frame, direction):
    from astropy.coordinates import LSRD, LSRK

    axis = read_spectral_axis(header_of(SPECSYS=frame, CTYPE3="VOPT"), 3, "cube", direction)
    kept = channel_velocities(header_of(SPECSYS=frame, CTYPE3="VOPT"), 3, "cube")
    still = {"pm_ra_cosdec": 0 * u.mas / u.yr, "pm_dec": 0 * u.mas / u.yr, "radial_velocity": 0 * u.km / u.s}
    at_rest = SkyCoord(direction[0] * u.deg, direction[1] * u.deg, distance=10 * u.Mpc, **still)  # with the Sun
    shift = at_rest.transform_to({"LSRK": LSRK, "LSRD": LSRD}[frame]()).radial_velocity.to_value("km/s")
    assert abs(shift) > 5
    np.testing.assert_allclose(axis.velocity_kms, (1 + kept / C) * (C - shift) - C, atol=0.01)
    assert f"{frame}, made heliocentric" in axis.messages[0]


def test_a_frame_that_is_unknown_or_topocentric_is_kept_and_said():
    said = {"does not say": {"CTYPE3": "VRAD"}, "topocentric": {"CTYPE3": "VELO-OBS"}, "CMBDIPOL": {"SPECSYS": "CMBDIPOL"}}
    for word, cards in said.items():
        axis = read_spectral_axis(header_of(**cards), 3, "cube", (150.0, 30.0))
        np.testing.assert_array_equal(axis.velocity_kms, channel_velocities(header_of(**cards), 3, "cube"))
        assert word in axis.messages[0]
    assert read_spectral_axis(header_of(), 3, "cube", (150.0, 30.0)).messages == ()


def test_the_beam_of_a_cube_with_many_is_their_median():
    table = fits.BinTableHDU.from_columns(
        [fits.Column("BMAJ", "E", "arcsec", array=[8.0, 9.0, 30.0]), fits.Column("BMIN", "E", "arcsec", array=[8.0, 4.0, 30.0])]
    )
    header = header_of(BMAJ=None, BMIN=None, CASAMBM=True)
    assert np.isclose(beam_fwhm_arcsec(header, table.data), 8.0)
    assert np.isclose(beam_fwhm_arcsec(header_of(), table.data), 10.8)
    degrees = fits.BinTableHDU.from_columns([fits.Column(key, "E", "deg", array=[0.002]) for key in ("BMAJ", "BMIN")])
    assert np.isclose(beam_fwhm_arcsec(header, degrees.data), 7.2)


@pytest.mark.parametrize("value", [0.0, -1.0, None, "none"])
def test_a_rest_frequency_that_is_none_is_refused(value):
    header = header_of(CTYPE3="FREQ", CUNIT3="Hz", CRVAL3=1.4e9, CDELT3=1e4, RESTFRQ=value)
    with pytest.raises(DataError, match="RESTFRQ") as caught:
        channel_velocities(header, 3, "cube")
    assert caught.value.flag == GALAXY.NO_WCS


def test_an_axis_by_a_matrix_is_read():
    header = header_of(CDELT3=None, CD3_3=5e3)
    np.testing.assert_allclose(channel_velocities(header, 3, "cube"), 850 + 5 * np.arange(60))
