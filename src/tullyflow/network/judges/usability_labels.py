"""Classes of velocity fields by eye: the table that a training reads, and the fields that have one."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tullyflow.errors import ModelError
from tullyflow.maps.shards import read_shard

__all__ = ["LabelledFields", "labelled_fields", "read_labels"]

log = logging.getLogger("tullyflow")

_COLUMNS = {  # column: (gas or stars, classes allowed)
    "quality": (0, (0, 1, 2)), "quality_stellar": (1, (0, 1, 2)), "usable": (0, (0, 1)), "usable_stellar": (1, (0, 1)),
}  # fmt: skip


@dataclass(frozen=True)
class LabelledFields:
    """Fields of gas and of stars (galaxy, 64, 64; km/s, NaN = none) and what an eye said of them, (galaxy, 2): gas, stars.

    ``usable`` is 1 for messy and clean, ``clean`` 1 for clean alone; NaN = not said. Galaxies of a ``group`` are never trained and
    tested on at once.
    """

    galaxy: NDArray[np.str_]
    group: NDArray[np.str_]
    gas: NDArray[np.float32]
    stars: NDArray[np.float32]
    usable: NDArray[np.float64]
    clean: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.galaxy)


def _classes(table: pd.DataFrame, column: str, path: Path) -> NDArray[np.float64]:
    allowed = _COLUMNS[column][1]
    text = table[column].astype("string").str.strip()
    values = pd.to_numeric(text, errors="coerce")
    wrong = text.notna() & (text != "") & ~values.isin(allowed)
    if wrong.any():
        first = table[wrong].iloc[0]
        raise ModelError(
            f"{path}: column {column!r} of {first['galaxy']!r} is {first[column]!r} ({wrong.sum()} such rows); allowed: "
            f"{', '.join(map(str, allowed))}, or nothing where no eye has judged it."
        )
    return values.to_numpy(dtype=float, na_value=np.nan)


def read_labels(path: str | Path) -> pd.DataFrame:
    """Read a table of classes: galaxy, and usable and clean of gas (``usable_0``, ``clean_0``) and stars (``_1``), 0, 1 or NaN.

    Its columns are ``galaxy`` and some of ``quality``, ``quality_stellar`` (0 do not use, 1 messy, 2 clean), ``usable`` and
    ``usable_stellar`` (0, 1). Raises `ModelError` with one sentence for a file, a column, a class or a name that cannot be used.
    """
    path = Path(path)
    try:
        table = pd.read_csv(path, dtype=str)
    except (OSError, ValueError) as err:  # pandas' own errors are ValueErrors
        raise ModelError(f"{path}: no table of classes can be read from it ({' '.join(str(err).split())[:200]}).") from err
    columns = [column for column in _COLUMNS if column in table]
    if "galaxy" not in table or not columns:
        raise ModelError(
            f"{path}: columns {', '.join(map(str, table.columns))}; it needs 'galaxy' and one or more of {', '.join(_COLUMNS)}."
        )
    names = table["galaxy"].str.strip()
    if names.isna().any() or (names == "").any():
        raise ModelError(f"{path}: row {int((names.isna() | (names == '')).to_numpy().argmax()) + 2} has no galaxy; every class needs one.")
    if names.duplicated().any():
        raise ModelError(f"{path}: {names[names.duplicated()].iloc[0]!r} occurs more than once; give each galaxy one row.")
    found = pd.DataFrame({"galaxy": names} | {f"{what}_{k}": np.nan for what in ("usable", "clean") for k in (0, 1)})
    for column in columns:
        field, allowed = _COLUMNS[column]
        values = _classes(table, column, path)
        said = np.isfinite(values)
        found.loc[said, f"usable_{field}"] = (values[said] >= 1).astype(float)
        if 2 in allowed:
            found.loc[said, f"clean_{field}"] = (values[said] == 2).astype(float)
    return found


def _group(galaxy: str) -> str:
    """Return the plate of a MaNGA plate-ifu, else the galaxy itself."""
    plate, _, ifu = galaxy.partition("-")
    return plate if plate.isdigit() and ifu.isdigit() else galaxy


def labelled_fields(maps_paths: Sequence[str | Path], labels_path: str | Path) -> LabelledFields:
    """Return the fields of shards of maps that a table of classes names; each galaxy once.

    Names without a field are logged: a table may serve several surveys. Raises `ModelError` where no name has one.
    """
    labels = read_labels(labels_path).set_index("galaxy")
    names, gas, stars = [], [], []
    for path in maps_paths:
        shard = read_shard(path)
        here = shard.galaxies["galaxy"].astype(str).to_numpy()
        wanted = np.isin(here, labels.index) & ~np.isin(here, np.concatenate([*names, np.empty(0, str)]).astype(str))
        names.append(here[wanted])
        gas.append(shard.velocity_field[wanted])
        stars.append(shard.stellar_velocity_field[wanted])
    found = np.concatenate([*names, np.empty(0, str)]).astype(str)
    missing = labels.index.difference(found)
    if len(missing):
        log.info("usability: %d of %d galaxies of %s have no field here (%s first)", len(missing), len(labels), labels_path, missing[0])
    if not len(found):
        raise ModelError(f"{labels_path}: none of its {len(labels)} galaxies is in the maps given; name galaxies as the maps do.")
    said = labels.loc[found]
    usable, clean = (said[[f"{what}_0", f"{what}_1"]].to_numpy() for what in ("usable", "clean"))
    return LabelledFields(found, np.array([_group(g) for g in found]), np.concatenate(gas), np.concatenate(stars), usable, clean)
