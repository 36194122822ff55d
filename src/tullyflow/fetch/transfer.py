"""One product: find it under its addresses or the mirror, link or download it, and say what became of it."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from tullyflow.fetch.part import identity
from tullyflow.fetch.verify import examine, sha256_of
from tullyflow.settings import Fetch
from tullyflow.surveys import Product

if TYPE_CHECKING:
    from tullyflow.fetch.client import Client
    from tullyflow.fetch.sums import SumLists

__all__ = ["candidates", "fetch_file"]

log = logging.getLogger("tullyflow")


def candidates(product: Product, mirror: str | None) -> list[str | Path]:
    """Where to look, in order: a Path for a local file, a text for an http address.

    With a mirror (a folder, file:// or http(s)://) ``scheme://host/path`` becomes ``{mirror}/host/path``; a file:// address is
    always itself. ``archive://`` addresses exist under a mirror only, services (``tap+``, ``bulk+``, ``private+``) without one only.
    """
    found: list[str | Path] = []
    for url in product.urls:
        parts = urlsplit(url)
        path = PurePosixPath(unquote(parts.path).lstrip("/"))
        if parts.scheme == "file":
            found.append(Path(unquote(parts.path)))
        elif ".." in path.parts or parts.netloc in ("", "..", "."):
            continue
        elif mirror is None:
            found += [url] if parts.scheme.rpartition("+")[2] in ("http", "https") else []
        elif "+" in parts.scheme:
            continue
        elif urlsplit(mirror).scheme in ("http", "https"):
            found.append(f"{mirror.rstrip('/')}/{parts.netloc}/{quote(str(path))}")
        else:
            base = Path(unquote(urlsplit(mirror).path)) if mirror.startswith("file://") else Path(mirror)
            found.append(base.absolute() / parts.netloc / path)
    return list(dict.fromkeys(found))


def fetch_file(
    product: Product,
    destination: str | Path,
    fetch: Fetch,
    mirror: str | None = None,
    *,
    previous: Mapping | None = None,
    client: "Client | None" = None,
    sums: "SumLists | None" = None,
) -> dict:
    """Bring one product to ``destination``; return its row of ``tables.MANIFEST``.

    A local file is linked (its content is the reader's business); a remote one is downloaded and checked. A file that is
    here already is kept without a request: by size and time where ``previous`` (its row of an earlier manifest) knows it,
    else after it was checked and its digest taken again. Status ``missing`` means that every address says the file does not exist.
    Raises nothing for what goes wrong with one file: that is status ``failed`` and its message.
    """
    destination = Path(destination)
    row = {
        "galaxy": product.galaxy, "product": product.product, "url": product.urls[0] if product.urls else "", "path": str(destination),
        "status": "failed", "http_status": 0, "bytes": 0, "mtime_ns": 0, "sha256": "", "tries": 0, "message": "",
    }  # fmt: skip
    try:
        return row | _fetch(product, destination, fetch, candidates(product, mirror), previous, client, sums)
    except OSError as err:
        return row | {"message": f"{err.filename or destination}: {err.strerror or err}"}


def _fetch(product: Product, destination: Path, fetch: Fetch, places: list, previous: Mapping | None, client, sums) -> dict:
    local = [place for place in places if isinstance(place, Path)]
    here = next((place for place in local if place.is_file()), None)
    if here is not None:
        _link(here, destination)
        return {"url": here.as_uri(), "status": "ok", **_content(destination, previous, product.sha256)}
    if destination.is_symlink():  # points to a file of another mirror, or to one that is gone
        destination.unlink()
    seen = identity(destination)
    if destination.is_file():
        kept = _keep(destination, previous, product, fetch)
        if kept:
            return kept
    remote = [place for place in places if isinstance(place, str) and not place.startswith("bulk+")]  # those come by the shard
    if not remote:
        where = ", ".join(map(str, local[:2])) or "an archive folder (setting mirror)"
        return {"status": "missing", "message": f"not found: {where}{' ...' if len(local) > 2 else ''}"}
    if client is not None:
        return _download(product, destination, fetch, remote, client, sums, seen)
    from tullyflow.fetch.client import open_client

    with open_client(fetch) as own:
        return _download(product, destination, fetch, remote, own, sums, seen)


def _download(product: Product, destination: Path, fetch: Fetch, remote: list[str], client: "Client", sums, seen) -> dict:
    from tullyflow.fetch.download import Expected, download
    from tullyflow.fetch.service import bearer, private_token, web_address
    from tullyflow.fetch.tap import fetch_table

    tries, answers = 0, []
    for url in remote:
        sha1 = sums.sha1_of(url) if sums is not None and "+" not in urlsplit(url).scheme else ""
        expected = Expected(product.sha256, sha1, product.hdus, product.columns)
        if url.startswith("tap+"):
            answer = fetch_table(client, url, destination, product.columns)
        elif url.startswith("private+"):
            answer = download(client, web_address(url), destination, fetch, expected, bearer(private_token(url)), seen)
        else:
            answer = download(client, url, destination, fetch, expected, seen=seen)
        tries += answer.tries
        if answer.status == "here":
            return _keep(destination, None, product, fetch) or {"url": url, "message": f"{destination}: came, but is spoilt; run again"}
        if answer.status == "ok":
            stat = destination.stat()
            return {
                "url": url, "status": "ok", "http_status": answer.http_status, "tries": tries,
                "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": answer.sha256,
            }  # fmt: skip
        answers.append((url, answer))
    # a mirror that could not answer outweighs one that says the file does not exist
    url, worst = next(((url, answer) for url, answer in answers if answer.status == "failed"), answers[0])
    return {"url": url, "status": worst.status, "http_status": worst.http_status, "tries": tries, "message": worst.message}


def _link(source: Path, destination: Path) -> None:
    """Make ``destination`` a symbolic link to the file, under its final name at once."""
    if destination.is_symlink() and os.readlink(destination) == str(source):
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(f".{destination.name}.{os.getpid()}.link")
    part.unlink(missing_ok=True)
    part.symlink_to(source)
    os.replace(part, destination)


def _known_digest(stat: os.stat_result, previous: Mapping | None) -> str:
    """Digest taken over from ``previous`` where length and time are the same; else empty."""
    if previous is None or previous["status"] != "ok":
        return ""
    return previous["sha256"] if (int(previous["bytes"]), int(previous["mtime_ns"])) == (stat.st_size, stat.st_mtime_ns) else ""


def _content(path: Path, previous: Mapping | None, sha256: str) -> dict:
    """Length, time and digest of a linked file."""
    stat = path.stat()
    digest = _known_digest(stat, previous) or sha256_of(path)
    if sha256 and digest != sha256.lower():
        return {"status": "failed", "bytes": stat.st_size, "message": f"{path}: SHA-256 is not the expected {sha256[:12]}..."}
    return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": digest}


def _keep(destination: Path, previous: Mapping | None, product: Product, fetch: Fetch) -> dict | None:
    """Row of a downloaded file that is here already; None where it has to be fetched again."""
    stat = destination.stat()
    digest = _known_digest(stat, previous)
    if not digest or (product.sha256 and digest != product.sha256.lower()):
        wanted = {"hdus": product.hdus, "columns": product.columns}
        found = examine(destination, destination.name, product.sha256, **wanted, sums=fetch.fits_sums)
        if found.problem:
            log.info("%s: is here, but %s; it is fetched again", destination, found.problem)
            return None
        digest = found.sha256
    known = previous is not None and previous["status"] == "ok" and previous["sha256"] == digest
    past = {"url": str(previous["url"]), "http_status": int(previous["http_status"]), "tries": int(previous["tries"])} if known else {}
    return {"status": "ok", **past, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": digest}
