"""Where each release lies: ``config/releases.csv``, read once, turned into addresses."""

import csv
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from tullyflow.errors import CatalogueError
from tullyflow.settings import Settings
from tullyflow.surveys import Product

__all__ = ["addresses", "catalogue_product", "datasets", "file_name", "galaxy_product", "kept_under", "known_releases", "release_rows"]

_COLUMNS = ("survey", "release", "dataset", "version", "url", "sha256", "added", "note")


@lru_cache(maxsize=8)
def _rows(path: str, mtime_ns: int) -> tuple[dict[str, str], ...]:
    """Rows of the table; ``mtime_ns`` makes an edited table a new one."""
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            missing = [c for c in _COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                raise CatalogueError(f"{path}: column(s) {', '.join(missing)} missing; a releases table has {','.join(_COLUMNS)}.")
            return tuple(reader)
    except UnicodeDecodeError as err:
        raise CatalogueError(f"{path}: not a text table: {err}.") from err


def release_rows(settings: Settings) -> tuple[dict[str, str], ...]:
    """Rows of the releases table, in its order; raise `CatalogueError` where it is absent or unreadable."""
    path = Path(settings.releases)
    if not path.is_file():
        raise CatalogueError(f"{path}: no such releases table; set 'releases' to the CSV that lists the addresses.")
    return _rows(str(path), path.stat().st_mtime_ns)


def known_releases(survey: str, settings: Settings) -> list[str]:
    """Releases of a survey that the table lists, in its order; ``local`` has the user's only."""
    if survey == "local":
        return ["user"]
    return list(dict.fromkeys(row["release"] for row in release_rows(settings) if row["survey"] == survey))


def datasets(survey: str, release: str, settings: Settings) -> list[str]:
    """Datasets that the table lists of a release, in its order."""
    return list(dict.fromkeys(row["dataset"] for row in release_rows(settings) if (row["survey"], row["release"]) == (survey, release)))


def _dataset(survey: str, release: str, dataset: str, settings: Settings) -> list[dict[str, str]]:
    """Rows of a dataset, followed by those of other releases that state the same version of it."""
    rows = release_rows(settings)
    same = [row for row in rows if (row["survey"], row["dataset"]) == (survey, dataset)]
    own = [row for row in same if row["release"] == release]
    versions = {row["version"] for row in own} - {""}
    return own + [row for row in same if row["release"] != release and row["version"] in versions]


def kept_under(survey: str, release: str, dataset: str, settings: Settings) -> str:
    """Name of the release whose folder holds a dataset: the first of the table that states the same version of it.

    So MaNGA's DR16, which has the versions of DR15, shares its files and none is fetched twice.
    """
    sharing = {row["release"] for row in _dataset(survey, release, dataset, settings)}
    return next((name for name in known_releases(survey, settings) if name in sharing), release)


def addresses(survey: str, release: str, dataset: str, settings: Settings, **fields: str) -> tuple[str, ...]:
    """Addresses of one file, in the order to try them: the release's own, then those of releases that share its version.

    ``fields`` fill the ``{name}`` places of the addresses. Raises `CatalogueError` where the table has no such
    dataset or an address has a place nobody fills.
    """
    rows = _dataset(survey, release, dataset, settings)
    if not any(row["release"] == release for row in rows):
        raise CatalogueError(f"{settings.releases}: no row {survey},{release},{dataset}; add one with the address of the files.")
    try:
        return tuple(row["url"].format(**fields) for row in rows)
    except (KeyError, IndexError, ValueError) as err:
        raise CatalogueError(
            f"{settings.releases}: {survey},{release},{dataset}: the address needs {err}, known: {', '.join(fields) or 'nothing'}."
        ) from err


def catalogue_product(
    survey: str, release: str, dataset: str, settings: Settings, spellings: tuple[str, ...] = (), hdus: tuple[str, ...] = ()
) -> Product:
    """One catalogue file of a release; ``spellings`` are other file names it may have in the same folder, ``hdus`` as in `Product`."""
    urls = addresses(survey, release, dataset, settings)
    others = [f"{url.rpartition('/')[0]}/{name}" for url in urls if not urlsplit(url).query for name in spellings]
    rows = _dataset(survey, release, dataset, settings)
    sums = {row["sha256"] for row in rows} - {""}
    holder = kept_under(survey, release, dataset, settings)
    name = file_name(next(row["url"] for row in rows if row["release"] == holder))
    return Product(
        galaxy=release,
        product=dataset,
        urls=tuple(dict.fromkeys((*urls, *others))),
        path=f"{survey}/{holder}/catalogues/{name}",
        sha256=sums.pop() if len(sums) == 1 else "",
        hdus=hdus,
    )


def galaxy_product(galaxy: str, product: str, urls: tuple[str, ...], folder: str, hdus: tuple[str, ...] = ()) -> Product:
    """One file of one galaxy, kept under its own name in ``folder`` (below the resources)."""
    return Product(galaxy=galaxy, product=product, urls=urls, path=f"{folder}/{file_name(urls[0])}", hdus=hdus)


def file_name(url: str) -> str:
    """Last part of an address."""
    return PurePosixPath(urlsplit(url).path).name
