"""SAMI's real files over loopback HTTP, through the workflow's own functions: what FACTS 2.2 to 2.4 say of them.

No real file is here of: SSPAperturesDR3, MGEPhotomUnregDR3, EmissionLine1compDR3, IndexAperturesDR3, InputCatFiller, anything of DR2,
recom-comp and adaptive maps, and the answers of Data Central's services; those are mocks after FACTS (test_sami.py, fetch/).
"""

import functools
import hashlib
import http.server
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from tullyflow.conventions import wrap_degrees
from tullyflow.fetch.manifest import fetch_catalogue, fetch_shard
from tullyflow.flags import GALAXY
from tullyflow.maps.shards import build_shard
from tullyflow.surveys import sami
from tullyflow.surveys.catalogue import list_targets
from tullyflow.tables import TARGETS, read_table

GALAXIES = ("209807", "41144", "56140", "230776")
ROWS = {
    "InputCatGAMADR3": 5536, "InputCatClustersDR3": 1433, "CubeObs": 3712, "VisualMorphologyDR3": 3068, "samiDR3gaskinPA": 3426,
}  # fmt: skip
ABSENT = {"InputCatFiller", "SSPAperturesDR3", "MGEPhotomUnregDR3", "EmissionLine1compDR3", "IndexAperturesDR3"}
COLUMNS = {
    "InputCatGAMADR3": "catid ra_obj dec_obj ra_ifu dec_ifu r_petro r_auto z_tonry z_spec m_r r_e mu_within_1re mu_1re mu_2re ellip pa"
    " mstar g_i a_g surv_sami bad_class",
    "InputCatClustersDR3": "catid ra_obj dec_obj r_petro r_auto z_spec m_r r_e ellip pa g_i mstar r_on_rtwo v_on_sigma is_mem surv_sami"
    " bad_class",
    "CubeObs": "cubeidpub cubeid cubename catid cubefwhm cubetexp meantrans isbest catsource warnstar warnfill warnz warnmult warnakpc"
    " warnare warnamge warnsk2m warnsk4m warnsk4mhsn warnfcal warnfcbr warnskyb warnskyr warnsker warnwcs warnre warnskem warnemft",
    "VisualMorphologyDR3": "catid type",
    "samiDR3gaskinPA": "cubeid cubeidpub cubename catid pa_gaskin pa_gaskin_err",
}
FLUX_UNIT = "10**(-16) erg/s/cm**2/angstrom/pixel"
LAYOUT = {  # file: HDU names and shapes, numbers, unit, bytes
    "Halpha": ({"PRIMARY": (2, 50, 50), "HALPHA_ERR": (2, 50, 50)}, ">f4", FLUX_UNIT, 46_080),
    "gas-velocity": ({"PRIMARY": (1, 50, 50), "V_ERR": (1, 50, 50)}, ">f4", "km/s", 28_800),
    "gas-vdisp": ({"PRIMARY": (1, 50, 50), "VDISP_ERR": (1, 50, 50)}, ">f4", "km/s", 28_800),
    "stellar-velocity": (dict.fromkeys(("PRIMARY", "VEL_ERR", "FLUX", "FLUX_ERR", "SNR"), (50, 50)), ">f8", None, 118_080),
}


@pytest.fixture(scope="module")
def mirror(shared):
    """Address of the mirror served over HTTP."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Keep the test's output clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(shared / "mirror")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def fetched(mirror, configure, tmp_path_factory):
    """Settings, catalogue manifest, targets and maps manifest of the four galaxies."""
    root = tmp_path_factory.mktemp("sami")
    settings = configure(mirror=mirror, resources=str(root / "resources"), galaxies=list(GALAXIES))
    catalogue = fetch_catalogue("sami", "DR3", settings, root / "catalogue.csv")
    (targets,) = list_targets("sami", "DR3", root / "catalogue.csv", settings, root / "targets")
    return settings, catalogue.set_index("product"), read_table(targets, TARGETS), fetch_shard(targets, settings, root / "maps.csv")


@pytest.fixture(scope="module")
def maps(fetched):
    """Each galaxy's maps as the reader delivers them."""
    settings, _, targets, manifest = fetched
    paths = {name: dict(zip(rows["product"], rows["path"], strict=True)) for name, rows in manifest.groupby("galaxy")}
    return {target["galaxy"]: sami.read(paths[target["galaxy"]], target, settings) for target in targets.to_dict("records")}


def test_the_tables_arrive_whole_and_those_that_are_nowhere_are_missing(fetched, shared):
    catalogue = fetched[1]
    assert set(catalogue.index[catalogue["status"] == "ok"]) == set(ROWS)
    assert set(catalogue.index[catalogue["status"] == "missing"]) == ABSENT
    digests = {hashlib.sha256(p.read_bytes()).hexdigest() for p in (shared / "mirror/datacentral/sami/dr3/catalogues").iterdir()}
    assert set(catalogue.loc[list(ROWS), "sha256"]) == digests


@pytest.mark.parametrize("table", ROWS)
def test_rows_and_columns_of_the_tables(fetched, table):
    frame = pd.read_csv(fetched[1].loc[table, "path"])
    assert len(frame) == ROWS[table]
    assert set(COLUMNS[table].split()) <= set(frame.columns)


def test_every_map_arrives_whole(fetched, shared):
    manifest = fetched[3]
    assert list(manifest["galaxy"]) == [name for name in GALAXIES for _ in LAYOUT]
    for row in manifest.itertuples():
        path = shared / "mirror/datacentral/sami/dr3/ifs" / row.galaxy / row.path.rpartition("/")[2]
        components = "two-moment" if row.product == "stellar-velocity" else "1-comp"
        assert path.name == f"{row.galaxy}_A_{row.product}_default_{components}.fits"
        assert (row.status, row.bytes) == ("ok", LAYOUT[row.product][3])
        assert row.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("product", LAYOUT)
def test_layout_of_the_maps(fetched, product):
    shapes, kind, unit, _ = LAYOUT[product]
    _, _, targets, manifest = fetched
    position = targets.set_index("galaxy")[["ra_deg", "dec_deg"]]
    for row in manifest[manifest["product"] == product].itertuples():
        with fits.open(row.path) as hdus:
            assert {hdu.name: hdu.data.shape for hdu in hdus} == shapes
            assert {hdu.data.dtype.str for hdu in hdus} == {kind}
            header = hdus[0].header
            assert header.get("BUNIT") == unit
            assert (header["CTYPE1"], header["CTYPE2"]) == ("RA---TAN", "DEC--TAN")
            assert (header["CRPIX1"], header["CRPIX2"]) == (25.5, 25.5)
            assert (header["CDELT1"], header["CDELT2"]) == pytest.approx((-1.38889e-4, 1.38889e-4), rel=1e-5)
            assert (header["CRVAL1"], header["CRVAL2"]) == pytest.approx(tuple(position.loc[row.galaxy]), abs=1 / 3600)
            assert np.isnan(hdus[0].data).any()
            assert not (hdus[0].data == -99).any()
            if product == "Halpha":
                np.testing.assert_array_equal(hdus[0].data[0], hdus[0].data[1])  # one component: it is the total


def test_the_reader_delivers_the_grid_and_units_that_the_files_state(maps):
    for found in maps.values():
        assert found.velocity.shape == (50, 50)
        assert found.centre == (24.5, 24.5)
        assert found.pixel_scale_arcsec == pytest.approx(0.5, rel=1e-5)
        assert found.intensity_unit == FLUX_UNIT
        assert found.stellar_velocity is not None
        assert found.messages == ()  # nothing is otherwise than the release describes it


def test_residual_systemic_velocities(maps):
    """FACTS: -11.5, +8.4, -7.7 and +86.1 km/s in four galaxies (V_ERR <= 30). The one of -7.7 is not among the files here: 230776,
    the fourth, has 29.7 in the 98 pixels that FACTS gives it."""
    found = {}
    for name, galaxy in maps.items():
        good = np.isfinite(galaxy.velocity) & (galaxy.velocity_err <= 30)
        found[name] = round(float(np.median(galaxy.velocity[good])), 1)
    assert found == {"209807": -11.5, "41144": 8.4, "56140": 86.1, "230776": 29.7}
    assert (np.isfinite(maps["230776"].velocity) & (maps["230776"].velocity_err <= 30)).sum() == 98


def test_the_catalogues_gas_angle_is_that_of_the_approaching_side(fetched, tmp_path):
    """The sign: positive velocities recede. Two wild pixels, masked here, turn the catalogue's 56140 by 12 deg; 209807's angle is
    known to 3 deg."""
    settings, catalogue, *_ = fetched
    root = Path(settings.resources).parent
    table = build_shard(root / "maps.csv", next((root / "targets").glob("*.parquet")), settings, tmp_path / "s.fits").galaxies
    assert list(table["galaxy"]) == list(GALAXIES)
    angles = pd.read_csv(catalogue.loc["samiDR3gaskinPA", "path"]).set_index("cubeidpub")["pa_gaskin"]
    assert [angles[f"{name}_A"] for name in GALAXIES[:3]] == [345.5, 330.0, 181.5]
    for name, receding, tolerance in zip(GALAXIES[:3], table["pa_deg"], (2.0, 1.0, 15.0), strict=False):
        assert abs(wrap_degrees(receding - angles[f"{name}_A"]) - 180) < tolerance
    assert table["flags"][3] & GALAXY.excluding  # 230776 has too few pixels


def test_one_cube_per_galaxy_and_what_the_release_counts(fetched, configure):
    _, catalogue, targets, _ = fetched
    tables = {name: catalogue.loc[name, "path"] for name in ROWS}
    whole = sami.targets(tables, "DR3", configure()).set_index("galaxy")
    cubes = pd.read_csv(tables["CubeObs"])
    assert len(whole) == 3068 == ((cubes["isbest"]) & (cubes["warnstar"] == 0)).sum()
    assert list(targets["galaxy"]) == list(GALAXIES)
    assert list(whole.index[(whole["flags"] & GALAXY.DUPLICATE) != 0]) == ["9008500001"]
    repeated = cubes[cubes["warnstar"] == 0].groupby("catid")["cubeidpub"].agg(set)
    for name, row in whole.iterrows():
        others = repeated[int(name)] - {row["observation"]}
        assert (not others) == ("Other cubes" not in row["messages"])
        assert all(other in row["messages"] for other in others)
    assert "41144_B, 41144_C, 41144_D" in whole.loc["41144", "messages"]
    known = whole[["log_mstar", "abs_mag_r"]].notna().all(axis=1)
    expected = whole["log_mstar"] - 0.4 * (4.65 - whole["abs_mag_r"])
    np.testing.assert_allclose(whole.loc[known, "log_ml"], expected[known], rtol=1e-12)
    assert whole.loc[known, "log_ml"].median() == pytest.approx(0.2, abs=0.2)
