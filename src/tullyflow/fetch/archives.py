"""The releases table against the world: what of it is on disk, and what the archives say has changed, vanished or appeared.

Archives are asked for headers (HEAD) and lists of tables, never for files, a few connections at a time. What they said is kept in
``releases.csv`` below the resources, so that the next look can tell a changed file from the same one.
"""

import fnmatch
import logging
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pandas as pd

from tullyflow.fetch.client import Client, TryError, open_client
from tullyflow.fetch.newcomers import new_releases, new_tables, place_of
from tullyflow.fetch.tap import list_tables
from tullyflow.settings import Settings
from tullyflow.surveys.releases import file_name, kept_under, release_rows
from tullyflow.tables import Column, read_table, write_table

__all__ = ["Check", "Finding", "Holding", "check_archives", "holdings"]

log = logging.getLogger("tullyflow")

CONNECTIONS = 4
_RECORD = (
    Column("url", "s", "", "address asked, as in the releases table; for files of galaxies their folder"),
    Column("etag", "s", "", "what identifies the file's version"),
    Column("last_modified", "s", "", "when the archive says it changed"),
    Column("length", "i", "byte", "its length, -1 where the archive does not say"),
    Column("checked", "s", "", "when it was last there, UTC"),
)


@dataclass(frozen=True)
class Holding:
    """A dataset of a release: its version, the release whose folder keeps it, and what of it is on disk."""

    survey: str
    release: str
    dataset: str
    version: str
    kept_under: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Finding:
    """What an archive says of an address: ``state`` is there, new (not asked before), changed, vanished, absent (never seen),
    refused, unreachable or not asked; ``detail`` says more.
    """

    survey: str
    release: str
    dataset: str
    url: str
    state: str
    detail: str = ""


@dataclass(frozen=True)
class Check:
    """All findings, the lines to add to the releases table for what has appeared, and the surveys that could not be asked for it."""

    findings: list[Finding]
    rows: list[str]
    unasked: list[str]

    @property
    def unanswered(self) -> bool:
        """Whether archives were asked and none answered."""
        return {finding.state for finding in self.findings} - {"not asked"} == {"unreachable"}


def holdings(settings: Settings) -> list[Holding]:
    """List every dataset of the table with the number and length of its files below the resources.

    A file is counted by its name, in the folder of the release that keeps it (`kept_under`); links count with the length of what
    they point to, unfinished files (``.part``) do not count.
    """
    listed: dict[tuple[str, str], list[tuple[str, int]]] = {}
    found, rows = [], release_rows(settings)
    for survey, release, dataset in dict.fromkeys((row["survey"], row["release"], row["dataset"]) for row in rows):
        own = [row for row in rows if (row["survey"], row["release"], row["dataset"]) == (survey, release, dataset)]
        holder = kept_under(survey, release, dataset, settings)
        if (survey, holder) not in listed:
            listed[survey, holder] = list(_files(Path(settings.resources) / survey / holder))
        shared = [row for row in rows if (row["survey"], row["release"], row["dataset"]) == (survey, holder, dataset)]
        names = {re.sub(r"\{[^}]*\}", "*", file_name(row["url"])) for row in (*own, *shared)} - {""}
        pattern = re.compile("|".join(fnmatch.translate(name) for name in sorted(names)) or r"(?!)")
        sizes = [size for name, size in listed[survey, holder] if pattern.fullmatch(name)]
        found.append(Holding(survey, release, dataset, own[0]["version"], holder, len(sizes), sum(sizes)))
    return found


def _files(folder: Path):
    """Name and length of every whole file below a folder; links that lead nowhere are left out."""
    for place, _, names in os.walk(folder):
        for name in names:
            if not name.startswith("."):
                try:
                    yield name, os.stat(os.path.join(place, name)).st_size
                except OSError:
                    continue


def check_archives(settings: Settings) -> Check:
    """Ask the archives of all releases what is there; compare with the last look, keep this one, and look for new releases.

    A file's ETag, Last-Modified and length are compared with those recorded; before the first look its length with that of the
    file on disk. Of files of galaxies the folder is asked for. Addresses that need an e-mail or a token are not asked, nor
    those that exist under a mirror only where there is none. Raises `CatalogueError` for an unreadable table.
    """
    rows = release_rows(settings)
    path = Path(settings.resources) / "releases.csv"
    record = {row["url"]: row for row in read_table(path, _RECORD).to_dict("records")} if path.is_file() else {}
    fetch = settings.fetch.model_copy(update={"connections_per_host": min(CONNECTIONS, settings.fetch.connections_per_host)})
    with open_client(fetch) as client, ThreadPoolExecutor(CONNECTIONS) as pool:
        services = _tables_of(client, rows) if settings.mirror is None else {}
        places = list(dict.fromkeys(place for row in rows if isinstance(place := _place(row["url"], settings.mirror), str)))
        heads = dict(zip(places, pool.map(lambda place: _head(client, place), places), strict=True))
        answers = [_judge(row, settings, record, heads, services) for row in rows]
        appeared, unasked = new_releases(client, rows, settings.mirror)
        appeared += new_tables(rows, services)
    silent = tuple(service for service, tables in services.items() if isinstance(tables, str))
    unasked += [row["survey"] for row in rows if silent and row["url"].startswith(silent)]
    kept = record | {row["url"]: row for _, row in answers if row is not None}
    write_table(path, pd.DataFrame(sorted(kept.values(), key=lambda row: row["url"]), columns=[c.name for c in _RECORD]), _RECORD)
    return Check([finding for finding, _ in answers], appeared, list(dict.fromkeys(unasked)))


def _tables_of(client: Client, rows: Sequence[dict]) -> dict[str, list[str] | str]:
    """Tables of each TAP service by its address; the sentence that it did not answer where it did not."""
    found: dict[str, list[str] | str] = {}
    for url in dict.fromkeys(row["url"].partition("?")[0] for row in rows if row["url"].startswith("tap+")):
        families = {row["survey"] for row in rows if row["url"].startswith(url)} | {"hector"}
        try:
            found[url] = list_tables(client, url, sorted(families))
        except TryError as err:
            found[url] = str(err)
    return found


def _asked(url: str) -> str:
    """What is asked for: the address itself, or the folder above the first part that a galaxy's name fills."""
    head, brace, _ = url.partition("{")
    return head.rpartition("/")[0] + "/" if brace else url


def _place(url: str, mirror: str | None) -> str | Path | None:
    """Where that is; None where it cannot be asked for headers."""
    return None if "+" in urlsplit(url).scheme else place_of(_asked(url), mirror)


def _head(client: Client, url: str) -> tuple[int, dict, str]:
    """HTTP status, headers, and what went wrong, of a HEAD request; one more try where the archive asks for patience."""
    for last in (False, True):
        try:
            with client.request("HEAD", url) as (response, _):
                if response.status < 500 or last:
                    return response.status, dict(response.headers.items()), ""
        except TryError as err:
            if last or not err.again:
                return 0, {}, " ".join(str(err).split())
        client.pause(1.0)
    raise AssertionError("unreachable: the last try returns")


def _judge(row: dict, settings: Settings, record: dict, heads: dict, services: dict) -> tuple[Finding, dict | None]:
    """Finding of one row, and what to record of it (None: keep what is recorded)."""
    url, place = row["url"], _place(row["url"], settings.mirror)
    service = "+" in urlsplit(url).scheme
    finding = Finding(row["survey"], row["release"], row["dataset"], url if service else _asked(url), "not asked")
    if url.startswith("tap+"):
        return _judge_table(finding, services, record)
    if service:
        return replace(finding, detail="needs an e-mail address or a token"), None
    if place is None:
        return replace(finding, detail="exists under a mirror only"), None
    if isinstance(place, Path):
        return replace(finding, state="there" if place.exists() else "absent", detail=str(place)), None
    return _judge_answer(finding, *heads[place], record, settings)


def _judge_answer(
    finding: Finding, status: int, headers: Mapping[str, str], wrong: str, record: dict, settings: Settings
) -> tuple[Finding, dict | None]:
    """The same of a HEAD request's answer: ``wrong`` says why there is none."""
    old, folder = record.get(finding.url), finding.url.endswith("/")
    if status in (404, 410):
        return replace(finding, state="vanished" if old else "absent", detail=f"HTTP {status}"), None
    if status in (401, 403):
        what = "the folder cannot be listed; its files may be there" if folder else f"HTTP {status}"
        return replace(finding, state="refused", detail=what), None
    if status != 200:
        return replace(finding, state="unreachable", detail=wrong or f"HTTP {status}"), None
    new = _recorded(finding.url, {} if folder else headers)  # a folder's headers are those of its listing
    differences = _differences(old, new) if old else _differs_from_disk(finding, new, settings)
    return replace(finding, state="changed" if differences else "there" if old else "new", detail=differences), new


def _recorded(url: str, headers: Mapping[str, str]) -> dict:
    known = {name.lower(): value for name, value in headers.items()}
    length = known.get("content-length", "")
    return {
        "url": url, "etag": known.get("etag", ""), "last_modified": known.get("last-modified", ""),
        "length": int(length) if length.isdigit() else -1, "checked": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }  # fmt: skip


def _differences(old: dict, new: dict) -> str:
    """What differs of what both looks know."""
    pairs = [(name.replace("_", "-"), old[name], new[name]) for name in ("length", "etag", "last_modified")]
    return "; ".join(f"{name} {was} -> {now}" for name, was, now in pairs if was not in ("", -1) and now not in ("", -1) and was != now)


def _differs_from_disk(finding: Finding, new: dict, settings: Settings) -> str:
    """Before the first look: whether a catalogue here is as long as the archive's."""
    if finding.url.endswith("/") or new["length"] < 0:
        return ""
    holder = kept_under(finding.survey, finding.release, finding.dataset, settings)
    path = Path(settings.resources) / finding.survey / holder / "catalogues" / file_name(finding.url)
    if not path.is_file() or path.stat().st_size == new["length"]:
        return ""
    return f"{path} has {path.stat().st_size} bytes, the archive's file {new['length']}"


def _judge_table(finding: Finding, services: dict, record: dict) -> tuple[Finding, dict | None]:
    service, _, query = finding.url.partition("?")
    tables = services.get(service)
    if tables is None:
        return replace(finding, detail="not used where a mirror is set"), None
    if isinstance(tables, str):
        return replace(finding, state="unreachable", detail=tables), None
    name = parse_qs(query).get("table", [""])[0]
    old = record.get(finding.url)
    if name.lower() not in (table.lower() for table in tables):
        return replace(finding, state="vanished" if old else "absent", detail=f"{urlsplit(service).netloc} lists no such table"), None
    return replace(finding, state="there" if old else "new"), _recorded(finding.url, {})
