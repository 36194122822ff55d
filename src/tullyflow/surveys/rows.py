"""What the target tables of all surveys share: cosmology, what is missing, which names are allowed."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.conventions import log_mass_to_chabrier
from tullyflow.errors import CatalogueError
from tullyflow.flags import GALAXY
from tullyflow.settings import Settings

__all__ = [
    "FIXED_COLUMNS", "add_flag", "asked_galaxies", "asked_rows", "check_names", "common_masses", "flag_missing", "in_this_run",
    "luminosity_distance_mpc", "mass_doubts", "names_in", "read_csv", "same_name",
]  # fmt: skip

FIXED_COLUMNS = ("galaxy", "survey", "release", "shard", "flags", "messages", "observation")  # nobody's catalogue sets these
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def luminosity_distance_mpc(z, settings: Settings) -> np.ndarray:
    """Luminosity distance (Mpc) in the flat LambdaCDM of the settings; NaN for z NaN or <= 0."""
    from astropy.cosmology import FlatLambdaCDM

    z = np.asarray(z, dtype=float)
    distance = np.full(z.shape, np.nan)
    good = np.isfinite(z) & (z > 0)
    cosmology = FlatLambdaCDM(H0=100 * settings.cosmology.h, Om0=settings.cosmology.omega_m)
    if good.any():
        distance[good] = cosmology.luminosity_distance(z[good]).value
    return distance


def add_flag(frame: pd.DataFrame, where, flag: int, sentence) -> None:
    """Set a galaxy flag and append its sentence (one text, or one per row) where the mask is true, in place."""
    where = np.asarray(where, dtype=bool)
    sentences = np.broadcast_to(np.asarray(sentence, dtype=object), where.shape)
    frame["flags"] = np.where(where, frame["flags"].to_numpy(dtype=np.int64) | flag, frame["flags"])
    frame["messages"] = [
        f"{old} {new}".strip() if hit else old for old, new, hit in zip(frame["messages"], sentences, where, strict=True)
    ]


def flag_missing(frame: pd.DataFrame) -> pd.DataFrame:
    """Set MISSING_MASS and MISSING_MAGNITUDE by what the rows hold now; returns a copy."""
    frame = frame.copy()
    cleared = ~(GALAXY.MISSING_MASS | GALAXY.MISSING_MAGNITUDE)
    mass = ~np.isfinite(frame["log_mstar"].to_numpy(dtype=float))
    magnitude = ~np.isfinite(frame["abs_mag_r"].to_numpy(dtype=float))
    flags = frame["flags"].to_numpy(dtype=np.int64) & cleared
    frame["flags"] = flags | np.where(mass, GALAXY.MISSING_MASS, 0) | np.where(magnitude, GALAXY.MISSING_MAGNITUDE, 0)
    return frame


def common_masses(log_mass: np.ndarray, imf: pd.Series, settings: Settings, source: str) -> np.ndarray:
    """Log10 masses of a table, whose rows name their initial mass function (empty = Chabrier), on that of ``cosmology.imf``.

    Raises `CatalogueError` for a name that is not known. NaN stays NaN.
    """
    unknown = sorted(set(imf) - {"", "chabrier", "kroupa", "salpeter"})
    if unknown:
        raise CatalogueError(f"{source}: imf {unknown[0]!r} is not known; known: chabrier, kroupa, salpeter.")
    if settings.cosmology.imf == "own":
        return np.asarray(log_mass, dtype=float)
    return np.array([float(log_mass_to_chabrier(m, name or "chabrier")) for m, name in zip(log_mass, imf, strict=True)])


def mass_doubts(table: pd.DataFrame, log_mass: np.ndarray) -> list[str]:
    """One sentence per row of a table with ``reference`` and ``confidence``: where a mass marked L is from, or why there is none.

    Both columns hold parts separated by semicolons; a part of ``reference`` begins with the quantity ("mass ..."), one of
    ``confidence`` ends with its mark ("mass L": from memory or unconfirmed). Empty where nothing is to be said.
    """
    if not {"reference", "confidence"} <= set(table):
        return [""] * len(table)
    said, texts = [], (table[name].fillna("") for name in ("reference", "confidence"))
    for reference, confidence, known in zip(*texts, np.isfinite(log_mass), strict=True):
        source = next((part.strip() for part in reference.split(";") if part.strip().startswith("mass")), "no reference given")
        if not known:
            said.append(f"No stellar mass: {source}.")
        elif re.search(r"\bmass L\b", confidence):
            said.append(f"The stellar mass is of low confidence ({source}): check it before relying on it.")
        else:
            said.append("")
    return said


def check_names(names: pd.Series, source: str) -> None:
    """Raise `CatalogueError` for a galaxy name that is empty, not unique, or could be read as a path."""
    text = names.astype(str)
    bad = [name for name in text if not _NAME.fullmatch(name) or ".." in name]
    if bad:
        raise CatalogueError(
            f"{source}: galaxy name {bad[0]!r} cannot be used (letters, digits and _ . + - only, none of '..'); {len(bad)} such name(s)."
        )
    twice = text[text.duplicated()].unique()
    if len(twice):
        raise CatalogueError(f"{source}: galaxy {twice[0]!r} is listed more than once ({len(twice)} name(s) are); names must be unique.")


def same_name(name: str) -> str:
    """A name as people mix its spellings: NGC_2403, NGC 2403 and ngc2403 are one galaxy."""
    return re.sub(r"[\s_]", "", name).lower()


def asked_galaxies(settings: Settings, release: str) -> list[str] | None:
    """The names under ``galaxies`` (a list, a file with one per line, or names with commas) for this release; None = all.

    ``DR15/7815-3702`` asks for a galaxy of one release only.
    """
    asked = settings.galaxies
    if asked is None:
        return None
    pairs = [name.rpartition("/") for name in names_in(asked)]
    return [name for wanted, _, name in pairs if wanted in ("", release)]


def asked_rows(names: pd.Series, asked: list[str]) -> list[int]:
    """Rows of the names asked for, in the order asked, each once; the first of two that are spelled alike (`same_name`)."""
    row_of = {same_name(name): row for row, name in reversed(list(enumerate(names)))}
    return list(dict.fromkeys(row_of[same_name(name)] for name in asked if same_name(name) in row_of))


def in_this_run(names: pd.Series, release: str, settings: Settings) -> np.ndarray:
    """Whether ``galaxies`` and ``limit`` keep each of a catalogue's names (galaxy,): a repeat of one left out is the one that counts."""
    asked = asked_galaxies(settings, release)
    rows = range(len(names)) if asked is None else asked_rows(names, asked)
    kept = np.zeros(len(names), dtype=bool)
    kept[list(rows[: settings.limit])] = True
    return kept


def names_in(asked: str | list[str]) -> list[str]:
    """The names of a setting ``galaxies``: the list itself, or what the file, or the text with commas, holds."""
    if not isinstance(asked, str):
        return list(asked)
    path = Path(asked)
    if path.is_file():
        lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
        return [line for line in lines if line]
    names = [name.strip() for name in asked.split(",")]
    if path.suffix in {".txt", ".csv", ".list", ".dat"} or not all(_NAME.fullmatch(name.rpartition("/")[2]) for name in names):
        raise CatalogueError(f"galaxies: {asked}: no such file; give a list of names, or a file with one name per line.")
    return names


def read_csv(path: Path, needed: tuple[str, ...], text: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a catalogue CSV with lower-case column names; raise `CatalogueError` where it is unreadable or lacks a column.

    Columns in ``text`` stay text; elsewhere -99, -999 and -9999 are NaN.
    """
    path = Path(path)
    try:
        header = pd.read_csv(path, nrows=0).columns
        kinds = {name: str for name in header if name.strip().lower() in text}
        frame = pd.read_csv(path, dtype=kinds, skipinitialspace=True)
    except FileNotFoundError as err:
        raise CatalogueError(f"{path}: no such catalogue.") from err
    except (OSError, ValueError) as err:
        raise CatalogueError(f"{path}: not a readable CSV table: {' '.join(str(err).split())[:200]}.") from err
    frame.columns = [str(name).strip().lower() for name in frame.columns]
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise CatalogueError(f"{path}: column(s) {', '.join(missing)} missing; found {', '.join(frame.columns)[:300]}.")
    for name in frame.columns:
        if name not in text and pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name]):
            frame[name] = frame[name].mask(frame[name].isin([-99, -999, -9999]))
    return frame
