"""Releases that the table does not list yet: the next numbers of an archive's folders, new schemas of a table service."""

import csv
import io
import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs

from tullyflow.fetch.client import Client, TryError
from tullyflow.fetch.transfer import candidates
from tullyflow.surveys import Product

__all__ = ["new_releases", "new_tables", "place_of"]

log = logging.getLogger("tullyflow")

LOOK_AHEAD = 5  # release numbers beyond the newest
LONGEST_LISTING = 1 << 20
_NUMBERED = re.compile(r"DR(\d+)")


def new_releases(client: Client, rows: Sequence[dict], mirror: str | None) -> tuple[list[str], list[str]]:
    """Lines for the releases table, one per dataset of each release found beyond the newest of its survey; surveys that could not be asked.

    Surveys whose releases are numbered folders (``DR17`` at ``/dr17/``) are looked for under the next numbers: the folder that
    holds the versions is asked for, and where it lists them the newest takes the place of the old version.
    """
    lines, unasked = [], []
    for survey in dict.fromkeys(row["survey"] for row in rows):
        newest = max((int(m[1]) for row in rows if row["survey"] == survey and (m := _NUMBERED.fullmatch(row["release"]))), default=0)
        own = [row for row in rows if row["survey"] == survey and row["release"] == f"DR{newest}" and f"/dr{newest}/" in row["url"]]
        first = next((row for row in own if "{" not in row["url"] and _version_folder(row)), None)
        if first is None:
            continue
        for number in range(newest + 1, newest + 1 + LOOK_AHEAD):
            folder = _version_folder(first).replace(f"/dr{newest}/", f"/dr{number}/")
            status = _status(client, folder, mirror)
            if status == 200:
                lines += [_line(client, row, newest, number, mirror) for row in own]
            elif status == 0 or status >= 500:  # nor will the next number be answered
                unasked.append(survey)
                break
    return lines, unasked


def _version_folder(row: dict) -> str:
    """Address of the folder that holds the versions; empty where the address has no part that is the version."""
    first = row["version"].partition("-")[0]
    head, found, _ = row["url"].partition(f"/{first}/")
    return f"{head}/" if first and found else ""


def _line(client: Client, row: dict, old: int, number: int, mirror: str | None) -> str:
    """The row of a dataset with another release number, and the newest versions that its folders list."""
    url = row["url"].replace(f"/dr{old}/", f"/dr{number}/")
    versions, notes = [], []
    for part in row["version"].split("-"):
        folder = url.partition(f"/{part}/")[0] + "/"
        listed = [name for name in _listing(client, folder, mirror) if _like(name, part)]
        newest = max(listed, key=_numbers, default="")
        if not newest:
            notes.append(f"version {part} is that of DR{old}, not confirmed")
        versions.append(newest or part)
        url = url.replace(part, newest or part)
    if "-".join(versions) == row["version"] and not notes:
        notes.append(f"the version of DR{old}: no new data")
    place = url if "{" not in url else url.partition("{")[0].rpartition("/")[0] + "/"
    if _status(client, place, mirror) != 200:
        notes.append("address not confirmed")
    return _csv_line(row["survey"], f"DR{number}", row["dataset"], "-".join(versions), url, "; ".join(notes))


def new_tables(rows: Sequence[dict], services: dict[str, list[str] | str]) -> list[str]:
    """Lines for the releases table, one per table of each schema that no row names; ``services`` holds their tables by address."""
    lines = []
    for service, tables in services.items():
        if isinstance(tables, str):
            continue
        named = [parse_qs(row["url"].partition("?")[2]).get("table", [""])[0].lower() for row in rows if row["url"].startswith(service)]
        known = {name.partition(".")[0] for name in named}
        for full in tables:
            schema, _, table = full.rpartition(".")
            if schema.lower() not in known:
                survey, _, rest = schema.partition("_")
                lines.append(_csv_line(survey.lower(), rest.upper() or "?", table, rest.lower(), f"{service}?table={full}", "new schema"))
    return lines


def _csv_line(survey: str, release: str, dataset: str, version: str, url: str, note: str) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([survey, release, dataset, version, url, "", f"{datetime.now(UTC):%Y-%m-%d}", note])
    return text.getvalue()


def place_of(url: str, mirror: str | None) -> str | Path | None:
    """Where to ask for an address: an http address (a folder's ends with /), a place in a mirror's folder, or None."""
    places = candidates(Product("", "", (url,), ""), mirror)
    if places and isinstance(places[0], str) and url.endswith("/"):
        return places[0].rstrip("/") + "/"
    return places[0] if places else None


def _status(client: Client, url: str, mirror: str | None) -> int:
    """HTTP status of a HEAD request; 0 where none came, or none was sent."""
    place = place_of(url, mirror)
    if not isinstance(place, str):
        return 0
    try:
        with client.request("HEAD", place) as (response, _):
            return response.status
    except TryError as err:
        log.info("%s", err)
        return 0


def _listing(client: Client, folder: str, mirror: str | None) -> list[str]:
    """Names of the folders that a folder's web page links; none where there is no such page."""
    place = place_of(folder, mirror)
    if not isinstance(place, str):
        return []
    try:
        with client.request("GET", place) as (response, address):
            if response.status != 200 or "html" not in response.headers.get("Content-Type", ""):
                return []
            page = bytearray()
            for block in client.blocks(response, address, decode=True):
                page += block
                if len(page) > LONGEST_LISTING:
                    return []
    except TryError as err:
        log.info("%s", err)
        return []
    return re.findall(r'href="(?:\./)?([^"/?#]+)/"', page.decode("utf-8", "replace"))


def _like(name: str, version: str) -> bool:
    """Whether a folder's name is a version of the same form: v3_1_1 and v4_0_2."""
    return re.fullmatch(re.sub(r"\\?\d+", r"\\d+", re.escape(version)), name) is not None


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", name)))
