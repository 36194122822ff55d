"""The way to the archives: pooled connections, limits per host, proxies, certificates, redirects that stay safe."""

import email.utils
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3 import exceptions as broken
from urllib3.util import Timeout, make_headers, parse_url

from tullyflow import __version__
from tullyflow.errors import FetchError
from tullyflow.settings import Fetch

__all__ = ["Client", "TryError", "open_client", "refuse_errors", "remote_length"]

BLOCK = 1 << 18
LONGEST_EXCUSE = 1 << 16  # an error page up to this size is read to its end, so that its connection can be used again
MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_HEADERS = {"User-Agent": f"tullyflow/{__version__}", "Accept-Encoding": "identity"}
_AS_IT_IS = {"redirect": False, "retries": False, "preload_content": False, "decode_content": False}
_PRIVATE = ("authorization", "cookie")


class TryError(Exception):
    """One try failed; ``again`` says whether another makes sense, ``pause_s`` what the server asked for."""

    def __init__(self, message: str, http_status: int = 0, again: bool = True, pause_s: float | None = None):
        super().__init__(message)
        self.http_status, self.again, self.pause_s = http_status, again, pause_s


class _Bucket:
    """Bytes that may pass, refilled at a steady rate, shared by all threads of a job."""

    def __init__(self, rate: float | None):
        self._rate, self._lock, self._free_at = rate, threading.Lock(), 0.0

    def wait_for(self, count: int) -> float:
        """Seconds to wait after ``count`` bytes have come."""
        if self._rate is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - 0.1) + count / self._rate
            return max(0.0, self._free_at - now)


class _Way(NamedTuple):
    """How a host is reached: how many may at a time, and the pool of its connections (none of its own behind a proxy)."""

    slots: threading.BoundedSemaphore
    manager: urllib3.PoolManager
    pool: urllib3.HTTPConnectionPool | None


class Client:
    """Connections for one job: no more than ``connections_per_host`` to a host at a time, used again while they last.

    TLS is verified against the system's certificates and ``ca_bundle``; proxies come from HTTPS_PROXY, HTTP_PROXY, NO_PROXY.
    ``received`` counts the bytes that came; `stop` makes all transfers under way give up at their next block.
    Raises `FetchError` where ``ca_bundle`` is no file of certificates.
    """

    def __init__(self, fetch: Fetch):
        self.fetch, self.received = fetch, 0
        self._context = _trust(fetch.ca_bundle)
        self._direct = urllib3.PoolManager(**self._pool_settings())
        self._proxied: dict[str, urllib3.ProxyManager] = {}
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._ways: dict[tuple[str, str], _Way] = {}
        self._timeout = Timeout(connect=fetch.timeout_s, read=fetch.timeout_s)
        self._proxies = urllib.request.getproxies_environment()
        self._bucket = _Bucket(fetch.rate_mb_s * 1e6 if fetch.rate_mb_s else None)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        for manager in (self._direct, *self._proxied.values()):
            manager.clear()

    def stop(self) -> None:
        """Let what is under way give up soon; what came stays, to be gone on with."""
        self._stopped.set()

    def pause(self, seconds: float) -> None:
        """Wait, unless the job is being stopped."""
        self._stopped.wait(seconds)

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise TryError("stopped by the user; run again to go on", again=False)

    def _pool_settings(self) -> dict:
        # as many connections are kept as may be open; the semaphore, not the pool, is what threads wait for
        return {"num_pools": 16, "maxsize": self.fetch.connections_per_host, "ssl_context": self._context}

    def _way(self, address: str) -> _Way:
        """Through which pool an address is reached, looked up once per host."""
        parts = urlsplit(address)
        place = (parts.scheme, parts.netloc)
        with self._lock:
            if place not in self._ways:
                slots = next((way.slots for (_, host), way in self._ways.items() if host == parts.netloc), None)
                slots = slots or threading.BoundedSemaphore(self.fetch.connections_per_host)
                proxy = self._proxies.get(parts.scheme) or self._proxies.get("all")
                straight = not proxy or urllib.request.proxy_bypass_environment(parts.netloc, self._proxies)
                try:
                    manager = self._direct if straight else self._through(proxy)
                    self._ways[place] = _Way(slots, manager, manager.connection_from_url(address) if straight else None)
                except (broken.HTTPError, ValueError) as err:
                    raise TryError(f"{address}: no usable address or proxy: {err}", again=False) from err
            return self._ways[place]

    def _through(self, proxy: str) -> urllib3.ProxyManager:
        if proxy not in self._proxied:
            place = parse_url(proxy)
            secret = make_headers(proxy_basic_auth=unquote(place.auth)) if place.auth else {}
            self._proxied[proxy] = urllib3.ProxyManager(place.url, proxy_headers=secret, **self._pool_settings())
        return self._proxied[proxy]

    @contextmanager
    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Iterator[tuple[urllib3.BaseHTTPResponse, str]]:
        """Yield the answer, its body not read yet, and the address it came from.

        Redirects are followed to https or to the same host only; Authorization and Cookie go to no other host than the
        address's own. Raises `TryError` for what goes wrong on the way; the status of the answer is the caller's business.
        """
        address, sent = url, dict(headers or {})
        for _ in range(MOST_REDIRECTS + 1):
            self._go_on()
            way = self._way(address)
            with way.slots, self._open(way, method, address, sent, body) as response:
                if response.status not in _REDIRECTS:
                    yield response, address
                    return
                new, code = urljoin(address, response.headers.get("Location", "")), response.status
            _refuse_detour(url, address, new, code)
            if urlsplit(new).netloc != urlsplit(address).netloc:
                sent = {name: value for name, value in sent.items() if name.lower() not in _PRIVATE}
            if code == 303:
                method, body = "GET", None
            address = new
        raise TryError(f"{url}: too many redirects (more than {MOST_REDIRECTS})", 310, again=False)

    @contextmanager
    def _open(
        self, way: _Way, method: str, address: str, headers: dict[str, str], body: bytes | None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        how = {"headers": {**_HEADERS, **headers}, "body": body, "timeout": self._timeout} | _AS_IT_IS
        try:
            if way.pool is not None:
                response = way.pool.urlopen(method, parse_url(address).request_uri, assert_same_host=False, **how)
            else:
                response = way.manager.urlopen(method, address, **how)
        except (broken.HTTPError, OSError, ValueError) as err:
            raise _try_error(address, err, self.fetch) from err
        try:
            yield response
        finally:
            left = response.length_remaining
            if response.status not in (200, 206) and left is not None and left <= LONGEST_EXCUSE:
                response.drain_conn()
            else:
                response.close()
            response.release_conn()

    def blocks(self, response: urllib3.BaseHTTPResponse, address: str, *, decode: bool = False) -> Iterator[bytes]:
        """Yield the body as it comes, at the permitted rate, for ``total_timeout_s`` at most; raise `TryError` where it breaks off."""
        deadline = time.monotonic() + self.fetch.total_timeout_s
        try:
            while block := response.read1(BLOCK, decode_content=decode):
                self.received += len(block)
                yield block
                wait = self._bucket.wait_for(len(block))
                if wait:
                    self._stopped.wait(wait)
                self._go_on()
                if time.monotonic() > deadline:
                    raise TryError(f"{address}: not here after {self.fetch.total_timeout_s:g} s (setting fetch.total_timeout_s)", 200)
        except (broken.HTTPError, OSError) as err:
            raise _try_error(address, err, self.fetch, response.status) from err


def open_client(fetch: Fetch) -> Client:
    """A client for many files, to be used in a ``with``."""
    return Client(fetch)


def remote_length(client: Client, url: str, headers: Mapping[str, str] | None = None) -> tuple[int, int | None]:
    """HTTP status of an address, and the length of its file in bytes (None where the server does not say); one HEAD request."""
    with client.request("HEAD", url, headers) as (response, _):
        announced = response.headers.get("Content-Length", "")
        return response.status, int(announced) if announced.isdigit() and response.status == 200 else None


def refuse_errors(response: urllib3.BaseHTTPResponse, address: str) -> None:
    """Raise `TryError` for every status that brings no content, with the pause the server asks for."""
    code = response.status
    if code not in (200, 206):
        reason = f"HTTP {code} {response.reason or ''}".strip()
        raise TryError(f"{address}: {reason}", code, again=code in _TRY_AGAIN, pause_s=_retry_after(response))


def _trust(ca_bundle: str | None):
    context = ssl.create_default_context()
    if ca_bundle:
        if not Path(ca_bundle).is_file():
            raise FetchError(f"fetch.ca_bundle: no such file: {ca_bundle}.")
        try:
            context.load_verify_locations(ca_bundle)
        except OSError as err:  # ssl.SSLError is one
            raise FetchError(f"fetch.ca_bundle: {ca_bundle}: no certificates in PEM form there.") from err
    return context


def _refuse_detour(url: str, address: str, new: str, code: int) -> None:
    old_parts, new_parts = urlsplit(address), urlsplit(new)
    if new_parts.scheme != "https" and (old_parts.scheme == "https" or new_parts.netloc != old_parts.netloc):
        raise TryError(f"{url}: redirected to {new}, neither https nor the same host", code, again=False)
    if new_parts.scheme not in ("http", "https"):
        raise TryError(f"{url}: redirected to {new}, no web address", code, again=False)


def _host(address: str) -> str:
    return urlsplit(address).hostname or address


def _try_error(address: str, err: Exception, fetch: Fetch, code: int = 0) -> TryError:
    """Say in the words of the network what went wrong, and whether to try again."""
    text = " ".join(str(err).split())
    inner = err.original_error if isinstance(err, broken.ProxyError) else getattr(err, "__cause__", None)
    again = True
    if "CERTIFICATE_VERIFY_FAILED" in text:
        why = text.partition("CERTIFICATE_VERIFY_FAILED]")[2].partition("(_ssl")[0].removeprefix(" certificate verify failed:").strip()
        what = f"the certificate of {_host(address)} is not accepted ({why}); one that an institute signs itself belongs in fetch.ca_bundle"
        again = False
    elif isinstance(err, broken.ProxyError):
        what = f"the proxy does not let us through: {' '.join(str(inner).split())}"
    elif isinstance(err, broken.NameResolutionError):
        what = f"host {_host(address)} not found"
    elif isinstance(err, broken.NewConnectionError):
        what = f"no connection: {text.rpartition('] ')[2]}"
    elif isinstance(err, broken.TimeoutError):
        what = f"timeout: not a byte for {fetch.timeout_s:g} s"
    elif isinstance(inner, broken.IncompleteRead):
        what = f"{inner.partial} bytes came, {inner.expected} were missing"
    elif isinstance(err, ValueError):  # LocationParseError is one
        what, again = f"no usable address: {text}", False
    else:
        what = f"the connection broke off: {text}"
    return TryError(f"{address}: {what}", code, again=again)


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
