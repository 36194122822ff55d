"""Your own galaxies: any FITS map, whatever is missing is said, and a mistake in the table is one sentence."""

import json
import re
import time

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from tullyflow.errors import CatalogueError, DataError
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.surveys import local
from tullyflow.tables import TARGETS, conform

SHAPE = (20, 30)


def header(**changes):
    keys = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 15.0, "CRPIX2": 9.0, "CRVAL1": 150.0, "CRVAL2": 20.0,
            "CDELT1": -1 / 3600, "CDELT2": 1 / 3600, "CUNIT1": "deg", "CUNIT2": "deg", "BUNIT": "km/s"} | changes  # fmt: skip
    return fits.Header({k: v for k, v in keys.items() if v is not None})


def field():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype("f4")
    return 1000 + 10 * x + 3 * y


def write_map(path, data=None, name=None, more=(), **keys):
    hdu = fits.ImageHDU(field() if data is None else data, header(**keys), name=name)
    fits.HDUList([fits.PrimaryHDU(), hdu, *more]).writeto(path, overwrite=True)
    return path


def read(tmp_path, configure, row, **settings):
    """Read the one galaxy of a catalogue made of ``row``."""
    csv = tmp_path / "mine.csv"
    pd.DataFrame([{"galaxy": "g1", **row}]).to_csv(csv, index=False)
    made = configure(catalogue=str(csv), surveys=["local"], **settings)
    target = conform(local.targets({"catalogue": csv}, "user", made), TARGETS).iloc[0].to_dict()
    paths = {p.product: p.urls[0].removeprefix("file://") for p in local.products(target, "user", made)}
    return local.read(paths, target, made)


def test_a_map_is_read_with_its_sky_and_its_errors(tmp_path, configure):
    error = fits.ImageHDU(np.full(SHAPE, 4.0, "f4"), name="ERR")
    stars = fits.ImageHDU(field() + 5, name="STARS")
    write_map(tmp_path / "v.fits", name="VEL", more=[error, stars])
    fits.PrimaryHDU(np.full(SHAPE, 7.0), header(BUNIT="Jy/beam.km/s")).writeto(tmp_path / "i.fits")
    row = {"velocity": "v.fits", "velocity_hdu": "VEL", "velocity_err_hdu": "ERR", "stellar_velocity_hdu": 3, "intensity": "i.fits",
           "ra_deg": 150.0, "dec_deg": 20.0 + 2 / 3600, "log_mstar": 10.0, "abs_mag_r": -20.0}  # fmt: skip
    maps = read(tmp_path, configure, row)
    np.testing.assert_array_equal(maps.velocity, field())
    np.testing.assert_array_equal(maps.velocity_err, 4.0)
    np.testing.assert_array_equal(maps.stellar_velocity, field() + 5)
    assert maps.intensity_unit == "Jy/beam.km/s"
    assert maps.centre == pytest.approx((14, 10), abs=1e-4)
    assert maps.pixel_scale_arcsec == pytest.approx(1.0)
    assert maps.flags == 0
    assert (maps.mask == 0).all()


@pytest.mark.parametrize(
    ("unit", "factor"), [("m/s", 1e-3), ("M/S", 1e-3), ("KM/S", 1.0), ("km s-1", 1.0), ("Data Value", 1.0), (None, 1.0)]
)
def test_velocities_come_in_km_per_second_and_a_guess_is_said(tmp_path, configure, unit, factor):
    write_map(tmp_path / "v.fits", BUNIT=unit)
    maps = read(tmp_path, configure, {"velocity": "v.fits"})
    np.testing.assert_allclose(maps.velocity, field() * factor, rtol=1e-6)
    assert ("assumed" in " ".join(m for m in maps.messages if "unit" in m)) == (unit in ("Data Value", None))


@pytest.mark.parametrize(("offset", "absolute"), [(0.0, True), (-1000.0, False), (-250.0, True), (-650.0, False), (9000.0, True)])
def test_velocities_far_from_zero_are_absolute_and_it_is_said(tmp_path, configure, offset, absolute):
    write_map(tmp_path / "v.fits", field() + offset)  # the median of field() is 1173 km/s
    maps = read(tmp_path, configure, {"velocity": "v.fits"})
    assert maps.absolute is absolute
    assert ("Velocities are absolute (cz): divided by 1 + v_sys/c." in maps.messages) is absolute
    np.testing.assert_allclose(maps.velocity, field() + offset, rtol=1e-6)  # as observed: v_sys is not known yet


def test_blanks_infinities_and_impossible_values_are_no_value(tmp_path, configure):
    data = field()
    data[5, 3:8] = [0, -999, np.inf, np.nan, 2e5]
    write_map(tmp_path / "v.fits", data)
    maps = read(tmp_path, configure, {"velocity": "v.fits"}, maps={"blank": [0, -999]})
    np.testing.assert_array_equal(maps.mask[5, 2:9], [0, *[PIXEL.NO_VALUE] * 5, 0])
    assert maps.fov_pixels == data.size - 5
    kept = read(tmp_path, configure, {"velocity": "v.fits"})
    np.testing.assert_array_equal(kept.mask[5, 2:9], [0, 0, 0, *[PIXEL.NO_VALUE] * 3, 0])


def test_velocity_alone_needs_photometry(tmp_path, configure):
    write_map(tmp_path / "v.fits")
    alone = read(tmp_path, configure, {"velocity": "v.fits", "axis_ratio": 0.5})
    assert alone.intensity is None
    assert alone.flags & GALAXY.NO_PHOTOMETRY
    disc = read(tmp_path, configure, {"velocity": "v.fits", "axis_ratio": 0.5, "r_e_arcsec": 4, "pa_phot_deg": 30})
    assert disc.flags == GALAXY.INTENSITY_FROM_PHOTOMETRY | GALAXY.NO_ERROR_MAP
    np.testing.assert_array_equal(disc.velocity_err, configure().maps.velocity_err_default)


def test_the_noise_of_an_intensity_map_is_that_of_its_negative_pixels(tmp_path, configure):
    rng = np.random.default_rng(1)
    intensity = rng.normal(0, 2.5, SHAPE)
    intensity[5:12, 5:12] += 100
    write_map(tmp_path / "v.fits")
    write_map(tmp_path / "i.fits", intensity)
    maps = read(tmp_path, configure, {"velocity": "v.fits", "intensity": "i.fits"})
    assert maps.intensity_err[0, 0] == pytest.approx(2.5, rel=0.1)
    write_map(tmp_path / "i.fits", np.clip(intensity, 0, None))
    clipped = read(tmp_path, configure, {"velocity": "v.fits", "intensity": "i.fits"})
    assert clipped.intensity_err is None
    np.testing.assert_array_equal((clipped.mask & PIXEL.LOW_SNR) != 0, intensity <= 0)


def test_a_map_without_sky_is_out_unless_its_pixel_size_is_given(tmp_path, configure):
    write_map(tmp_path / "v.fits", CTYPE1=None, CTYPE2=None, CRVAL1=None, CRVAL2=None)
    with pytest.raises(DataError, match="pixel_scale_arcsec") as caught:
        read(tmp_path, configure, {"velocity": "v.fits"})
    assert caught.value.flag == GALAXY.NO_WCS
    maps = read(tmp_path, configure, {"velocity": "v.fits", "pixel_scale_arcsec": 0.25, "ra_deg": 150.0, "dec_deg": 20.0})
    assert maps.pixel_scale_arcsec == 0.25
    assert maps.centre == pytest.approx((14.5, 9.5))
    east = maps.wcs.wcs_world2pix([[150.0 + 1 / 3600, 20.0]], 0)[0] - maps.centre
    assert east == pytest.approx([-4 * np.cos(np.radians(20)), 0], abs=1e-3)
    assert any("north up" in message for message in maps.messages)


def test_a_centre_in_the_catalogue_wins(tmp_path, configure):
    write_map(tmp_path / "v.fits")
    maps = read(tmp_path, configure, {"velocity": "v.fits", "ra_deg": 150.0, "dec_deg": 20.0, "x_centre": 3.5, "y_centre": 17.0})
    assert maps.centre == (3.5, 17.0)


def test_the_dispersion_is_squared_and_its_error_follows(tmp_path, configure):
    write_map(tmp_path / "v.fits", more=[fits.ImageHDU(np.full(SHAPE, 20.0), name="SIG"), fits.ImageHDU(np.full(SHAPE, 3.0), name="DSIG")])
    maps = read(tmp_path, configure, {"velocity": "v.fits", "velocity_hdu": 1, "dispersion_hdu": "SIG", "dispersion_err_hdu": "DSIG"})
    np.testing.assert_allclose(maps.dispersion_sq, 400.0)
    np.testing.assert_allclose(maps.dispersion_sq_err, 120.0)


@pytest.mark.parametrize(("row", "flag", "word"), [
    ({"velocity": "absent.fits"}, GALAXY.MISSING_FILE, "velocity"),
    ({"velocity": "v.fits", "velocity_hdu": "NOPE"}, GALAXY.MISSING_HDU, "NOPE"),
    ({"velocity": "v.fits", "velocity_hdu": 9}, GALAXY.MISSING_HDU, "9"),
    ({"velocity": "v.fits", "intensity": "small.fits"}, GALAXY.MISSING_HDU, "pixels"),
    ({"velocity": "cube.fits"}, GALAXY.MISSING_HDU, "axes"),
    ({"velocity": "text.fits"}, GALAXY.UNREADABLE_FILE, "not FITS"),
])  # fmt: skip
def test_what_is_wrong_with_a_file_is_named(tmp_path, configure, row, flag, word):
    write_map(tmp_path / "v.fits")
    write_map(tmp_path / "small.fits", np.ones((5, 5)))
    write_map(tmp_path / "cube.fits", np.ones((4, 5, 5)))
    (tmp_path / "text.fits").write_text("no")
    with pytest.raises(DataError, match=word) as caught:
        read(tmp_path, configure, row)
    assert caught.value.flag == flag


@pytest.mark.parametrize(("table", "word"), [
    ({"velocity": ["a.fits"]}, "galaxy"),
    ({"galaxy": ["a"], "intensity": ["a.fits"]}, "velocity or cube"),
    ({"galaxy": ["a", "a"], "velocity": ["a.fits", "b.fits"]}, "more than once"),
    ({"galaxy": ["../x"], "velocity": ["a.fits"]}, "cannot be used"),
    ({"galaxy": ["a..b"], "velocity": ["a.fits"]}, "cannot be used"),
    ({"galaxy": ["/etc"], "velocity": ["a.fits"]}, "cannot be used"),
    ({"galaxy": ["", "b"], "velocity": ["a.fits", "b.fits"]}, "cannot be used"),
    ({"galaxy": ["a", "b"], "velocity": ["a.fits", ""]}, "b has neither"),
    ({"galaxy": ["a"], "velocity": ["a.fits"], "log_mstar": ["ten"]}, "log_mstar of a is 'ten'"),
    ({"galaxy": ["a"], "velocity": ["a.fits"], "imf": ["scalo"]}, "scalo"),
])  # fmt: skip
def test_a_mistake_in_the_table_is_one_sentence(tmp_path, configure, table, word):
    csv = tmp_path / "mine.csv"
    pd.DataFrame(table).to_csv(csv, index=False)
    with pytest.raises(CatalogueError, match=word):
        local.targets({"catalogue": csv}, "user", configure(catalogue=str(csv)))


def test_a_table_that_is_not_there_is_said(tmp_path, configure):
    with pytest.raises(CatalogueError, match="not set"):
        local.catalogue_products("user", configure())
    with pytest.raises(CatalogueError, match="no such file"):
        local.catalogue_products("user", configure(catalogue=str(tmp_path / "mine.csv")))


def test_masses_distances_and_inclinations_are_brought_to_the_projects_system(tmp_path, configure):
    csv = tmp_path / "mine.csv"
    table = {"galaxy": ["a", "b", "c"], "velocity": ["x.fits"] * 3, "log_mstar": [10.0, 10.0, None], "imf": ["salpeter", "", ""],
             "z": [0.02, None, None], "distance_mpc": [None, 20.0, None], "inclination_deg": [60.0, None, None],
             "pa_phot_deg": [200.0, 5.0, None], "drp3qual": [1 << 30, 16, None]}  # fmt: skip
    pd.DataFrame(table).to_csv(csv, index=False)
    frame = conform(local.targets({"catalogue": csv}, "user", configure(catalogue=str(csv))), TARGETS).set_index("galaxy")
    assert frame.loc["a", "log_mstar"] == pytest.approx(9.76)
    own = local.targets({"catalogue": csv}, "user", configure(catalogue=str(csv), cosmology={"imf": "own"}))
    assert own["log_mstar"].tolist()[:2] == [10.0, 10.0]
    assert frame.loc["a", "distance_mpc"] == pytest.approx(87.0, abs=0.5)
    assert frame.loc["b", "distance_mpc"] == 20.0
    assert frame.loc["a", "axis_ratio"] == pytest.approx(np.sqrt(0.04 + 0.96 * 0.25))
    assert frame.loc["a", "pa_phot_deg"] == pytest.approx(20.0)
    assert frame.loc["a", "flags"] & GALAXY.QUALITY_BAD
    assert frame.loc["b", "flags"] & GALAXY.QUALITY_WARNING
    assert "BADASTROM" in frame.loc["b", "messages"]
    assert frame.loc["c", "flags"] & GALAXY.MISSING_MASS


def test_gas_masses_and_volume_weights_are_taken_from_the_table(tmp_path, configure):
    csv = tmp_path / "mine.csv"
    table = {"galaxy": ["a", "b"], "velocity": ["v.fits"] * 2, "log_mgas": [9.5, None], "volume_weight": [0.4, -999.0]}
    pd.DataFrame(table).to_csv(csv, index=False)
    frame = local.targets({"catalogue": csv}, "user", configure(catalogue=str(csv), surveys=["local"]))
    np.testing.assert_array_equal(frame["log_mgas"], [9.5, np.nan])
    np.testing.assert_array_equal(frame["volume_weight"], [0.4, np.nan])


def test_a_misspelt_column_and_an_impossible_axis_ratio_are_said(tmp_path, configure, caplog):
    csv = tmp_path / "mine.csv"
    pd.DataFrame({"galaxy": ["a", "b"], "velocity": ["x.fits"] * 2, "axisratio": [0.5, 0.4], "foo": [1, 2]}).to_csv(csv, index=False)
    local.targets({"catalogue": csv}, "user", configure(catalogue=str(csv)))
    assert "columns not used: axisratio (did you mean axis_ratio?), foo" in caplog.text
    caplog.clear()
    pd.DataFrame({"galaxy": ["a", "b", "c"], "velocity": ["x.fits"] * 3, "axis_ratio": [1.0, 4.17, None]}).to_csv(csv, index=False)
    frame = local.targets({"catalogue": csv}, "user", configure(catalogue=str(csv)))
    assert "axis_ratio of b is 4.17; it must be above 0 and at most 1" in caplog.text
    assert frame["axis_ratio"].tolist() == pytest.approx([1.0, np.nan, np.nan], nan_ok=True)
    assert [("axis ratio 4.17 is not used" in said) for said in frame["messages"]] == [False, True, False]


def test_paths_are_relative_to_the_table_or_absolute(tmp_path, configure):
    csv = tmp_path / "deep" / "mine.csv"
    csv.parent.mkdir()
    pd.DataFrame({"galaxy": ["a", "b"], "velocity": ["maps/a b.fits.gz", str(tmp_path / "b.fits")]}).to_csv(csv, index=False)
    frame = local.targets({"catalogue": csv}, "user", configure(catalogue=str(csv)))
    rows = [json.loads(text) for text in frame["observation"]]
    assert [row["velocity"] for row in rows] == [str(csv.parent / "maps/a b.fits.gz"), str(tmp_path / "b.fits")]
    (product,) = local.products(frame.iloc[0], "user", configure())
    assert product.urls == (f"file://{csv.parent}/maps/a%20b.fits.gz",)
    assert re.fullmatch(r"local/user/maps/a/[0-9a-f]{8}-velocity\.fits\.gz", product.path)


def test_a_column_of_extension_numbers_with_gaps_is_read_as_numbers(tmp_path, configure):
    csv = tmp_path / "galaxies.csv"
    pd.DataFrame({"galaxy": ["a", "b"], "velocity": ["a.fits", "b.fits"], "velocity_hdu": [1, np.nan]}).to_csv(csv, index=False)
    frame = local.targets({"catalogue": csv}, "user", configure(catalogue=str(csv)))
    assert [json.loads(text).get("velocity_hdu", "") for text in frame["observation"]] == ["1", ""]


def test_two_tables_may_use_one_name_for_different_files(tmp_path, configure):
    kept = set()
    for folder in ("one", "two"):
        csv = tmp_path / folder / "galaxies.csv"
        csv.parent.mkdir()
        pd.DataFrame({"galaxy": ["a"], "velocity": ["a.fits"]}).to_csv(csv, index=False)
        settings = configure(catalogue=str(csv))
        frame = local.targets({"catalogue": csv}, "user", settings)
        listed = (*local.products(frame.iloc[0], "user", settings), *local.catalogue_products("user", settings))
        kept |= {product.path for product in listed}
    assert len(kept) == 4


def test_thousands_of_real_rows_are_listed_in_seconds(shared, configure):
    csv = shared / "mirror/manga_velocity_fields/galaxies.csv"
    start = time.perf_counter()
    frame = conform(local.targets({"catalogue": csv}, "user", configure(catalogue=str(csv))), TARGETS)
    assert time.perf_counter() - start < 5
    assert len(frame) == 4107
    assert np.isfinite(frame["r_e_arcsec"]).sum() == pytest.approx(2930, abs=5)


def read_real(csv, configure, n=12, **settings):
    made = configure(catalogue=str(csv), surveys=["local"], **settings)
    frame = conform(local.targets({"catalogue": csv}, "user", made), TARGETS)
    for target in frame.head(n).to_dict("records"):
        paths = {p.product: p.urls[0].removeprefix("file://") for p in local.products(target, "user", made)}
        yield target, local.read(paths, target, made)


def test_real_velocity_fields(shared, configure):
    for target, maps in read_real(shared / "mirror/manga_velocity_fields/galaxies.csv", configure):
        assert maps.flags == GALAXY.INTENSITY_FROM_PHOTOMETRY | GALAXY.NO_ERROR_MAP, target["galaxy"]
        assert np.isfinite(maps.stellar_velocity).sum() > 50
        assert np.array(maps.centre) == pytest.approx(maps.wcs.wcs.crpix - 1, abs=0.01)
        assert maps.pixel_scale_arcsec == pytest.approx(0.5)
    for _, maps in read_real(shared / "truth/manga_stellar_velocity/galaxies.csv", configure):
        assert maps.flags == GALAXY.NO_PHOTOMETRY
        assert maps.centre == (37.5, 37.5)
        assert np.nanmedian(maps.velocity_err) < 50


def test_real_interferometer_maps(shared, configure, tmp_path):
    names = ("NGC0383", "NGC4697", "FRL49")
    folder = shared / "mirror/wisdom"
    csv = tmp_path / "wisdom.csv"
    pd.DataFrame({"galaxy": names, "velocity": [folder / f"{n}_mom1.fits" for n in names],
                  "intensity": [folder / f"{n}_mom0.fits" for n in names],
                  "velocity_hdu": 0, "intensity_hdu": 0}).to_csv(csv, index=False)  # fmt: skip
    scales = {target["galaxy"]: (maps.pixel_scale_arcsec, maps.psf_fwhm_arcsec) for target, maps in read_real(csv, configure)}
    assert scales["NGC0383"] == pytest.approx((0.035, 0.133), rel=0.01)
    assert scales["NGC4697"] == pytest.approx((0.05, 0.553), rel=0.01)
    assert scales["FRL49"] == pytest.approx((0.02, 0.186), rel=0.01)


def test_real_cubes_and_compressed_moment_maps(shared, configure, tmp_path):
    mirror = shared / "mirror"
    co = str(mirror / "edge_ngc4047/NGC4047.co.smo7_dil.{}.fits.gz")
    rows = [
        {"galaxy": "NGC2903", "cube": mirror / "hi_cubes/NGC_2903.fits", "ra_deg": 143.042, "dec_deg": 21.501},
        {"galaxy": "ESO121", "cube": mirror / "hi_cubes/eso121-g6.fits"},
        {"galaxy": "NGC4047", "ra_deg": 180.7116, "dec_deg": 48.6362}
        | {f"{name}{error}": co.format(prefix + moment)
           for name, moment in (("velocity", "mom1"), ("intensity", "mom0"), ("dispersion", "mom2"))
           for error, prefix in (("", ""), ("_err", "e"))},
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "mine.csv", index=False)
    maps = {target["galaxy"]: maps for target, maps in read_real(tmp_path / "mine.csv", configure)}
    medians = {name: np.median(m.velocity[m.mask == 0]) for name, m in maps.items()}
    assert medians == pytest.approx({"NGC2903": 556, "ESO121": 1206, "NGC4047": 3419}, abs=15)  # literature systemic velocities
    assert maps["NGC4047"].psf_fwhm_arcsec == pytest.approx(7.0, rel=1e-3)
    assert all(m.flags == 0 for m in maps.values())
