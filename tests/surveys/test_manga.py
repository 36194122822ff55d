"""MaNGA: lines by name, masks by bit, masses in one system, and one bad file costs one galaxy."""

import gzip
import logging
import time

import numpy as np
import pytest
from astropy.io import fits

from tullyflow.errors import CatalogueError, DataError
from tullyflow.fetch.verify import examine
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.surveys import manga
from tullyflow.tables import TARGETS, conform

DR17 = "data.sdss.org/sas/dr17/manga/spectro"
HA = 3  # plane of H-alpha in the built file
TARGET = {"galaxy": "9999-3701", "release": "DR17", "psf_fwhm_arcsec": float("nan")}


def maps_path(shared, name):
    plate, ifu = name.split("-")
    return (
        shared
        / f"mirror/{DR17}/analysis/v3_1_1/3.1.0/HYB10-MILESHC-MASTARSSP/{plate}/{ifu}/manga-{name}-MAPS-HYB10-MILESHC-MASTARSSP.fits.gz"
    )


def drpall(shared, release):
    return {"drpall": shared / {
        "DR15": "mirror/data.sdss.org/sas/dr15/manga/spectro/redux/v2_4_3/drpall-v2_4_3.fits",
        "DR17": f"mirror/{DR17}/redux/v3_1_1/drpall-v3_1_1.fits",
    }[release]}  # fmt: skip


def test_the_line_is_found_by_name_wherever_the_release_puts_it(maps_file, configure):
    y, x = np.mgrid[:20, :24]
    for lines in (("OII-3727", "Hb-4862", "NII-6549", "Ha-6564", "NII-6585"), ("Ha-6564", "OII-3727", "Hb-4862", "NII-6549", "NII-6585")):
        maps = manga.read({"maps": maps_file(lines=lines)}, TARGET, configure())
        k = lines.index("Ha-6564")
        np.testing.assert_allclose(maps.velocity, -1500 + 100 * k + 3 * (x + 2 * y), rtol=1e-6)
        np.testing.assert_allclose(maps.intensity, 1 + 100 * k + 0.1 * (x + 2 * y), rtol=1e-6)
        np.testing.assert_array_equal(maps.bin_id, np.arange(5 * 480).reshape(5, 20, 24)[3])


def test_errors_are_one_over_the_root_of_the_inverse_variance(maps_file, configure):
    maps = manga.read({"maps": maps_file()}, TARGET, configure())
    np.testing.assert_allclose(maps.intensity_err, 0.5)
    np.testing.assert_allclose(maps.velocity_err, 5.0)
    y, x = np.mgrid[:20, :24]
    np.testing.assert_allclose(maps.dispersion_sq_err, 2 * (70 + x + 2 * y) * 3, rtol=1e-5)


def with_version(version, daptype=None):
    def change(hdus):
        hdus[0].header["VERSDAP"] = version
        if daptype:
            hdus[0].header["DAPTYPE"] = daptype

    return change


def test_the_older_line_spread_function_is_corrected_in_dr15_and_never_in_dr17(maps_file, configure):
    y, x = np.mgrid[:20, :24]
    sigma, instrument = 70.0 + x + 2 * y, 70.0
    # the file's version decides, then the release; a file of DR17 under DR15's name is not corrected
    versions = {"2.2.1": 1.045, "2.2.3dev": 1.045, "3.1.0": 1.0, "3.0.1": 1.0}
    cases = [(release, version, factor) for version, factor in versions.items() for release in ("DR15", "DR16", "DR17", None)]
    cases += [("DR15", "", 1.045), ("DR16", "trunk", 1.045), ("DR17", "", 1.0), (None, "", 1.0)]
    for release, version, factor in cases:
        maps = manga.read({"maps": maps_file(with_version(version))}, TARGET | {"release": release}, configure())
        np.testing.assert_allclose(maps.dispersion_sq, sigma**2 - (instrument * factor) ** 2, rtol=1e-5, atol=1e-3)
        assert maps.history["LSFACTOR"] == f"{factor:g}"
        np.testing.assert_array_equal((maps.mask & PIXEL.NEGATIVE_DISPERSION) != 0, sigma < instrument * factor)


def test_a_file_of_another_release_or_analysis_is_a_warning(maps_file, configure):
    hybrid15, hybrid17 = "HYB10-GAU-MILESHC", "HYB10-MILESHC-MASTARSSP"
    cases = {  # release, version, daptype: what is said
        ("DR15", "3.1.0", hybrid17): ("Not a file of DR15", "DAPTYPE is HYB10-MILESHC-MASTARSSP"),
        ("DR17", "2.2.1", None): ("Not a file of DR17",),
        ("DR17", "3.1.0", "SPX-MILESHC-MASTARSSP"): ("manga.daptype says HYB10-MILESHC-MASTARSSP",),
        ("DR15", "2.2.3dev", hybrid15): (), ("DR16", "2.2.1", hybrid15): (), ("DR17", "3.1.0", hybrid17): (), ("DR15", "", None): (),
    }  # fmt: skip
    for (release, version, daptype), said in cases.items():
        maps = manga.read({"maps": maps_file(with_version(version, daptype))}, TARGET | {"release": release}, configure())
        assert maps.flags == (GALAXY.QUALITY_WARNING if said else 0)
        assert len(maps.messages) == len(said)
        assert all(words in " ".join(maps.messages) for words in said)


@pytest.mark.parametrize("extension", ["EMLINE_GFLUX_MASK", "EMLINE_GVEL_MASK", "EMLINE_GSIGMA_MASK"])
def test_a_bit_in_any_map_of_the_line_masks_the_pixel(maps_file, configure, extension):
    bits = {0: PIXEL.NO_COVERAGE, 3: PIXEL.FOREGROUND, 4: PIXEL.NO_VALUE, 5: PIXEL.UNRELIABLE, 8: PIXEL.NEAR_BOUND, 30: PIXEL.DO_NOT_USE}

    def spoil(hdus):
        for k, bit in enumerate(bits):
            hdus[extension].data[HA, 9, 8 + k] = 1 << bit
        hdus[extension].data[HA - 1, 11, 11] = 1 << 30  # another line
        hdus[extension].data[HA, 12, 12] = 1 << 1  # LOWCOV alone forbids nothing

    mask = manga.read({"maps": maps_file(spoil)}, TARGET, configure()).mask
    assert [int(m) for m in mask[9, 8:14]] == list(bits.values())
    assert mask[11, 11] == 0
    assert mask[12, 12] == 0


def test_a_variance_that_is_not_positive_is_no_value(maps_file, configure):
    def spoil(hdus):
        hdus["EMLINE_GVEL_IVAR"].data[HA, 10, 11] = 0
        hdus["EMLINE_GFLUX_IVAR"].data[HA, 10, 12] = -1
        hdus["EMLINE_GVEL"].data[HA, 10, 13] = np.nan

    maps = manga.read({"maps": maps_file(spoil)}, TARGET, configure())
    assert [int(m) for m in maps.mask[10, 10:15]] == [0, PIXEL.NO_VALUE, PIXEL.NO_VALUE, PIXEL.NO_VALUE, 0]
    assert np.isnan(maps.velocity_err[10, 11])


def test_coverage_is_where_the_spectra_have_a_signal_to_noise(maps_file, configure):
    maps = manga.read({"maps": maps_file()}, TARGET, configure())
    y, x = np.mgrid[:20, :24]
    inside = np.hypot(x - 12, y - 10) < 9
    np.testing.assert_array_equal((maps.mask & PIXEL.NO_COVERAGE) == 0, inside)
    assert maps.fov_pixels == inside.sum()


def test_the_centre_is_the_object_not_the_bundle(maps_file, configure):
    def move(hdus):
        hdus[0].header["OBJDEC"] = 20.0 + 1.5 / 3600
        hdus[0].header["OBJRA"] = 150.0 + 1.0 / 3600 / np.cos(np.radians(20.0))

    maps = manga.read({"maps": maps_file(move)}, TARGET, configure())
    assert maps.centre == pytest.approx((12 - 2, 10 + 3), abs=1e-3)  # east is left
    assert maps.pixel_scale_arcsec == pytest.approx(0.5, rel=1e-6)


def test_masked_stellar_velocities_are_absent(maps_file, configure):
    def spoil(hdus):
        hdus["STELLAR_VEL_MASK"].data[4, 5] = 1 << 30
        hdus["STELLAR_VEL_IVAR"].data[6, 7] = 0

    maps = manga.read({"maps": maps_file(spoil)}, TARGET, configure())
    stars, err = maps.stellar_velocity, maps.stellar_velocity_err
    np.testing.assert_allclose(err[np.isfinite(stars)], 8.0)
    assert np.isnan(stars[4, 5])
    assert np.isfinite(stars).sum() == stars.size - 2
    assert stars[0, 14] == 10


@pytest.mark.parametrize(
    ("key", "bits", "flag", "word"),
    [
        ("DRP3QUAL", 1 << 30, GALAXY.QUALITY_BAD, "critical"),
        ("DAPQUAL", 1 << 28, GALAXY.QUALITY_BAD, "critical"),
        ("DAPQUAL", 1 << 30, GALAXY.QUALITY_BAD, "critical"),
        ("DAPQUAL", 1, GALAXY.QUALITY_WARNING, "FORESTAR"),
        ("DRP3QUAL", 1 << 4, GALAXY.QUALITY_WARNING, "BADASTROM"),
        ("DAPQUAL", 0, 0, ""),
        ("DRP3QUAL", -9999, 0, ""),
        ("DAPQUAL", -999, 0, ""),
    ],
)
def test_quality_bits_become_flags_with_their_names(maps_file, configure, key, bits, flag, word):
    def spoil(hdus):
        hdus[0].header[key] = bits

    maps = manga.read({"maps": maps_file(spoil)}, TARGET, configure())
    assert maps.flags == flag
    assert word in " ".join(maps.messages)


def test_a_simulated_galaxy_says_so(maps_file, configure):
    def mark(hdus):
        hdus[0].header["MOCK"] = True

    assert manga.read({"maps": maps_file(mark)}, TARGET, configure()).flags == GALAXY.MOCK


def _without(name):
    def change(hdus):
        del hdus[name]

    return change


def _rename_line(hdus):
    hdus["EMLINE_GVEL"].header["C04"] = "Hx-6564"


def _twice(hdus):
    for hdu in hdus:
        if hdu.name.startswith("EMLINE"):
            hdu.header["C02"] = "Ha-6564"


def _no_sky(hdus):
    for key in ("CTYPE1", "CTYPE2"):
        del hdus["EMLINE_GVEL"].header[key]


def _other_galaxy(hdus):
    hdus[0].header["PLATEIFU"] = "9999-1901"


@pytest.mark.parametrize(
    ("change", "flag", "word"),
    [
        (_without("EMLINE_GVEL"), GALAXY.MISSING_HDU, "EMLINE_GVEL"),
        (_without("EMLINE_INSTSIGMA"), GALAXY.MISSING_HDU, "EMLINE_INSTSIGMA"),
        (_rename_line, GALAXY.MISSING_HDU, "Ha-6564"),
        (_twice, GALAXY.MISSING_HDU, "2 channels"),
        (_no_sky, GALAXY.NO_WCS, "sky axes"),
        (_other_galaxy, GALAXY.UNREADABLE_FILE, "9999-1901"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(maps_file, configure, change, flag, word):
    with pytest.raises(DataError, match=word) as caught:
        manga.read({"maps": maps_file(change)}, TARGET, configure())
    assert caught.value.flag == flag


@pytest.mark.parametrize("kind", ["cut", "crc", "html", "empty", "absent", "cut inside"])
def test_a_broken_file_is_unreadable_and_never_an_accident(maps_file, configure, tmp_path, kind):
    path = maps_file()
    whole = path.read_bytes()
    plain = gzip.decompress(whole)
    spoilt = {
        "cut": whole[: len(whole) // 2],
        "crc": whole[:-8] + bytes([whole[-8] ^ 0xFF]) + whole[-7:],
        "html": b"<html>not here</html>",
        "empty": b"",
        "cut inside": gzip.compress(plain[: plain.index(b"EMLINE_GSIGMA") + 40_000]),
    }
    if kind in spoilt:
        path.write_bytes(spoilt[kind])
    else:
        path.unlink()
    with pytest.raises(DataError) as caught:
        manga.read({"maps": path}, TARGET, configure())
    expected = {"absent": GALAXY.MISSING_FILE, "cut inside": GALAXY.UNREADABLE_FILE | GALAXY.MISSING_HDU}.get(kind, GALAXY.UNREADABLE_FILE)
    assert caught.value.flag & expected


def test_products_name_plate_ifu_and_the_release_analysis(configure):
    (dr15,) = manga.products({"galaxy": "8485-1901"}, "DR15", configure())
    (dr17,) = manga.products({"galaxy": "8485-1901"}, "DR17", configure())
    root = "https://data.sdss.org/sas/dr15/manga/spectro/analysis/v2_4_3/2.2.1/HYB10-GAU-MILESHC/8485/1901"
    name = "manga-8485-1901-MAPS-HYB10-GAU-MILESHC.fits.gz"
    assert dr15.urls == (f"{root}/{name}", f"{root.replace('dr15', 'dr16')}/{name}")  # DR16 has the same version
    assert dr17.urls[0].endswith("dr17/manga/spectro/analysis/v3_1_1/3.1.0/HYB10-MILESHC-MASTARSSP/8485/1901/"
                                 "manga-8485-1901-MAPS-HYB10-MILESHC-MASTARSSP.fits.gz")  # fmt: skip
    assert dr15.path != dr17.path


def small_drpall(path, **changes):
    n = 5
    values = {
        "PLATEIFU": np.array(["9000-6101", "8000-1901", "8000-12701", "9000-1901", "7000-1901"]),
        "mangaid": np.array(["1-1", "1-2", "1-2", "1-4", "1-5"]),
        "objra": np.arange(n) + 10.0, "objdec": np.arange(n) * 1.0, "z": np.array([0.02, 0.03, 0.03, -9999.0, 0.05]),
        "drp3qual": np.array([0, 0, 0, 1 << 30, 4]), "mngtarg1": np.array([1 << 10, 1 << 11, 1 << 11, 1 << 12, 1 << 6]),
        "rfwhm": np.full(n, 2.5),
        "nsa_elpetro_mass": np.array([4.9e9, -9999, 4.9e10, -9999, 1e9]), "nsa_sersic_mass": np.array([1e9, 9.8e9, 1e9, -9999, 1e9]),
        "nsa_elpetro_absmag": np.tile(np.arange(7.0) - 20, (n, 1)), "nsa_elpetro_th50_r": np.full(n, 5.0),
        "nsa_elpetro_ba": np.full(n, 0.5), "nsa_elpetro_phi": np.full(n, 190.0),
    }  # fmt: skip
    values |= changes
    formats = {"U": "12A", "f": "D", "i": "J"}
    columns = [
        fits.Column(name=k, format="7D" if v.ndim == 2 else formats[v.dtype.kind], array=v) for k, v in values.items() if v is not None
    ]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="MANGA")]).writeto(path, overwrite=True)
    return {"drpall": path}


def test_targets_bring_nsa_values_to_the_projects_system(tmp_path, configure):
    frame = manga.targets(small_drpall(tmp_path / "d.fits"), "DR17", configure()).set_index("galaxy", drop=False)
    conform(frame.reset_index(drop=True), TARGETS)
    assert list(frame["galaxy"]) == ["8000-1901", "8000-12701", "9000-1901", "9000-6101"]  # by plate and IFU; 7000-1901 is not main sample
    assert frame.loc["9000-6101", "log_mstar"] == pytest.approx(10.0)  # 4.9e9 / 0.49
    assert frame.loc["8000-1901", "log_mstar"] == pytest.approx(np.log10(2e10))  # Sersic where the Petrosian mass is missing
    assert frame.loc["9000-6101", "abs_mag_r"] == pytest.approx(-16 + 5 * np.log10(0.7))
    assert frame.loc["9000-6101", "pa_phot_deg"] == pytest.approx(10.0)
    assert np.isnan(frame.loc["9000-1901", ["z", "distance_mpc", "log_mstar"]].astype(float)).all()
    assert frame.loc["9000-1901", "flags"] & GALAXY.MISSING_MASS
    assert frame.loc["9000-1901", "flags"] & GALAXY.QUALITY_BAD
    assert frame.loc["9000-6101", "distance_mpc"] == pytest.approx(0.02 * 299792.458 / 70 * (1 + 0.02 * 0.775), rel=1e-3)
    h1 = manga.targets({"drpall": tmp_path / "d.fits"}, "DR17", configure(cosmology={"h": 1.0})).set_index("galaxy")
    assert h1.loc["9000-6101", "log_mstar"] == pytest.approx(np.log10(4.9e9))


def test_a_repeat_observation_is_flagged_and_names_the_one_used(tmp_path, configure):
    frame = manga.targets(small_drpall(tmp_path / "d.fits"), "DR17", configure()).set_index("galaxy")
    repeats = frame[(frame["flags"] & GALAXY.DUPLICATE) != 0]
    assert list(repeats.index) == ["8000-1901"]  # the larger bundle is kept
    assert "8000-12701" in repeats["messages"].iloc[0]
    alone = manga.targets({"drpall": tmp_path / "d.fits"}, "DR17", configure(galaxies=["8000-1901"])).set_index("galaxy")
    assert not alone.loc["8000-1901", "flags"] & GALAXY.DUPLICATE


def test_no_galaxy_is_lost_as_the_repeat_of_one_beyond_the_limit(tmp_path, configure):
    catalogue = small_drpall(tmp_path / "d.fits")
    for limit, flagged in ((1, []), (2, ["8000-1901"]), (None, ["8000-1901"])):  # 8000-12701, the second, is the better one
        frame = manga.targets(catalogue, "DR17", configure(limit=limit))
        assert list(frame["galaxy"][(frame["flags"] & GALAXY.DUPLICATE) != 0]) == flagged


def test_volume_weights_are_esrweight_and_a_galaxy_outside_the_samples_has_none(tmp_path, configure):
    weights = np.array([0.03, 1.7, -999.0, 0.0, 0.5])
    frame = manga.targets(small_drpall(tmp_path / "d.fits", esrweight=weights), "DR17", configure()).set_index("galaxy")
    assert frame["volume_weight"].round(6).to_dict() == pytest.approx(
        {"8000-1901": 1.7, "8000-12701": np.nan, "9000-1901": np.nan, "9000-6101": 0.03}, nan_ok=True
    )
    assert manga.targets(small_drpall(tmp_path / "e.fits"), "DR17", configure())["volume_weight"].isna().all()  # no such column


def test_real_volume_weights_are_positive_and_span_decades(shared, configure):
    weights = manga.targets(drpall(shared, "DR15"), "DR15", configure())["volume_weight"]
    assert weights.notna().mean() > 0.9 and weights.min() > 0
    assert weights.quantile(0.95) > 10 * weights.quantile(0.05)


def test_the_first_galaxies_of_the_real_drpall_are_all_kept(shared, configure):
    """Three of the first 50 are repeats of galaxies further down the list."""
    catalogue = drpall(shared, "DR15")
    whole, some = (manga.targets(catalogue, "DR15", configure(limit=limit)).head(50) for limit in (None, 50))
    repeats, left = (set(frame["galaxy"][(frame["flags"] & GALAXY.DUPLICATE) != 0]) for frame in (whole, some))
    assert len(repeats) - len(left) == 3
    names = set(some["galaxy"])
    for name, message in zip(some["galaxy"], some["messages"], strict=True):
        assert (name in left) == any(f"The same galaxy as {other} " in message for other in names - {name})


def test_both_marks_of_a_missing_value_are_nan(tmp_path, configure):
    magnitudes = np.tile(np.arange(7.0) - 20, (5, 1))
    magnitudes[0] = -999
    changes = {"z": np.array([-999.0, 0.03, 0.03, -9999.0, 0.05]), "nsa_elpetro_phi": np.array([-999.0, 10, 10, -9999, 10]),
               "nsa_elpetro_absmag": magnitudes, "nsa_elpetro_ba": np.array([-999.0, 0.5, 0.5, -9999, 0.5])}  # fmt: skip
    frame = manga.targets(small_drpall(tmp_path / "d.fits", **changes), "DR17", configure()).set_index("galaxy")
    assert frame.loc["9000-6101", ["z", "distance_mpc", "pa_phot_deg", "abs_mag_r", "axis_ratio", "log_ml"]].isna().all()
    assert frame.loc["9000-6101", "flags"] & GALAXY.MISSING_MAGNITUDE
    assert frame.loc["9000-1901", ["z", "pa_phot_deg", "axis_ratio"]].isna().all()
    assert np.isfinite(frame.loc["8000-12701", ["z", "pa_phot_deg", "abs_mag_r", "log_ml"]].astype(float)).all()


def test_one_galaxy_under_two_identifiers_is_a_repeat(tmp_path, configure):
    ids = np.array(["1-1", "1-2", "12-2", "-9999", "-9999"])
    place = {"objra": np.array([10.0, 11.0, 11.0 + 1.5 / 3600, 13.0, 14.0]), "objdec": np.zeros(5)}
    every = configure(manga={"main_sample": False})
    frame = manga.targets(small_drpall(tmp_path / "d.fits", mangaid=ids, **place), "DR17", every).set_index("galaxy")
    assert list(frame.index[(frame["flags"] & GALAXY.DUPLICATE) != 0]) == ["8000-1901"]  # -9999 is no identifier
    assert "8000-12701 (MaNGA-ID 12-2)" in frame.loc["8000-1901", "messages"]
    place["objra"][2] = 11.0 + 3 / 3600
    apart = manga.targets(small_drpall(tmp_path / "d.fits", mangaid=ids, **place), "DR17", every)
    assert not (apart["flags"] & GALAXY.DUPLICATE).any()


def test_a_galaxy_asked_for_by_name_needs_not_be_main_sample(tmp_path, configure):
    catalogue = small_drpall(tmp_path / "d.fits")
    assert "7000-1901" in set(manga.targets(catalogue, "DR17", configure(galaxies=["7000-1901"]))["galaxy"])
    assert len(manga.targets(catalogue, "DR17", configure(manga={"main_sample": False}))) == 5


def test_a_drpall_without_a_needed_column_is_refused(tmp_path, configure):
    with pytest.raises(CatalogueError, match="nsa_elpetro_ba"):
        manga.targets(small_drpall(tmp_path / "d.fits", nsa_elpetro_ba=None), "DR17", configure())
    (tmp_path / "d.fits").write_bytes(b"nothing")
    with pytest.raises(CatalogueError, match="not FITS"):
        manga.targets({"drpall": tmp_path / "d.fits"}, "DR17", configure())
    with pytest.raises(CatalogueError, match="drpall"):
        manga.targets({}, "DR17", configure())


def test_a_catalogue_is_known_by_its_table(shared, configure):
    def hdus(release, **keys):
        settings = configure(manga={"tables": ["dapall", "pipe3d", "hi"], **keys})
        return {p.product: p.hdus for p in manga.catalogue_products(release, settings)}

    dapall = ("DAPALL|HYB10-MILESHC-MASTARSSP",)
    assert hdus("DR17") == {"drpall": ("MANGA",), "dapall": dapall, "pipe3d": ("BINTABLE",), "hi": ("BINTABLE",)}
    assert hdus("DR15", daptype={"DR15": ""})["dapall"] == ("BINTABLE",)
    for release in ("DR15", "DR17"):
        (product,) = manga.catalogue_products(release, configure())
        path = drpall(shared, release)["drpall"]
        assert examine(path, path.name, hdus=product.hdus).problem == ""


def test_real_drpalls(shared, configure):
    dr17 = manga.targets(drpall(shared, "DR17"), "DR17", configure()).set_index("galaxy")
    assert sorted(dr17.index) == ["10001-3702", "10001-3703", "10215-1902", "10215-3703", "11025-1902", "8484-3704"]
    assert dr17.loc["8484-3704", "log_mstar"] == pytest.approx(np.log10(2.15742e10 / 0.49), abs=1e-4)
    assert dr17.loc["8484-3704", "abs_mag_r"] == pytest.approx(-20.4222 - 0.7745, abs=1e-3)
    assert dr17.loc["8484-3704", "r_e_arcsec"] == pytest.approx(12.9041)
    assert dr17.loc["8484-3704", "axis_ratio"] == pytest.approx(0.258703)
    assert dr17.loc["10001-3702", "psf_fwhm_arcsec"] == pytest.approx(2.697)
    assert ((dr17["flags"] & GALAXY.MISSING_MASS) != 0).sum() == 3
    with fits.open(drpall(shared, "DR15")["drpall"]) as hdus:
        bits = hdus[1].data["mngtarg1"]
        main = int(((bits & (1 << 10 | 1 << 11 | 1 << 12)) != 0).sum())
    dr15 = manga.targets(drpall(shared, "DR15"), "DR15", configure()).set_index("galaxy")
    assert len(dr15) == main == 4393
    assert dr15.loc["7443-1902", "log_mstar"] == pytest.approx(np.log10(3.23093e9 / 0.49), abs=1e-4)
    assert dr15.loc["7443-1902", "z"] == pytest.approx(0.0189259)
    assert dr15.loc["7443-1902", "sersic_n"] == pytest.approx(2.75541)
    assert dr15.loc["7443-3701", "axis_ratio"] == pytest.approx(0.618084)
    assert "7443-3703" not in dr15.index  # ancillary: MNGTARG1 = 4


def test_real_maps_of_both_layouts(shared, configure):
    path = next((shared / "mirror/data.sdss.org/sas/dr15").rglob("*7815-3702*"))
    maps = manga.read({"maps": path}, {"galaxy": "7815-3702", "release": "DR15"}, configure())
    with fits.open(path) as hdus:
        assert hdus["EMLINE_GVEL"].header["C19"] == "Ha-6564"
        np.testing.assert_array_equal(maps.velocity, hdus["EMLINE_GVEL"].data[18].astype(float))
        x, y = hdus["SPX_SKYCOO"].data
    assert maps.history["LSFACTOR"] == "1.045"
    assert maps.fov_pixels == 863
    row, column = round(maps.centre[1]), round(maps.centre[0])
    assert np.hypot(x[row, column], y[row, column]) < 0.3  # the centre is where the sky offsets vanish
    for name, covered, flags in (("8484-3704", 809, 0), ("11025-1902", 441, GALAXY.QUALITY_WARNING), ("10215-1902", 460, 0)):
        maps = manga.read({"maps": maps_path(shared, name)}, {"galaxy": name, "release": "DR17"}, configure())
        with fits.open(maps_path(shared, name)) as hdus:
            np.testing.assert_array_equal(maps.velocity, hdus["EMLINE_GVEL"].data[23].astype(float))
            good = hdus["EMLINE_GVEL_MASK"].data[23] == 0
        assert maps.fov_pixels == covered
        assert maps.flags == flags
        assert not (maps.mask[~good] == 0).any()
        assert (maps.mask[good] == 0).mean() > 0.9
        assert maps.history["LSFACTOR"] == "1"
    assert "FORESTAR" in manga.read({"maps": maps_path(shared, "11025-1902")}, {"galaxy": "11025-1902"}, configure()).messages[0]


def test_reading_costs_no_more_than_half_again_of_astropys_bare_reading(shared, configure):
    path, settings = maps_path(shared, "8484-3704"), configure()

    def bare():
        with fits.open(path) as hdus:
            return [hdus[name].data.sum() for name in manga.HDUS]

    def ours():
        return manga.read({"maps": path}, {"galaxy": "8484-3704", "release": "DR17"}, settings)

    def fastest(function):
        times = []
        for _ in range(4):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return min(times)

    ratio = fastest(ours) / fastest(bare)
    logging.getLogger("tullyflow").info("reading a MAPS file: %.2f of astropy's bare reading", ratio)
    assert ratio < 1.5
