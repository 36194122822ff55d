"""The mock archive: the archives' own layouts, a known sky, the hard cases, and the readers walk through it."""

import gzip
import io
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from tullyflow.conventions import magnitude_to_h
from tullyflow.errors import DataError, SettingsError
from tullyflow.flags import BAD_VELOCITY, GALAXY
from tullyflow.settings import parse_settings
from tullyflow.surveys import get_survey
from tullyflow.surveys.mock import make_archive, mirror_path, true_moments
from tullyflow.surveys.mock_manga import LINES
from tullyflow.surveys.mock_population import HARD_CASES, draw_population
from tullyflow.tables import TRUTH, read_table

ROOT = Path(__file__).resolve().parents[2]
COUNTS = {"manga_dr15": 6, "manga_dr17": 8, "sami": 8, "things": 2}
MASKED = 1 | 32 | (1 << 30)
REAL_MAPS = {
    "DR15": "data.sdss.org/sas/dr15/manga/spectro/analysis/v2_4_3/2.2.1/HYB10-GAU-MILESHC/7815/3702",
    "DR17": "data.sdss.org/sas/dr17/manga/spectro/analysis/v3_1_1/3.1.0/HYB10-MILESHC-MASTARSSP/8484/3704",
}


def settings_of(**mock):
    return parse_settings({"releases": str(ROOT / "config/releases.csv"), "seed": 7, "mock": {**COUNTS, "samples": 20_000, **mock}})


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("archive")
    make_archive(settings_of(), out)
    return out


@pytest.fixture(scope="module")
def truth(archive) -> pd.DataFrame:
    return read_table(archive / "truth.parquet", TRUTH).set_index("galaxy", drop=False)


def open_maps(path: Path) -> fits.HDUList:
    return fits.open(io.BytesIO(gzip.decompress(path.read_bytes())))


def maps_path(archive: Path, galaxy: str) -> Path:
    (path,) = archive.glob(f"data.sdss.org/**/manga-{galaxy}-MAPS-*.fits.gz")
    return path


def sami_path(archive: Path, galaxy: str, product: str) -> Path:
    (path,) = archive.glob(f"datacentral/sami/dr3/ifs/{galaxy}/{galaxy}_A_{product}_default_*.fits")
    return path


def halpha(hdus: fits.HDUList) -> dict[str, np.ndarray]:
    """Halpha's planes, by the channel's name."""
    header = hdus["EMLINE_GFLUX"].header
    (plane,) = (int(key[1:]) - 1 for key, value in header.items() if value == "Ha-6564")
    names = ("GFLUX", "GFLUX_IVAR", "GVEL", "GVEL_IVAR", "GVEL_MASK", "GSIGMA", "INSTSIGMA")
    return {name: hdus[f"EMLINE_{name}"].data[plane] for name in names}


def row(truth: pd.DataFrame, case: str, survey: str | None = None) -> pd.Series:
    chosen = truth[(truth["hard_case"] == case) & ((truth["survey"] == survey) if survey else True)]
    return chosen.iloc[0]


# --- layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", ["DR15", "DR17"])
def test_maps_have_the_extensions_channels_units_and_types_of_the_real_file(archive, truth, shared, release):
    name = truth[(truth["release"] == release) & (truth["hard_case"] == "")]["galaxy"].iloc[0]
    (real_path,) = (shared / "mirror" / REAL_MAPS[release]).iterdir()
    mock, real = open_maps(maps_path(archive, name)), open_maps(real_path)
    assert [h.name for h in mock] == [h.name for h in real]
    for ours, theirs in zip(mock[1:], real[1:], strict=True):
        keys = [k for k in theirs.header if k[:1] == "C" and k[1:].isdigit()]
        assert [ours.header.get(k) for k in keys] == [theirs.header[k] for k in keys], ours.name
        for key in ("BUNIT", "ERRDATA", "QUALDATA", "BITPIX", "NAXIS", "CTYPE1", "CTYPE2", "HDUCLAS1", "HDUCLAS2"):
            assert ours.header.get(key) == theirs.header.get(key), (ours.name, key)
        assert ours.data.shape[:-2] == theirs.data.shape[:-2], ours.name
    missing = {"SCINPVEL", "OBJRA", "DRP3QUAL", "DAPQUAL", "VERSDAP", "DAPTYPE", "PLATEIFU", "ECOOPA", "REFF"} - set(mock[0].header)
    assert not missing and missing <= set(real[0].header)


@pytest.mark.parametrize("product", ["Halpha", "gas-velocity", "gas-vdisp", "stellar-velocity"])
def test_sami_files_have_the_layout_of_the_real_file(archive, truth, shared, product):
    name = truth[(truth["survey"] == "sami") & (truth["hard_case"] == "")]["galaxy"].iloc[0]
    (real_path,) = (shared / "mirror/datacentral/sami/dr3/ifs/209807").glob(f"209807_A_{product}_*.fits")
    ours_path = sami_path(archive, name, product)
    assert ours_path.name == real_path.name.replace("209807", name)
    with fits.open(ours_path) as mock, fits.open(real_path) as real:
        for ours, theirs in zip(mock, real, strict=True):
            assert (ours.name, ours.data.shape, ours.data.dtype) == (theirs.name, theirs.data.shape, theirs.data.dtype)
            for key in ("BUNIT", "CRPIX1", "CRPIX2", "CTYPE1") if "CRPIX1" in theirs.header else ():
                assert ours.header.get(key) == theirs.header.get(key), (ours.name, key)


def test_catalogue_columns_are_the_real_ones(archive, shared):
    real = shared / "mirror"
    for release, version in (("dr15", "v2_4_3"), ("dr17", "v3_1_1")):
        path = f"data.sdss.org/sas/{release}/manga/spectro/redux/{version}/drpall-{version}.fits"
        ours, theirs = fits.getdata(archive / path, "MANGA"), fits.getdata(real / path, "MANGA")
        assert set(ours.names) <= set(theirs.names)
        for name in ours.names:
            assert ours.dtype[name].base.kind == theirs.dtype[name].base.kind, name
    for path in (real / "datacentral/sami/dr3/catalogues").glob("*.csv"):
        if "gaskinPA" not in path.name:
            ours = pd.read_csv(archive / path.relative_to(real))
            assert set(ours.columns) <= set(pd.read_csv(path, nrows=1).columns), path.name


@pytest.mark.parametrize(("release", "plane"), [("DR15", 18), ("DR17", 23)])
def test_a_reader_of_the_wrong_channel_would_notice(archive, truth, release, plane):
    assert LINES[release].index("Ha-6564") == plane
    name = truth[(truth["release"] == release) & (truth["hard_case"] == "")]["galaxy"].iloc[0]
    hdus = open_maps(maps_path(archive, name))
    velocity = hdus["EMLINE_GVEL"].data
    good = (hdus["EMLINE_GVEL_MASK"].data[plane] & MASKED) == 0
    others = np.delete(velocity, plane, axis=0)
    assert np.median(np.abs(others - velocity[plane])[:, good], axis=1).min() > 100


def test_every_primary_header_says_it_is_simulated(archive):
    files = [*archive.rglob("*.fits"), *archive.rglob("*.FITS"), *archive.rglob("*.fits.gz")]
    assert len(files) > 20
    for path in files:
        text = path.read_bytes()[:200_000]
        if path.suffix == ".gz":
            text = gzip.GzipFile(fileobj=io.BytesIO(text)).read(2880 * 4)
        header = fits.Header.fromstring(text[: 2880 * 3].decode("latin-1"))
        assert header["MOCK"] is True and "imulated" in str(header["COMMENT"]), path.name


# --- the sky ----------------------------------------------------------------------------------------------------------


def sky_angle(wcs: WCS, weight: np.ndarray, velocity: np.ndarray) -> float:
    """Position angle (N through E) of the receding side: the dipole of the velocity in sky offsets."""
    y, x = np.nonzero(weight > 0)
    w, v = weight[y, x], velocity[y, x]
    sky = wcs.pixel_to_world(x, y)
    centre = wcs.pixel_to_world((w * x).sum() / w.sum(), (w * y).sum() / w.sum())
    east, north = centre.spherical_offsets_to(sky)
    v = v - (w * v).sum() / w.sum()
    return float(np.degrees(np.arctan2((w * v * east.deg).sum(), (w * v * north.deg).sum())) % 360)


def angle_between(a: float, b: float) -> float:
    return abs((a - b + 180) % 360 - 180)


def test_receding_side_is_where_the_truth_says_on_the_sky(archive, truth):
    normal = truth[truth["hard_case"] == ""]
    seen = 0
    for _, t in normal[normal["survey"] == "manga"].iterrows():
        hdus = open_maps(maps_path(archive, t["galaxy"]))
        ha = halpha(hdus)
        good = (ha["GVEL_MASK"] & MASKED) == 0
        angle = sky_angle(WCS(hdus["EMLINE_GVEL"].header).celestial, np.where(good, np.clip(ha["GFLUX"], 0, None), 0), ha["GVEL"])
        assert angle_between(angle, t["pa_deg"]) < 12, t["galaxy"]
        seen += 1
    for name, t in normal[normal["survey"] == "sami"].iterrows():
        flux, velocity = (fits.getdata(sami_path(archive, name, p))[0] for p in ("Halpha", "gas-velocity"))
        wcs = WCS(fits.getheader(sami_path(archive, name, "gas-velocity"))).celestial
        angle = sky_angle(wcs, np.nan_to_num(np.clip(flux, 0, None)), np.nan_to_num(velocity))
        assert angle_between(angle, t["pa_deg"]) < 12, name
        seen += 1
    assert seen > 6


def test_cubes_rotate_on_the_sky_as_the_truth_says(archive, truth):
    for name, t in truth[truth["survey"] == "things"].iterrows():
        path = archive / f"things.www3.mpia.de/Data_files/{name}_NA_CUBE_THINGS.FITS"
        header, cube = fits.getheader(path), fits.getdata(path)
        assert cube.shape == (1, 50, 64, 64) and header["CTYPE3"] == "VELO-HEL" and header["CTYPE4"] == "STOKES"
        cube = np.where(cube[0] > 5 * np.std(cube[0, :, :4, :4]), cube[0], 0.0)
        velocity = 1e-3 * (header["CRVAL3"] + header["CDELT3"] * (np.arange(50) + 1 - header["CRPIX3"]))
        assert header["CDELT3"] < 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wcs = WCS(header).celestial
        flux = cube.sum(0)
        mean = np.tensordot(velocity, cube, 1) / np.where(flux > 0, flux, 1)
        assert angle_between(sky_angle(wcs, flux, mean), t["pa_deg"]) < 5, name
        assert (flux * mean).sum() / flux.sum() == pytest.approx(t["v_sys_kms"], abs=1e-3 * abs(header["CDELT3"]))
        assert "CLEAN BMAJ=" in str(header["HISTORY"])


# --- catalogues -------------------------------------------------------------------------------------------------------


def test_catalogue_masses_and_magnitudes_convert_to_the_truth(archive, truth):
    path = archive / "data.sdss.org/sas/dr15/manga/spectro/redux/v2_4_3/drpall-v2_4_3.fits"
    table = fits.getdata(path, "MANGA")
    rows = truth.loc[list(table["plateifu"])]
    assert np.allclose(np.log10(table["nsa_elpetro_mass"] / 0.7**2), rows["log_mstar"], atol=1e-4)
    assert np.allclose(magnitude_to_h(table["nsa_elpetro_absmag"][:, 4], 0.7), rows["abs_mag_r"], atol=1e-4)


# --- hard cases -------------------------------------------------------------------------------------------------------


def test_every_hard_case_is_there_and_names_real_flags(truth):
    assert set(truth["hard_case"]) - {""} == {case.removesuffix("_nan") for case in HARD_CASES}
    for flags in truth["expected_flags"]:
        assert all(hasattr(GALAXY, name) for name in flags.split(",") if name), flags
    assert all(truth.loc[truth["hard_case"] != "", "expected_flags"] != "")


def test_hard_cases_are_what_they_say(archive, truth):
    with pytest.raises(EOFError):
        open_maps(maps_path(archive, row(truth, "truncated_file")["galaxy"]))
    missing = row(truth, "missing_file")
    assert missing["survey"] == "sami" and not (archive / "datacentral/sami/dr3/ifs" / missing["galaxy"]).exists()
    assert "EMLINE_GVEL" not in open_maps(maps_path(archive, row(truth, "missing_hdu")["galaxy"]))

    bad = row(truth, "quality_bad")
    drpall = fits.getdata(archive / "data.sdss.org/sas/dr15/manga/spectro/redux/v2_4_3/drpall-v2_4_3.fits", "MANGA")
    assert open_maps(maps_path(archive, bad["galaxy"]))[0].header["DRP3QUAL"] & (1 << 30)
    assert [name for name, bits in zip(drpall["plateifu"], drpall["drp3qual"], strict=True) if bits] == [bad["galaxy"]]

    drpall = fits.getdata(archive / "data.sdss.org/sas/dr17/manga/spectro/redux/v3_1_1/drpall-v3_1_1.fits", "MANGA")
    massless = drpall["nsa_elpetro_mass"] == -9999
    assert list(drpall["plateifu"][massless]) == [row(truth, "missing_mass", "manga")["galaxy"]]
    sami = pd.concat(pd.read_csv(p) for p in (archive / "datacentral/sami/dr3/catalogues").glob("*InputCat*.csv"))
    assert list(sami["catid"][sami["mstar"].isna()].astype(str)) == [row(truth, "missing_mass", "sami")["galaxy"]]

    hdus = open_maps(maps_path(archive, row(truth, "foreground_star")["galaxy"]))
    assert hdus[0].header["DAPQUAL"] == 1 and (halpha(hdus)["GVEL_MASK"] & 8).any()

    ha = halpha(open_maps(maps_path(archive, row(truth, "no_rotation")["galaxy"])))
    good = ((ha["GVEL_MASK"] & MASKED) == 0) & (ha["GFLUX"] * np.sqrt(ha["GFLUX_IVAR"]) > 10)
    assert good.sum() > 100 and np.abs(ha["GVEL"][good]).max() < 10

    few = row(truth, "too_few_pixels")["galaxy"]
    with fits.open(sami_path(archive, few, "Halpha")) as hdus:
        assert 10 < np.sum(hdus[0].data[0] > 10 * hdus[1].data[0]) < 100
    assert row(truth, "face_on")["inclination_deg"] == 10


def test_normal_galaxies_keep_most_of_the_disc(archive, truth):
    normal = truth[(truth["hard_case"] == "") & (truth["survey"] == "manga") & (truth["inclination_deg"] < 65)]
    assert len(normal) > 2
    for name in normal["galaxy"]:
        hdus = open_maps(maps_path(archive, name))
        ha = halpha(hdus)
        good = ((ha["GVEL_MASK"] & MASKED) == 0) & (ha["GFLUX"] * np.sqrt(ha["GFLUX_IVAR"]) > 10)
        assert good.sum() > 0.4 * np.sum(hdus["SPX_MFLUX"].data > 0), name


# --- reproducibility --------------------------------------------------------------------------------------------------


def test_processes_do_not_change_a_byte_and_the_seed_does(tmp_path):
    settings = settings_of(manga_dr15=1, manga_dr17=1, sami=1, things=1)
    other = parse_settings({**settings.model_dump(), "seed": 8})
    for folder, chosen, threads in (("one", settings, 1), ("two", settings, 2), ("other", other, 1)):
        make_archive(chosen, tmp_path / folder, threads=threads)
    files = [p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file() and p.suffix != ".parquet"]
    assert len(files) == 15
    for path in files:
        content = (tmp_path / "one" / path).read_bytes()
        assert content == (tmp_path / "two" / path).read_bytes(), path
        assert path.match("*/catalogues/sami*") or content != (tmp_path / "other" / path).read_bytes(), path


def test_the_summary_says_what_was_put_in(archive, truth):
    summary = json.loads((archive / "mock.json").read_text())
    assert summary["seed"] == 7 and summary["mock"]["slope"] == 0.26
    assert sum(summary["galaxies"].values()) == len(truth)
    assert "rotation velocity" in summary["statement"] and "not observations" in summary["statement"]


def test_settings_without_a_mock_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="mock"):
        make_archive(parse_settings({}), tmp_path)


# --- the readers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("survey", "release"), [("manga", "DR15"), ("manga", "DR17"), ("sami", "DR3"), ("things", "NA")])
def test_readers_find_the_archive_and_give_the_discs_back(archive, truth, survey, release):
    settings = settings_of()
    adapter = get_survey(survey)

    def found(products):
        places = {p.product: [mirror_path(url, archive) for url in p.urls] for p in products}
        return {name: next(p for p in paths if p.exists()) for name, paths in places.items() if any(p.exists() for p in paths)}

    targets = adapter.targets(found(adapter.catalogue_products(release, settings)), release, settings)
    assert set(targets["galaxy"]) == set(truth[(truth["survey"] == survey) & (truth["release"] == release)]["galaxy"])
    discs = {g.galaxy: g for g in draw_population(settings)}
    for _, target in targets.iterrows():
        t, disc = truth.loc[target["galaxy"]], discs[target["galaxy"]]
        assert target["log_mstar"] == pytest.approx(t["log_mstar"], abs=1e-4) or t["hard_case"] == "missing_mass"
        try:
            maps = adapter.read(found(adapter.products(target, release, settings)), target, settings)
        except DataError as err:
            assert GALAXY.names(err.flag) in t["expected_flags"].split(","), target["galaxy"]
            continue
        assert maps.flags & GALAXY.MOCK
        good = ((maps.mask & BAD_VELOCITY) == 0) & (maps.intensity > 10 * maps.intensity_err)
        if survey != "things" and good.any():
            residual = (maps.velocity - true_moments(disc, 20_000).velocity - t["v_sys_kms"])[good]
            assert abs(np.median(residual)) < 4 and np.median(np.abs(residual)) < 8, target["galaxy"]
