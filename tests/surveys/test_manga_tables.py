"""MaNGA's further catalogues: one system of masses, worked by hand; what the documentation leaves open is checked on first use.

No dapall, Pipe3D or HI-MaNGA file was to be had: these are built from their data models.
"""

import logging

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM
from astropy.io import fits

from tullyflow.conventions import System, log_mass_to_light, log_to_system
from tullyflow.errors import CatalogueError
from tullyflow.flags import GALAXY
from tullyflow.surveys import manga
from tullyflow.surveys.manga_tables import SYSTEMS
from tullyflow.tables import TARGETS, conform

N = 24
NAMES = [f"{8000 + k}-{1901 + 1800 * (k % 3)}" for k in range(N)]
Z = np.linspace(0.02, 0.06, N)
BA = np.linspace(0.3, 0.9, N)
MASS = np.geomspace(2e9, 8e10, N)  # h^-2 Msun
DL_71 = FlatLambdaCDM(H0=71, Om0=0.27).luminosity_distance(Z).value


def write(path, extensions):
    """Tables by extension name: {name: {column: array}}."""
    formats = {"U": "40A", "f": "D", "i": "K", "b": "L"}
    hdus = [fits.PrimaryHDU()]
    for name, columns in extensions.items():
        made = [fits.Column(name=k, format="7D" if np.ndim(v) == 2 else formats[np.asarray(v).dtype.kind], array=np.asarray(v))
                for k, v in columns.items()]  # fmt: skip
        hdus.append(fits.BinTableHDU.from_columns(made, name=name))
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


@pytest.fixture
def drpall(tmp_path):
    return write(tmp_path / "drpall.fits", {"MANGA": {
        "plateifu": np.array(NAMES), "mangaid": np.array([f"1-{k}" for k in range(N)]), "objra": np.arange(N) + 10.0, "objdec": np.zeros(N),
        "z": Z, "drp3qual": np.zeros(N, int), "mngtarg1": np.full(N, 1 << 10), "rfwhm": np.full(N, 2.5), "nsa_elpetro_mass": MASS,
        "nsa_sersic_mass": MASS, "nsa_elpetro_absmag": np.tile(np.arange(7.0) - 24, (N, 1)),
        "nsa_elpetro_th50_r": np.where(np.arange(N) == 5, -9999, 6.0), "nsa_elpetro_ba": np.where(np.arange(N) == 5, -9999, BA),
        "nsa_elpetro_phi": np.linspace(5, 170, N),
    }})  # fmt: skip


def pipe3d(path, release="DR15", **changes):
    """The catalogue as its data model says: DR15 calls the galaxy manga-plate-ifu in mangaid, DR17 in name, and has QCFLAG."""
    log_mass = np.log10(MASS / 0.71**2) + 0.24  # what NSA says, on a Salpeter IMF and the distances of h = 0.71
    cube = np.array([f"manga-{name}" for name in NAMES])
    ids = np.array([f"1-{k}" for k in range(N)])
    columns = {"mangaid": cube, "plateifu": np.array(NAMES)} if release == "DR15" else {"name": cube, "mangaid": ids}
    columns |= {
        "log_mass": log_mass, "e_log_mass": np.full(N, 0.08), "log_sfr_ha": log_mass - 10.2, "age_lw_re_fit": np.linspace(8.8, 9.9, N),
        "re_arc": np.full(N, 6.5), "pa": np.linspace(5, 170, N) + 3, "ellip": 1 - BA, "dl": DL_71, "da": DL_71 / (1 + Z) ** 2,
    }  # fmt: skip
    if release == "DR17":
        cased = {"log_mass": "log_Mass", "log_sfr_ha": "log_SFR_Ha", "age_lw_re_fit": "Age_LW_Re_fit", "dl": "DL"}
        columns = {cased.get(name, name): values for name, values in columns.items()} | {"QCFLAG": np.zeros(N, int)}
    columns |= changes
    return write(path, {"": {k: v for k, v in columns.items() if v is not None}})


def targets(drpall, release, settings, **catalogues):
    frame = manga.targets({"drpall": drpall, **catalogues}, release, settings)
    return conform(frame, TARGETS)


def test_hand_worked_conversions():
    # NSA: 4.9e9 / 0.7^2 = 1e10; Pipe3D: 10.50 on Salpeter at h = 0.71: 10.50 - 0.24 + 2 log10(0.71 / 0.7) = 10.27232
    assert log_to_system(np.log10(4.9e9), SYSTEMS["nsa"], 0.7) == pytest.approx(10.0, abs=1e-12)
    assert log_to_system(10.50, SYSTEMS["pipe3d"], 0.7) == pytest.approx(10.27232, abs=1e-5)
    assert log_to_system(10.50, SYSTEMS["pipe3d"], 0.7, "own") == pytest.approx(10.51232, abs=1e-5)
    # dapall: SFR of 1 Msun/yr/h^2 with Kroupa is 2.0408 at h = 0.7, less 0.04 dex
    assert log_to_system(0.0, SYSTEMS["dapall"], 0.7) == pytest.approx(np.log10(1 / 0.49) - 0.04, abs=1e-12)
    assert log_to_system(9.0, SYSTEMS["hi"], 0.7) == pytest.approx(9.0)
    assert log_to_system(9.0, System("", 1.0, ""), 0.5) == pytest.approx(9 + 2 * np.log10(2))
    # 2e10 Msun and M_r = -20.35: L = 10^(0.4 * 25) = 1e10 Lsun, M/L = 2
    assert log_mass_to_light(np.log10(2e10), -20.35) == pytest.approx(np.log10(2), abs=1e-12)
    assert all(system.source for system in SYSTEMS.values())


def test_mass_to_light_and_specific_rates_do_not_depend_on_h(drpall, configure, tmp_path):
    table = pipe3d(tmp_path / "p.fits")
    a, b = (targets(drpall, "DR15", configure(cosmology={"h": h}, manga={"tables": ["pipe3d"]}), pipe3d=table) for h in (0.7, 1.0))
    np.testing.assert_allclose(a["log_ml"], b["log_ml"])
    np.testing.assert_allclose(a["log_ssfr"], b["log_ssfr"])
    assert a["log_mstar"][0] - b["log_mstar"][0] == pytest.approx(-2 * np.log10(0.7))


@pytest.mark.parametrize("release", ["DR15", "DR17"])
def test_pipe3d_on_the_common_system_says_what_nsa_says(drpall, configure, tmp_path, release):
    table = pipe3d(tmp_path / "p.fits", release)
    nsa = targets(drpall, release, configure(manga={"tables": ["pipe3d"]}), pipe3d=table)
    own = targets(drpall, release, configure(manga={"masses": "pipe3d"}), pipe3d=table)
    np.testing.assert_allclose(own["log_mstar"], nsa["log_mstar"], atol=0.002)  # h is measured from DL with our Omega_m
    assert set(nsa["imf"]) == {"chabrier"}
    assert set(own["imf"]) == {"salpeter"}
    assert (own["log_mstar_err"] == 0.08).all()
    assert nsa["log_mstar_err"].isna().all()
    np.testing.assert_allclose(nsa["log_ssfr"], -10.2)
    np.testing.assert_allclose(nsa["log_sfr"] - own["log_mstar"], -10.2, atol=1e-9)
    np.testing.assert_allclose(nsa["log_age_yr"], np.linspace(8.8, 9.9, N))
    np.testing.assert_allclose(own["log_ml"], own["log_mstar"] + 0.4 * (own["abs_mag_r"] - 4.65))
    thesis = targets(drpall, release, configure(manga={"masses": "pipe3d"}, cosmology={"imf": "own"}), pipe3d=table)
    np.testing.assert_allclose(thesis["log_mstar"] - own["log_mstar"], 0.24)
    np.testing.assert_allclose(thesis["log_sfr"] - own["log_sfr"], 0.24)


def test_photometry_of_pipe3d_fills_gaps_of_nsa_only_where_it_agrees_elsewhere(drpall, configure, tmp_path, caplog):
    settings = configure(manga={"tables": ["pipe3d"]})
    good = targets(drpall, "DR15", settings, pipe3d=pipe3d(tmp_path / "p.fits"))
    assert good["axis_ratio"][5] == pytest.approx(BA[5])
    assert good["r_e_arcsec"][5] == 6.5
    assert "Pipe3D" in good["messages"][5]
    assert good["axis_ratio"][6] == pytest.approx(BA[6])
    with caplog.at_level(logging.WARNING, logger="tullyflow"):
        bad = targets(drpall, "DR17", settings, pipe3d=pipe3d(tmp_path / "q.fits", "DR17", ellip=np.sqrt(1 - BA**2)))
    assert np.isnan(bad["axis_ratio"][5])
    assert "ellip is an eccentricity" in caplog.text


@pytest.mark.parametrize(
    ("changes", "words", "column"),
    [
        ({"DL": DL_71 * 3.0856775814913673e24}, "DL is not in Mpc but in cm", None),
        ({"DL": DL_71 * 17.3}, "DL is not in Mpc but in an unknown unit", None),
        ({"da": DL_71 / (1 + Z) ** 2 * np.pi / 648}, "DA is not in Mpc but in kpc per arcsec", None),
        ({"DL": DL_71 * 0.71 / 0.7}, "its distances are those of h = 0.699, not 0.71", None),
        ({"Age_LW_Re_fit": np.linspace(1, 12, N)}, "no log10 of years", "log_age_yr"),
        ({"log_SFR_Ha": None}, "no column log_sfr_ha", "log_sfr"),
        ({"log_Mass": np.log10(MASS) + 1.5}, "check the IMF", None),
    ],
)
def test_what_is_in_doubt_is_checked_and_said(drpall, configure, tmp_path, caplog, changes, words, column):
    table = pipe3d(tmp_path / "p.fits", "DR17", **changes)
    with caplog.at_level(logging.WARNING, logger="tullyflow"):
        frame = targets(drpall, "DR17", configure(manga={"tables": ["pipe3d"]}), pipe3d=table)
    assert words in caplog.text
    if column:
        assert frame[column].isna().all()
    assert not (frame["flags"] & GALAXY.excluding).any()


def test_a_sound_catalogue_raises_no_warning(drpall, configure, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="tullyflow"):
        targets(drpall, "DR17", configure(manga={"tables": ["pipe3d"]}), pipe3d=pipe3d(tmp_path / "p.fits", "DR17"))
    assert caplog.text == ""


@pytest.mark.parametrize(("heavier", "best", "doubtful"), [(0.24, "salpeter", False), (0.04, "kroupa", True), (0.0, "chabrier", True)])
def test_an_initial_mass_function_other_than_stated_shows(drpall, configure, tmp_path, caplog, heavier, best, doubtful):
    table = pipe3d(tmp_path / "p.fits", log_mass=np.log10(MASS / 0.71**2) + heavier)
    with caplog.at_level(logging.INFO, logger="tullyflow"):
        targets(drpall, "DR15", configure(manga={"tables": ["pipe3d"]}, cosmology={"imf": "own"}), pipe3d=table)
    (record,) = [r for r in caplog.records if "less those of NSA" in r.getMessage()]
    assert f"{best} ({heavier:+.2f}) fits best, salpeter (+0.24) is stated" in record.getMessage()
    assert (record.levelno == logging.WARNING) is doubtful


def test_masses_follow_the_distances_the_catalogue_really_used(drpall, configure, tmp_path):
    settings = configure(manga={"masses": "pipe3d"})
    stated = targets(drpall, "DR17", settings, pipe3d=pipe3d(tmp_path / "p.fits", "DR17"))
    at_70 = targets(drpall, "DR17", settings, pipe3d=pipe3d(tmp_path / "q.fits", "DR17", DL=DL_71 * 0.71 / 0.7))
    np.testing.assert_allclose(stated["log_mstar"] - at_70["log_mstar"], 2 * np.log10(0.71 / 0.7), atol=1e-9)


def test_the_quality_flag_of_dr17_is_a_flag_here(drpall, configure, tmp_path):
    flag = np.zeros(N, int)
    flag[2], flag[3] = 2, 5
    table = pipe3d(tmp_path / "p.fits", "DR17", QCFLAG=flag)
    frame = targets(drpall, "DR17", configure(manga={"tables": ["pipe3d"]}), pipe3d=table)
    assert frame["flags"][2] & GALAXY.QUALITY_BAD
    assert "QCFLAG" in frame["messages"][2]
    assert frame["flags"][3] == GALAXY.QUALITY_WARNING
    assert frame["flags"][4] == 0


def test_missing_values_and_missing_rows_stay_missing(drpall, configure, tmp_path):
    log_mass = np.log10(MASS)
    log_mass[[1, 2]] = np.nan, -999
    columns = {"log_mass": log_mass, "plateifu": np.array([*NAMES[:-1], "1-1"]), "mangaid": None}
    frame = targets(drpall, "DR15", configure(manga={"masses": "pipe3d"}), pipe3d=pipe3d(tmp_path / "p.fits", **columns))
    assert list(np.flatnonzero(frame["log_mstar"].isna())) == [1, 2, N - 1]
    assert (frame.loc[[1, 2, N - 1], "flags"] & GALAXY.MISSING_MASS).all()
    assert frame.loc[[1, 2, N - 1], "log_ml"].isna().all()


def test_a_catalogue_that_did_not_come_excludes_nobody_unless_the_masses_are_in_it(drpall, configure, caplog):
    with caplog.at_level(logging.WARNING, logger="tullyflow"):
        frame = targets(drpall, "DR17", configure(manga={"tables": ["dapall", "pipe3d", "hi"]}))
    assert caplog.text.count("not fetched") == 3
    assert frame[["log_sfr", "log_age_yr", "log_mgas", "hi_width_kms"]].isna().all().all()
    assert (frame["flags"] == 0).all()
    with pytest.raises(CatalogueError, match="masses: nsa"):
        targets(drpall, "DR17", configure(manga={"masses": "pipe3d"}))
    broken = drpall.with_name("broken.fits")
    broken.write_bytes(b"<html>")
    with pytest.raises(CatalogueError, match="Fetch it again"):
        targets(drpall, "DR17", configure(manga={"tables": ["hi"]}), hi=broken)


def test_dapall_of_dr17_has_an_extension_per_daptype_and_dr15_a_column(drpall, configure, tmp_path, caplog):
    used, other = "HYB10-MILESHC-MASTARSSP", "VOR10-MILESHC-MASTARSSP"
    sfr = np.geomspace(0.1, 5, N)
    sfr[3] = -999

    def rows(daptype, factor):
        return {"plateifu": np.array(NAMES[::-1]), "daptype": np.full(N, daptype), "sfr_tot": factor * sfr[::-1]}

    dr17 = write(tmp_path / "dapall17.fits", {other: rows(other, 100), used: rows(used, 1)})
    settings = configure(manga={"tables": ["dapall"]})
    frame = targets(drpall, "DR17", settings, dapall=dr17)
    assert frame["log_sfr"][0] == pytest.approx(np.log10(0.1 / 0.49) - 0.04)
    assert np.isnan(frame["log_sfr"][3])
    np.testing.assert_allclose(frame["log_ssfr"], frame["log_sfr"] - frame["log_mstar"])
    first, second = rows("VOR10-GAU-MILESHC", 100), rows("HYB10-GAU-MILESHC", 1)
    both = {name: np.concatenate([first[name], second[name]]) for name in first}
    dr15 = write(tmp_path / "dapall15.fits", {"DAPALL": both})
    np.testing.assert_allclose(targets(drpall, "DR15", settings, dapall=dr15)["log_sfr"], frame["log_sfr"])
    with caplog.at_level(logging.WARNING, logger="tullyflow"):
        wrong = targets(drpall, "DR17", configure(manga={"tables": ["dapall"], "daptype": {"DR17": "SPX-X"}}), dapall=dr17)
    assert "no row of daptype SPX-X" in caplog.text
    assert wrong["log_sfr"].isna().all()
    two = configure(manga={"tables": ["dapall", "pipe3d"]})
    kept = targets(drpall, "DR17", two, dapall=dr17, pipe3d=pipe3d(tmp_path / "p.fits", "DR17"))
    np.testing.assert_allclose(kept["log_ssfr"], -10.2)  # dust-corrected rates are never mixed with those that are not
    without = pipe3d(tmp_path / "q.fits", "DR17", log_SFR_Ha=None)
    none = targets(drpall, "DR17", two, dapall=dr17, pipe3d=without)
    assert none[["log_sfr", "log_ssfr"]].isna().all().all()  # nor rates of one initial mass function with masses of another
    own = targets(drpall, "DR17", configure(manga={"tables": ["dapall"]}, cosmology={"imf": "own"}), dapall=dr17)
    np.testing.assert_allclose((own["log_sfr"] - frame["log_sfr"]).dropna(), 0.04)
    np.testing.assert_allclose(own["log_ssfr"], frame["log_ssfr"])


def hi_table(path, rows, **columns):
    """HI-MaNGA: PLATEIFU, LOGMHI, SNR, WM50, EV of every row, and further columns (one value per row)."""
    names = ("PLATEIFU", "LOGMHI", "SNR", "WM50", "EV")
    listed = {name: [row[k] for row in rows] for k, name in enumerate(names)} | columns
    return write(path, {"": {name: np.array(values) for name, values in listed.items()}})


def read_hi(drpall, configure, path, **keys):
    return targets(drpall, "DR17", configure(manga={"tables": ["hi"]}, **keys), hi=path)


def test_hi_keeps_the_best_clean_detection_of_a_galaxy(drpall, configure, tmp_path):
    rows = [(NAMES[0], 9.1, 4.0, 200.0, 3.0), (NAMES[0], 9.3, 9.0, 240.0, 2.0), (NAMES[1], -999.0, -999.0, -999.0, -999.0),
            (NAMES[2], 9.9, 20.0, 400.0, 2.0), (NAMES[3], 9.5, 6.0, -999.0, 2.0)]  # fmt: skip
    hi = hi_table(tmp_path / "hi.fits", rows, CONFPROB=[0, 0, 0, 0.6, 0.05])
    frame = read_hi(drpall, configure, hi)
    assert frame["hi_width_kms"][0] == 240
    assert frame["hi_width_err_kms"][0] == 4
    assert frame["log_mgas"][0] == pytest.approx(9.3 + np.log10(1.36))
    assert frame.loc[[1, 2], ["log_mgas", "hi_width_kms"]].isna().all().all()
    assert np.isfinite(frame["log_mgas"][3])
    assert np.isnan(frame["hi_width_kms"][3])
    at_h1 = read_hi(drpall, configure, hi, cosmology={"h": 1.0})
    assert at_h1["log_mgas"][0] == pytest.approx(9.3 + np.log10(1.36) + 2 * np.log10(0.7))


@pytest.mark.parametrize(
    ("columns", "confused"),
    [
        ({"CONFPROB": [0.05, 0.3, 0.05, 0.3], "CONFLAG": [0, 0, 1, 1]}, [1, 3]),  # as in the archive's database
        ({"conf_prob": [0.05, 0.3, 0.05, 0.3], "conflag": [0, 0, 1, 1]}, [1, 3]),  # as in the file v2_0_1
        ({"conflag": [0, 0, 1, 1]}, [2, 3]),
        ({"conf_prob": [0.05, -999, -999, np.nan], "conflag": [1, 0, 1, 1]}, [2, 3]),  # the flag where no probability is stated
        ({}, []),
    ],
)
def test_hi_of_a_shared_beam_is_left_out_whatever_the_file_calls_it(drpall, configure, tmp_path, caplog, columns, confused):
    hi = hi_table(tmp_path / "hi.fits", [(NAMES[k], 9.5, 8.0, 210.0 + k, 2.0) for k in range(4)], **columns)
    with caplog.at_level(logging.INFO, logger="tullyflow"):
        frame = read_hi(drpall, configure, hi)
    assert list(np.flatnonzero(frame["hi_width_kms"][:4].isna())) == confused
    assert list(np.flatnonzero(frame["log_mgas"][:4].isna())) == confused
    assert f"{len(confused)} confused" in caplog.text
    assert ("cannot be told" in caplog.text) == (not columns)


def test_mass_and_width_come_each_from_the_best_observation_that_has_them(drpall, configure, tmp_path, caplog):
    rows = [(NAMES[0], 9.6, 20.0, -999.0, 5.0), (NAMES[0], 9.5, 9.0, 240.0, 3.0), (NAMES[1], 9.4, 7.0, -999.0, 4.0),
            (NAMES[2], 9.2, 6.0, 180.0, -999.0)]  # fmt: skip
    hi = hi_table(tmp_path / "hi.fits", rows, WP50=[-999, 250, -999, 190], WF50=[333, 260, 155, 200])
    with caplog.at_level(logging.INFO, logger="tullyflow"):
        frame = read_hi(drpall, configure, hi)
    np.testing.assert_allclose(frame["log_mgas"][:3] - np.log10(1.36), [9.6, 9.4, 9.2])
    np.testing.assert_array_equal(frame["hi_width_kms"][:3], [240, 155, 180])
    np.testing.assert_array_equal(frame["hi_width_err_kms"][:3], [6, 8, np.nan])
    assert list(frame["messages"][:3]) == ["", "The width of the HI line is WF50: there is no WM50.", ""]
    assert (frame["flags"] == 0).all()
    assert "1 widths are not WM50" in caplog.text


def test_catalogues_asked_for_are_listed_and_pipe3d_has_both_spellings(configure):
    settings = configure(manga={"tables": ["hi"], "masses": "pipe3d"})
    listed = {p.product: p for p in manga.catalogue_products("DR17", settings)}
    assert list(listed) == ["drpall", "hi", "pipe3d"]
    assert [url.rpartition("/")[2] for url in listed["pipe3d"].urls] == ["SDSS17Pipe3D_v3_1_1.fits", "SDSS17Pipe3D-v3_1_1.fits"]
    assert [p.product for p in manga.catalogue_products("DR17", configure())] == ["drpall"]


def test_extra_files_are_listed_and_wanted_by_nobody(configure):
    settings = configure(manga={"extra": ["logcube", "modelcube"]})
    main, cube, model = manga.products({"galaxy": "8485-1901"}, "DR15", settings)
    assert cube.urls[0].endswith("redux/v2_4_3/8485/stack/manga-8485-1901-LOGCUBE.fits.gz")
    assert model.urls[0].endswith("HYB10-GAU-MILESHC/8485/1901/manga-8485-1901-LOGCUBE-HYB10-GAU-MILESHC.fits.gz")
    assert len({p.path for p in (main, cube, model)}) == 3
    (pipe,) = manga.products({"galaxy": "8485-1901"}, "DR17", configure(manga={"product": "pipe3d"}))
    assert pipe.product == "pipe3d_cube"
    assert pipe.urls == ("https://data.sdss.org/sas/dr17/manga/spectro/pipe3d/v3_1_1/3.1.1/8485/manga-8485-1901.Pipe3D.cube.fits.gz",)
