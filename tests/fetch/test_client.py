"""The way to the archives: limits kept, proxies and certificates honoured, secrets kept from other hosts, room looked for."""

import time
from types import SimpleNamespace

import pytest

from tullyflow.errors import FetchError
from tullyflow.fetch import client as module
from tullyflow.fetch import space
from tullyflow.fetch.client import TryError, open_client, remote_length
from tullyflow.fetch.download import Expected, download
from tullyflow.fetch.manifest import fetch_products
from tullyflow.fetch.space import Estimate, check_space, estimate_bytes
from tullyflow.fetch.sums import SumLists, list_address
from tullyflow.fetch.transfer import fetch_file
from tullyflow.settings import Fetch, parse_settings
from tullyflow.surveys import Product


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_a_trickle_is_given_up_when_the_time_for_one_try_is_over(tmp_path, archive):
    def trickle(handler, n):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b"x")
            time.sleep(0.01)

    archive.scripts["/a.csv"] = trickle
    fetch = Fetch(tries=1, timeout_s=5, total_timeout_s=0.3)
    with open_client(fetch) as client:
        answer = download(client, f"{archive.url}/a.csv", tmp_path / "a.csv", fetch)
    assert answer.status == "failed"
    assert "not here after 0.3 s" in answer.message
    assert archive.count("/a.csv") == 1


def test_a_bandwidth_cap_holds_for_all_threads_together(monkeypatch):
    bucket, now = module._Bucket(2e6), [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    waited = 0.0
    for _ in range(400):  # 400 blocks of 50 kB at 2 MB/s: 10 s, of which a tenth of a second is given in advance
        pause = bucket.wait_for(50_000)
        now[0] += pause
        waited += pause
    assert waited == pytest.approx(9.9, abs=0.03)
    now[0] += 60  # a pause in which nothing came is not saved up
    assert sum(bucket.wait_for(50_000) > 0 for _ in range(20)) >= 15
    assert module._Bucket(None).wait_for(10**9) == 0


def test_the_cap_is_applied_to_what_comes(archive, monkeypatch):
    archive.files["/a.csv"] = b"1" * 300_000
    with open_client(Fetch(rate_mb_s=1.0)) as client:
        waited = []
        monkeypatch.setattr(client._stopped, "wait", waited.append)
        with client.request("GET", f"{archive.url}/a.csv") as (response, address):
            assert sum(map(len, client.blocks(response, address))) == 300_000
    assert client.received == 300_000
    assert max(waited) > 0.1


def test_a_proxy_from_the_environment_is_used_and_no_proxy_honoured(archive, monkeypatch):
    archive.scripts["http://archive.invalid/a.csv"] = lambda handler, n: handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n1,2\n")
    archive.files["/a.csv"] = b"straight"
    monkeypatch.setenv("HTTP_PROXY", archive.url.replace("http://", "http://user:secret@"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with open_client(Fetch()) as client:
        with client.request("GET", "http://archive.invalid/a.csv") as (response, _):
            assert response.read() == b"1,2\n"
        with client.request("GET", f"{archive.url}/a.csv") as (response, _):
            assert response.read() == b"straight"
    assert [path for path, _ in archive.requests] == ["http://archive.invalid/a.csv", "/a.csv"]
    sent = [{name.lower(): value for name, value in headers.items()} for _, headers in archive.requests]
    assert sent[0]["proxy-authorization"] == "Basic dXNlcjpzZWNyZXQ="
    assert "proxy-authorization" not in sent[1]


def test_a_dead_proxy_is_said_so_without_its_password(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@127.0.0.1:9")
    with open_client(Fetch(timeout_s=2)) as client, pytest.raises(TryError) as caught:
        remote_length(client, "https://archive.invalid/a.csv")
    assert "proxy" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_certificate_nobody_vouches_for_is_refused_at_once_and_the_institutes_own_accepted(tmp_path, tls_archives, self_signed):
    archive, _ = tls_archives
    archive.files["/a.csv"] = b"1,2\n"
    product = Product("g", "table", (f"{archive.url}/a.csv",), "a.csv")
    row = fetch_file(product, tmp_path / "a.csv", Fetch(tries=3, timeout_s=5))
    assert (row["status"], row["tries"], archive.requests) == ("failed", 1, [])
    assert "certificate of 127.0.0.1 is not accepted" in row["message"]
    assert "fetch.ca_bundle" in row["message"]
    row = fetch_file(product, tmp_path / "a.csv", Fetch(timeout_s=5, ca_bundle=str(self_signed[0])))
    assert row["status"] == "ok", row["message"]


@pytest.mark.parametrize(("content", "sentence"), [(None, "no such file"), ("not a certificate", "no certificates in PEM form")])
def test_a_bundle_without_certificates_stops_the_run_before_anything_is_asked(tmp_path, archive, content, sentence):
    if content:
        (tmp_path / "ca.pem").write_text(content)
    settings = parse_settings({"resources": str(tmp_path / "r"), "fetch": {"ca_bundle": str(tmp_path / "ca.pem")}})
    with pytest.raises(FetchError, match=sentence):
        fetch_products([Product("g", "t", (f"{archive.url}/a.csv",), "a.csv")], settings, tmp_path / "m.csv")
    assert not archive.requests


def test_secrets_stay_with_their_host(tls_archives, self_signed, send):
    one, two = tls_archives
    one.scripts["/a"] = lambda handler, n: send(handler, b"", 302, Location="/b")
    one.scripts["/b"] = lambda handler, n: send(handler, b"", 302, Location=f"{two.url}/c")
    two.scripts["/c"] = lambda handler, n: send(handler, b"", 302, Location=f"{one.url}/d")
    one.files["/d"] = b"1\n"
    headers = {"Authorization": "Bearer secret", "Range": "bytes=0-"}
    with (
        open_client(Fetch(timeout_s=5, ca_bundle=str(self_signed[0]))) as client,
        client.request("GET", f"{one.url}/a", headers) as (response, address),
    ):
        assert (response.read(), address) == (b"1\n", f"{one.url}/d")
    sent = {path: asked.get("Authorization") for path, asked in one.requests + two.requests}
    assert sent == {"/a": "Bearer secret", "/b": "Bearer secret", "/c": None, "/d": None}
    assert all(asked["Range"] == "bytes=0-" for _, asked in one.requests + two.requests)


def test_https_never_becomes_http(tls_archives, archive, self_signed, send):
    secure, _ = tls_archives
    secure.scripts["/a"] = lambda handler, n: send(handler, b"", 302, Location=f"{archive.url}/a")
    with (
        open_client(Fetch(timeout_s=5, ca_bundle=str(self_signed[0]))) as client,
        pytest.raises(TryError, match="neither https"),
        client.request("GET", f"{secure.url}/a"),
    ):
        pass
    assert not archive.requests


def test_a_stopped_client_gives_up_and_keeps_what_came(tmp_path, archive, send):
    body = b"0123456789" * 100_000
    archive.scripts["/a.csv"] = lambda handler, n: send(handler, body, ETag='"v1"')
    fetch = Fetch(tries=4, timeout_s=5)
    with open_client(fetch) as client:
        real = client.blocks

        def stop_soon(*args, **kwargs):
            for block in real(*args, **kwargs):
                yield block
                client.stop()

        client.blocks = stop_soon
        answer = download(client, f"{archive.url}/a.csv", tmp_path / "a.csv", fetch)
    assert (answer.status, answer.tries) == ("failed", 1)
    assert "run again to go on" in answer.message
    assert not (tmp_path / "a.csv").exists()
    part = (tmp_path / ".a.csv.part").read_bytes()
    assert part
    assert body.startswith(part)


def test_a_part_that_was_whole_when_the_process_died_is_not_brought_again(tmp_path, archive, send):
    body = b"1,2\n" * 1000

    def answer(handler, n):
        assert handler.headers["Range"] == f"bytes={len(body)}-"
        send(handler, b"", 416, Content_Range=f"bytes */{len(body)}")

    archive.scripts["/a.csv"] = answer
    (tmp_path / ".a.csv.part").write_bytes(body)
    (tmp_path / ".a.csv.part.version").write_text('"v1"')
    with open_client(Fetch()) as client:
        found = download(client, f"{archive.url}/a.csv", tmp_path / "a.csv", Fetch())
    assert (found.status, found.http_status) == ("ok", 206)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_bytes() == body


# room on the disk


def heads(archive, monkeypatch, lengths):
    """Let the archive answer HEAD requests; returns the paths asked for."""
    asked = []

    def head(client, url, headers=None):
        asked.append(url.removeprefix(archive.url))
        found = lengths(asked[-1])
        return (404, None) if found == "absent" else (200, found)

    monkeypatch.setattr(space, "remote_length", head)
    return asked


def test_eight_files_stand_for_all(archive, monkeypatch):
    asked = heads(archive, monkeypatch, lambda path: 1000 * int(path.strip("/")))
    with open_client(Fetch()) as client:
        found = estimate_bytes(client, [(f"{archive.url}/{k}",) for k in range(80)])
    assert sorted(asked) == sorted(f"/{k}" for k in range(0, 80, 10))
    assert found == Estimate(80, 35_000 * 80, 8)


def test_absent_files_need_no_room_and_silent_servers_are_not_guessed(archive, monkeypatch):
    heads(archive, monkeypatch, {"/a": 1000, "/b": "absent", "/c": None}.get)
    with open_client(Fetch()) as client:
        assert estimate_bytes(client, [(f"{archive.url}/{k}",) for k in "abc"]) == Estimate(3, 1500, 2)
        assert estimate_bytes(client, [(f"{archive.url}/{k}",) for k in "ba"]) == Estimate(2, 1000, 2)
        assert estimate_bytes(client, [(f"{archive.url}/b", f"{archive.url}/a")]) == Estimate(1, 1000, 1)
        assert estimate_bytes(client, [(f"{archive.url}/c",)]) == Estimate(1, 0, 0)


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(tmp_path, archive, monkeypatch):
    heads(archive, monkeypatch, lambda path: 2_000_000_000)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda place: SimpleNamespace(free=100e9))
    settings = parse_settings({"resources": str(tmp_path / "r/deep"), "fetch": {"disk_margin_gb": 1}})
    products = [Product(f"g{k}", "cube", (f"{archive.url}/{k}.fits",), f"x/{k}.fits") for k in range(50)]
    with pytest.raises(FetchError, match=r"50 files of about 100\.00 GB in all do not fit: 100\.00 GB are free, 1 GB of them"):
        fetch_products(products, settings, tmp_path / "m.csv")
    assert not archive.requests
    assert not (tmp_path / "m.csv").exists()
    check_space(tmp_path / "none/yet", Estimate(49, 98_000_000_000, 8), 1.0)


# the archive's own sums

LIST = "da39a3ee5e6b4b0d3255bfef95601890afd80709  other.csv\n{}  ./a.csv\n"


def test_the_list_is_named_after_its_folder():
    folder = "https://data.sdss.org/sas/dr17/manga/spectro/redux/v3_1_1"
    assert list_address(f"{folder}/drpall-v3_1_1.fits") == f"{folder}/manga_spectro_redux_v3_1_1.sha1sum"
    assert list_address("https://things.www3.mpia.de/Data_files/NGC_628_NA_MOM0_THINGS.FITS") == ""


@pytest.mark.parametrize(("digest", "status"), [
    ("9b0e2f8c9c5ed0d3ee1c5c1a9e0d1a9c3f7b5a11", "failed"), (None, "ok"), ("absent", "ok"), ("web page", "ok"),
])  # fmt: skip
def test_a_list_that_differs_is_a_failure_and_an_absent_one_no_check(tmp_path, archive, digest, status, send):
    import hashlib

    body, folder = b"1,2\n", "/sas/dr17/manga/redux"
    archive.files[f"{folder}/a.csv"] = body
    if digest == "web page":
        archive.scripts[f"{folder}/manga_redux.sha1sum"] = lambda handler, n: send(handler, b"<html>hello</html>")
    elif digest != "absent":
        archive.files[f"{folder}/manga_redux.sha1sum"] = LIST.format(digest or hashlib.sha1(body).hexdigest()).encode()
    settings = parse_settings({"resources": str(tmp_path / "r"), "fetch": {"sum_lists": True, "tries": 2, "failures_allowed": 1}})
    products = [Product(f"g{k}", "t", (f"{archive.url}{folder}/a.csv",), f"{k}.csv") for k in range(3)]
    frame = fetch_products(products, settings, tmp_path / "m.csv")
    assert list(frame["status"]) == [status] * 3
    assert all(("archive's list" in message) == (status == "failed") for message in frame["message"])
    assert archive.count(f"{folder}/manga_redux.sha1sum") == 1


def test_without_the_setting_no_list_is_asked_for(tmp_path, archive):
    archive.files["/sas/dr17/x/a.csv"] = b"1\n"
    settings = parse_settings({"resources": str(tmp_path / "r")})
    fetch_products([Product("g", "t", (f"{archive.url}/sas/dr17/x/a.csv",), "a.csv")], settings, tmp_path / "m.csv")
    assert [path for path, _ in archive.requests] == ["/sas/dr17/x/a.csv"]
    with open_client(Fetch(timeout_s=1)) as client:
        assert SumLists(client).sha1_of("http://127.0.0.1:9/sas/dr17/x/a.csv") == ""
        assert Expected().sha1 == ""
