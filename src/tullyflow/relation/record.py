"""Small results as canonical JSON: sorted keys, NaN as null, whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tullyflow.errors import RelationError
from tullyflow.tables import whole_file

__all__ = ["read_record", "write_record"]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write_record(path: str | Path, record: Mapping) -> None:
    """Write a mapping as JSON; the same content gives the same bytes."""
    with whole_file(path) as part:
        part.write_text(json.dumps(_plain(record), sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def read_record(path: str | Path) -> dict:
    """Read what `write_record` wrote; raise `RelationError` where it is absent or not a JSON object."""
    path = Path(path)
    if not path.exists():
        raise RelationError(f"{path}: no such file.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise RelationError(f"{path}: not readable as JSON: {' '.join(str(err).split())}.") from err
    if not isinstance(record, dict):
        raise RelationError(f"{path}: expected a JSON object, found {type(record).__name__}.")
    return record
