"""Five hundred files from a server of which every fifth misbehaves: nothing lost, nothing wrong, everything named."""

import gzip
import http.server
import select
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import pytest

from tullyflow.fetch.manifest import fetch_products
from tullyflow.settings import parse_settings
from tullyflow.surveys import Product

FILES, PER_HOST = 500, 5
# kind: (how the first run ends, what its message says)
KINDS = {
    "404": ("missing", "HTTP 404"),
    "403": ("failed", "HTTP 403"),
    "500 once": ("ok", ""),
    "503 with Retry-After": ("ok", ""),
    "refused": ("failed", "Connection refused"),
    "reset in the body": ("ok", ""),
    "short body": ("ok", ""),
    "announced too long": ("failed", "bytes came"),
    "announced too short": ("failed", "gzip stream is damaged"),
    "web page": ("failed", "web page"),
    "stalled": ("failed", "timeout: not a byte for"),
    "truncated gzip": ("failed", "gzip stream is damaged"),
    "wrong checksum": ("failed", "SHA-256 is not the expected"),
    "redirect loop": ("failed", "too many redirects"),
    "redirect away": ("failed", "neither https nor the same host"),
    "bad certificate": ("failed", "certificate of 127.0.0.1 is not accepted (self-signed certificate)"),
    "no such HDU": ("failed", "expected HDU FLUX is not in it; found: PRIMARY, VELOCITY"),
}
PAGE = b"<!DOCTYPE html><html><body>Down for maintenance</body></html>"


@dataclass
class Book:
    """What the server saw, and what it has to offer."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, dict]] = field(default_factory=list)
    sockets: set[socket.socket] = field(default_factory=set)
    most_open: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, path: str) -> int:
        return sum(method == "GET" and asked == path for method, asked, _ in self.asked)


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64

    def __init__(self, book, tls=None, port=0):
        self.book, self.tls, self.allow_reuse_address = book, tls, True
        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, *_):
        """Clients that hang up are expected here."""

    def process_request_thread(self, request, address):
        book = self.book
        if self.tls:
            request = self.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        with book.lock:
            book.sockets.add(request)
            book.most_open = max(book.most_open, sum(map(is_open, book.sockets)))
        try:
            with suppress(OSError):  # handshakes that the client refuses
                super().process_request_thread(request, address)
        finally:
            with book.lock:
                book.sockets.discard(request)


def is_open(sock):
    """Whether the client has not closed the connection, whatever the server has noticed of that."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 1  # TCP_ESTABLISHED
    except OSError:
        return False


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    disable_nagle_algorithm = True

    def log_message(self, *args):
        """Keep the test's output clean."""

    def do_HEAD(self):
        self.server.book.asked.append(("HEAD", self.path, dict(self.headers)))
        if self.server.book.kinds.get(self.path) == "404":
            self.answer(b"", 404)
        else:
            self.answer(b"", announced=len(self.server.book.bodies[self.path]))

    def answer(self, body, code=200, announced=None, **headers):
        self.send_response(code)
        for name, value in ({"Content-Type": "application/gzip", "ETag": f'"{self.path}"'} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self, reset=False):
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
        self.close_connection = True

    def do_GET(self):
        book = self.server.book
        book.asked.append(("GET", self.path, dict(self.headers)))
        body, kind, number = book.bodies[self.path], book.kinds.get(self.path, "good"), book.count(self.path)
        start = 0
        if "Range" in self.headers and self.headers.get("If-Range") == f'"{self.path}"':
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        if start >= len(body):
            self.answer(b"", 416, Content_Range=f"bytes */{len(body) + 100}")
        elif kind in ("404", "403"):
            self.answer(b"<html>no</html>", int(kind), Content_Type="text/html")
        elif kind == "500 once" and number == 1:
            self.answer(b"", 500)
        elif kind == "503 with Retry-After" and number == 1:
            self.answer(b"", 503, Retry_After="0")
        elif kind in ("reset in the body", "short body") and number == 1:
            self.answer(body[: len(body) // 2], announced=len(body))
            self.hang_up(reset=False)
            time.sleep(0.05 if kind.startswith("reset") else 0)
            self.hang_up(reset=kind.startswith("reset"))
        elif kind == "announced too long":
            self.answer(body[start:], 206 if start else 200, announced=len(body) - start + 100, Content_Range=f"bytes {start}-/*")
            self.hang_up()
        elif kind == "announced too short":
            self.answer(body, announced=len(body) - 1000)
            self.hang_up()
        elif kind == "web page":
            self.answer(PAGE)
        elif kind == "stalled":
            code, more = (206, {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}) if start else (200, {})
            self.answer(b"" if start else body[:500], code, announced=len(body) - start, **more)
            select.select([self.connection], [], [], 20)  # until the client gives up
            self.hang_up()
        elif kind == "truncated gzip":
            self.answer(body[: len(body) // 2])
        elif kind == "wrong checksum":
            self.answer(book.bodies["/0.fits.gz"])
        elif kind == "redirect loop":
            self.answer(b"", 302, Location=self.path)
        elif kind == "redirect away":
            self.answer(b"", 302, Location="http://localhost:1/elsewhere.fits.gz")
        elif kind == "no such HDU":
            self.answer(gzip.compress(gzip.decompress(body).replace(b"'FLUX    '", b"'FLOX    '"), 1))
        elif start:
            self.answer(body[start:], 206, Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.answer(body)


def make_bodies(fits_bytes):
    """Five hundred FITS files of one layout, each with other pixels."""
    template = bytearray(fits_bytes(3).replace(b"'A       '", b"'VELOCITY'").replace(b"'B       '", b"'FLUX    '"))
    place = template.index(b"END" + b" " * 77, 2880) // 2880 * 2880 + 2880
    rng = np.random.default_rng(500)
    bodies = {}
    for k in range(FILES):
        template[place : place + 4000] = rng.bytes(4000)
        bodies[f"/{k}.fits.gz"] = gzip.compress(bytes(template), 1)
    return bodies


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


@pytest.fixture
def scene(fits_bytes, self_signed):
    """The servers and the products: 400 good, 100 faulty, mixed."""
    book, tls_book = Book(make_bodies(fits_bytes)), Book()
    tls_book.bodies = book.bodies
    faulty = np.random.default_rng(14).choice(np.arange(1, FILES), FILES // 5, replace=False)
    book.kinds = {f"/{k}.fits.gz": list(KINDS)[number % len(KINDS)] for number, k in enumerate(faulty)}
    server, secure, dead = Server(book), Server(tls_book, self_signed[1]), free_port()
    ports = {"refused": f"http://127.0.0.1:{dead}", "bad certificate": f"https://127.0.0.1:{secure.server_port}"}
    products = []
    for k in range(FILES):
        path = f"/{k}.fits.gz"
        kind = book.kinds.get(path, "good")
        base = ports.get(kind, f"http://127.0.0.1:{server.server_port}")
        digest = sha256(book.bodies[path]).hexdigest() if kind == "wrong checksum" else ""
        products.append(Product(f"g{k}", "maps", (base + path,), f"x{path}", digest, ("PRIMARY", "VELOCITY", "FLUX")))
    servers = [server, secure]
    yield book, tls_book, products, dead, servers
    for each in servers:
        each.shutdown()
        each.server_close()


def settings_for(tmp_path, **fetch):
    asked = {"tries": 3, "timeout_s": 1, "connections": 12, "connections_per_host": PER_HOST, **fetch}
    return parse_settings({"resources": str(tmp_path / "r"), "fetch": asked})


def final_files(tmp_path):
    return {path.name: path.read_bytes() for path in (tmp_path / "r/x").iterdir() if not path.name.startswith(".")}


def test_whatever_the_server_does_good_files_arrive_and_bad_ones_are_named(tmp_path, scene, self_signed):
    book, tls_book, products, dead, servers = scene
    frame = fetch_products(products, settings_for(tmp_path), tmp_path / "m.csv").set_index("galaxy")

    kinds = {f"g{path[1:-8]}": kind for path, kind in book.kinds.items()}
    assert set(kinds.values()) == set(KINDS)
    for galaxy, row in frame.iterrows():
        status, reason = KINDS.get(kinds.get(galaxy), ("ok", ""))
        assert (row["status"], reason in row["message"]) == (status, True), (galaxy, kinds.get(galaxy), row.to_dict())
    good = {product.galaxy for product in products if KINDS.get(kinds.get(product.galaxy), ("ok",))[0] == "ok"}
    assert len(good) == 500 - sum(KINDS[kind][0] != "ok" for kind in kinds.values())
    assert final_files(tmp_path) == {f"{g[1:]}.fits.gz": book.bodies[f"/{g[1:]}.fits.gz"] for g in good}
    _check_resumed(book, {"reset in the body", "short body", "stalled"})
    assert 2 <= book.most_open <= PER_HOST
    assert 1 <= tls_book.most_open <= PER_HOST

    # the faults are mended: the dead server lives, the institute's certificate is known, and the rest behaves
    first = Counter(book.kinds.values())
    book.kinds.clear()
    book.asked.clear()
    tls_book.asked.clear()
    revived = Book(book.bodies)
    servers.append(Server(revived, port=dead))
    frame = fetch_products(products, settings_for(tmp_path, ca_bundle=str(self_signed[0])), tmp_path / "m.csv")
    assert (frame["status"] == "ok").all(), frame.loc[frame["status"] != "ok", "message"].tolist()
    assert final_files(tmp_path) == {path[1:]: body for path, body in book.bodies.items()}
    asked = {f"g{path[1:-8]}" for seen in (book, tls_book, revived) for _, path, _ in seen.asked}
    assert asked == set(frame["galaxy"]) - good
    assert len(asked) == sum(first[kind] for kind, (status, _) in KINDS.items() if status != "ok")
    stalled = [f"/{galaxy[1:]}.fits.gz" for galaxy, kind in kinds.items() if kind == "stalled"]
    assert all(headers.get("Range") == "bytes=500-" for _, path, headers in book.asked if path in stalled)
    assert not [path.name for path in (tmp_path / "r/x").iterdir() if path.name.startswith(".")]


def _check_resumed(book, kinds):
    """Every second request for a file that broke off goes on where it broke off, and says of which version it has a piece."""
    resumed = Counter()
    for path, kind in book.kinds.items():
        later = [headers for method, asked, headers in book.asked if method == "GET" and asked == path][1:]
        if kind in kinds:
            assert later
            assert all("Range" in headers for headers in later), (kind, later)
        for headers in later:
            assert ("Range" in headers) == ("If-Range" in headers)
            resumed[kind] += "Range" in headers
    assert all(resumed[kind] for kind in kinds)
