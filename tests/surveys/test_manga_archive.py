"""Real MaNGA files over loopback HTTP: what the documentation states of MAPS and drpall, and the targets made of them.

Not here, because no copy can be had: dapall, Pipe3D catalogue and cubes, LOGCUBEs, HI-MaNGA; test_manga_tables.py and
test_pipe3d.py build them from their data models. What these real files show otherwise than documented is asserted as it is:
DAP version 2.2.3dev (not 2.2.1) in the DR15 file; MAPS of 19 fibres take 1.6-1.8 MB (not 0.6); the first summed line is the
blended OIId-3728 in DR15 too; extensions of fewer than ten channels count them C1 (not C01) and name their units U1; a missing
redshift in drpall is -999, other missing values -9999.
"""

import functools
import hashlib
import http.server
import threading
from pathlib import Path

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM
from astropy.io import fits
from astropy.wcs import WCS

from tullyflow.cli import main
from tullyflow.fetch.manifest import fetch_catalogue, fetch_shard
from tullyflow.flags import GALAXY
from tullyflow.surveys.catalogue import list_targets
from tullyflow.tables import MANIFEST, TARGETS, read_table

DR17 = ("8484-3704", "10001-3702", "10001-3703", "10215-1902", "10215-3703", "11025-1902")
_BALMER = "NeIII-3968 Heps-3971 Hdel-4102 Hgam-4341 HeII-4687 Hb-4862 OIII-4960 OIII-5008"
_RED = "HeI-5877 OI-6302 OI-6365 NII-6549 Ha-6564 NII-6585 SII-6718 SII-6732"
CHANNELS = {
    "DR15": f"OII-3727 OII-3729 Hthe-3798 Heta-3836 NeIII-3869 Hzet-3890 {_BALMER} {_RED}",
    "DR17": f"OII-3727 OII-3729 H12-3751 H11-3771 Hthe-3798 Heta-3836 NeIII-3869 HeI-3889 Hzet-3890 {_BALMER} NI-5199 NI-5201 {_RED} "
            "HeI-7067 ArIII-7137 ArIII-7753 Peta-9017 SIII-9071 Pzet-9231 SIII-9533 Peps-9548",
}  # fmt: skip
_START = (
    "PRIMARY SPX_SKYCOO SPX_ELLCOO SPX_MFLUX SPX_MFLUX_IVAR SPX_SNR BINID BIN_LWSKYCOO BIN_LWELLCOO BIN_AREA BIN_FAREA BIN_MFLUX "
    "BIN_MFLUX_IVAR BIN_MFLUX_MASK BIN_SNR STELLAR_VEL STELLAR_VEL_IVAR STELLAR_VEL_MASK STELLAR_SIGMA STELLAR_SIGMA_IVAR "
    "STELLAR_SIGMA_MASK STELLAR_SIGMACORR "
)


def _family(name, *suffixes):
    return " ".join([name, *(f"{name}_{suffix}" for suffix in suffixes)])


_IM = ("IVAR", "MASK")
EXTENSIONS = {
    "DR15": _START + "STELLAR_CONT_FRESID STELLAR_CONT_RCHI2 " + " ".join([
        *(_family(f"EMLINE_{k}", *_IM) for k in ("SFLUX", "SEW", "GFLUX", "GEW", "GVEL", "GSIGMA")), "EMLINE_INSTSIGMA EMLINE_TPLSIGMA",
        _family("SPECINDEX", *_IM, "CORR")]),
    "DR17": _START + "STELLAR_FOM " + " ".join([
        _family("EMLINE_SFLUX", *_IM), _family("EMLINE_SEW", "CNT", *_IM), _family("EMLINE_GFLUX", *_IM),
        _family("EMLINE_GEW", "CNT", *_IM), _family("EMLINE_GVEL", *_IM), _family("EMLINE_GSIGMA", *_IM),
        "EMLINE_INSTSIGMA EMLINE_TPLSIGMA EMLINE_GA EMLINE_GANR EMLINE_FOM EMLINE_LFOM",
        *(_family(name, *_IM, "CORR", "MODEL") for name in ("SPECINDEX", "SPECINDEX_BF", "SPECINDEX_WGT"))]),
}  # fmt: skip
DOCUMENTED = (
    "plate ifudsgn plateifu mangaid objra objdec ifura ifudec drp3qual mngtarg1 mngtarg2 mngtarg3 gfwhm rfwhm ifwhm zfwhm ebvgal z nsa_z "
    "nsa_zdist nsa_nsaid nsa_elpetro_absmag nsa_sersic_absmag nsa_elpetro_mass nsa_sersic_mass nsa_elpetro_ba nsa_elpetro_phi "
    "nsa_elpetro_th50_r nsa_sersic_ba nsa_sersic_phi nsa_sersic_th50 nsa_sersic_n nsa_extinction pweight psweight srweight sweight "
    "eweight esweight psrweight esrweight"
)
HALPHA = {"DR15": 18, "DR17": 23}


@pytest.fixture(scope="module")
def mirror(shared):
    """Address of the mirror served over HTTP, and the list of what was asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append((self.command, self.path))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(shared / "mirror")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def fetched(mirror, configure, tmp_path_factory):
    """Settings, and per release the manifests and targets of a catalogue and its galaxies, fetched through the workflow's functions."""
    root = tmp_path_factory.mktemp("archive")
    settings = configure(mirror=mirror[0], resources=str(root / "resources"), galaxies=["DR15/7815-3702", *(f"DR17/{n}" for n in DR17)])
    made = {}
    for release in ("DR15", "DR17"):
        catalogue = fetch_catalogue("manga", release, settings, root / f"{release}.csv")
        (targets,) = list_targets("manga", release, root / f"{release}.csv", settings, root / release)
        made[release] = (catalogue, targets, fetch_shard(targets, settings, root / f"{release}-maps.csv"))
    return settings, made, root


@pytest.fixture(scope="module")
def maps(fetched):
    """The seven MAPS, opened: (release, plate-ifu, HDUs)."""
    rows = [(release, row.galaxy, row.path) for release in ("DR15", "DR17") for row in fetched[1][release][2].itertuples()]
    opened = [(release, name, fits.open(path, memmap=False)) for release, name, path in rows]
    yield opened
    for *_, hdus in opened:
        hdus.close()


def test_every_file_arrives_whole_under_the_path_of_its_release(fetched, shared):
    for release, n in (("DR15", 1), ("DR17", 6)):
        catalogue, _, manifest = fetched[1][release]
        assert len(manifest) == n
        for row in [*catalogue.itertuples(), *manifest.itertuples()]:
            assert row.status == "ok"
            source = shared / "mirror" / row.url.partition("//")[2].partition("/")[2]
            body = source.read_bytes()
            assert row.sha256 == hashlib.sha256(body).hexdigest()
            assert row.bytes == len(body)
            assert f"/manga/{release}/" in row.path
    url = fetched[1]["DR15"][2]["url"][0]
    assert url.endswith("data.sdss.org/sas/dr15/manga/spectro/analysis/v2_4_3/2.2.1/HYB10-GAU-MILESHC/7815/3702/"
                        "manga-7815-3702-MAPS-HYB10-GAU-MILESHC.fits.gz")  # fmt: skip
    small = fetched[1]["DR17"][2].set_index("galaxy")["bytes"]
    assert small[["10215-1902", "11025-1902"]].between(1.5e6, 1.9e6).all()


def test_extensions_are_those_documented_in_name_number_and_order(maps):
    for release, name, hdus in maps:
        assert [hdu.name for hdu in hdus] == EXTENSIONS[release].split(), name
        assert len(hdus) == {"DR15": 48, "DR17": 64}[release]
        assert hdus["STELLAR_SIGMACORR"].data.ndim == {"DR15": 2, "DR17": 3}[release]
        assert hdus["BINID"].data.shape[0] == 5
    numbers = {release: {hdu.name: k for k, hdu in enumerate(hdus)} for release, _, hdus in maps}
    assert [numbers["DR15"][f"EMLINE_{k}"] for k in ("GFLUX", "GVEL", "GSIGMA", "INSTSIGMA")] == [30, 36, 39, 42]
    assert [numbers["DR17"][f"EMLINE_{k}"] for k in ("GFLUX", "GVEL", "GSIGMA", "INSTSIGMA")] == [30, 37, 40, 43]
    assert numbers["DR17"]["SPECINDEX"] == 49


def test_line_channels_are_those_documented(maps):
    for release, name, hdus in maps:
        lines = CHANNELS[release].split()
        assert len(lines) == {"DR15": 22, "DR17": 35}[release]
        assert lines.index("Ha-6564") == HALPHA[release]
        for extension in ("EMLINE_GFLUX", "EMLINE_GVEL", "EMLINE_GVEL_IVAR", "EMLINE_GVEL_MASK", "EMLINE_GSIGMA", "EMLINE_INSTSIGMA"):
            header = hdus[extension].header
            assert [header[f"C{k + 1:02d}"] for k in range(len(lines))] == lines, name
            assert len(hdus[extension].data) == len(lines)
        summed = hdus["EMLINE_SFLUX"].header
        assert summed["C01"] == "OIId-3728"
        assert [summed[f"C{k + 1:02d}"] for k in range(1, len(lines))] == lines[1:]


def test_units_types_and_companions_are_those_documented(maps):
    for _, _, hdus in maps:
        assert hdus["EMLINE_GFLUX"].header["BUNIT"] == "1E-17 erg/s/cm^2/spaxel"
        assert {hdus[f"EMLINE_{k}"].header["BUNIT"] for k in ("GVEL", "GSIGMA", "INSTSIGMA")} == {"km/s"}
        assert hdus["EMLINE_GVEL_IVAR"].header["BUNIT"] == "(km/s)^{-2}"
        for hdu in hdus[1:]:
            integer = hdu.name == "BINID" or hdu.name.endswith("_MASK")
            assert hdu.header["BITPIX"] == (32 if integer else -32), hdu.name
        for key in ("GFLUX", "GVEL", "GSIGMA"):
            header = hdus[f"EMLINE_{key}"].header
            assert (header["ERRDATA"], header["QUALDATA"]) == (f"EMLINE_{key}_IVAR", f"EMLINE_{key}_MASK")
        bits = hdus["EMLINE_GVEL_MASK"].data
        assert bits.min() == 0
        assert (bits & 1 << 30).any()  # DONOTUSE, still positive in int32
        used = np.unique(np.flatnonzero([(bits >> bit & 1).any() for bit in range(31)]))
        assert set(used) <= {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 30}
        assert all("CHECKSUM" in hdu.header for hdu in hdus)
        assert all(hdu.verify_checksum() == 1 and hdu.verify_datasum() == 1 for hdu in (hdus[0], hdus["EMLINE_GVEL"], hdus[-1]))


def test_primary_header_repeats_drpall_and_the_documented_keys(maps, fetched):
    for release, name, hdus in maps:
        header = hdus[0].header
        catalogue = fetched[1][release][0]["path"][0]
        with fits.open(catalogue) as tables:
            rows = tables["MANGA"].data
            row = rows[np.char.strip(rows["plateifu"].astype(str)) == name][0]
            assert header["MANGAID"].strip() == row["mangaid"].strip()
            assert header["ECOOPA"] == pytest.approx(row["nsa_elpetro_phi"], abs=1e-3)
            assert 1 - header["ECOOELL"] == pytest.approx(row["nsa_elpetro_ba"], abs=1e-5)
            assert header["REFF"] == pytest.approx(row["nsa_elpetro_th50_r"], abs=1e-4)
            assert header["SCINPVEL"] == pytest.approx(299792.458 * row["z"], rel=1e-5)
            assert (header["MNGTARG1"], header["DRP3QUAL"]) == (row["mngtarg1"], row["drp3qual"])
            assert header["OBJRA"] == pytest.approx(row["objra"], abs=1e-4)
            assert header["RFWHM"] == pytest.approx(row["rfwhm"], abs=1e-3)
        assert header["PLATEIFU"] == name
        assert header["VERSDRP3"] == {"DR15": "v2_4_3", "DR17": "v3_1_1"}[release]
        assert header["VERSDAP"] == {"DR15": "2.2.3dev", "DR17": "3.1.0"}[release]
        assert header["DAPTYPE"] == {"DR15": "HYB10-GAU-MILESHC", "DR17": "HYB10-MILESHC-MASTARSSP"}[release]
        assert header["VSTEP"] == pytest.approx(69.03, abs=0.01)
        assert 2.2 < header["RFWHM"] < 2.8
        assert header["DAPQUAL"] == (1 if name == "11025-1902" else 0)
        assert all(key in header for key in ("EBVGAL", "GFWHM", "IFWHM", "ZFWHM", "IFURA", "IFUDEC", "BINMINSN", "MNGTARG3"))


def test_sky_and_disc_coordinates_are_as_documented(maps):
    for release, name, hdus in maps:
        header, wcs = hdus[0].header, WCS(hdus["SPX_SKYCOO"].header).celestial
        assert list(wcs.wcs.ctype) == ["RA---TAN", "DEC--TAN"]
        np.testing.assert_allclose(np.abs(wcs.pixel_scale_matrix.diagonal()) * 3600, 0.5, rtol=1e-4)
        x, y = hdus["SPX_SKYCOO"].data.astype(float)
        row, column = np.mgrid[: x.shape[0], : x.shape[1]]
        ra, dec = wcs.wcs_pix2world(column, row, 0)
        east, north = (ra - header["OBJRA"]) * np.cos(np.radians(header["OBJDEC"])) * 3600, (dec - header["OBJDEC"]) * 3600
        np.testing.assert_allclose(x, east, atol=1e-5)  # x > 0 is east, y > 0 north
        np.testing.assert_allclose(y, north, atol=1e-5)
        planes = hdus["SPX_ELLCOO"]
        azimuth = {"DR15": 2, "DR17": 3}[release]
        assert len(planes.data) == azimuth + 1
        assert planes.header[f"C{azimuth + 1}"] == "Elliptical azimuth"
        assert planes.header["U1"] == "arcsec"
        pa, q = np.radians(header["ECOOPA"]), 1 - header["ECOOELL"]
        major, minor = x * np.sin(pa) + y * np.cos(pa), (x * np.cos(pa) - y * np.sin(pa)) / q
        np.testing.assert_allclose(planes.data[0], np.hypot(major, minor), atol=1e-4)
        np.testing.assert_allclose(planes.data[1], planes.data[0] / header["REFF"], rtol=1e-5)
        apart = (np.degrees(np.arctan2(minor, major)) - planes.data[azimuth] + 180) % 360 - 180
        assert np.abs(apart[planes.data[0] > 0.5]).max() < 0.01, name  # from the photometric major axis


def test_line_kinematics_are_as_documented(maps):
    for release, name, hdus in maps:
        k = HALPHA[release]
        velocity, bits = hdus["EMLINE_GVEL"].data.astype(float), hdus["EMLINE_GVEL_MASK"].data
        good = bits[k] == 0
        usable = np.where((bits & 1 << 30) == 0, velocity, np.nan)
        tied = usable[:, np.isfinite(usable).any(axis=0)]
        assert np.nanmax(np.nanmax(tied, axis=0) - np.nanmin(tied, axis=0)) == 0  # one velocity for all lines
        assert np.abs(velocity[k][good]).max() < 2000
        assert abs(np.median(velocity[k][good])) < 30  # relative to SCINPVEL, not cz; a residual is left
        bins = hdus["BINID"].data
        assert bins.min() == -1
        assert len(np.unique(bins[3][bins[3] >= 0])) == (bins[3] >= 0).sum()  # emission lines spaxel by spaxel
        assert len(np.unique(bins[1][bins[1] >= 0])) < (bins[3] >= 0).sum()  # stars in Voronoi bins
        instrument, sigma = hdus["EMLINE_INSTSIGMA"].data[k][good], hdus["EMLINE_GSIGMA"].data[k][good]
        assert 65 < np.median(instrument) < 76
        assert 0 < (sigma**2 < instrument**2).mean() < 0.15  # below the instrument: kept, not cut
        assert (hdus["EMLINE_GVEL_IVAR"].data[k][good] > 0).all()
        stars = hdus["STELLAR_VEL_MASK"].data == 0
        r = np.corrcoef(hdus["STELLAR_VEL"].data[good & stars], velocity[k][good & stars])[0, 1]
        if name in ("7815-3702", "8484-3704", "10001-3703", "10215-3703", "11025-1902"):
            assert r > 0.9, name  # gas and stars have the same sign
        elif name == "10001-3702":
            assert r < -0.4  # counter-rotating


def test_real_drpall_has_the_documented_columns(fetched):
    with fits.open(fetched[1]["DR15"][0]["path"][0]) as hdus:
        table = hdus[1]
        assert table.name == "MANGA"
        assert (len(table.columns), len(table.data)) == (99, 4589)
        names = {name.lower() for name in table.columns.names}
        assert names >= set(DOCUMENTED.split())
        assert table.data["nsa_elpetro_absmag"].shape == (4589, 7)
        missing = table.data["nsa_elpetro_mass"] == -9999
        assert missing.sum() == 27
        assert (table.data["z"] == -999).sum() == 18
        assert (table.data["nsa_nsaid"][missing] == -9999).all()
    with fits.open(fetched[1]["DR17"][0]["path"][0]) as hdus:
        assert (len(hdus["MANGA"].data), len(hdus["MANGA"].columns)) == (6, 28)  # rebuilt from MAPS headers
        assert (hdus["MANGA"].data["nsa_elpetro_mass"] == -9999).sum() == 3


def test_dr16_after_dr15_asks_for_nothing(fetched, mirror, tmp_path):
    settings, made, _ = fetched
    before = len(mirror[1])
    shared = settings.model_copy(update={"galaxies": ["7815-3702"]})
    catalogue = fetch_catalogue("manga", "DR16", shared, tmp_path / "DR16.csv")
    (targets,) = list_targets("manga", "DR16", tmp_path / "DR16.csv", shared, tmp_path / "DR16")
    manifest = fetch_shard(targets, shared, tmp_path / "DR16-maps.csv")
    assert len(mirror[1]) == before
    assert list(catalogue["path"]) == list(made["DR15"][0]["path"])
    assert list(manifest["path"]) == list(made["DR15"][2]["path"])
    assert list(manifest["sha256"]) == list(made["DR15"][2]["sha256"])
    assert set(manifest["status"]) == {"ok"}
    assert read_table(targets, TARGETS)["release"].tolist() == ["DR16"]


def test_dr16_alone_is_kept_where_dr15_would_be(mirror, configure, tmp_path):
    settings = configure(mirror=mirror[0], resources=str(tmp_path / "resources"))
    catalogue = fetch_catalogue("manga", "DR16", settings, tmp_path / "DR16.csv")
    assert catalogue["status"].tolist() == ["ok"]  # the mirror has it under dr15 only: the second address
    assert "/dr15/" in catalogue["url"][0]
    assert catalogue["path"][0].endswith("manga/DR15/catalogues/drpall-v2_4_3.fits")


@pytest.fixture(scope="module")
def command_targets(shared, tmp_path_factory):
    """Rows that `tullyflow fetch` and `tullyflow targets` make of the real DR15 drpall, and its raw table."""
    root = tmp_path_factory.mktemp("command")
    config = root / "config.yaml"
    releases = Path(__file__).resolve().parents[2] / "config/releases.csv"
    config.write_text(f"mirror: {shared / 'mirror'}\nresources: {root / 'resources'}\nreleases: {releases}\nmanga: {{releases: [DR15]}}\n")
    both = ["--settings", str(config), "--survey", "manga", "--release", "DR15"]
    assert main(["fetch", *both, "--out", str(root / "catalogue.csv")]) == 0
    assert main(["targets", *both, "--manifest", str(root / "catalogue.csv"), "--out", str(root / "targets")]) == 0
    shards = read_table(root / "targets/shards.csv", TARGETS[3:4])["shard"]
    rows = [read_table(root / f"targets/{shard}.parquet", TARGETS) for shard in shards]
    path = read_table(root / "catalogue.csv", MANIFEST)["path"][0]
    with fits.open(path) as hdus:
        return rows, hdus["MANGA"].data.copy()


def test_targets_of_the_real_drpall_are_the_main_sample_with_masses(command_targets):
    rows, raw = command_targets
    frame = np.concatenate([part["galaxy"] for part in rows])
    main_sample = (raw["mngtarg1"] & (1 << 10 | 1 << 11 | 1 << 12)) != 0
    assert len(frame) == len(set(frame)) == main_sample.sum() == 4393
    assert set(frame) == set(np.char.strip(raw["plateifu"][main_sample].astype(str)))
    masses = np.concatenate([part["log_mstar"] for part in rows])
    assert np.isfinite(masses).sum() == 4393
    assert 8.5 < masses.min() < masses.max() < 12.3


def test_ten_rows_of_the_targets_worked_by_hand_from_the_raw_file(command_targets):
    rows, raw = command_targets
    names = np.char.strip(raw["plateifu"].astype(str))
    rng = np.random.default_rng(20210)
    cosmology = FlatLambdaCDM(H0=70, Om0=0.3)
    chosen = rng.choice([(s, k) for s, part in enumerate(rows) for k in range(len(part))], 10, replace=False)
    for shard, k in chosen:
        ours = rows[shard].iloc[k]
        (theirs,) = raw[names == ours["galaxy"]]
        mass = np.log10(theirs["nsa_elpetro_mass"] / 0.7**2)
        absolute = theirs["nsa_elpetro_absmag"][4] + 5 * np.log10(0.7)
        assert ours["log_mstar"] == pytest.approx(mass, abs=1e-9)
        assert ours["abs_mag_r"] == pytest.approx(absolute, abs=1e-5)
        assert ours["log_ml"] == pytest.approx(mass - np.log10(10 ** (0.4 * (4.65 - absolute))), abs=1e-5)
        assert ours["distance_mpc"] == pytest.approx(cosmology.luminosity_distance(theirs["z"]).value, rel=1e-9)
        assert (ours["ra_deg"], ours["dec_deg"], ours["z"]) == (theirs["objra"], theirs["objdec"], theirs["z"])
        assert ours["r_e_arcsec"] == theirs["nsa_elpetro_th50_r"]
        assert ours["axis_ratio"] == theirs["nsa_elpetro_ba"]
        assert ours["pa_phot_deg"] == pytest.approx(theirs["nsa_elpetro_phi"] % 180)
        assert ours["sersic_n"] == theirs["nsa_sersic_n"]
        assert ours["psf_fwhm_arcsec"] == theirs["rfwhm"]
        assert ours["drp3qual"] == theirs["drp3qual"]
        assert ours["imf"] == "chabrier"


def test_repeats_of_the_real_drpall_are_found_under_their_own_and_under_other_names(command_targets):
    rows, raw = command_targets
    flags = {g: f for part in rows for g, f in zip(part["galaxy"], part["flags"], strict=True)}
    messages = {g: m for part in rows for g, m in zip(part["galaxy"], part["messages"], strict=True)}
    ids = dict(zip(np.char.strip(raw["plateifu"].astype(str)), np.char.strip(raw["mangaid"].astype(str)), strict=True))
    of = {}
    for galaxy in flags:
        of.setdefault(ids[galaxy], []).append(galaxy)
    for galaxies in of.values():
        kept = [g for g in galaxies if not flags[g] & GALAXY.DUPLICATE]
        assert len(kept) <= 1
    by_id = sum(len(galaxies) - 1 for galaxies in of.values())
    flagged = [g for g in flags if flags[g] & GALAXY.DUPLICATE]
    other_id = [g for g in flagged if f"MaNGA-ID {ids[g]})" not in messages[g]]
    assert len(flagged) == by_id + len(other_id)
    assert len(other_id) > 0
