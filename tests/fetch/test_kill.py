"""A transfer killed at any moment, and two at once: the same files and the same list in the end, and nothing brought twice."""

import gzip
import http.server
import multiprocessing
import re
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tullyflow.fetch.manifest import fetch_products
from tullyflow.fetch.part import identity, locked_part
from tullyflow.settings import parse_settings
from tullyflow.surveys import Product
from tullyflow.tables import MANIFEST, read_table

FILES, CONNECTIONS, PIECE = 120, 4, 6000


@pytest.fixture(scope="module")
def processes():
    """Processes of their own that start quickly: forked from a clean one which has the imports behind it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tullyflow.fetch.manifest", "tullyflow.fetch.download", "tullyflow.fetch.space", "pyarrow"])
    return context


@pytest.fixture
def slow_server(fits_bytes):
    """(address, bodies, requests): a server that sends a file in pieces, some milliseconds apart; 5 of 120 it does not have."""
    rng = np.random.default_rng(9)
    bodies = {f"/f{k}.{kind}": b"" for k in range(FILES) for kind in [("fits.gz", "fits", "csv")[k % 3]] if k % 25 != 7}
    for number, name in enumerate(bodies):
        plain = fits_bytes(number) if "fits" in name else rng.bytes(30_000).hex().encode()
        bodies[name] = gzip.compress(plain, 1) if name.endswith("gz") else plain
    for k in (2, 35, 62, 92):  # large enough to be gone on with after a kill
        bodies[f"/f{k}.csv"] = rng.bytes(1_500_000).hex().encode()
    requests: list[tuple[str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *args):
            """Keep the test's output clean."""

        def do_HEAD(self):
            self.send_error(405)

        def do_GET(self):
            body, wanted = bodies.get(self.path), self.headers.get("Range")
            requests.append((self.path, wanted))
            if body is None:
                self.send_error(404)
                return
            start = int(re.sub(r"\D", "", wanted)) if wanted and self.headers["If-Range"] == '"v1"' else 0
            self.send_response((416 if start == len(body) else 206) if start else 200)
            self.send_header("ETag", '"v1"')
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}" if start < len(body) else f"bytes */{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            piece = PIECE * (1 + len(body) // 200_000)
            for place in range(start, len(body), piece):
                self.wfile.write(body[place : place + piece])
                time.sleep(0.008)

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 64

        def handle_error(self, *_):
            """Clients are killed here."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies, requests
    server.shutdown()
    server.server_close()


def job(url, folder, name="m.csv"):
    """Arguments of `fetch_products` for all files of the server, kept below ``folder``."""
    kinds = ("fits.gz", "fits", "csv")
    products = [Product(f"g{k}", "maps", (f"{url}/f{k}.{kinds[k % 3]}",), f"x/f{k}.{kinds[k % 3]}") for k in range(FILES)]
    fetch = {"connections": CONNECTIONS, "connections_per_host": CONNECTIONS, "timeout_s": 10}
    return products, parse_settings({"resources": str(folder / "r"), "fetch": fetch}), folder / name


def end_state(folder: Path, name: str = "m.csv"):
    """All files below the resources, hidden ones too, and the manifest without what tells of the way there."""
    frame = read_table(folder / name, MANIFEST).drop(columns=["tries", "http_status", "mtime_ns"])
    frame["path"] = [str(Path(path).relative_to(folder)) for path in frame["path"]]
    return {path.name: path.read_bytes() for path in (folder / "r/x").iterdir()}, frame


def test_ten_kills_leave_no_trace(tmp_path, slow_server, processes):
    url, bodies, requests = slow_server
    fetch_products(*job(url, tmp_path / "undisturbed"))
    files, frame = end_state(tmp_path / "undisturbed")
    assert Counter(frame["status"]) == {"ok": FILES - 5, "missing": 5}
    requests.clear()

    rng, folder = np.random.default_rng(31), tmp_path / "killed"
    for _ in range(10):
        asked = len(requests)
        process = processes.Process(target=fetch_products, args=job(url, folder))
        process.start()
        while len(requests) == asked and process.is_alive():
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (folder / "m.csv").exists()
        whole = {path.name: path.read_bytes() for path in (folder / "r/x").iterdir() if not path.name.startswith(".")}
        assert all(body == bodies[f"/{name}"] for name, body in whole.items()), "a file under its final name that is not whole"
    some = len(whole)
    assert 10 < some < FILES, "the kills came too early or too late to show anything"
    ledger = (folder / ".m.ledger.csv").read_text()
    assert ledger.count(",ok,") >= some - 10 * CONNECTIONS

    left = list((folder / "r/x").glob(".*.part.version"))  # pieces that say of what they are one
    fetch_products(*job(url, folder))
    after, listed = end_state(folder)
    assert after == files
    for column in frame:
        assert list(listed[column]) == list(frame[column]), column
    began = Counter(path for path, wanted in requests if wanted is None)
    assert any(wanted for _, wanted in requests) or not left, "no large file was gone on with"
    assert sum(began.values()) - len(began) <= 10 * CONNECTIONS + 5 * 10, "files were begun again that were known"


def test_what_is_known_is_not_read_again_after_a_kill(tmp_path, slow_server, processes, monkeypatch):
    url, _, requests = slow_server
    process = processes.Process(target=fetch_products, args=job(url, tmp_path))
    process.start()
    while len(requests) < FILES // 2:
        time.sleep(0.005)
    process.kill()
    process.join()
    with open(tmp_path / ".m.ledger.csv", "a") as handle:
        handle.write("g119,maps,http")  # a line that the kill cut short
    here = [path.name for path in (tmp_path / "r/x").iterdir() if not path.name.startswith(".")]
    examined = []
    for module in ("transfer", "download"):
        real = __import__(f"tullyflow.fetch.{module}", fromlist=["examine"]).examine
        monkeypatch.setattr(f"tullyflow.fetch.{module}.examine", lambda *a, real=real, **k: examined.append(a[1]) or real(*a, **k))
    frame = fetch_products(*job(url, tmp_path))
    assert (frame["status"] != "failed").all()
    assert len(here) > 20
    assert len(set(examined) & set(here)) <= CONNECTIONS  # those that were renamed as the kill came


def test_two_processes_in_one_folder_bring_each_file_once(tmp_path, slow_server, processes):
    url, bodies, requests = slow_server
    pair = [processes.Process(target=fetch_products, args=job(url, tmp_path, name)) for name in ("a.csv", "b.csv")]
    for process in pair:
        process.start()
    for process in pair:
        process.join()
    assert [process.exitcode for process in pair] == [0, 0]
    files, frame = end_state(tmp_path, "a.csv")
    assert files == {name[1:]: body for name, body in bodies.items()}
    assert frame.equals(end_state(tmp_path, "b.csv")[1])
    brought = Counter(path for path, _ in requests if path in bodies)
    assert set(brought.values()) == {1}


def test_a_file_that_came_since_it_was_looked_for_is_kept(tmp_path):
    """Another process renamed its part between our look and our lock: not to be brought again, whatever lay there when we looked."""
    came = tmp_path / "map.fits"
    nothing = identity(came)
    came.write_bytes(b"spoilt")
    spoilt = identity(came)
    with locked_part(came, spoilt) as part:
        assert part is not None, "what we saw there is the one to be replaced"
        part.discard()
    with locked_part(came, nothing) as part:
        assert part is None
    assert came.read_bytes() == b"spoilt" and list(tmp_path.iterdir()) == [came]
