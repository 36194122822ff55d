"""THINGS: the shipped table, and cubes placed on the table's positions."""

from importlib import resources

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from tullyflow.errors import CatalogueError, DataError
from tullyflow.flags import GALAXY
from tullyflow.surveys import things
from tullyflow.surveys.cubes import centre_from_position
from tullyflow.tables import TARGETS, conform


def test_the_shipped_table_has_the_34_galaxies_of_the_survey(configure):
    frame = conform(things.targets({}, "NA", configure()), TARGETS).set_index("galaxy")
    assert len(frame) == 34
    assert frame.loc["NGC_2403", "distance_mpc"] == pytest.approx(3.22)
    q2 = 0.04 + 0.96 * np.cos(np.radians(62.9)) ** 2
    assert frame.loc["NGC_2403", "axis_ratio"] == pytest.approx(np.sqrt(q2))
    assert frame.loc["NGC_3198", "pa_phot_deg"] == pytest.approx(35.0)  # 215 modulo 180
    assert frame.loc["NGC_2403", "psf_fwhm_arcsec"] == pytest.approx(np.sqrt(8.75 * 7.65))
    assert frame.loc["NGC_2403", "log_mstar"] == pytest.approx(9.66 - 0.04)  # Kroupa to Chabrier
    assert not (frame["flags"] & GALAXY.MISSING_MASS).any()
    doubtful = frame.index[frame["messages"].str.contains("low confidence")]
    assert list(doubtful) == ["NGC_1569"] and "Lee+2006" in frame.loc["NGC_1569", "messages"]
    assert frame["distance_mpc"].between(1, 20).all()
    own = things.targets({}, "NA", configure(cosmology={"imf": "own"})).set_index("galaxy")
    assert own.loc["NGC_2403", "log_mstar"] == 9.66
    robust = things.targets({}, "RO", configure()).set_index("galaxy")
    assert robust.loc["NGC_2403", "psf_fwhm_arcsec"] == pytest.approx(np.sqrt(6.01 * 5.17))


@pytest.mark.parametrize(("name", "ra", "dec"), [("NGC_2403", "07h36m51.4s", "+65d36m09s"), ("NGC_7793", "23h57m49.8s", "-32d35m28s"),
                                                  ("NGC_3521", "11h05m48.6s", "-00d02m09s"),
                                                  ("IC_2574", "10h28m23.5s", "+68d24m44s")])  # fmt: skip
def test_positions_are_those_of_the_galaxies(configure, name, ra, dec):
    row = things.targets({}, "NA", configure()).set_index("galaxy").loc[name]
    assert SkyCoord(row["ra_deg"], row["dec_deg"], unit="deg").separation(SkyCoord(ra, dec)).arcsec < 40


def test_every_value_of_the_shipped_table_says_where_it_is_from_and_how_sure_it_is():
    table = pd.read_csv(resources.files("tullyflow.surveys") / "things_galaxies.csv", keep_default_na=False)
    for row in table.to_dict("records"):
        marks = dict(part.rsplit(" ", 1) for part in row["confidence"].replace(" (NA), L (RO)", "").split("; "))
        assert set(marks) == {"position", "geometry", "distance", "v_sys", "beam", "mass", "R_e"}, row["galaxy"]
        assert set(marks.values()) <= {"H", "M", "L", "-"}
        parts = row["reference"].split("; ")
        for word in ("geometry", "distance", "beam", "mass", "R_e"):
            assert sum(part.startswith(word) for part in parts) == 1, (row["galaxy"], word)
        assert (marks["mass"] == "-") == (row["log_mstar"] == "") and (marks["R_e"] == "-") == (row["r_e_arcsec"] == "")
        assert (marks["beam"] == "-") == (row["bmaj_na_arcsec"] == "")


def test_masses_are_at_the_tables_distance():
    """Worked by hand: M83 has 1.0630e11 Msun at 6.96 Mpc (S4G); at 4.5 Mpc that is 11.0265 + 2 log(4.5 / 6.96) = 10.648."""
    table = pd.read_csv(resources.files("tullyflow.surveys") / "things_galaxies.csv").set_index("galaxy")
    assert table.loc["NGC_5236", "distance_mpc"] == 4.5
    assert table.loc["NGC_5236", "log_mstar"] == pytest.approx(10.648, abs=0.005)
    stated = table["reference"].str.extract(r"[a-z: ](\d+\.\d+)(?: at ([\d.]+) Mpc)?\)(?: \(|; R_e)").astype(float)
    known = stated[0].notna()
    away = 2 * np.log10(table["distance_mpc"] / stated[1].fillna(table["distance_mpc"]))
    assert known.sum() == 33  # NGC 1569 is as printed
    np.testing.assert_allclose(table["log_mstar"][known], (stated[0] + away)[known], atol=0.011)


def test_a_galaxy_without_a_mass_says_why(configure, tmp_path):
    path = tmp_path / "galaxies.csv"
    row = {"galaxy": "A", "ra_deg": 1.0, "dec_deg": 2.0, "distance_mpc": 3.0, "log_mstar": "", "confidence": "mass -",
           "reference": "distance X; mass not in any table at hand"}  # fmt: skip
    pd.DataFrame([row]).to_csv(path, index=False)
    frame = things.targets({"catalogue": path}, "NA", configure())
    assert frame.loc[0, "flags"] & GALAXY.MISSING_MASS
    assert frame.loc[0, "messages"] == "No stellar mass: mass not in any table at hand."


def test_a_mock_archive_brings_its_own_table(configure, tmp_path):
    assert things.catalogue_products("NA", configure()) == []
    (product,) = things.catalogue_products("NA", configure(mock={}))
    assert product.urls == ("archive://mock/things/galaxies.csv",)
    path = tmp_path / "galaxies.csv"
    row = {"galaxy": "MOCK_1", "ra_deg": 10.0, "dec_deg": 5.0, "distance_mpc": 8.0, "log_mstar": 10.0, "abs_mag_r": -20.0,
           "axis_ratio": 0.5, "pa_phot_deg": 200.0, "r_e_arcsec": 60.0}  # fmt: skip
    pd.DataFrame([row]).to_csv(path, index=False)
    frame = conform(things.targets({"catalogue": path}, "NA", configure()), TARGETS)
    assert frame.loc[0, ["galaxy", "log_mstar", "axis_ratio", "pa_phot_deg", "r_e_arcsec", "flags"]].tolist() == [
        "MOCK_1",
        10.0,
        0.5,
        20.0,
        60.0,
        0,
    ]
    pd.DataFrame([row]).drop(columns="ra_deg").to_csv(path, index=False)
    with pytest.raises(CatalogueError, match="ra_deg"):
        things.targets({"catalogue": path}, "NA", configure())


def test_products_try_both_hosts(configure):
    (product,) = things.products({"galaxy": "NGC_2403"}, "NA", configure())
    assert [url.split("/")[2] for url in product.urls] == ["things.www3.mpia.de", "www2.mpia-hd.mpg.de"]
    assert all(url.endswith("/NGC_2403_NA_CUBE_THINGS.FITS") for url in product.urls)


def test_the_moment_maps_are_three_files_kept_apart_from_the_cubes(configure):
    listed = things.products({"galaxy": "HO_II"}, "RO", configure(things={"product": "moments"}))
    assert [p.path for p in listed] == [f"things/RO/moments/HO_II_RO_MOM{k}_THINGS.FITS" for k in range(3)]
    assert [p.product for p in listed] == ["mom0", "mom1", "mom2"]


def cube_file(path, cut=0):
    """A cube as AIPS wrote it: four axes; a ridge of emission whose velocity rises with x and depends on y."""
    y, x, v = 40, 48, 30
    data = np.random.default_rng(3).normal(0, 0.1, (1, v, y, x)).astype("f4")
    for column in range(8, 40):
        data[0, 5 + column // 2 - 1 : 5 + column // 2 + 2, 12:30, column] += 5
    header = fits.Header({
        "CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CTYPE3": "VELO-HEL", "CTYPE4": "STOKES",
        "CRPIX1": 25.0, "CRPIX2": 21.0, "CRPIX3": 1.0, "CRPIX4": 1.0,
        "CRVAL1": 114.0, "CRVAL2": 65.0, "CRVAL3": 100e3, "CRVAL4": 1.0,
        "CDELT1": -3 / 3600, "CDELT2": 3 / 3600, "CDELT3": 5e3, "CDELT4": 1.0,
        "BUNIT": "JY/BEAM", "RESTFREQ": 1.420405752e9, "BMAJ": 9 / 3600, "BMIN": 7 / 3600, "BPA": 0.0,
    })  # fmt: skip
    fits.PrimaryHDU(data, header).writeto(path)
    if cut:
        path.write_bytes(path.read_bytes()[:-cut])
    return path


def test_a_cube_becomes_maps_centred_on_the_tables_position(configure, tmp_path):
    path = cube_file(tmp_path / "cube.fits")
    target = {"galaxy": "NGC_1", "ra_deg": 114.0, "dec_deg": 65.0 + 12 / 3600, "psf_fwhm_arcsec": 99.0}
    maps = things.read({"cube": path}, target, configure())
    assert maps.velocity.shape == (40, 48)
    assert maps.centre == pytest.approx((24.0, 24.0), abs=1e-3)
    assert maps.pixel_scale_arcsec == pytest.approx(3.0)
    assert maps.psf_fwhm_arcsec == pytest.approx(np.sqrt(63.0), rel=1e-3)  # the cube's beam, not the table's
    assert np.nanmedian(maps.velocity[14:28, 36]) > np.nanmedian(maps.velocity[14:28, 12]) + 40
    assert maps.fov_pixels > 300
    assert maps.absolute


C = 299_792.458
HI = 1.420405752e9
AXES = {  # the third axis of THINGS files (VELREF 2, optical heliocentric), 2.6 km/s channels from high velocity to low
    "VELO-HEL": {"CRVAL3": 200e3, "CDELT3": -2577.0},
    "FELO-HEL": {"CRVAL3": 200e3, "CDELT3": -2577.0},
    "FREQ": {"CRVAL3": HI / (1 + 200 / C), "CDELT3": 12207.0},
}


@pytest.mark.parametrize("kind", AXES)
@pytest.mark.parametrize("stokes_first", [False, True])
def test_cubes_of_every_velocity_axis_in_either_order_are_read_with_the_beam_of_their_history(configure, tmp_path, kind, stokes_first):
    n = 40
    data = np.random.default_rng(5).normal(0, 0.1, (1, n, 30, 36)).astype("f4")
    data[0, 9:12, 8:20, 10:26] += 5  # channels 10 to 12, by FITS's count
    header = fits.Header({
        "CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CRPIX1": 18.0, "CRPIX2": 15.0, "CRVAL1": 157.1, "CRVAL2": 68.4, "CROTA2": -0.301,
        "CDELT1": -1.5 / 3600, "CDELT2": 1.5 / 3600, "BUNIT": "JY/BEAM", "EPOCH": 2000.0, "VELREF": 2, "RESTFREQ": HI,
        "CTYPE3": kind, "CRPIX3": 1.0, **AXES[kind], "CTYPE4": "STOKES", "CRPIX4": 1.0, "CRVAL4": 1.0, "CDELT4": 1.0,
    })  # fmt: skip
    if stokes_first:
        data = np.moveaxis(data, 0, 1)
        for key in ("CTYPE", "CRPIX", "CRVAL", "CDELT"):
            header[f"{key}3"], header[f"{key}4"] = header[f"{key}4"], header[f"{key}3"]
    header["HISTORY"] = "AIPS   IMNAME='IC2574  '"
    header["HISTORY"] = "AIPS   CLEAN BMAJ=  3.5593E-03 BMIN=  3.3050E-03 BPA=  46.81"
    fits.PrimaryHDU(data, header).writeto(tmp_path / "cube.fits")
    target = {"galaxy": "IC_2574", "ra_deg": 157.1, "dec_deg": 68.4, "psf_fwhm_arcsec": 99.0}
    maps = things.read({"cube": tmp_path / "cube.fits"}, target, configure())
    assert maps.psf_fwhm_arcsec == pytest.approx(np.sqrt(12.81 * 11.90), rel=1e-3)
    assert np.nanmedian(maps.velocity) == pytest.approx(200 - 2.577 * 10, abs=0.3)
    north = np.subtract(maps.wcs.wcs_world2pix([[157.1, 68.41]], 0)[0], maps.centre)
    assert np.degrees(np.arctan2(north[0], north[1])) == pytest.approx(0.301, abs=0.02)  # CROTA2 turns north towards west


def test_a_broken_cube_costs_one_galaxy(configure, tmp_path):
    target = {"galaxy": "NGC_1", "ra_deg": 114.0, "dec_deg": 65.0}
    with pytest.raises(DataError) as caught:
        things.read({"cube": cube_file(tmp_path / "cube.fits", cut=50_000)}, target, configure())
    assert caught.value.flag == GALAXY.UNREADABLE_FILE
    fits.PrimaryHDU(np.ones((9, 9), "f4")).writeto(tmp_path / "map.fits")
    with pytest.raises(DataError, match="axes") as caught:
        things.read({"cube": tmp_path / "map.fits"}, target, configure())
    assert caught.value.flag == GALAXY.MISSING_HDU


@pytest.mark.parametrize(("crpix", "position", "centre", "word"), [
    ((31.0, 17.0), (10.0, 5.0), (30.0, 16.0), ""),
    ((31.0, 17.0), (np.nan, np.nan), (30.0, 16.0), "reference pixel"),
    ((1.0, 1.0), (np.nan, np.nan), (29.5, 19.5), "middle"),
    ((31.0, 17.0), (11.0, 5.0), (30.0, 16.0), "outside"),
])  # fmt: skip
def test_an_unknown_position_is_replaced_by_the_pointing_or_the_middle_and_said(crpix, position, centre, word):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crpix, wcs.wcs.crval, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], crpix, [10.0, 5.0], [-1e-4, 1e-4]
    found, said = centre_from_position(wcs, {"galaxy": "g", "ra_deg": position[0], "dec_deg": position[1]}, (40, 60))
    assert found == pytest.approx(centre)
    assert word in said
    assert bool(said) == bool(word)


def test_a_cube_of_another_galaxy_is_refused_and_one_without_a_position_is_not(configure, tmp_path):
    path = cube_file(tmp_path / "cube.fits")
    with pytest.raises(DataError, match="not on this map") as caught:
        things.read({"cube": path}, {"galaxy": "NGC_1", "ra_deg": 154.6, "dec_deg": 41.4}, configure())
    assert caught.value.flag == GALAXY.UNREADABLE_FILE
    maps = things.read({"cube": path}, {"galaxy": "NGC_1"}, configure())
    assert any("no position is given" in m for m in maps.messages)
