"""One file over HTTP: streamed beside its final name, resumed, tried again, checked, and only then renamed."""

import email.utils
import os
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from tullyflow import __version__
from tullyflow.fetch.verify import looks_like_web_page, problem_with
from tullyflow.settings import Fetch

__all__ = ["Answer", "download", "open_client"]

BACKOFF_S = 1.0  # first pause between two tries; doubled each time
LONGEST_PAUSE_S = 120.0
_GONE = (404, 410)
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Answer:
    """What became of one address: status ``ok``, ``missing`` (the archive says so) or ``failed``."""

    status: str
    http_status: int
    tries: int
    message: str = ""


class _TryError(Exception):
    """One try failed; ``again`` says whether another makes sense, ``pause_s`` what the server asked for."""

    def __init__(self, message: str, http_status: int = 0, again: bool = True, pause_s: float | None = None):
        super().__init__(message)
        self.http_status, self.again, self.pause_s = http_status, again, pause_s


def open_client(fetch: Fetch) -> httpx.Client:
    """A client for many files: timeouts from the settings, no silent redirects, no compression on the way."""
    headers = {"User-Agent": f"tullyflow/{__version__}", "Accept-Encoding": "identity"}
    limits = httpx.Limits(max_connections=fetch.connections, max_keepalive_connections=fetch.connections)
    return httpx.Client(timeout=httpx.Timeout(fetch.timeout_s), limits=limits, headers=headers, follow_redirects=False)


def download(client: httpx.Client, url: str, destination: Path, fetch: Fetch, sha256: str = "") -> Answer:
    """Bring ``url`` to ``destination``; the file has that name only once it is whole, checked and on disk.

    Up to ``fetch.tries`` tries, with pauses that double (or as Retry-After says); a try goes on where the last one broke off
    if the server names a version of the file (ETag or Last-Modified) and supports ranges. 404 and 410 are answers
    (``missing``); web pages with status 200, short bodies and files that do not open are not accepted.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(f".{destination.name}.part")
    for attempt in range(1, fetch.tries + 1):
        try:
            status = _stream(client, url, part)
            wrong = problem_with(part, destination.name, sha256)
            if wrong:
                _discard(part)
                raise _TryError(f"{url}: {wrong}", status)
            with open(part, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(part, destination)
            _discard(part)
            return Answer("ok", status, attempt)
        except _TryError as err:
            if err.http_status in _GONE:
                return Answer("missing", err.http_status, attempt, str(err))
            if not err.again or attempt == fetch.tries:
                if not _known_version(part):
                    _discard(part)
                return Answer("failed", err.http_status, attempt, str(err))
            pause = err.pause_s if err.pause_s is not None else BACKOFF_S * 2 ** (attempt - 1) * random.uniform(0.8, 1.2)
            time.sleep(min(pause, LONGEST_PAUSE_S))
        except OSError as err:
            return Answer("failed", 0, attempt, f"{destination}: {err.strerror or err}")
    raise AssertionError("unreachable: the last try returns")


def _version_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _known_version(part: Path) -> str:
    """Version of the file the part is a piece of; empty where it cannot be gone on with."""
    return _version_of(part).read_text() if _version_of(part).exists() else ""


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version_of(part).unlink(missing_ok=True)


def _stream(client: httpx.Client, url: str, part: Path) -> int:
    """Write the body to ``part``, going on where it ends if the server still has the same version; return the HTTP status."""
    version = _known_version(part)
    start = part.stat().st_size if part.exists() and version else 0
    headers = {"Range": f"bytes={start}-", "If-Range": version} if start else {}
    try:
        response, address = _send(client, url, headers)
        try:
            if response.status_code == 416:  # the part is no piece of this file
                _discard(part)
                raise _TryError(f"{url}: the server refuses to go on at byte {start}", 416)
            _refuse_errors(response, address)
            going_on = response.status_code == 206 and start > 0 and _range_start(response) == start
            if response.status_code == 206 and not going_on:
                _discard(part)
                raise _TryError(f"{url}: the server sent another range than asked for", 206)
            if not going_on:
                _discard(part)
                _version_of(part).write_text(_validator(response))
            _write(response, part, start if going_on else 0, address)
            return response.status_code
        finally:
            response.close()
    except httpx.RequestError as err:
        raise _TryError(f"{url}: {type(err).__name__}: {' '.join(str(err).split()) or 'no answer'}") from err
    except httpx.InvalidURL as err:
        raise _TryError(f"{url}: no usable address: {err}", again=False) from err


def _send(client: httpx.Client, url: str, headers: dict[str, str]) -> tuple[httpx.Response, str]:
    """Send the request and follow redirects, but only to https or to the same host."""
    address = url
    for _ in range(6):
        response = client.send(client.build_request("GET", address, headers=headers), stream=True)
        if response.status_code not in _REDIRECTS:
            return response, address
        response.close()
        new = urljoin(address, response.headers.get("Location", ""))
        if urlsplit(new).scheme != "https" and urlsplit(new).netloc != urlsplit(address).netloc:
            raise _TryError(f"{url}: redirected to {new}, neither https nor the same host", response.status_code, again=False)
        if urlsplit(address).scheme == "https" and urlsplit(new).scheme != "https":
            raise _TryError(f"{url}: redirected from https to {new}", response.status_code, again=False)
        address = new
    raise _TryError(f"{url}: too many redirects", 310, again=False)


def _refuse_errors(response: httpx.Response, address: str) -> None:
    code = response.status_code
    if code in (200, 206):
        if "html" in response.headers.get("Content-Type", "").lower():
            raise _TryError(f"{address}: a web page came instead of the file", code)
        return
    raise _TryError(f"{address}: HTTP {code} {response.reason_phrase}", code, again=code in _TRY_AGAIN, pause_s=_retry_after(response))


def _write(response: httpx.Response, part: Path, start: int, address: str) -> None:
    """Stream the body behind ``start``; raise `_TryError` for a web page or a body shorter or longer than announced."""
    announced = response.headers.get("Content-Length", "")
    first = True
    with open(part, "r+b" if start else "wb") as handle:
        handle.seek(start)
        handle.truncate()
        for block in response.iter_bytes() if _is_encoded(response, part) else response.iter_raw():
            if first and not start and looks_like_web_page(block[:512]):
                _discard(part)
                raise _TryError(f"{address}: a web page came instead of the file", response.status_code)
            first = False
            handle.write(block)
    if announced.isdigit() and response.num_bytes_downloaded != int(announced):
        raise _TryError(f"{address}: {response.num_bytes_downloaded} of {announced} bytes came", response.status_code)


def _is_encoded(response: httpx.Response, part: Path) -> bool:
    """Whether the body was compressed for the way; some servers call a .gz file itself an encoding."""
    return bool(response.headers.get("Content-Encoding", "")) and not part.name.endswith(".gz.part")


def _range_start(response: httpx.Response) -> int:
    text = response.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0].strip()
    return int(text) if text.isdigit() else -1


def _validator(response: httpx.Response) -> str:
    """What identifies this version of the file: a strong ETag, else Last-Modified; empty where the server names none."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
