"""What a run would fetch: files, bytes and the disk they need, before anything is fetched."""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tullyflow.errors import CatalogueError
from tullyflow.fetch.client import Client, TryError, open_client, remote_length
from tullyflow.fetch.releases_page import columns, size
from tullyflow.fetch.transfer import candidates
from tullyflow.settings import Settings
from tullyflow.surveys import Product, get_survey
from tullyflow.surveys.catalogue import list_targets
from tullyflow.tables import MANIFEST, TARGETS, read_table, write_table

__all__ = ["Part", "plan", "plan_lines"]

SAMPLE = 20  # files of a dataset that are asked for their length


@dataclass(frozen=True)
class Part:
    """One dataset of a release: files wanted, those here, those to come; their length in bytes, and from how many that is known.

    ``links`` of the files to come lie in a mirror's folder and need no room. ``absent``: files that the archive does not have, as
    far as the ones asked say. ``bytes`` is None where nothing is known.
    """

    survey: str
    release: str
    dataset: str
    files: int
    here: int
    to_come: int
    links: int
    absent: int
    bytes: int | None
    asked: int


@dataclass(frozen=True)
class Plan:
    """All parts; ``first`` names the releases whose galaxies are not known before their catalogues are here."""

    parts: list[Part]
    first: list[tuple[str, str]]


def plan(settings: Settings, survey: str | None = None, release: str | None = None) -> Plan:
    """Count what a run with these settings would fetch, or one survey, or one release of it; nothing is fetched.

    The galaxies are those of the run's target lists, else of catalogues below the resources. Lengths are those of the mirror's
    files, or of up to 20 files per dataset, evenly chosen, that the archive is asked for (HEAD), scaled to all.
    """
    parts, first = [], []
    with open_client(settings.fetch) as client:
        for name in [survey] if survey else settings.surveys:
            seen, section = settings.for_survey(name), getattr(settings, name)
            used = dict.fromkeys([*section.releases, *([section.train_release] if section.train_release else [])])
            for one in [release] if release else used:
                catalogues = get_survey(name).catalogue_products(one, seen)
                products, known = list(catalogues), _targets(name, one, catalogues, seen)
                if known is None:
                    first.append((name, one))
                else:
                    for target in known.to_dict("records"):
                        products += get_survey(name).products(target, one, seen)
                parts += _parts(client, name, one, products, {product.path for product in catalogues}, seen)
    return Plan(parts, first)


def _targets(survey: str, release: str, catalogues: Sequence[Product], settings: Settings) -> pd.DataFrame | None:
    """Targets of a release: of the run's lists, else of the catalogues that are here; None where neither says them."""
    lists = sorted(Path(f"results/{settings.run}/targets/{survey}-{release}").glob("*.parquet"))
    if lists:
        return pd.concat([read_table(path, TARGETS) for path in lists], ignore_index=True)
    here = [(product, _place(product, settings)) for product in catalogues]
    if any(place is None for _, place in here) and not any(place is not None for _, place in here):
        return None
    with tempfile.TemporaryDirectory() as folder:
        rows = [{"galaxy": release, "product": p.product, "path": str(place), "status": "ok"} for p, place in here if place is not None]
        manifest = Path(folder) / "catalogue.csv"
        write_table(manifest, pd.DataFrame(rows, columns=["galaxy", "product", "path", "status"]), MANIFEST)
        logger = logging.getLogger("tullyflow")
        level, logger_level = logging.ERROR, logger.level
        logger.setLevel(level)  # the same lines come when the run lists them
        try:
            paths = list_targets(survey, release, manifest, settings, Path(folder) / "targets")
        except CatalogueError:  # a table that the others need is not here yet
            return None
        finally:
            logger.setLevel(logger_level)
        tables = [read_table(path, TARGETS) for path in paths]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[column.name for column in TARGETS])


def _place(product: Product, settings: Settings) -> Path | None:
    """Where a file is already: below the resources, or in a mirror's folder."""
    kept = Path(settings.resources) / product.path
    places = [kept, *(place for place in candidates(product, settings.mirror) if isinstance(place, Path))]
    return next((place for place in places if place.is_file()), None)


def _parts(client: Client, survey: str, release: str, products: list[Product], catalogues: set[str], settings: Settings) -> list[Part]:
    by_dataset: dict[str, list[Product]] = {}
    for product in products:
        by_dataset.setdefault("catalogues" if product.path in catalogues else product.product, []).append(product)
    return [_part(client, survey, release, name, group, settings) for name, group in by_dataset.items()]


def _part(client: Client, survey: str, release: str, dataset: str, products: list[Product], settings: Settings) -> Part:
    kept = [(Path(settings.resources) / product.path).is_file() for product in products]
    absent = [product for product, here in zip(products, kept, strict=True) if not here]
    linked, remote, nowhere = 0, [], 0
    for product in absent:
        places = candidates(product, settings.mirror)
        web = [place for place in places if isinstance(place, str)]
        if any(isinstance(place, Path) and place.is_file() for place in places):
            linked += 1
        elif web:
            remote.append([place for place in web if place.startswith("http")])
        else:
            nowhere += 1
    lengths, missing, asked = _ask(client, remote)
    total = 0 if missing or not remote else None
    if lengths:
        total = round(sum(lengths) / asked * len(remote))
    gone = nowhere + (round(missing / asked * len(remote)) if asked else 0)
    return Part(survey, release, dataset, len(products), sum(kept), len(absent) - gone, linked, gone, total, asked)


def _ask(client: Client, files: Sequence[Sequence[str]]) -> tuple[list[int], int, int]:
    """Lengths of up to 20 files, evenly chosen; how many of those asked the archive does not have; how many answered."""
    chosen = [files[k * len(files) // SAMPLE] for k in range(SAMPLE)] if len(files) > SAMPLE else list(files)
    with ThreadPoolExecutor(client.fetch.connections) as pool:
        answers = list(pool.map(lambda places: _length(client, places), chosen))
    lengths = [answer for answer in answers if answer is not None and answer >= 0]
    missing = sum(answer == -1 for answer in answers)
    return lengths, missing, len(lengths) + missing


def _length(client: Client, places: Sequence[str]) -> int | None:
    """Length of a file at the first address that says it; -1 where all say that there is none, None where nobody knows."""
    codes = []
    for place in places:
        try:
            code, length = remote_length(client, place)
        except TryError:
            code, length = 0, None
        if length is not None:
            return length
        codes.append(code)
    return -1 if codes and all(code in (404, 410) for code in codes) else None


def plan_lines(settings: Settings, survey: str | None, release: str | None, source: str) -> list[str]:
    """The plan as lines for people, with the free space, and what to do where the catalogues have to come first."""
    found = plan(settings, survey, release)
    rows = [("survey", "release", "dataset", "files", "here", "to fetch", "bytes", "")]
    for part in found.parts:
        length = "not known" if part.bytes is None else size(part.bytes)
        rows.append((part.survey, part.release, part.dataset, *map(str, (part.files, part.here, part.to_come)), length, _remark(part)))
    lines = columns(rows, right=(3, 4, 5, 6)) if found.parts else ["nothing to fetch: the surveys of this run have no files of their own"]
    needed, unknown = sum(part.bytes or 0 for part in found.parts), any(part.bytes is None for part in found.parts)
    place = Path(settings.resources).absolute()
    while not place.exists():
        place = place.parent
    free, margin = shutil.disk_usage(place).free, settings.fetch.disk_margin_gb * 1e9
    come = sum(part.to_come for part in found.parts)
    more = " and what is not known" if unknown else ""
    lines.append(f"to fetch: {come} files, {size(needed)}{more}; free in {place}: {size(free)}, of which {size(margin)} stay free")
    if needed + margin > free:
        short = size(needed + margin - free)
        lines.append(f"this does not fit: {short} are missing; make room, or set 'resources' to a folder on another disk")
    for name, one in found.first:
        files = sum(part.to_come for part in found.parts if (part.survey, part.release) == (name, one))
        lines.append(
            f"{name} {one}: its {files} catalogue file(s) come first, they name the galaxies; fetch them and ask again: tullyflow fetch "
            f"--survey {name} --release {one} --settings {source} --out results/{settings.run}/catalogue/{name}-{one}.csv"
        )
    return lines


def _remark(part: Part) -> str:
    notes = []
    if part.bytes and part.asked < part.to_come - part.links:
        notes.append(f"bytes scaled from {part.asked} files")
    if part.links:
        notes.append(f"{part.links} are linked from the mirror and need no room")
    if part.absent:
        some = 0 < part.asked < part.files - part.here - part.links
        notes.append(f"{'about ' if some else ''}{part.absent} are not in the archive")
    return "; ".join(notes)
