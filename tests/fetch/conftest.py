"""A small archive on the loopback whose behaviour each test scripts."""

import gzip
import http.server
import io
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from astropy.io import fits

from tullyflow.fetch import download
from tullyflow.settings import Fetch


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(download, "BACKOFF_S", 0.01)


@pytest.fixture
def fetch():
    return Fetch(tries=3, timeout_s=2, connections=3)


@pytest.fixture(scope="session", name="fits_bytes")
def fits_bytes_fixture():
    return _fits_bytes


@pytest.fixture(scope="session")
def self_signed(tmp_path_factory):
    """A certificate for 127.0.0.1 that nobody vouches for; returns (its file, a TLS context of a server that shows it)."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: no certificate to refuse")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "certificate.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return folder / "certificate.pem", context


@pytest.fixture(scope="session", name="send")
def send_fixture():
    return _send


def _fits_bytes(seed: int = 1, zipped: bool = False) -> bytes:
    """A FITS file of two noisy extensions (so that gzip cannot shrink it to nothing)."""
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    images = [fits.ImageHDU(rng.normal(size=(60, 70)).astype("f4"), name=name) for name in ("A", "B")]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(buffer)
    return gzip.compress(buffer.getvalue()) if zipped else buffer.getvalue()


@dataclass
class Archive:
    """Files by path, an optional script per path (called with the handler and the number of the request), and what was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    scripts: dict[str, Callable] = field(default_factory=dict)
    requests: list[tuple[str, dict]] = field(default_factory=list)

    def count(self, path: str) -> int:
        return sum(asked == path for asked, _ in self.requests)


def _send(handler, body: bytes, code: int = 200, announced: int | None = None, **headers) -> None:
    handler.send_response(code)
    for name, value in ({"Content-Type": "image/fits"} | {k.replace("_", "-"): v for k, v in headers.items()}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) if announced is None else announced))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def archive():
    with _serve() as made:
        yield made


@pytest.fixture
def tls_archives(self_signed):
    """Two archives behind the certificate that nobody vouches for."""
    with _serve(self_signed[1]) as one, _serve(self_signed[1]) as two:
        yield one, two


@contextmanager
def _serve(tls: ssl.SSLContext | None = None):
    made = Archive()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def log_message(self, *args):
            """Keep the test's output clean."""

        def do_GET(self):
            made.requests.append((self.path, dict(self.headers)))
            script = made.scripts.get(self.path)
            if script is not None:
                script(self, made.count(self.path))
            elif self.path not in made.files:
                _send(self, b"<html>no such file</html>", 404, Content_Type="text/html")
            else:
                body, wanted = made.files[self.path], self.headers.get("Range")
                if wanted and self.headers.get("If-Range") == '"v1"':
                    start = int(wanted.removeprefix("bytes=").rstrip("-"))
                    span = f"bytes {start}-{len(body) - 1}/{len(body)}"
                    _send(self, body[start:], 206, ETag='"v1"', Content_Range=span)
                else:
                    _send(self, body, ETag='"v1"')

    class Server(http.server.ThreadingHTTPServer):
        def get_request(self):
            sock, address = super().get_request()
            return (tls.wrap_socket(sock, server_side=True) if tls else sock), address

        def handle_error(self, *_):
            """A client that goes away is what these tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    made.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()
