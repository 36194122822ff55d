"""Many files: side by side, listed in order, few failures survived, and a replaced file noticed."""

import logging
import os
import time
from types import SimpleNamespace

import pandas as pd
import pytest

from tullyflow.errors import FetchError
from tullyflow.fetch import manifest as module
from tullyflow.fetch import progress
from tullyflow.fetch.ledger import Ledger, known_rows
from tullyflow.fetch.manifest import content_digest, fetch_catalogue, fetch_products, fetch_shard
from tullyflow.settings import parse_settings
from tullyflow.surveys import Product
from tullyflow.tables import MANIFEST, TARGETS, read_table, write_table


def make_settings(tmp_path, mirror=None, **fetch):
    return parse_settings({"resources": str(tmp_path / "resources"), "mirror": mirror, "fetch": {"tries": 2, "timeout_s": 2, **fetch}})


def products_of(url, n):
    return [Product(galaxy=f"g{k}", product="maps", urls=(f"{url}/f{k}.fits",), path=f"x/f{k}.fits") for k in range(n)]


def test_the_manifest_lists_every_file_in_order(tmp_path, archive, fits_bytes, send):
    archive.files = {f"/f{k}.fits": fits_bytes(k) for k in range(8) if k != 3}
    archive.scripts["/f5.fits"] = lambda handler, n: send(handler, b"", 500)
    fetch_products(products_of(archive.url, 8), make_settings(tmp_path), tmp_path / "m.csv")
    frame = read_table(tmp_path / "m.csv", MANIFEST)
    assert list(frame["galaxy"]) == [f"g{k}" for k in range(8)]
    assert list(frame["status"]) == ["ok", "ok", "ok", "missing", "ok", "failed", "ok", "ok"]
    assert frame["sha256"].nunique() == 7  # six digests and the empty one
    assert list(frame.loc[[3, 5], "http_status"]) == [404, 500]
    assert frame.loc[5, "message"] != ""


def test_too_many_failures_stop_the_shard_and_the_next_run_goes_on(tmp_path, archive, fits_bytes, send):
    archive.files = {f"/f{k}.fits": fits_bytes(k) for k in range(4)}
    for k in (2, 3):
        archive.scripts[f"/f{k}.fits"] = lambda handler, n: send(handler, b"", 500)
    settings = make_settings(tmp_path, failures_allowed=0.4)
    with pytest.raises(FetchError, match="2 of 4 files failed"):
        fetch_products(products_of(archive.url, 4), settings, tmp_path / "m.csv")
    assert not (tmp_path / "m.csv").exists()
    archive.scripts.clear()
    frame = fetch_products(products_of(archive.url, 4), settings, tmp_path / "m.csv")
    assert (frame["status"] == "ok").all()
    assert [archive.count(f"/f{k}.fits") for k in range(4)] == [1, 1, 3, 3]


def test_a_deleted_manifest_costs_no_request(tmp_path, archive, fits_bytes):
    archive.files = {f"/f{k}.fits": fits_bytes(k) for k in range(3)}
    settings = make_settings(tmp_path)
    first = fetch_products(products_of(archive.url, 3), settings, tmp_path / "m.csv")
    (tmp_path / "m.csv").unlink()
    second = fetch_products(products_of(archive.url, 3), settings, tmp_path / "m.csv")
    pd.testing.assert_frame_equal(first, second)
    assert len(archive.requests) == 3


def test_missing_files_are_no_failures(tmp_path, archive):
    frame = fetch_products(products_of(archive.url, 3), make_settings(tmp_path, failures_allowed=0), tmp_path / "m.csv")
    assert (frame["status"] == "missing").all()


def test_files_are_fetched_side_by_side(tmp_path, archive, fits_bytes, send):
    at_work, most = [], []

    def slowly(handler, n):
        at_work.append(n)
        time.sleep(0.3)
        most.append(len(at_work))
        at_work.pop()
        send(handler, fits_bytes())

    archive.scripts = {f"/f{k}.fits": slowly for k in range(8)}
    fetch_products(products_of(archive.url, 8), make_settings(tmp_path, connections=8, connections_per_host=8), tmp_path / "m.csv")
    assert max(most) >= 2


def test_an_archive_without_addresses_needs_a_mirror(tmp_path):
    sami = [Product(galaxy="1", product="Halpha", urls=("archive://datacentral/a.fits",), path="a.fits")]
    with pytest.raises(FetchError, match="mirror"):
        fetch_products(sami, make_settings(tmp_path), tmp_path / "m.csv")
    with pytest.raises(FetchError, match="no such folder"):
        fetch_products(sami, make_settings(tmp_path, mirror=str(tmp_path / "none")), tmp_path / "m.csv")
    with pytest.raises(FetchError, match="http"):
        fetch_products(sami, make_settings(tmp_path, mirror="ftp://host/x"), tmp_path / "m.csv")


def test_a_catalogue_may_be_missing_but_not_fail(tmp_path, archive, monkeypatch, send):
    table = Product(galaxy="DR17", product="drpall", urls=(f"{archive.url}/d.fits",), path="d.fits")
    monkeypatch.setattr(module, "get_survey", lambda name: SimpleNamespace(catalogue_products=lambda *_: [table]))
    frame = fetch_catalogue("manga", "DR17", make_settings(tmp_path), tmp_path / "m.csv")
    assert list(frame["status"]) == ["missing"]
    archive.scripts["/d.fits"] = lambda handler, n: send(handler, b"", 500)
    with pytest.raises(FetchError):
        fetch_catalogue("manga", "DR17", make_settings(tmp_path, failures_allowed=1), tmp_path / "m.csv")


def test_a_shard_fetches_what_its_targets_need(tmp_path, monkeypatch, caplog, fits_bytes):
    (tmp_path / "mirror/host").mkdir(parents=True)
    for k in (0, 2):
        (tmp_path / f"mirror/host/f{k}.fits").write_bytes(fits_bytes(k))
    adapter = SimpleNamespace(products=lambda target, *_: [products_of("https://host", 3)[int(target["galaxy"][1:])]])
    monkeypatch.setattr(module, "get_survey", lambda name: adapter)
    write_table(tmp_path / "t.parquet", pd.DataFrame({"galaxy": ["g2", "g1", "g0"], "survey": "manga", "release": "DR17"}), TARGETS)
    with caplog.at_level(logging.INFO):
        fetch_shard(tmp_path / "t.parquet", make_settings(tmp_path, mirror=str(tmp_path / "mirror")), tmp_path / "shard.csv")
    frame = read_table(tmp_path / "shard.csv", MANIFEST)
    assert list(frame["galaxy"]) == ["g2", "g1", "g0"]
    assert list(frame["status"]) == ["ok", "missing", "ok"]
    assert "3 files, 2 ok" in caplog.text
    assert "1 missing" in caplog.text


def test_an_empty_shard_has_an_empty_manifest(tmp_path):
    write_table(tmp_path / "t.parquet", pd.DataFrame({"galaxy": []}), TARGETS)
    fetch_shard(tmp_path / "t.parquet", make_settings(tmp_path), tmp_path / "m.csv")
    assert read_table(tmp_path / "m.csv", MANIFEST).empty


@pytest.fixture
def linked(tmp_path):
    """A manifest of 200 local files; returns (manifest, folder of the files)."""
    folder = tmp_path / "mirror/host"
    folder.mkdir(parents=True)
    for k in range(200):
        (folder / f"f{k}.fits").write_bytes(f"content {k:04d}".encode())
    fetch_products(products_of("https://host", 200), make_settings(tmp_path, mirror=str(tmp_path / "mirror")), tmp_path / "m.csv")
    return tmp_path / "m.csv", folder


def test_the_digest_changes_with_content_and_not_with_a_touch(linked):
    manifest, folder = linked
    before = content_digest(manifest)
    os.utime(folder / "f7.fits")
    assert content_digest(manifest) == before
    (folder / "f7.fits").write_bytes(b"content 9999")  # as long as before
    changed = content_digest(manifest)
    assert changed != before
    (folder / "f7.fits").write_bytes(b"content 0007")
    assert content_digest(manifest) == before
    (folder / "f7.fits").unlink()
    assert content_digest(manifest) not in (before, changed)


def test_the_digest_of_200_files_is_quick_and_needs_a_manifest(linked, tmp_path):
    manifest, _ = linked
    content_digest(manifest)
    start = time.perf_counter()
    content_digest(manifest)
    assert time.perf_counter() - start < 0.3
    with pytest.raises(FileNotFoundError):
        content_digest(tmp_path / "none.csv")


def test_a_replaced_local_file_is_hashed_again_on_the_next_fetch(linked, tmp_path):
    manifest, folder = linked
    old = read_table(manifest, MANIFEST)
    (folder / "f0.fits").write_bytes(b"another content")
    new = fetch_products(products_of("https://host", 200), make_settings(tmp_path, mirror=str(tmp_path / "mirror")), manifest)
    assert new.loc[0, "sha256"] != old.loc[0, "sha256"]
    assert list(new["sha256"][1:]) == list(old["sha256"][1:])


def test_progress_is_one_line_in_the_log_and_a_bar_on_a_terminal(tmp_path, archive, fits_bytes, send, caplog, monkeypatch, capsys):
    archive.files = {f"/f{k}.fits": fits_bytes(k) for k in range(5)}
    archive.scripts["/f2.fits"] = lambda handler, n: send(handler, b"no", 403)
    size = sum(len(archive.files[f"/f{k}.fits"]) for k in (0, 1, 3, 4))
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with caplog.at_level(logging.INFO):
        fetch_products(products_of(archive.url, 5), make_settings(tmp_path), tmp_path / "m.csv")
    lines = [record.getMessage() for record in caplog.records if "time left" in record.getMessage() or " s left" in record.getMessage()]
    assert lines[-1].startswith(f"m: 5 of 5 files, {size / 1e6:.1f} MB, ")
    assert lines[-1].endswith("MB/s, 0 s left, 1 failed")
    assert len(lines) >= 2
    bar = capsys.readouterr().err
    assert "5/5" in bar
    assert "1 failed" in bar


def test_a_run_that_brings_nothing_says_nothing_of_rates(linked, tmp_path, caplog):
    manifest, _ = linked
    with caplog.at_level(logging.INFO):
        fetch_products(products_of("https://host", 200), make_settings(tmp_path, mirror=str(tmp_path / "mirror")), manifest)
    assert "MB/s" not in caplog.text


def test_the_ledger_survives_torn_and_foreign_lines(tmp_path):
    path = tmp_path / ".m.ledger.csv"
    row = dict.fromkeys((c.name for c in MANIFEST), "x") | {"http_status": 200, "bytes": 5, "mtime_ns": 7, "tries": 1}
    ledger = Ledger(path)
    for name, size in (("a", 5), ("b", 5), ("a", 6)):
        ledger.append(row | {"path": name, "bytes": size, "message": 'with, comma and "quotes"'})
    with open(path, "ab") as handle:
        handle.write(b'g,maps,"https://half a line')
    again = Ledger(path)
    again.append(row | {"path": "c"})
    again.close(pd.DataFrame())
    rows = known_rows(path)
    assert {name: found["bytes"] for name, found in rows.items()} == {"a": 6, "b": 5, "c": 5}
    assert rows["a"]["message"] == 'with, comma and "quotes"'
    path.write_text("something,else\n1,2\n")
    assert known_rows(path) == {}
    assert known_rows(tmp_path / "none.csv") == {}
