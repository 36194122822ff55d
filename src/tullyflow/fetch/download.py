"""One file over HTTP: streamed beside its final name, resumed, tried again, checked, and only then renamed."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from urllib3 import BaseHTTPResponse

from tullyflow.fetch.client import Client, TryError, refuse_errors
from tullyflow.fetch.part import Part, identity, locked_part
from tullyflow.fetch.verify import examine, looks_like_web_page
from tullyflow.settings import Fetch

__all__ = ["Answer", "Expected", "download"]

BACKOFF_S = 1.0  # first pause between two tries; doubled each time
LONGEST_PAUSE_S = 120.0
_GONE = (404, 410)


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it comes: digests in hexadecimal (empty: not known), the HDUs or columns it must have."""

    sha256: str = ""
    sha1: str = ""
    hdus: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What became of one address: status ``ok``, ``missing`` (the archive says so), ``failed``, or ``here``: another process,
    which was bringing the same file, has brought it meanwhile. ``sha256`` is the digest of a file that came.
    """

    status: str
    http_status: int
    tries: int
    message: str = ""
    sha256: str = ""


def download(
    client: Client, url: str, destination: Path, fetch: Fetch, expected: Expected | None = None, headers: Mapping[str, str] | None = None,
    seen: tuple[int, int] | Literal["now"] | None = "now",
) -> Answer:  # fmt: skip
    """Bring ``url`` to ``destination``; the file has that name only once it is whole, checked and on disk.

    Up to ``fetch.tries`` tries, with pauses that double (or as Retry-After says); a try goes on where the last one broke off,
    be it in another process, if the server names a version of the file (ETag or Last-Modified) and supports ranges. 404 and
    410 are answers (``missing``); web pages with status 200, short bodies and files that do not open are not accepted.
    ``headers`` go with each request; Authorization to the host of ``url`` only. ``seen`` is the `identity` of what was at ``destination``
    when the caller decided to ask; a file that came there since is kept (``here``).
    """
    with locked_part(destination, identity(destination) if seen == "now" else seen) as part:
        if part is None:
            return Answer("here", 0, 0)
        for attempt in range(1, fetch.tries + 1):
            try:
                code, digest = _try(client, url, destination, part, fetch, expected or Expected(), headers or {})
                return Answer("ok", code, attempt, sha256=digest)
            except TryError as err:
                message = " ".join(str(err).split())
                if err.http_status in _GONE:
                    part.discard()
                    return Answer("missing", err.http_status, attempt, message)
                if not err.again or attempt == fetch.tries:
                    if part.length:
                        part.keep()
                    else:
                        part.discard()
                    return Answer("failed", err.http_status, attempt, message)
                pause = err.pause_s if err.pause_s is not None else BACKOFF_S * 2 ** (attempt - 1) * random.uniform(0.8, 1.2)
                client.pause(min(pause, LONGEST_PAUSE_S))
            except OSError as err:
                return Answer("failed", 0, attempt, f"{destination}: {err.strerror or err}")
    raise AssertionError("unreachable: the last try returns")


def _try(
    client: Client, url: str, destination: Path, part: Part, fetch: Fetch, expected: Expected, headers: Mapping[str, str]
) -> tuple[int, str]:
    """Bring the body, check it, give it its name; return the HTTP status and the SHA-256."""
    code = _stream(client, url, part, headers)
    wanted = {"sha1": expected.sha1, "hdus": expected.hdus, "columns": expected.columns}
    found = examine(part.path, destination.name, expected.sha256, **wanted, sums=fetch.fits_sums)
    if found.problem:
        part.empty()
        raise TryError(f"{url}: {found.problem}", code)
    part.finish(destination)
    return code, found.sha256


def _stream(client: Client, url: str, part: Part, headers: Mapping[str, str]) -> int:
    """Write the body to the part, going on where it ends if the server still has the same version; return the HTTP status."""
    start = part.length
    span = {"Range": f"bytes={start}-", "If-Range": part.version} if start else {}
    with client.request("GET", url, {**headers, **span}) as (response, address):
        if response.status == 416 and start:
            if response.headers.get("Content-Range", "").strip() == f"bytes */{start}":
                return 206  # all of it had come already
            part.empty()
            raise TryError(f"{address}: the server refuses to go on at byte {start}", 416)
        refuse_errors(response, address)
        if "html" in response.headers.get("Content-Type", "").lower():
            raise TryError(f"{address}: a web page came instead of the file", response.status)
        if response.status == 206 and (not start or _range_start(response) != start):
            part.empty()
            raise TryError(f"{address}: the server sent another range than asked for", 206)
        if response.status == 200:
            part.begin(_version(response))
        _write(client, response, part, address)
        return response.status


def _write(client: Client, response: BaseHTTPResponse, part: Part, address: str) -> None:
    """Stream the body behind ``start``; raise `TryError` for a web page or a body that breaks off."""
    part.go_on()
    first = not part.length
    for block in client.blocks(response, address, decode=_is_encoded(response, part)):
        if first and looks_like_web_page(block[:512]):
            part.empty()
            raise TryError(f"{address}: a web page came instead of the file", response.status)
        first = False
        part.write(block)


def _is_encoded(response: BaseHTTPResponse, part: Part) -> bool:
    """Whether the body was compressed for the way; some servers call a .gz file itself an encoding."""
    return bool(response.headers.get("Content-Encoding", "")) and not part.path.name.endswith(".gz.part")


def _range_start(response: BaseHTTPResponse) -> int:
    text = response.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0].strip()
    return int(text) if text.isdigit() else -1


def _version(response: BaseHTTPResponse) -> str:
    """What identifies this version of the file: a strong ETag, else Last-Modified; empty where the server names none, or
    where the body is compressed for the way (its bytes are not counted as ours are).
    """
    if response.headers.get("Content-Encoding", "") not in ("", "identity"):
        return ""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
