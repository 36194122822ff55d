"""Tell the whole story of one galaxy of a run, from the run's own tables: nothing is computed anew, nothing is written."""

import difflib
import json
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.errors import CatalogueError, SettingsError
from tullyflow.report.checks import Check, check_galaxy
from tullyflow.report.standing import Standing, find_standings
from tullyflow.report.story import Section, story
from tullyflow.settings import Relation, Settings, parse_settings
from tullyflow.tables import SAMPLE, conform

__all__ = ["Explained", "explain", "find_sample", "record", "words"]

_NEEDED = ("galaxy", "survey", "release", "shard", "flags", "used")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # what may become part of a path
_WIDTHS = (60, 160)
_NARROWEST = 20  # of a column whose cells go over several lines
_DEFAULT_ERRORS = "The errors of the masses and magnitudes are those of default settings: the run's own are not here."


@dataclass(frozen=True)
class Explained:
    """The story of a galaxy: ``sections`` in words, and beside them its cuts and its places in the relations as values."""

    galaxy: str
    survey: str
    release: str
    used: bool
    sample: Path
    sections: tuple[Section, ...]
    checks: tuple[Check, ...]
    standings: tuple[Standing, ...]


def find_sample(run: str | None, results: Path = Path("results")) -> Path:
    """Return ``results/{run}/sample.parquet``; without a run that of the only run, or of the newest.

    Raises `SettingsError` for a run that is not there, or none at all.
    """
    found = sorted(results.glob("*/sample.parquet"), key=lambda path: path.stat().st_mtime)
    there = f"Runs here: {', '.join(sorted(path.parent.name for path in found)) or 'none'}."
    if run is not None:
        path = results / run / "sample.parquet"
        if not _PLAIN_NAME.fullmatch(run) or not path.is_file():
            raise SettingsError(f"--run {run}: there is no {results}/{run}/sample.parquet. {there} A table elsewhere is --sample PATH.")
        return path
    if not found:
        raise SettingsError(f"explain: there is no {results}/*/sample.parquet here; give --sample PATH, or go to where the runs are.")
    return found[-1]


def explain(sample_path: Path, asked: str, survey: str | None = None) -> Explained:
    """Tell the story of the galaxy called ``asked``: a name, or RELEASE/NAME, SURVEY/NAME, SURVEY-RELEASE/NAME.

    Capitals and blanks in the name do not matter. Settings, manifest and fits are taken from the run's folder, where ``sample_path`` lies;
    what is not there is said to be unknown. Raises `CatalogueError` for an unreadable table, a name that is not in it (the nearest
    ones are named) or one that is of several galaxies (they are listed).
    """
    sample = _read_sample(sample_path)
    row = sample.loc[[_find(sample, asked, survey, sample_path)]]
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in row.iloc[0].items()}
    folder = _run_folder(sample_path)
    settings = _settings(folder)
    fits = _fits(folder)
    standings = None
    if fits:
        standings = find_standings(conform(row[[c.name for c in SAMPLE if c.name in row]], SAMPLE), fits, _fit_settings(settings))
    sections = story(values, settings, _manifest(folder, values), standings)
    notes = [_DEFAULT_ERRORS] if standings and settings is None else []
    notes += [f"No line: {error}" for error in dict.fromkeys(str(fit["error"]) for fit in fits if "error" in fit)]
    sections = [replace(s, sentences=(*s.sentences, *notes)) if s.title == "In the relations" else s for s in sections]
    return Explained(
        values["galaxy"], values["survey"], values["release"], bool(values["used"]), sample_path, tuple(sections),
        tuple(check_galaxy(values, settings)), tuple(standings or ()),
    )  # fmt: skip


def _read_sample(path: Path) -> pd.DataFrame:
    """The table as it is: one of another version may lack columns, and their values are then not known."""
    if not path.is_file():
        raise CatalogueError(f"{path}: no such table.")
    try:
        sample = pd.read_parquet(path)
    except (OSError, ValueError) as err:
        raise CatalogueError(f"{path}: not a readable Parquet table: {' '.join(str(err).split())}.") from err
    missing = [name for name in _NEEDED if name not in sample]
    if missing:
        raise CatalogueError(f"{path}: column(s) {', '.join(missing)} missing; give a run's sample.parquet.")
    return sample.reset_index(drop=True)


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", "", name).casefold()


def _find(sample: pd.DataFrame, asked: str, survey: str | None, path: Path) -> int:
    """The index of the one row that ``asked`` names."""
    chosen = sample
    if survey is not None:
        chosen = sample[sample["survey"] == survey.casefold()]
        if chosen.empty:
            there = ", ".join(sorted(sample["survey"].unique())) or "nothing"
            raise CatalogueError(f"--survey {survey}: {path} holds {there}.")
    names = chosen["galaxy"].astype(str)
    rows = _called(chosen, names, asked)
    if rows.empty and "/" in asked:
        group, _, name = asked.rpartition("/")
        pairs = zip(chosen["survey"].str.casefold(), chosen["release"].str.casefold(), strict=True)
        of_group = [group.casefold() in (survey, release, f"{survey}-{release}") for survey, release in pairs]
        rows = _called(chosen[of_group], names[of_group], name)
    if rows.empty:
        plain = {_plain(name): name for name in names}
        near = [plain[key] for key in difflib.get_close_matches(_plain(asked.rpartition("/")[2]), plain, n=5, cutoff=0.5)]
        hint = f"the nearest names are {', '.join(near)}" if near else f"it holds {len(names)} galaxies, e.g. {', '.join(names[:3])}"
        raise CatalogueError(f"{asked}: no such galaxy in {path}; {hint}.")
    if len(rows) > 1:
        choices = ", ".join(f"{r.survey}-{r.release}/{r.galaxy} ({'used' if r.used else 'not used'})" for r in rows.itertuples())
        raise CatalogueError(f"{asked}: {len(rows)} rows of {path} are called so; say which: {choices}.")
    return rows.index[0]


def _called(chosen: pd.DataFrame, names: pd.Series, asked: str) -> pd.DataFrame:
    exact = chosen[(names == asked).to_numpy()]
    return exact if len(exact) else chosen[(names.map(_plain) == _plain(asked)).to_numpy()]


def _run_folder(sample_path: Path) -> Path:
    """The run's folder: the table is its ``sample.parquet``, or one shard's in ``sample/``."""
    parent = sample_path.absolute().parent
    return parent.parent if parent.name == "sample" else parent


def _json(path: Path) -> dict | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _settings(folder: Path) -> Mapping | None:
    settings = (_json(folder / "report" / "provenance.json") or {}).get("settings")
    return settings if isinstance(settings, dict) else None


def _fit_settings(settings: Mapping | None) -> Settings:
    """Settings of the relation as far as this version knows them; the default where they cannot be used."""
    known = {key: value for key, value in ((settings or {}).get("relation") or {}).items() if key in Relation.model_fields}
    try:
        return parse_settings({"relation": known})
    except SettingsError:
        return Settings()


def _fits(folder: Path) -> list[dict]:
    records = (_json(path) for path in sorted((folder / "relation").glob("*.json")))
    return [fit for fit in records if fit and {"relation", "velocity"} <= set(fit)]


def _manifest(folder: Path, row: Mapping) -> list[dict] | None:
    shard = str(row["shard"])
    path = folder / "fetch" / f"{shard}.csv"
    if not _PLAIN_NAME.fullmatch(shard) or not path.is_file():
        return None
    try:
        manifest = pd.read_csv(path, dtype={"galaxy": "str"}, keep_default_na=False)
    except (OSError, ValueError):
        return None
    if not {"galaxy", "product", "status", "url"} <= set(manifest.columns):
        return None
    return manifest[manifest["galaxy"] == str(row["galaxy"])].to_dict("records")


def words(explained: Explained) -> str:
    """Set the story for a terminal: sentences wrapped, tables in columns."""
    low, high = _WIDTHS
    width = min(max(shutil.get_terminal_size((110, 24)).columns, low), high)
    lines = []
    for section in explained.sections:
        lines += ["", section.title]
        for sentence in section.sentences:
            lines += textwrap.wrap(sentence, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
        lines += _table(section.columns, section.rows, width)
    return "\n".join(lines[1:])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Lines of a table; where it is wider than ``width`` its widest columns are, and their cells go over several lines."""
    if not rows:
        return []
    widths = [max(len(row[k]) for row in (columns, *rows)) for k in range(len(columns))]
    longest = [max((len(word) for row in (columns, *rows) for word in row[k].split()), default=1) for k in range(len(columns))]
    least = [max(_NARROWEST, letters) for letters in longest]  # a word is never broken
    while sum(widths) + 2 * len(widths) + 2 > width and any(has > least[k] for k, has in enumerate(widths)):
        widths[max(range(len(widths)), key=lambda k: widths[k] - least[k])] -= 1
    lines = []
    for row in (columns, *rows):
        cells = [textwrap.wrap(cell, max(1, size), break_on_hyphens=False) or [""] for cell, size in zip(row, widths, strict=True)]
        for k in range(max(map(len, cells))):
            parts = (f"{cell[k] if k < len(cell) else '':<{size}}" for cell, size in zip(cells, widths, strict=True))
            lines.append(("    " + "  ".join(parts)).rstrip())
    return lines


def record(explained: Explained) -> dict:
    """Return the story as JSON holds it: NaN is null."""
    return _jsonable(asdict(explained) | {"sample": str(explained.sample)})


def _jsonable(value):
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
