"""Data Central's bulk service: one request per shard, a pause while the files are put together, one tar.gz, its files taken out.

The service wants an e-mail address (``DATACENTRAL_EMAIL``) or a token (``DATACENTRAL_TOKEN``); both come from the environment and
appear nowhere else. An address ``bulk+https://HOST/PATH?source=..&file=..&product=KEY&release=N&KEY=M`` names the object, the file
wanted, and the service's own numbers of the release and of the product KEY. Of the archive file nothing is trusted: regular
files are taken out under the exact names asked for, to places of ours, and checked like any download.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import tarfile
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, urljoin, urlsplit, urlunsplit

from tullyflow.errors import FetchError
from tullyflow.fetch.client import Client, TryError, remote_length
from tullyflow.fetch.download import download
from tullyflow.fetch.service import Reply, ask, bearer, private_token, web_address
from tullyflow.fetch.verify import examine
from tullyflow.surveys import Product
from tullyflow.tables import whole_file

__all__ = ["Wanted", "bulk_rows", "check_secrets", "fetch_bulk", "is_bulk", "unpack"]

log = logging.getLogger("tullyflow")

EMAIL, TOKEN = "DATACENTRAL_EMAIL", "DATACENTRAL_TOKEN"
POLL_S, LONGEST_POLL_S = 5.0, 60.0
LARGEST_FILE = 1 << 30
_FILES = "/services_data/public/download/{object_id}/{task_id}.tar.gz"
_FORM = "https://datacentral.org.au/services/download/"
_WAITING = ("pend", "queue", "start", "run", "progress", "wait", "receiv", "retry")
_FAILED = ("fail", "error", "revoke", "cancel", "abort")
_ID = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Wanted:
    """One file to take out of the archive file: its names there (one of them), where it goes, and the HDUs it must have."""

    names: tuple[str, ...]
    destination: Path
    hdus: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Place:
    """What a bulk+ address says."""

    service: str
    source: str
    file: str
    product: str
    product_number: str
    release_number: str


def is_bulk(product: Product) -> bool:
    """Whether, without a mirror, a product can be had from the bulk service only."""
    remote = [url for url in product.urls if not url.startswith(("archive:", "file:"))]
    return bool(remote) and all(url.startswith("bulk+") for url in remote)


def check_secrets(products: list[Product]) -> None:
    """Raise `FetchError` where products to be fetched need a secret that the environment does not hold, or a number nobody knows."""
    bulk = [product for product in products if is_bulk(product)]
    if bulk and not (os.environ.get(EMAIL) or os.environ.get(TOKEN)):
        what = ", ".join(dict.fromkeys(product.product for product in bulk))
        raise FetchError(
            f"{what} come from {_host(bulk[0])}'s bulk service, which asks for an e-mail address: set {EMAIL} (or {TOKEN}) in the "
            "environment, or set 'mirror' to a folder laid out like the archive."
        )
    places = [_place(url) for product in bulk for url in product.urls if url.startswith("bulk+")]
    unknown = sorted({place.product for place in places if not place.product_number.isdigit()})
    if any(not place.release_number.isdigit() for place in places):
        unknown = ["the release (release=)", *unknown]
    if unknown:
        raise FetchError(
            f"the bulk service's number of {', '.join(unknown)} is not known: read it in the form {_FORM} (the values of its choices) and "
            f"write it into the bulk+ address in the releases table; or set 'mirror' to a folder laid out like the archive."
        )
    for product in products:
        private = [url for url in product.urls if url.startswith("private+")]
        if private and len(private) == len(product.urls) and not private_token(private[0]):
            host = urlsplit(web_address(private[0])).hostname
            raise FetchError(
                f"{product.galaxy} {product.product} is private: set TULLYFLOW_TOKEN in the environment, or name {host} in ~/.netrc."
            )


def _host(product: Product) -> str:
    return urlsplit(web_address(product.urls[-1])).hostname or "the archive"


def _place(url: str) -> _Place:
    parts = urlsplit(web_address(url))
    said = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    missing = [name for name in ("source", "file", "product") if not said.get(name)]
    if missing:
        raise FetchError(f"releases table: {url[:120]}: the address of a bulk service needs {', '.join(missing)}=.")
    service = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    number = said.get(said["product"], "").strip()
    return _Place(service, said["source"], said["file"], said["product"], number, said.get("release", "").strip())


def bulk_rows(client: Client, products: list[Product], resources: str | Path) -> dict[str, dict]:
    """Fetch what only the bulk service has and is not here yet; return its rows of ``tables.MANIFEST`` by path."""
    absent = [product for product in products if is_bulk(product) and not (Path(resources) / product.path).is_file()]
    if not absent:
        return {}
    paths = [Path(resources) / product.path for product in absent]
    empty = {"status": "failed", "http_status": 0, "bytes": 0, "mtime_ns": 0, "sha256": "", "tries": 0, "message": ""}
    found = fetch_bulk(client, absent, paths, Path(resources) / ".bulk")
    return {
        str(path): {"galaxy": product.galaxy, "product": product.product, "path": str(path), **empty, **row}
        for product, path, row in zip(absent, paths, found, strict=True)
    }


def fetch_bulk(client: Client, products: list[Product], destinations: list[Path], scratch: Path) -> list[dict]:
    """Fetch products of one shard from the bulk service; return what to write into the manifest of each, in their order.

    One request per service and release. ``ok`` with length, time and digest; ``missing`` where the service's files do not hold it;
    ``failed`` for all where the service fails. A request that a killed run left is gone on with (``scratch`` keeps its address).
    """
    batches: dict[tuple[str, str], list[int]] = {}
    for number, product in enumerate(products):
        place = _place(next(url for url in product.urls if url.startswith("bulk+")))
        batches.setdefault((place.service, place.release_number), []).append(number)
    rows: list[dict] = [{}] * len(products)
    for (service, _), numbers in batches.items():
        chosen = [products[number] for number in numbers]
        wanted = [
            Wanted(tuple(_place(url).file for url in p.urls if url.startswith("bulk+")), destinations[number], p.hdus)
            for p, number in zip(chosen, numbers, strict=True)
        ]
        try:
            found = _fetch_batch(client, service, chosen, wanted, scratch)
        except TryError as err:
            found = [{"status": "failed", "http_status": err.http_status, "tries": 1, "message": _scrub(str(err))}] * len(wanted)
        for number, row in zip(numbers, found, strict=True):
            rows[number] = {"url": next(url for url in products[number].urls if url.startswith("bulk+")), **row}
    return rows


def _fetch_batch(client: Client, service: str, products: list[Product], wanted: list[Wanted], scratch: Path) -> list[dict]:
    places = [_place(next(url for url in product.urls if url.startswith("bulk+"))) for product in products]
    request = {
        "source_list": ",".join(dict.fromkeys(place.source for place in places)),
        "data_releases": [int(places[0].release_number)],
        "loose_matching": False,
        "data_products_ifs": sorted({int(place.product_number) for place in places}),
        "data_products_spectra": [],
    }
    scratch.mkdir(parents=True, exist_ok=True)
    note = scratch / f"{hashlib.sha256(json.dumps([service, request]).encode()).hexdigest()[:16]}.job"
    headers = bearer(os.environ.get(TOKEN, "").strip())
    job = _kept_job(client, note, service, headers) or _begin(client, service, request, headers)
    note.write_text(job)
    try:
        archive_url, task = _wait_for(client, job, service, headers)
    except TryError as err:
        if not err.again:  # this task is of no use to the next run
            note.unlink()
        raise
    archive = scratch / f"{task}.tar.gz"
    answer = download(client, archive_url, archive, client.fetch, headers=headers)
    if answer.status not in ("ok", "here"):
        raise TryError(answer.message, answer.http_status)
    log.info("bulk service: %s: %.1f MB for %d files", task, archive.stat().st_size / 1e6, len(wanted))
    try:
        return unpack(archive, wanted, tries=answer.tries, sums=client.fetch.fits_sums)
    finally:
        archive.unlink(missing_ok=True)
        note.unlink(missing_ok=True)


def _kept_job(client: Client, note: Path, service: str, headers: Mapping[str, str]) -> str:
    """Address of a request that an earlier run made and the service still knows; empty where there is none."""
    if not note.is_file():
        return ""
    job = note.read_text().strip()
    known = urlsplit(job).netloc == urlsplit(service).netloc and ask(client, "GET", job, headers=headers).status == 200
    note.unlink()
    return job if known else ""


def _begin(client: Client, service: str, request: dict, headers: Mapping[str, str]) -> str:
    """Ask for the files; return the address that says how far the service is."""
    email = os.environ.get(EMAIL, "").strip()
    reply = ask(client, "POST", service, data={**request, **({"email": email} if email else {})}, headers=headers)
    url = (reply.json() or {}).get("url", "") if reply.status in (200, 201, 202) and isinstance(reply.json(), dict) else ""
    if not url:
        raise TryError(_scrub(f"{service}: the bulk service refuses: HTTP {reply.status}: {_said(reply)}"), reply.status, again=False)
    job = urljoin(service, str(url))
    if urlsplit(job)[:2] != urlsplit(service)[:2]:
        raise TryError(f"{service}: the bulk service answers with an address elsewhere ({job})", reply.status, again=False)
    sources = request["source_list"].count(",") + 1
    log.info("bulk service: %d objects, products %s: asked for", sources, ", ".join(map(str, request["data_products_ifs"])))
    return job


def _wait_for(client: Client, job: str, service: str, headers: Mapping[str, str]) -> tuple[str, str]:
    """Wait until the files are put together; return the archive file's address and the task's name."""
    deadline, pause = time.monotonic() + client.fetch.total_timeout_s, POLL_S
    while True:
        reply = ask(client, "GET", job, headers=headers)
        said = reply.json()
        tasks = said.get("tasks") if isinstance(said, dict) else None
        if reply.status != 200 or (tasks is not None and not isinstance(tasks, list)):
            raise TryError(_scrub(f"{job}: HTTP {reply.status}: {_said(reply)}"), reply.status)
        task = tasks[0] if tasks and isinstance(tasks[0], dict) else {}
        state = str(task.get("status") or task.get("state") or "").lower()
        if any(word in state for word in _FAILED):
            sentence = f"{job}: the bulk service could not put the files together ({state}): {_said(reply)}"
            raise TryError(_scrub(sentence), reply.status, again=False)
        names = {"task_id": str(task.get("id", "")), "object_id": str(task.get("object_id", ""))}
        if all(_ID.fullmatch(name) for name in names.values()) and not any(word in state for word in _WAITING):
            address = urljoin(service, _FILES.format(**names))
            if remote_length(client, address, headers)[0] in (200, 405, 501):  # the latter two: no HEAD there
                return address, names["task_id"]
        if time.monotonic() + pause > deadline:
            waited = f"{client.fetch.total_timeout_s:g} s ({state or 'no state'})"
            raise TryError(f"{job}: the files are not ready after {waited}; run again to go on")
        client.pause(pause)
        pause = min(1.5 * pause, LONGEST_POLL_S)


def unpack(archive: Path, wanted: list[Wanted], *, tries: int = 1, sums: bool = True) -> list[dict]:
    """Take the files wanted out of a tar.gz; return what to write into the manifest of each, in their order.

    A file counts only under its exact name, whatever folder the archive file puts it in, and only as a regular file; links,
    devices and paths that lead upwards are passed over. A file that is not what its name says is ``failed``, one that is not there
    ``missing``, unless the archive file ends too soon: then it is ``failed``.
    """
    by_name = {name: number for number, want in enumerate(wanted) for name in want.names}
    rows: list[dict | None] = [None] * len(wanted)
    broken = ""
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                number = by_name.get(path.name)
                if number is None or (rows[number] is not None and rows[number]["status"] == "ok"):
                    continue
                if not member.isreg() or path.is_absolute() or ".." in path.parts or member.size > LARGEST_FILE:
                    log.warning("bulk service: %s: passed over (no plain file below the archive file's own folder)", member.name)
                    continue
                rows[number] = _take_out(tar, member, path.name, wanted[number], sums)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as err:
        broken = f"the archive file is damaged: {' '.join(str(err).split())}"
    status, why = ("failed", broken) if broken else ("missing", "the bulk service's files do not hold it")
    found = [row or {"status": status, "message": f"{want.names[0]}: {why}"} for row, want in zip(rows, wanted, strict=True)]
    return [{"http_status": 200, "tries": tries, **row} for row in found]


def _take_out(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, want: Wanted, sums: bool) -> dict:
    class Rejected(Exception):
        """The file is not what its name says; the part is removed."""

    try:
        with whole_file(want.destination) as part:
            with open(part, "wb") as out:
                shutil.copyfileobj(tar.extractfile(member), out, 1 << 18)
            found = examine(part, name, hdus=want.hdus, sums=sums)
            if found.problem:
                raise Rejected(found.problem)
    except Rejected as err:
        return {"status": "failed", "message": f"{name}: {err}"}
    stat = want.destination.stat()
    return {"status": "ok", "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": found.sha256}


def _said(reply: Reply) -> str:
    """The service's words, on one line."""
    return " ".join(reply.body[:300].decode("utf-8", "replace").split()) or "nothing"


def _scrub(text: str) -> str:
    """A message without the secrets that a service may have repeated."""
    for name in (EMAIL, TOKEN):
        secret = os.environ.get(name, "").strip()
        if secret:
            text = text.replace(secret, f"({name})")
    return text
