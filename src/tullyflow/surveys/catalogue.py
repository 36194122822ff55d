"""From a survey's catalogue to lists of targets: who is asked for, what is replaced, which job carries whom."""

import difflib
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.conventions import axis_ratio_from_inclination
from tullyflow.errors import CatalogueError
from tullyflow.settings import Settings
from tullyflow.surveys import get_survey
from tullyflow.surveys.rows import FIXED_COLUMNS, asked_galaxies, asked_rows, check_names, flag_missing, read_csv, same_name
from tullyflow.tables import MANIFEST, TARGETS, Column, conform, read_table, write_table

__all__ = ["UNKNOWN", "UNKNOWN_COLUMNS", "assign_shards", "list_targets"]

log = logging.getLogger("tullyflow")

_SHARDS = (Column("shard", "s", "", "shard"), Column("n", "i", "", "galaxies it carries"))
UNKNOWN = "unknown.csv"  # beside the shards, where galaxies are asked for by name
UNKNOWN_COLUMNS = (Column("galaxy", "s", "", "a name asked for that the release does not have"), Column("close", "s", "", "names like it"))
_REPLACEABLE = {c.name: c.kind for c in TARGETS if c.name not in FIXED_COLUMNS}


def list_targets(
    survey: str, release: str, manifest_path: str | Path, settings: Settings, out_dir: str | Path, shard_size: int | None = None
) -> list[Path]:
    """Write ``out_dir/{shard}.parquet`` (``tables.TARGETS``) per shard and ``out_dir/shards.csv``; return the shard files.

    ``manifest_path`` is the manifest of the release's catalogues. ``galaxies``, ``overrides`` and ``limit`` of the settings are
    applied in this order; shards are made before the limit, so that a larger limit only appends (and, where it brings the better
    observation of a galaxy, marks the other a repeat). A galaxy asked for that this
    release does not have is a warning (another release may have it); a release without any target makes no shard.
    ``shard_size`` replaces the survey's setting. Raises `CatalogueError` for a catalogue that is missing or unreadable.
    """
    adapter = get_survey(survey)
    manifest = read_table(manifest_path, MANIFEST)
    catalogues = {row.product: Path(row.path) for row in manifest.itertuples() if row.status == "ok"}
    frame = conform(adapter.targets(catalogues, release, settings).reset_index(drop=True), TARGETS, name=f"{survey} {release} targets")
    check_names(frame["galaxy"], f"{survey} {release}")
    found = len(frame)
    asked = asked_galaxies(settings, release)
    frame, unknown = _choose(frame, asked, f"{survey} {release}")
    if settings.overrides:
        frame = _replace(frame, Path(settings.overrides))
    frame["shard"] = assign_shards(frame, survey, release, shard_size or getattr(settings, survey).shard_size)
    if settings.limit is not None:
        frame = frame.head(settings.limit)
    paths = _write(frame, Path(out_dir), f"{survey}-{release}", found)
    if asked is not None:
        write_table(Path(out_dir) / UNKNOWN, unknown, UNKNOWN_COLUMNS)
    return paths


def _write(frame: pd.DataFrame, out_dir: Path, stem: str, found: int) -> list[Path]:
    out_dir.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(frame["shard"]))
    paths = [out_dir / f"{name}.parquet" for name in names]
    for stale in set(out_dir.glob(f"{stem}-*.parquet")) - set(paths):
        stale.unlink()
    for name, path in zip(names, paths, strict=True):
        write_table(path, frame[frame["shard"] == name].reset_index(drop=True), TARGETS)
    counts = frame["shard"].value_counts()
    write_table(out_dir / "shards.csv", pd.DataFrame({"shard": names, "n": [int(counts[name]) for name in names]}), _SHARDS)
    log.info("%s: %d galaxies in the catalogue, %d targets in %d shards", stem.replace("-", " "), found, len(frame), len(names))
    return paths


def _choose(frame: pd.DataFrame, asked: list[str] | None, where: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The galaxies asked for, in the order asked, and the names that are not here; case, blanks and underscores do not matter."""
    if asked is None:
        return frame, pd.DataFrame()
    known = {same_name(name) for name in frame["galaxy"]}
    unknown = [name for name in asked if same_name(name) not in known]
    close = [", ".join(difflib.get_close_matches(name, list(frame["galaxy"]), n=3)) if k < 10 else "" for k, name in enumerate(unknown)]
    for name, others in list(zip(unknown, close, strict=True))[:10]:
        log.warning("%s: no galaxy %s%s", where, name, f" (close: {others})" if others else "")
    if unknown:
        log.warning("%s: %d of %d galaxies asked for are not in this release", where, len(unknown), len(asked))
    return frame.iloc[asked_rows(frame["galaxy"], asked)].reset_index(drop=True), pd.DataFrame({"galaxy": unknown, "close": close})


def _replace(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Replace catalogue values by those of a CSV (galaxy, column, value); each change is said in the row's messages.

    ``inclination_deg`` stands for the axis ratio of an oblate disc. Rows of galaxies that are not here are for another survey.
    """
    table = read_csv(path, ("galaxy", "column", "value"), text=("galaxy", "column", "value", "note")).fillna("")
    known = (*_REPLACEABLE, "inclination_deg")
    wrong = [name for name in table["column"].str.strip() if name not in known]
    if wrong:
        close = difflib.get_close_matches(wrong[0], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}."
        raise CatalogueError(f"{path}: column {wrong[0]!r} cannot be replaced; {hint}")
    frame = frame.copy()
    row_of = {name: row for row, name in enumerate(frame["galaxy"])}
    for galaxy, name, text in zip(table["galaxy"].str.strip(), table["column"].str.strip(), table["value"].str.strip(), strict=True):
        if galaxy not in row_of:
            continue
        row, target = row_of[galaxy], "axis_ratio" if name == "inclination_deg" else name
        value = text if _REPLACEABLE[target] == "s" else _number(text, path, galaxy, name)
        if name == "inclination_deg":
            value = float(axis_ratio_from_inclination(value))
        old = frame.at[row, target]
        frame.at[row, target] = int(value) if _REPLACEABLE[target] == "i" else value
        frame.at[row, "messages"] = f"{frame.at[row, 'messages']} {name} replaced by {text} ({target} was {old}).".strip()
        log.info("%s: %s replaced by %s (%s was %s)", galaxy, name, text, target, old)
    return flag_missing(frame)


def _number(text: str, path: Path, galaxy: str, name: str) -> float:
    try:
        return float(text) if text else float("nan")
    except ValueError as err:
        raise CatalogueError(f"{path}: {name} of {galaxy} is {text!r}; a number is needed.") from err


def assign_shards(frame: pd.DataFrame, survey: str, release: str, size: int) -> np.ndarray:
    """Names of the shards, ``{survey}-{release}-{nnn}``, filled in the order of the rows with up to ``size`` galaxies.

    The galaxies of one MaNGA plate share a shard (one that fits into none is a shard of its own), whatever lies between
    them in the list. Rows appended to the list leave the shards before them as they are.
    """
    groups = [name.partition("-")[0] if survey == "manga" else name for name in frame["galaxy"]]
    sizes = Counter(groups)
    shard_of, number, filled = {}, 0, 0
    for group in dict.fromkeys(groups):
        if filled and filled + sizes[group] > size:
            number, filled = number + 1, 0
        shard_of[group] = number
        filled += sizes[group]
    return np.array([f"{survey}-{release}-{shard_of[group]:03d}" for group in groups], dtype=object)
