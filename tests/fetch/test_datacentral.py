"""The bulk service and private files: secrets from the environment only, patience, and no trust in what an archive file holds."""

import gzip
import http.server
import io
import json
import logging
import tarfile
import threading
import urllib.parse
from dataclasses import dataclass, field

import pytest

from tullyflow.errors import FetchError
from tullyflow.fetch import datacentral, service
from tullyflow.fetch.client import open_client
from tullyflow.fetch.datacentral import Wanted, unpack
from tullyflow.fetch.manifest import fetch_products
from tullyflow.settings import parse_settings
from tullyflow.surveys import Product

EMAIL, TOKEN = "somebody@example.org", "s3cret-token"
NUMBERS = {"Halpha_default_1-comp": 180, "gas-velocity_default_1-comp": 9001}


@dataclass
class BulkServer:
    """The service as FACTS describes it; ``waits`` polls say PENDING, then the tar.gz of ``members`` is there."""

    url: str = ""
    members: dict[str, bytes] = field(default_factory=dict)
    extra: list[tarfile.TarInfo] = field(default_factory=list)
    waits: int = 2
    state: str = "SUCCESS"
    cut: int | None = None
    posted: list[dict] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def archive(self) -> bytes:
        return packed(self.members, self.extra)

    def get(self, path: str) -> tuple[int, bytes, str]:
        if path == "/api/services/download/7/":
            self.waits -= 1
            state = "PENDING" if self.waits >= 0 else self.state
            task = {"id": "task-1", "object_id": 77, "status": state}
            return 200, json.dumps({"tasks": [task]}).encode(), "application/json"
        if path == "/services_data/public/download/77/task-1.tar.gz" and self.waits < 0:
            return 200, self.archive()[: self.cut], "application/gzip"
        if path == "/private/a.fits":
            return 200, self.members["a.fits"], "image/fits"
        return 404, b"not here", "text/plain"

    def post(self, body: dict) -> tuple[int, bytes]:
        self.posted.append(body)
        if "email" not in body and not self.asked[-1][2]:
            return 400, b'{"email": ["This field is required."]}'
        if body.get("email") == "wrong@example.org":
            return 400, b'{"email": ["wrong@example.org is not known."]}'
        return 201, json.dumps({"url": f"{self.url}/api/services/download/7/"}).encode()


def packed(members: dict[str, bytes], extra: list[tarfile.TarInfo] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info in extra:
            tar.addfile(info)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(service, "BACKOFF_S", 0.01)
    monkeypatch.setattr(datacentral, "POLL_S", 0.02)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("DATACENTRAL_EMAIL", "DATACENTRAL_TOKEN", "TULLYFLOW_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bulk():
    made = BulkServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            """Keep the test's output clean."""

        def reply(self, code, body, kind="application/json", content=True):
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if content:
                self.wfile.write(body)

        def note(self):
            made.asked.append((self.command, self.path, self.headers.get("Authorization", "")))

        def do_GET(self):
            self.note()
            self.reply(*made.get(self.path))

        def do_HEAD(self):
            self.note()
            self.reply(*made.get(self.path), content=False)

        def do_POST(self):
            self.note()
            self.reply(*made.post(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def product(url: str, catid: str, name: str, release: str = "3", numbers=None) -> Product:
    key = f"{name}_default_1-comp"
    file = f"{catid}_A_{key}.fits"
    known = urllib.parse.urlencode(NUMBERS if numbers is None else numbers)
    address = f"bulk+{url}/api/services/download/?source={catid}&file={file}&product={key}&release={release}&{known}"
    return Product(catid, name, (f"archive://datacentral/x/{file}", address), f"sami/{catid}/{file}", hdus=("A",))


def four(url: str) -> list[Product]:
    return [product(url, catid, name) for catid in ("209807", "41144") for name in ("Halpha", "gas-velocity")]


def files_of(products, fits_bytes) -> dict[str, bytes]:
    return {f"sami/dr3/ifs/{p.galaxy}/{p.path.rpartition('/')[2]}": fits_bytes(k) for k, p in enumerate(products)}


def make_settings(tmp_path, **fetch):
    fetch = {"tries": 2, "timeout_s": 5, "failures_allowed": 1.0, **fetch}
    return parse_settings({"resources": str(tmp_path / "resources"), "fetch": fetch})


def left_over(folder):
    return [path for path in folder.rglob("*") if path.is_file() and (path.name.endswith((".part", ".gz")) or ".bulk" in path.parts)]


def test_a_shard_is_one_request_and_its_files_arrive_whole(bulk, tmp_path, monkeypatch, fits_bytes, caplog):
    monkeypatch.setenv("DATACENTRAL_EMAIL", EMAIL)
    products = four(bulk.url)
    bulk.members = files_of(products, fits_bytes)
    with caplog.at_level(logging.DEBUG):
        frame = fetch_products(products, make_settings(tmp_path), tmp_path / "m.csv")
    assert list(frame["status"]) == ["ok"] * 4
    assert [p.split("/")[-1] for p in frame["path"]] == [p.path.split("/")[-1] for p in products]
    for row, content in zip(frame.itertuples(), bulk.members.values(), strict=True):
        assert (tmp_path / row.path).read_bytes() == content
        assert row.bytes == len(content)
    assert bulk.posted == [{
        "source_list": "209807,41144", "data_releases": [3], "loose_matching": False, "data_products_ifs": [180, 9001],
        "data_products_spectra": [], "email": EMAIL,
    }]  # fmt: skip
    assert EMAIL not in caplog.text + (tmp_path / "m.csv").read_text()
    assert left_over(tmp_path / "resources") == []
    again = fetch_products(products, make_settings(tmp_path), tmp_path / "m.csv")
    assert list(again["status"]) == ["ok"] * 4
    assert len(bulk.posted) == 1


def test_what_the_service_does_not_hold_is_missing_and_a_bad_file_has_failed(bulk, tmp_path, monkeypatch, fits_bytes):
    monkeypatch.setenv("DATACENTRAL_TOKEN", TOKEN)
    products = four(bulk.url)
    members = files_of(products, fits_bytes)
    first, second, third, _ = members
    bulk.members = {first: members[first], second: b"<html>sorry</html>", third: members[third][:-3000]}
    frame = fetch_products(products, make_settings(tmp_path), tmp_path / "m.csv")
    assert list(frame["status"]) == ["ok", "failed", "failed", "missing"]
    assert "web page" in frame["message"][1]
    assert "does not hold" in frame["message"][3] or "do not hold it" in frame["message"][3]
    assert sorted(path.name for path in (tmp_path / "resources").rglob("*.fits")) == [first.split("/")[-1]]
    assert bulk.posted[0].get("email") is None
    assert {secret for _, _, secret in bulk.asked} == {f"Bearer {TOKEN}"}
    assert TOKEN not in (tmp_path / "m.csv").read_text()


def test_no_path_of_the_archive_file_is_trusted(tmp_path, fits_bytes, caplog):
    inner = "209807_A_Halpha_default_1-comp.fits"
    outside, link = tmp_path / "outside.fits", tarfile.TarInfo(f"x/{inner}")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    members = {f"../../{inner}": b"from above", f"/{inner}": b"absolute", "../outside.fits": b"x", "a/other.fits": b"y"}
    members[f"ok/{inner}"] = fits_bytes(1)
    archive = tmp_path / "in/t.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(packed(members, [link]))
    want = Wanted((inner,), tmp_path / "in/out" / inner)
    with caplog.at_level(logging.WARNING):
        rows = unpack(archive, [want])
    assert rows[0]["status"] == "ok"
    assert want.destination.read_bytes() == fits_bytes(1)
    assert not want.destination.is_symlink()
    assert caplog.text.count("passed over") == 3
    assert not outside.exists()
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [inner, "t.tar.gz"]
    del members[f"ok/{inner}"]
    archive.write_bytes(packed(members, [link]))
    want.destination.unlink()
    assert unpack(archive, [want])[0]["status"] == "missing"
    assert not want.destination.exists()


def test_an_archive_file_that_ends_too_soon_keeps_what_came_before(tmp_path, fits_bytes):
    names = ["a.fits", "b.fits"]
    whole = gzip.decompress(packed({name: fits_bytes(k) for k, name in enumerate(names)}))
    archive = tmp_path / "t.tar.gz"
    archive.write_bytes(gzip.compress(whole[: len(whole) * 6 // 10]))
    rows = unpack(archive, [Wanted((name,), tmp_path / "out" / name) for name in names])
    assert [row["status"] for row in rows] == ["ok", "failed"]
    assert "damaged" in rows[1]["message"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.fits"]


def test_a_truncated_transfer_fails_and_the_next_run_begins_no_second_task(bulk, tmp_path, monkeypatch, fits_bytes):
    monkeypatch.setenv("DATACENTRAL_EMAIL", EMAIL)
    products = four(bulk.url)
    bulk.members, bulk.cut = files_of(products, fits_bytes), 5000
    frame = fetch_products(products, make_settings(tmp_path), tmp_path / "m.csv")
    assert list(frame["status"]) == ["failed"] * 4
    assert "gzip" in frame["message"][0]
    assert list((tmp_path / "resources").rglob("*.fits")) == []
    bulk.cut = None
    frame = fetch_products(products, make_settings(tmp_path), tmp_path / "m.csv")
    assert list(frame["status"]) == ["ok"] * 4
    assert len(bulk.posted) == 1
    assert EMAIL not in "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*.job"))


def test_a_refusal_and_a_task_that_failed_are_passed_on_without_the_address(bulk, tmp_path, monkeypatch):
    monkeypatch.setenv("DATACENTRAL_EMAIL", "wrong@example.org")
    frame = fetch_products(four(bulk.url), make_settings(tmp_path), tmp_path / "m.csv")
    assert list(frame["status"]) == ["failed"] * 4
    assert frame["http_status"][0] == 400
    assert "(DATACENTRAL_EMAIL) is not known" in frame["message"][0]
    assert "wrong@example.org" not in (tmp_path / "m.csv").read_text()
    monkeypatch.setenv("DATACENTRAL_EMAIL", EMAIL)
    bulk.state = "FAILURE"
    frame = fetch_products(four(bulk.url), make_settings(tmp_path), tmp_path / "n.csv")
    assert "could not put the files together (failure)" in frame["message"][0]
    begun = len(bulk.posted)
    fetch_products(four(bulk.url), make_settings(tmp_path), tmp_path / "n.csv")
    assert len(bulk.posted) == begun + 1  # the task that failed is not asked again


def test_patience_ends(bulk, tmp_path, monkeypatch):
    monkeypatch.setenv("DATACENTRAL_EMAIL", EMAIL)
    bulk.waits = 10**6
    frame = fetch_products(four(bulk.url), make_settings(tmp_path, total_timeout_s=0.2), tmp_path / "m.csv")
    assert list(frame["status"]) == ["failed"] * 4
    assert "not ready after 0.2 s (pending)" in frame["message"][0]


def test_without_an_address_or_token_one_sentence_and_no_request(bulk, tmp_path):
    with pytest.raises(FetchError, match="set DATACENTRAL_EMAIL") as caught:
        fetch_products(four(bulk.url), make_settings(tmp_path), tmp_path / "m.csv")
    assert "\n" not in str(caught.value)
    assert bulk.asked == []


def test_numbers_nobody_knows_are_asked_for_before_anything_is_fetched(bulk, tmp_path, monkeypatch):
    monkeypatch.setenv("DATACENTRAL_EMAIL", EMAIL)
    unknown = [product(bulk.url, "1", "Halpha"), product(bulk.url, "1", "gas-vdisp"), product(bulk.url, "1", "gas-velocity", release="")]
    with pytest.raises(FetchError, match=r"release=\), gas-vdisp_default_1-comp is not known: read it in the form"):
        fetch_products(unknown, make_settings(tmp_path), tmp_path / "m.csv")
    assert bulk.asked == []


def test_files_that_are_here_need_no_address(bulk, tmp_path, fits_bytes):
    for p in four(bulk.url):
        path = tmp_path / "resources" / p.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fits_bytes(1))
    frame = fetch_products(four(bulk.url), make_settings(tmp_path), tmp_path / "m.csv")
    assert list(frame["status"]) == ["ok"] * 4
    assert bulk.asked == []


def test_a_service_that_sends_us_elsewhere_is_not_followed(bulk, tmp_path, monkeypatch):
    monkeypatch.setenv("DATACENTRAL_TOKEN", TOKEN)
    real = bulk.post
    bulk.post = lambda body: (real(body)[0], json.dumps({"url": "http://127.0.0.2:1/steal"}).encode())
    frame = fetch_products(four(bulk.url), make_settings(tmp_path), tmp_path / "m.csv")
    assert "an address elsewhere" in frame["message"][0]
    assert [command for command, _, _ in bulk.asked] == ["POST"]


def test_a_private_file_needs_a_token_and_shows_it_to_its_own_host_only(bulk, tmp_path, monkeypatch, fits_bytes):
    bulk.members = {"a.fits": fits_bytes(1)}
    private = [Product("g", "maps", (f"private+{bulk.url}/private/a.fits",), "x/a.fits")]
    with pytest.raises(FetchError, match=r"set TULLYFLOW_TOKEN in the environment, or name 127\.0\.0\.1 in ~/\.netrc"):
        fetch_products(private, make_settings(tmp_path), tmp_path / "m.csv")
    assert bulk.asked == []
    monkeypatch.setenv("TULLYFLOW_TOKEN", TOKEN)
    frame = fetch_products(private, make_settings(tmp_path), tmp_path / "m.csv")
    assert list(frame["status"]) == ["ok"]
    assert {secret for _, _, secret in bulk.asked} == {f"Bearer {TOKEN}"}
    monkeypatch.delenv("TULLYFLOW_TOKEN")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.netrc").write_text("machine 127.0.0.1 login me password from-netrc\n")
    (tmp_path / "home/.netrc").chmod(0o600)
    (tmp_path / "resources/x/a.fits").unlink()
    fetch_products(private, make_settings(tmp_path), tmp_path / "n.csv")
    assert bulk.asked[-1][2] == "Bearer from-netrc"


def test_the_secrets_come_from_the_environment_only(tmp_path):
    with open_client(make_settings(tmp_path).fetch) as client:
        assert "authorization" not in str(vars(client)).lower()
    text = json.dumps(make_settings(tmp_path).model_dump(mode="json")).lower()
    assert "email" not in text
    assert "token" not in text
