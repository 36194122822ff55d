"""Tables by TAP: every page, in order, counted; what the service says is believed, what it leaves out is noticed."""

import http.server
import io
import re
import threading
import urllib.parse
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import MaskedColumn, Table

from tullyflow.fetch import service, tap
from tullyflow.fetch.client import open_client
from tullyflow.fetch.manifest import fetch_catalogue, fetch_products
from tullyflow.flags import GALAXY
from tullyflow.settings import parse_settings
from tullyflow.surveys import Product, get_survey

QUERY = re.compile(r"SELECT TOP (\d+) \* FROM (\S+?)(?: WHERE (\w+) >= ('(?:[^']|'')*'|-?\d+))?(?: ORDER BY (\w+))?")


class TapServer:
    """A TAP service: tables by full name (case does not matter), a limit of its own, and one fault at a time."""

    def __init__(self):
        self.tables: dict[str, pd.DataFrame] = {}
        self.limit, self.fault, self.queries, self.says_overflow, self.sends = 10**9, None, [], True, "votable"

    def answer(self, form: dict[str, str]) -> tuple[int, str, bytes]:
        query = form["QUERY"]
        self.queries.append(query)
        assert (form["REQUEST"], form["LANG"], form["FORMAT"]) == ("doQuery", "ADQL", "votable")
        if self.fault is not None:
            made = self.fault(self, query)
            if made is not None:
                return made
        if "TAP_SCHEMA.tables" in query:
            schema = re.search(r"LIKE '(\w+)%'", query)[1]
            listed = [name.split(".") for name in self.tables if name.startswith(schema)]
            return self.document(pd.DataFrame(listed, columns=["schema_name", "table_name"]), int(form["MAXREC"]))
        names = {name.lower(): name for name in self.tables}
        asked = re.search(r"FROM (\S+)", query)[1]
        if asked.lower() not in names:
            return error(f"relation {asked} does not exist")
        table = self.tables[names[asked.lower()]]
        if "COUNT(*)" in query:
            return self.document(pd.DataFrame({"n_rows": [len(table)]}), int(form["MAXREC"]))
        top, _, column, value, order = QUERY.fullmatch(query).groups()
        if column:
            limit = value[1:-1].replace("''", "'") if value.startswith("'") else int(value)
            table = table[table[column] >= limit]
        if order:
            table = table.sort_values(order, kind="stable")
        return self.document(table.head(int(top)), int(form["MAXREC"]))

    def document(self, table: pd.DataFrame, most: int) -> tuple[int, str, bytes]:
        cut = table.head(min(most, self.limit))
        if self.sends == "csv":
            return 200, "text/csv", cut.to_csv(index=False).encode()
        return 200, "application/x-votable+xml", votable(cut, "OVERFLOW" if len(cut) < len(table) and self.says_overflow else "OK")


def votable(table: pd.DataFrame, status: str) -> bytes:
    buffer = io.BytesIO()
    columns = {
        name: MaskedColumn(values.fillna(0).to_numpy(), mask=values.isna().to_numpy()) if values.dtype.kind in "if" else list(values)
        for name, values in table.items()
    }
    made = Table(columns) if len(table) else Table({name: np.array([], dtype="U1") for name in table})
    made.write(buffer, format="votable")
    text = buffer.getvalue().decode()
    if status == "OVERFLOW":  # as DALI has it: OK before the table, OVERFLOW behind it
        text = text.replace("</TABLE>", '</TABLE><INFO name="QUERY_STATUS" value="OVERFLOW"/>')
    return re.sub(r"(<RESOURCE[^>]*>)", r'\1<INFO name="QUERY_STATUS" value="OK"/>', text, count=1).encode()


def error(sentence: str, code: int = 200) -> tuple[int, str, bytes]:
    body = (
        '<?xml version="1.0"?><VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">'
        f'<INFO name="QUERY_STATUS" value="ERROR">{sentence}</INFO></RESOURCE></VOTABLE>'
    )
    return code, "application/x-votable+xml", body.encode()


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(service, "BACKOFF_S", 0.01)
    monkeypatch.setattr(tap, "PAGE_ROWS", 10)


@pytest.fixture
def tap_server():
    made = TapServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            """Keep the test's output clean."""

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if self.path != "/vo/tap/sync":
                code, kind, content = 404, "text/html", b"<html>nothing here</html>"
            else:
                code, kind, content = made.answer({k: v[0] for k, v in urllib.parse.parse_qs(body).items()})
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"tap+http://127.0.0.1:{server.server_port}/vo/tap?table="
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def cubes(n: int = 37, seed: int = 3) -> pd.DataFrame:
    """Rows in no order, with repeats of a CATID, missing values and numbers that need all their digits."""
    rng = np.random.default_rng(seed)
    catid = rng.choice(np.arange(9_008_500_001, 9_008_500_001 + n), size=n)
    return pd.DataFrame({
        "CATID": catid, "CUBEIDPUB": [f"{c}_{'ABCD'[k % 4]}" for k, c in enumerate(catid)],
        "CUBEFWHM": np.where(np.arange(n) % 7 == 2, np.nan, rng.uniform(1.5, 3, n)), "ISBEST": rng.integers(0, 2, n),
    })  # fmt: skip


def fetch(tap_server, name, tmp_path, columns=(), tries=2):
    fetch_settings = parse_settings({"fetch": {"tries": tries, "timeout_s": 5}}).fetch
    with open_client(fetch_settings) as client:
        return tap.fetch_table(client, tap_server.url + name, tmp_path / "t.csv", columns)


def assert_same(path, table):
    came = pd.read_csv(path).sort_values(["CATID", "CUBEIDPUB", "CUBEFWHM"]).reset_index(drop=True)
    wanted = table.sort_values(["CATID", "CUBEIDPUB", "CUBEFWHM"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(came, wanted, check_dtype=False, check_exact=True)


def test_every_row_of_every_page_arrives_once_though_a_key_repeats(tap_server, tmp_path):
    tap_server.tables["sami_dr3.CubeObs"] = cubes()
    answer = fetch(tap_server, "sami_dr3.CubeObs", tmp_path, ("catid", "cubefwhm"))
    assert (answer.status, answer.message) == ("ok", "")
    assert_same(tmp_path / "t.csv", cubes())
    assert sum("ORDER BY CATID" in query for query in tap_server.queries) >= 4
    assert not any("OFFSET" in query for query in tap_server.queries)


def test_a_service_that_cuts_pages_short_is_gone_on_with(tap_server, tmp_path):
    tap_server.tables["sami_dr3.CubeObs"] = cubes()
    for tap_server.limit, tap_server.says_overflow in ((7, True), (6, False)):
        assert fetch(tap_server, "sami_dr3.CubeObs", tmp_path).status == "ok"
        assert_same(tmp_path / "t.csv", cubes())


def test_csv_in_place_of_votable_is_read_and_counted(tap_server, tmp_path):
    tap_server.tables["sami_dr3.CubeObs"], tap_server.sends, tap_server.limit = cubes(), "csv", 8
    assert fetch(tap_server, "sami_dr3.CubeObs", tmp_path).status == "ok"
    assert_same(tmp_path / "t.csv", cubes())


def test_text_keys_are_quoted(tap_server, tmp_path):
    table = pd.DataFrame({"name": [f"o'{k:02d}" for k in range(25)], "v": np.arange(25)})
    tap_server.tables["sami_dr3.names"] = table
    assert fetch(tap_server, "sami_dr3.names", tmp_path).status == "ok"
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), table)


@pytest.mark.parametrize(("count", "limit"), [(40, 10**9), (7, 7)])  # the latter: the service says that more follows
def test_a_count_that_differs_is_no_success(tap_server, tmp_path, count, limit):
    tap_server.tables["sami_dr3.CubeObs"], tap_server.limit = cubes(), limit
    tap_server.fault = lambda s, q: s.document(pd.DataFrame({"n_rows": [count]}), 2) if "COUNT" in q else None
    answer = fetch(tap_server, "sami_dr3.CubeObs", tmp_path)
    assert answer.status == "failed"
    assert f"COUNT(*) says {count}" in answer.message
    assert not (tmp_path / "t.csv").exists()


def test_one_key_that_fills_a_page_is_said(tap_server, tmp_path):
    tap_server.tables["sami_dr3.CubeObs"] = cubes().assign(CATID=5)
    answer = fetch(tap_server, "sami_dr3.CubeObs", tmp_path)
    assert answer.status == "failed"
    assert "no page can end between two keys" in answer.message


@pytest.mark.parametrize("query", ["COUNT", "TOP 1 ", "ORDER BY"])
def test_the_services_own_words_are_passed_on(tap_server, tmp_path, query):
    tap_server.tables["sami_dr3.CubeObs"] = cubes()
    tap_server.fault = lambda s, q: error("the database is being restored", 400) if query in q else None
    answer = fetch(tap_server, "sami_dr3.CubeObs", tmp_path)
    assert (answer.status, answer.http_status) == ("failed", 400)
    assert "the database is being restored" in answer.message


def test_a_busy_service_is_asked_again_and_a_broken_table_is_not_kept(tap_server, tmp_path):
    tap_server.tables["sami_dr3.CubeObs"] = cubes()
    tap_server.fault = lambda s, q: (503, "text/plain", b"busy") if len(s.queries) == 1 else None
    assert fetch(tap_server, "sami_dr3.CubeObs", tmp_path).status == "ok"
    (tmp_path / "t.csv").unlink()
    whole = tap_server.document(cubes(), 100)
    for spoilt, said in ((whole[2][: len(whole[2]) // 2], "cannot be read"), (b"<html><body>maintenance</body></html>", "web page")):
        tap_server.fault = lambda s, q, body=spoilt: (200, "text/xml", body) if "ORDER BY" in q else None
        answer = fetch(tap_server, "sami_dr3.CubeObs", tmp_path)
        assert answer.status == "failed"
        assert said in answer.message
        assert not (tmp_path / "t.csv").exists()


def test_a_table_that_is_not_there_is_missing_and_the_others_are_named(tap_server, tmp_path):
    tap_server.tables |= {"sami_dr2.InputCatGAMADR2": cubes(), "sami_dr3.CubeObs": cubes(), "gama_dr4.x": cubes()}
    answer = fetch(tap_server, "sami_dr2.IndexAperturesDR2", tmp_path)
    assert answer.status == "missing"
    assert "no table sami_dr2.IndexAperturesDR2; there are sami_dr2.InputCatGAMADR2" in answer.message
    assert "sami_dr3" not in answer.message
    assert not (tmp_path / "t.csv").exists()


def test_a_release_that_spells_its_table_otherwise_is_found(tap_server, tmp_path):
    tap_server.tables |= {"sami_dr2.index_apertures": cubes(), "sami_dr3.IndexAperturesDR3": cubes(seed=4)}
    assert fetch(tap_server, "sami_dr2.IndexAperturesDR2", tmp_path).status == "ok"
    assert_same(tmp_path / "t.csv", cubes())


def test_a_table_without_the_columns_needed_is_not_the_one(tap_server, tmp_path):
    tap_server.tables["sami_dr3.CubeObs"] = cubes()
    answer = fetch(tap_server, "sami_dr3.CubeObs", tmp_path, ("catid", "warnstar"))
    assert answer.status == "failed"
    assert "has no column warnstar" in answer.message
    assert not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize("name", ["", "sami_dr3.x; DROP TABLE y", "a.b.c"])
def test_only_names_of_tables_are_asked_for(tap_server, tmp_path, name):
    assert "?table=SCHEMA.TABLE" in fetch(tap_server, urllib.parse.quote(name), tmp_path).message
    assert tap_server.queries == []


def test_no_service_is_a_failure_in_one_sentence(tap_server, tmp_path):
    tap_server.url = "tap+http://127.0.0.1:9/vo/tap?table="
    answer = fetch(tap_server, "sami_dr3.CubeObs", tmp_path)
    assert answer.status == "failed"
    assert "no connection" in answer.message


def test_a_catalogue_with_an_archive_and_a_service_is_fetched_once_into_the_manifest(tap_server, tmp_path):
    tap_server.tables["sami_dr3.CubeObs"] = cubes()
    urls = ("archive://datacentral/sami/CubeObs.csv", tap_server.url + "sami_dr3.CubeObs")
    table = Product(galaxy="DR3", product="CubeObs", urls=urls, path="sami/CubeObs.csv", columns=("catid",))
    settings = parse_settings({"resources": str(tmp_path / "resources"), "fetch": {"tries": 1}})
    first = fetch_products([table], settings, tmp_path / "m.csv")
    assert first.loc[0, ["status", "url"]].tolist() == ["ok", urls[1]]
    asked = len(tap_server.queries)
    second = fetch_products([table], settings, tmp_path / "m.csv")
    pd.testing.assert_frame_equal(first, second)
    assert len(tap_server.queries) == asked
    mirror = parse_settings({"resources": str(tmp_path / "other"), "mirror": str(tmp_path)})
    assert fetch_products([table], mirror, tmp_path / "n.csv").loc[0, "status"] == "missing"  # with a mirror no service is asked
    assert len(tap_server.queries) == asked


def sami_tables(release: str) -> dict[str, pd.DataFrame]:
    """Twelve galaxies and a repeat, in the tables and columns FACTS 2.4 names, in the case the service has them."""
    catid = np.arange(900, 912)
    photometry = {
        "CATID": catid, "ra_obj": 130.0 + catid / 100, "dec_obj": 0.5, "z_spec": 0.02 + 0.003 * np.arange(12),
        "M_r": -19.0 - 0.2 * np.arange(12), "r_e": 4.5, "ellip": 0.1 + 0.05 * np.arange(12), "PA": 10.0,
        "Mstar": 9.1 + 0.15 * np.arange(12), "BAD_CLASS": 0,
    }  # fmt: skip
    names = [f"{c}_A" for c in catid]
    cubes = pd.DataFrame({"CUBEIDPUB": [*names, "903_B"], "CATID": [*catid, 903], "CUBEFWHM": 2.1, "ISBEST": [1] * 12 + [0], "WARNSTAR": 0})
    of_cubes = {"CATID": catid, "CUBEIDPUB": names}
    tables = {
        f"InputCatGAMA{release}": pd.DataFrame(photometry), "CubeObs": cubes,
        f"EmissionLine1comp{release}": pd.DataFrame(of_cubes | {"SFR_RE": 0.1 * (1 + np.arange(12))}),
        f"SSPApertures{release}": pd.DataFrame(of_cubes | {"Age_RE": 2.0 + np.arange(12) / 2}),
        f"IndexApertures{release}": pd.DataFrame(of_cubes | {"FLAG": [0] * 11 + [3]}),
    }
    return {f"sami_{release.lower()}.{name}": table for name, table in tables.items()}


def settings_with(tap_server, tmp_path):
    """The shipped table of releases, its table service on the loopback."""
    shipped = (Path(__file__).resolve().parents[2] / "config/releases.csv").read_text()
    (tmp_path / "releases.csv").write_text(shipped.replace("tap+https://datacentral.org.au/vo/tap?table=", tap_server.url))
    return parse_settings({"releases": str(tmp_path / "releases.csv"), "resources": str(tmp_path / "resources"), "fetch": {"tries": 1}})


@pytest.mark.parametrize("release", ["DR2", "DR3"])
def test_a_release_of_sami_comes_whole_from_the_table_service(tap_server, tmp_path, release):
    tap_server.tables = sami_tables(release)
    if release == "DR2":  # names not confirmed: another spelling, and no table of cubes
        tap_server.tables["sami_dr2.index_apertures"] = tap_server.tables.pop("sami_dr2.IndexAperturesDR2")
        del tap_server.tables["sami_dr2.CubeObs"]
    settings = settings_with(tap_server, tmp_path)
    manifest = fetch_catalogue("sami", release, settings, tmp_path / "m.csv")
    there = set(manifest.loc[manifest["status"] == "ok", "product"])
    assert there == {name.partition(".")[2] for name in sami_tables(release)} - ({"CubeObs"} if release == "DR2" else set())
    assert (manifest["status"] != "failed").all()
    assert f"there are sami_{release.lower()}." in manifest.loc[manifest["status"] == "missing", "message"].iloc[0]
    paths = {row.product: row.path for row in manifest.itertuples() if row.status == "ok"}
    frame = get_survey("sami").targets(paths, release, settings).set_index("galaxy")
    assert len(frame) == 12
    assert frame.loc["903", ["log_mstar", "abs_mag_r", "axis_ratio", "log_age_yr"]].tolist() == pytest.approx(
        [9.55, -19.6, 0.75, 9 + np.log10(3.5)]
    )
    assert frame.loc["903", "log_sfr"] == pytest.approx(np.log10(0.8))
    assert ("903_B" in frame.loc["903", "messages"]) == (release == "DR3")
    assert frame.loc["911", "flags"] & GALAXY.QUALITY_BAD
    assert "FLAG" in frame.loc["911", "messages"]
