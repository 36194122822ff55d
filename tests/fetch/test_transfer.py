"""One file: whole or not at all, under its final name only when checked, and an honest word on what happened."""

import hashlib
import io
import time

import pytest
from astropy.io import fits

from tullyflow.fetch.client import Client
from tullyflow.fetch.transfer import candidates, fetch_file
from tullyflow.fetch.verify import examine
from tullyflow.settings import Fetch
from tullyflow.surveys import Product

NAME = "manga-1-1901-MAPS-X.fits.gz"


def product(*urls, sha256="", name=NAME):
    return Product(galaxy="1-1901", product="maps", urls=urls, path=f"manga/DR17/{name}", sha256=sha256)


def nothing_else_in(folder, *names):
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_a_mirror_stands_for_every_host(tmp_path):
    urls = ("https://data.sdss.org/sas/a.fits", "archive://datacentral/sami/b.csv", "file:///home/me/c%20d.fits")
    made = product(*urls)
    assert candidates(made, None) == [urls[0], tmp_path.__class__("/home/me/c d.fits")]
    assert candidates(made, str(tmp_path))[:2] == [tmp_path / "data.sdss.org/sas/a.fits", tmp_path / "datacentral/sami/b.csv"]
    assert candidates(made, tmp_path.as_uri())[:2] == candidates(made, str(tmp_path))[:2]
    assert candidates(made, "http://localhost:8000/m/")[:2] == [
        "http://localhost:8000/m/data.sdss.org/sas/a.fits", "http://localhost:8000/m/datacentral/sami/b.csv",
    ]  # fmt: skip
    assert candidates(product("https://host/../../etc/passwd"), str(tmp_path)) == []


def test_a_local_file_is_linked_not_copied(tmp_path, fetch, fits_bytes):
    source = tmp_path / "mirror/data.sdss.org/a" / NAME
    source.parent.mkdir(parents=True)
    source.write_bytes(fits_bytes(zipped=True))
    destination = tmp_path / "resources" / NAME
    row = fetch_file(product(f"https://data.sdss.org/a/{NAME}"), destination, fetch, str(tmp_path / "mirror"))
    assert row["status"] == "ok"
    assert destination.is_symlink()
    assert destination.resolve() == source
    assert row["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert row["bytes"] == source.stat().st_size
    assert nothing_else_in(destination.parent, NAME)


def test_a_local_file_is_the_readers_business_and_an_absent_one_is_missing(tmp_path, fetch):
    (tmp_path / "host").mkdir()
    (tmp_path / "host/bad.fits").write_text("not FITS")
    assert fetch_file(product("https://host/bad.fits"), tmp_path / "r/bad.fits", fetch, str(tmp_path))["status"] == "ok"
    row = fetch_file(product("https://host/none.fits"), tmp_path / "r/none.fits", fetch, str(tmp_path))
    assert row["status"] == "missing"
    assert "host/none.fits" in row["message"]
    assert not (tmp_path / "r/none.fits").exists()


def test_a_link_follows_the_mirror_in_use(tmp_path, fetch, archive):
    for mirror in ("one", "two"):
        (tmp_path / mirror / "host").mkdir(parents=True)
        (tmp_path / mirror / "host/a.csv").write_text(mirror)
    destination = tmp_path / "r/a.csv"
    for mirror in ("one", "two"):
        fetch_file(product("https://host/a.csv"), destination, fetch, str(tmp_path / mirror))
        assert destination.read_text() == mirror
    archive.files["/host/a.csv"] = b"downloaded"  # a link to a mock file is not taken for the real one
    row = fetch_file(product("https://host/a.csv"), destination, fetch, archive.url)
    assert row["status"] == "ok"
    assert destination.read_text() == "downloaded"
    assert not destination.is_symlink()


def test_a_download_has_its_name_only_once_it_is_whole(tmp_path, fetch, archive, fits_bytes):
    body = fits_bytes(zipped=True)
    archive.files[f"/{NAME}"] = body
    row = fetch_file(product(f"{archive.url}/{NAME}"), tmp_path / "r" / NAME, fetch)
    assert (row["status"], row["http_status"], row["tries"], row["bytes"]) == ("ok", 200, 1, len(body))
    assert row["sha256"] == hashlib.sha256(body).hexdigest()
    assert (tmp_path / "r" / NAME).read_bytes() == body
    assert nothing_else_in(tmp_path / "r", NAME)


@pytest.mark.parametrize("code", [404, 410])
def test_what_the_archive_does_not_have_is_missing_after_one_request(tmp_path, fetch, archive, code, send):
    archive.scripts[f"/{NAME}"] = lambda handler, n: send(handler, b"gone", code)
    row = fetch_file(product(f"{archive.url}/{NAME}"), tmp_path / NAME, fetch)
    assert (row["status"], row["http_status"], row["tries"]) == ("missing", code, 1)
    assert not list(tmp_path.iterdir())


def test_a_failing_server_is_asked_again(tmp_path, fetch, archive, fits_bytes, send):
    archive.scripts[f"/{NAME}"] = lambda handler, n: send(handler, b"busy", 500) if n < 3 else send(handler, fits_bytes(zipped=True))
    row = fetch_file(product(f"{archive.url}/{NAME}"), tmp_path / NAME, fetch)
    assert (row["status"], row["tries"]) == ("ok", 3)


def test_after_the_last_try_the_file_failed(tmp_path, fetch, archive, send):
    archive.scripts[f"/{NAME}"] = lambda handler, n: send(handler, b"busy", 503)
    row = fetch_file(product(f"{archive.url}/{NAME}"), tmp_path / NAME, fetch)
    assert (row["status"], row["http_status"], row["tries"]) == ("failed", 503, 3)
    assert archive.count(f"/{NAME}") == 3


def test_forbidden_is_not_asked_again(tmp_path, fetch, archive, send):
    archive.scripts[f"/{NAME}"] = lambda handler, n: send(handler, b"no", 403)
    row = fetch_file(product(f"{archive.url}/{NAME}"), tmp_path / NAME, fetch)
    assert (row["status"], row["http_status"], archive.count(f"/{NAME}")) == ("failed", 403, 1)


def test_retry_after_is_heeded(tmp_path, fetch, archive, fits_bytes, send):
    archive.scripts[f"/{NAME}"] = lambda h, n: send(h, b"", 429, Retry_After="1") if n == 1 else send(h, fits_bytes(zipped=True))
    start = time.perf_counter()
    assert fetch_file(product(f"{archive.url}/{NAME}"), tmp_path / NAME, fetch)["status"] == "ok"
    assert time.perf_counter() - start > 0.95


def test_a_short_body_is_never_accepted(tmp_path, fetch, archive, fits_bytes, send):
    body = fits_bytes(zipped=True)
    archive.scripts[f"/{NAME}"] = lambda handler, n: send(handler, body[:5000], announced=len(body))
    row = fetch_file(product(f"{archive.url}/{NAME}"), tmp_path / NAME, fetch)
    assert row["status"] == "failed"
    assert not (tmp_path / NAME).exists()


def test_a_broken_off_download_goes_on_where_it_was(tmp_path, fetch, archive, fits_bytes, send):
    body = fits_bytes(zipped=True)
    archive.files[f"/{NAME}"] = body

    def cut_once(handler, n):
        if n == 1:
            send(handler, body[:9000], announced=len(body), ETag='"v1"')
            return
        del archive.scripts[f"/{NAME}"]
        handler.do_GET()

    archive.scripts[f"/{NAME}"] = cut_once
    row = fetch_file(product(f"{archive.url}/{NAME}"), tmp_path / NAME, fetch)
    assert (row["status"], row["http_status"]) == ("ok", 206)
    assert archive.requests[-1][1]["Range"] == "bytes=9000-"
    assert (tmp_path / NAME).read_bytes() == body
    assert nothing_else_in(tmp_path, NAME)


def test_a_file_that_changed_meanwhile_is_not_patched_together(tmp_path, fetch, archive, fits_bytes, send):
    old, new = fits_bytes(1, zipped=True), fits_bytes(2, zipped=True)

    def replaced(handler, n):
        if n == 1:
            send(handler, old[:9000], announced=len(old), ETag='"v0"')
        else:
            send(handler, new, ETag='"v1"')

    archive.scripts[f"/{NAME}"] = replaced
    assert fetch_file(product(f"{archive.url}/{NAME}"), tmp_path / NAME, fetch)["status"] == "ok"
    assert (tmp_path / NAME).read_bytes() == new


def test_without_a_version_the_download_starts_again(tmp_path, fetch, archive, fits_bytes, send):
    body = fits_bytes(zipped=True)
    archive.scripts[f"/{NAME}"] = lambda h, n: send(h, body[:9000], announced=len(body)) if n == 1 else send(h, body)
    assert fetch_file(product(f"{archive.url}/{NAME}"), tmp_path / NAME, fetch)["status"] == "ok"
    assert "Range" not in archive.requests[-1][1]


PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


@pytest.mark.parametrize(("body", "kind"), [
    (PAGE, "text/html; charset=utf-8"), (PAGE, "image/fits"), (b"  \n<HTML>maintenance</HTML>", "application/octet-stream"),
])  # fmt: skip
@pytest.mark.parametrize("name", [NAME, "CubeObs.csv"])
def test_a_web_page_is_never_a_file(tmp_path, fetch, archive, body, kind, name, send):
    archive.scripts[f"/{name}"] = lambda handler, n: send(handler, body, Content_Type=kind)
    row = fetch_file(product(f"{archive.url}/{name}", name=name), tmp_path / name, fetch)
    assert row["status"] == "failed"
    assert "web page" in row["message"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("spoil", ["crc", "cut", "noise", "empty"])
def test_a_download_that_does_not_open_failed(tmp_path, fetch, archive, spoil, fits_bytes):
    whole = fits_bytes(zipped=True)
    archive.files[f"/{NAME}"] = {"crc": whole[:-8] + b"abcd" + whole[-4:], "cut": whole[:-3000], "noise": b"abc" * 4000, "empty": b""}[
        spoil
    ]
    row = fetch_file(product(f"{archive.url}/{NAME}"), tmp_path / NAME, fetch)
    assert (row["status"], row["tries"]) == ("failed", 3)
    assert not list(tmp_path.iterdir())


def test_a_known_digest_decides(tmp_path, fetch, archive, fits_bytes):
    body = fits_bytes(zipped=True)
    archive.files[f"/{NAME}"] = body
    good, bad = hashlib.sha256(body).hexdigest(), "0" * 64
    assert fetch_file(product(f"{archive.url}/{NAME}", sha256=bad), tmp_path / NAME, fetch)["status"] == "failed"
    assert fetch_file(product(f"{archive.url}/{NAME}", sha256=good), tmp_path / NAME, fetch)["status"] == "ok"


def test_the_next_address_is_tried_and_doubt_outweighs_absence(tmp_path, fetch, archive, send):
    archive.files["/b/x.csv"] = b"1,2\n"
    two = product(f"{archive.url}/a/x.csv", f"{archive.url}/b/x.csv", name="x.csv")
    row = fetch_file(two, tmp_path / "x.csv", fetch)
    assert (row["status"], row["url"]) == ("ok", f"{archive.url}/b/x.csv")
    archive.scripts["/c/x.csv"] = lambda handler, n: send(handler, b"", 503)
    doubtful = product(f"{archive.url}/a/x.csv", f"{archive.url}/c/x.csv", name="y.csv")
    assert fetch_file(doubtful, tmp_path / "y.csv", fetch)["status"] == "failed"


def test_a_file_that_is_here_is_not_asked_for_again(tmp_path, fetch, archive, fits_bytes):
    archive.files[f"/{NAME}"] = fits_bytes(zipped=True)
    row = fetch_file(product(f"{archive.url}/{NAME}"), tmp_path / NAME, fetch)
    again = fetch_file(product(f"{archive.url}/{NAME}"), tmp_path / NAME, fetch, previous=row)
    without_manifest = fetch_file(product(f"{archive.url}/{NAME}"), tmp_path / NAME, fetch)
    assert again == row
    assert (without_manifest["status"], without_manifest["sha256"]) == ("ok", row["sha256"])
    assert archive.count(f"/{NAME}") == 1
    (tmp_path / NAME).write_bytes(b"spoilt since")
    assert fetch_file(product(f"{archive.url}/{NAME}"), tmp_path / NAME, fetch, previous=row)["sha256"] == row["sha256"]
    assert archive.count(f"/{NAME}") == 2


def test_redirects_stay_on_the_host_or_go_to_https(tmp_path, fetch, archive, send):
    archive.files["/new.csv"] = b"1\n"
    archive.scripts["/old.csv"] = lambda handler, n: send(handler, b"", 302, Location="/new.csv")
    archive.scripts["/away.csv"] = lambda handler, n: send(handler, b"", 302, Location="http://example.org/new.csv")
    archive.scripts["/loop.csv"] = lambda handler, n: send(handler, b"", 302, Location="/loop.csv")
    assert fetch_file(product(f"{archive.url}/old.csv"), tmp_path / "a.csv", fetch)["status"] == "ok"
    away = fetch_file(product(f"{archive.url}/away.csv"), tmp_path / "b.csv", fetch)
    assert (away["status"], away["tries"]) == ("failed", 1)
    assert "example.org" in away["message"]
    assert "too many redirects" in fetch_file(product(f"{archive.url}/loop.csv"), tmp_path / "c.csv", fetch)["message"]


def test_a_server_that_hangs_is_given_up(tmp_path, archive):
    archive.scripts["/slow.csv"] = lambda handler, n: time.sleep(1.5)
    start = time.perf_counter()
    row = fetch_file(product(f"{archive.url}/slow.csv"), tmp_path / "a.csv", Fetch(tries=2, timeout_s=0.2))
    assert row["status"] == "failed"
    assert "timeout: not a byte for 0.2 s" in row["message"]
    assert time.perf_counter() - start < 1.4


def test_no_server_at_all_is_a_failure_not_a_traceback(tmp_path):
    row = fetch_file(product("http://127.0.0.1:9/x.csv"), tmp_path / "x.csv", Fetch(tries=1, timeout_s=1))
    assert row["status"] == "failed"
    assert "Connection refused" in row["message"]


def test_pauses_double(monkeypatch, tmp_path, archive, send):
    pauses = []
    monkeypatch.setattr(Client, "pause", lambda self, seconds: pauses.append(seconds))
    archive.scripts["/x.csv"] = lambda handler, n: send(handler, b"", 500)
    fetch_file(product(f"{archive.url}/x.csv"), tmp_path / "x.csv", Fetch(tries=4, timeout_s=2))
    assert pauses == pytest.approx([0.01, 0.02, 0.04], rel=0.21)


def test_tape_padding_is_allowed_and_a_cut_extension_is_not(tmp_path, fits_bytes):
    whole = fits_bytes()
    for content, good in ((whole, True), (whole + bytes(2880 * 3), True), (whole[: -2880 * 3], False), (whole + b"garbage" * 500, False)):
        (tmp_path / "a.fits").write_bytes(content)
        assert (examine(tmp_path / "a.fits", "a.fits").problem == "") == good


def test_what_is_not_the_catalogue_is_not_accepted_and_is_fetched_again(tmp_path, fetch, archive):
    """Neither from a server nor where an earlier run left it: a CSV without its columns, a FITS file without its table."""
    sound = {"t.csv": b"catid,isbest\n1,True\n", "t.fits": _with_table("MANGA")}
    wrong = {"t.csv": b'{"error":"not found"}', "t.fits": _with_table("OTHER")}
    for name, content in sound.items():
        wanted = Product("DR3", "t", (f"{archive.url}/{name}",), name, hdus=("MANGA",), columns=("CATID",))
        archive.files[f"/{name}"] = wrong[name]
        row = fetch_file(wanted, tmp_path / name, fetch)
        assert row["status"] == "failed" and ("no column CATID" in row["message"] or "expected HDU MANGA" in row["message"])
        assert not (tmp_path / name).exists()
        archive.files[f"/{name}"] = content
        (tmp_path / name).write_bytes(wrong[name])
        assert fetch_file(wanted, tmp_path / name, fetch)["status"] == "ok"
        assert (tmp_path / name).read_bytes() == content


def _with_table(name):
    buffer = io.BytesIO()
    columns = [fits.Column("plateifu", "9A", array=["7443-1901"])]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name=name)]).writeto(buffer)
    return buffer.getvalue()
