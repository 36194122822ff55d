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
    unlisted = frame[frame["ra_deg"].isna()]
    assert len(unlisted) == 72
    assert unlisted["messages"].str.contains("none of the input tables (InputCatFiller is not here)", regex=False).all()
    assert "rows:" not in caplog.text  # the real tables are whole


def test_a_table_cut_short_is_said_with_what_it_loses(shared, configure, tmp_path, caplog):
    """A service's default MAXREC of 2000 rows."""
    folder = shared / "mirror/datacentral/sami/dr3/catalogues"
    whole = {"CubeObs": folder / "sami_CubeObs.csv", "InputCatGAMADR3": folder / "sami_InputCatGAMADR3.csv",
             "InputCatClustersDR3": folder / "samiDR3InputCatClusters.csv"}  # fmt: skip

    def cut(name):
        (tmp_path / whole[name].name).write_text("".join(whole[name].read_text().splitlines(keepends=True)[:2001]))
        return {**whole, name: tmp_path / whole[name].name}

    frame = sami.targets(cut("InputCatGAMADR3"), "DR3", configure())
    assert "InputCatGAMA has 2000 of 5536 rows" in caplog.text
    assert "1226 galaxies are in none of the input tables (InputCatGAMA has 2000 of 5536 rows)" in caplog.text
    assert frame["messages"].str.contains("none of the input tables (InputCatGAMA has 2000", regex=False).sum() == 1226
    caplog.clear()
    assert len(sami.targets(cut("CubeObs"), "DR3", configure())) == 1546
    assert "CubeObs has 2000 of 3712 rows" in caplog.text
    caplog.clear()
    sami.targets({name: path for name, path in whole.items() if "Clusters" not in name}, "DR3", configure())
    assert "896 galaxies are in none of the input tables (InputCatClusters is not here)" in caplog.text


def test_a_galaxy_in_no_input_table_says_so(tmp_path, configure, caplog):
    tables = write_tables(tmp_path)
    messages = sami.targets(tables, "DR3", configure()).set_index("galaxy")["messages"]
    assert list(messages.index[messages.str.contains("none of the input tables")]) == ["5"]
    assert "1 galaxies are in none of the input tables (which should list them is not known)" in caplog.text
    assert "CubeObs has 7 of 3712 rows" in caplog.text
    caplog.clear()
    sami.targets(tables, "DR3", configure(mock={}))
    assert "CubeObs has" not in caplog.text  # a mock archive is as small as it was asked to be


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


def more_tables(folder, **changes):
    """Tables no real file is here of, with the columns FACTS 2.4 gives them; ``changes`` replace columns."""
    cubes = ["77_A  ", "77_B  ", "600_A", "9008500002_A"]  # some tables pad the names
    made = {
        "EmissionLine1compDR3": {"cubeidpub": cubes, "catid": [77, 77, 600, 9008500002], "SFR_RE": [9.9, 1.5, -99.0, 0.0]},
        "SSPAperturesDR3": {"cubeidpub": cubes, "catid": [77, 77, 600, 9008500002], "age_re": [9.9, 4.0, -99.0, 12.5], "z_re": 0.1},
        "IndexAperturesDR3": {"catid": [77, 600, 9008500002], "cubeidpub": cubes[1:], "FLAG": [0, 1, 0], "Hb_re": 2.0},
        "MGEPhotomUnregDR3": {
            "catid": [5, 5, 77], "photometry": ["SDSS", "VST", "VST"], "remge": [9.0, 3.0, 1.0], "mmge": 17.0, "rextinction": 0.1,
            "pamge": 33.0, "epsmge_re": [0.9, 0.64, 0.5], "epsmge_lw": 0.3, "dist2nneigh": 9.0, "chi2": 1.0,
        },
        "InputCatFiller": {"catid": [5], "ra": [210.5], "dec": [-1.25], "z_spec": [0.05], "fillflag": [50]},
    }  # fmt: skip
    paths = {}
    for name, columns in made.items():
        pd.DataFrame(columns | changes.get(name, {})).to_csv(folder / f"{name}.csv", index=False)
        paths[name] = folder / f"{name}.csv"
    return paths


def test_the_worked_example_of_every_conversion(tmp_path, configure):
    """By hand, for 77: M_r = -20.5, log M* = 10.1. L_r = 10^(0.4 (4.65 + 20.5)) = 10^10.06, so log M/L = 0.04. Twice the 1.5 Msun/yr
    within R_e are 3, log 0.4771; sSFR 0.4771 - 10.1 = -9.6229. 4 Gyr are 10^9.6021 yr."""
    frame = sami.targets(write_tables(tmp_path) | more_tables(tmp_path), "DR3", configure()).set_index("galaxy")
    conform(frame.reset_index(), TARGETS)
    names = ["log_ml", "log_sfr", "log_ssfr", "log_age_yr"]
    assert frame.loc["77", names].tolist() == pytest.approx([0.04, 0.4771, -9.6229, 9.6021], abs=5e-5)
    assert frame.loc["77", "imf"] == "chabrier"
    assert frame.loc["600", names].isna().all()  # -99 everywhere
    assert frame.loc["9008500002", "log_age_yr"] == pytest.approx(10.0969, abs=5e-5)
    assert np.isnan(frame.loc["9008500002", "log_sfr"])  # a rate of zero has no logarithm


def test_another_hubble_constant_moves_masses_rates_and_magnitudes_together(tmp_path, configure):
    tables = write_tables(tmp_path) | more_tables(tmp_path)
    a = sami.targets(tables, "DR3", configure()).set_index("galaxy").loc["77"]
    b = sami.targets(tables, "DR3", configure(cosmology={"h": 0.5})).set_index("galaxy").loc["77"]
    shift = 2 * np.log10(0.7 / 0.5)  # 0.2923 dex: everything is further away
    assert b["log_mstar"] - a["log_mstar"] == pytest.approx(shift)
    assert b["log_sfr"] - a["log_sfr"] == pytest.approx(shift)
    assert b["abs_mag_r"] - a["abs_mag_r"] == pytest.approx(-2.5 * shift)
    assert b[["log_ssfr", "log_ml"]].tolist() == pytest.approx(a[["log_ssfr", "log_ml"]].tolist())
    own = sami.targets(tables, "DR3", configure(cosmology={"imf": "own"})).set_index("galaxy").loc["77"]
    assert own["log_mstar"] == a["log_mstar"]  # SAMI's masses are Chabrier's already


def test_fillers_keep_their_row_with_what_is_known_of_them(tmp_path, configure):
    """R_e of the major axis: 3 / sqrt(1 - 0.64) = 5 arcsec, of the VST fit; a catalogue's own R_e is not replaced."""
    frame = sami.targets(write_tables(tmp_path) | more_tables(tmp_path), "DR3", configure()).set_index("galaxy")
    filler = frame.loc["5"]
    assert filler[["ra_deg", "dec_deg", "z", "r_e_arcsec", "axis_ratio"]].tolist() == pytest.approx([210.5, -1.25, 0.05, 5.0, 0.36])
    assert filler["distance_mpc"] == pytest.approx(222.3, abs=0.5)
    assert filler["flags"] == GALAXY.MISSING_MASS | GALAXY.MISSING_MAGNITUDE
    assert np.isnan(filler["pa_phot_deg"])
    assert "multi-Gaussian" in filler["messages"]
    assert frame.loc["77", "r_e_arcsec"] == 4.0


def test_repeats_are_named_and_galaxies_listed_once(tmp_path, configure):
    frame = sami.targets(write_tables(tmp_path), "DR3", configure()).set_index("galaxy")
    assert "Other cubes of this galaxy, not used: 77_A." in frame.loc["77", "messages"]
    assert not frame["messages"].str.contains("10000001").any()  # stars are no repeats
    assert (frame["messages"].str.contains("Other cubes")).sum() == 1
    assert "The same galaxy as 9008500002" in frame.loc["9008500001", "messages"]
    for cut in ({"limit": 4}, {"galaxies": ["9008500001"]}):  # the other name is not in this run
        frame = sami.targets(write_tables(tmp_path), "DR3", configure(**cut)).set_index("galaxy")
        assert frame.loc["9008500001", "flags"] == 0


def test_the_lick_flag_excludes_where_its_table_says_so(tmp_path, configure, caplog):
    tables = write_tables(tmp_path) | more_tables(tmp_path)
    frame = sami.targets(tables, "DR3", configure()).set_index("galaxy")
    assert "FLAG of IndexAperturesDR3 is 1 (good: 0)." in frame.loc["600", "messages"]
    assert frame.loc["600", "flags"] & GALAXY.QUALITY_BAD
    assert not frame.loc["9008500002", "flags"] & GALAXY.QUALITY_BAD
    pd.read_csv(tables["IndexAperturesDR3"]).rename(columns={"FLAG": "Hb_re_FLAG"}).to_csv(tables["IndexAperturesDR3"], index=False)
    frame = sami.targets(tables, "DR3", configure()).set_index("galaxy")
    assert "FLAG of" not in " ".join(frame["messages"])
    assert "no column flag (alike: hb_re_flag)" in caplog.text
    assert "not tested" in caplog.text


@pytest.mark.parametrize(("changes", "column", "said"), [
    ({"SSPAperturesDR3": {"age_re": [9.6, 9.6, 9.7, 25.0]}}, None, None),  # median 9.6 Gyr: believed
    ({"SSPAperturesDR3": {"age_re": [9.6e9, 4.0e9, 1e10, 2e9]}}, "log_age_yr", "is not in Gyr"),
    ({"EmissionLine1compDR3": {"SFR_RE": [-0.3, 0.2, -1.1, 0.4]}}, "log_sfr", "is not in solar masses per year"),
])  # fmt: skip
def test_what_is_not_confirmed_is_checked_when_it_is_read(tmp_path, configure, caplog, changes, column, said):
    frame = sami.targets(write_tables(tmp_path) | more_tables(tmp_path, **changes), "DR3", configure()).set_index("galaxy")
    if column is None:
        assert "is not in" not in caplog.text
        return
    assert frame[column].isna().all()
    assert said in caplog.text
    assert "mend surveys/sami_tables.py" in caplog.text


def test_masses_that_are_not_logarithms_are_not_used(tmp_path, configure, caplog):
    tables = write_tables(tmp_path)
    for name in ("InputCatGAMADR3", "InputCatClustersDR3"):
        table = pd.read_csv(tables[name])
        table.assign(mstar=10**table["mstar"]).to_csv(tables[name], index=False)
    frame = sami.targets(tables, "DR3", configure())
    assert frame["log_mstar"].isna().all()
    assert "mstar of InputCat*DR3 is not in log10 solar masses" in caplog.text


def test_a_table_the_run_can_do_without_may_be_unreadable(tmp_path, configure, caplog):
    tables = write_tables(tmp_path) | more_tables(tmp_path)
    tables["SSPAperturesDR3"].write_bytes(b"\x00\xff not a table")
    tables["MGEPhotomUnregDR3"].write_text("catid,something\n5,1\n")
    frame = sami.targets(tables, "DR3", configure()).set_index("galaxy")
    assert frame["log_age_yr"].isna().all()
    assert frame.loc["77", "log_sfr"] == pytest.approx(0.4771, abs=5e-5)
    assert caplog.text.count("It is not used.") == 2


def test_dr2_needs_no_table_of_cubes_and_trusts_no_angle(tmp_path, configure, caplog):
    """DR2's names are not confirmed: any spelling, no CubeObs; its position angles are not on the sky."""
    tables = write_tables(tmp_path)
    more = more_tables(tmp_path)
    dr2 = {"InputCatGAMADR2": tables["InputCatGAMADR3"], "emissionline1compdr2": more["EmissionLine1compDR3"],
           "IndexAperturesDR2": more["IndexAperturesDR3"]}  # fmt: skip
    frame = sami.targets(dr2, "DR2", configure()).set_index("galaxy")
    conform(frame.reset_index(), TARGETS)
    assert list(frame.index) == ["77", "600", "9008500002"]
    assert frame.loc["77", "observation"] == "77_A"
    assert "77_B" in frame.loc["77", "messages"]
    assert frame.loc["77", "log_sfr"] == pytest.approx(np.log10(2 * 9.9))
    assert frame["pa_phot_deg"].isna().all()
    assert frame["psf_fwhm_arcsec"].isna().all()
    assert frame.loc["600", "flags"] & GALAXY.QUALITY_BAD
    assert "no CubeObs" in caplog.text
    with pytest.raises(CatalogueError, match="no table lists the cubes"):
        sami.targets({"InputCatGAMADR2": tables["InputCatGAMADR3"]}, "DR2", configure())


def test_addresses_of_both_releases(configure):
    for release, schema in (("DR2", "sami_dr2"), ("DR3", "sami_dr3")):
        tables = sami.catalogue_products(release, configure())
        assert "maps" not in [table.product for table in tables]
        for table in tables:
            assert table.urls[0].startswith(f"archive://datacentral/sami/{release.lower()}/catalogues/")
            assert f"tap+https://datacentral.org.au/vo/tap?table={schema}.{table.product}" in table.urls
            assert sum(url.startswith("tap+") for url in table.urls) == 1
            assert table.path.endswith(".csv")
    assert next(t for t in tables if t.product == "CubeObs").columns == ("catid", "cubeidpub", "cubefwhm", "isbest", "warnstar")
    listed = sami.products({"galaxy": "77", "observation": "77_B"}, "DR3", configure())
    halpha = next(p for p in listed if p.product == "Halpha")
    assert halpha.hdus == ("HALPHA_ERR",)
    assert "file=77_B_Halpha_default_1-comp.fits&product=Halpha_default_1-comp&" in halpha.urls[1]
    assert "&Halpha_default_1-comp=180" in halpha.urls[1]
    assert halpha.path == "sami/DR3/maps/77/77_B_Halpha_default_1-comp.fits"
    older = sami.products({"galaxy": "77", "observation": "77_A"}, "DR2", configure())
    assert any(url.endswith("/77_Halpha_default_1-comp.fits") for url in older[0].urls)  # the letter may be absent there
    assert any("file=77_Halpha_default" in url for url in older[0].urls)


def test_velocities_in_another_unit_are_refused_and_other_plane_counts_said(tmp_path, configure):
    def spoil(name, hdus):
        if name == "gas-velocity":
            hdus[0].header["BUNIT"] = "m/s"

    with pytest.raises(DataError, match="its unit is 'm/s', km/s was expected") as caught:
        sami.read(sami_files(tmp_path, spoil), TARGET, configure())
    assert caught.value.flag == GALAXY.MISSING_HDU
    maps = sami.read(sami_files(tmp_path), TARGET, configure())
    assert "2 planes, 1 expected of 1-comp" in " ".join(maps.messages)


@pytest.mark.parametrize("position", [(150.0, 1.0), (np.nan, np.nan)])
@pytest.mark.parametrize(("product", "north"), [("Halpha", 6.0), ("gas-velocity", -6.0), ("gas-vdisp", 60.0)])
def test_a_map_of_another_galaxy_is_refused(tmp_path, configure, product, north, position):
    """Every map's place is compared: with the target's, or with the first map's where the catalogue has none."""

    def move(name, hdus, by=north):
        if name == product:
            hdus[0].header["CRVAL2"] += by / 3600

    target = {**TARGET, "ra_deg": position[0], "dec_deg": position[1]}
    with pytest.raises(DataError, match="another galaxy's file") as caught:
        sami.read(sami_files(tmp_path, move), target, configure())
    assert caught.value.flag == GALAXY.UNREADABLE_FILE
    near = sami.read(sami_files(tmp_path, lambda name, hdus: move(name, hdus, 3.0)), target, configure())
    assert near.flags == 0  # a bundle may lie 3 arcsec beside its object


def test_the_stars_of_another_galaxy_are_not_used_and_it_is_said(tmp_path, configure, caplog):
    def move(name, hdus):
        if name == "stellar-velocity":
            hdus[0].header["CRVAL1"] += 0.1

    maps = sami.read(sami_files(tmp_path, move), {**TARGET, "ra_deg": 150.0, "dec_deg": 1.0}, configure())
    assert maps.stellar_velocity is None
    assert "arcsec from where the galaxy is by the catalogue" in caplog.text
