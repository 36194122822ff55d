"""What is known of transfers, kept as they happen: one line per file, appended when it is done, so that a kill loses none."""

import csv
import io
import logging
import threading
from pathlib import Path

import pandas as pd

from tullyflow.tables import MANIFEST, write_table

__all__ = ["Ledger", "known_rows"]

log = logging.getLogger("tullyflow")

_NAMES = [c.name for c in MANIFEST]
_COUNTS = [c.name for c in MANIFEST if c.kind == "i"]


def known_rows(path: Path) -> dict[str, dict]:
    """Rows of a manifest or ledger by path, the last one of each; a line that breaks off in the middle is passed over."""
    rows: dict[str, dict] = {}
    if not path.is_file():
        return rows
    spoilt = 0
    with open(path, newline="", encoding="utf-8", errors="replace") as handle:
        reader = csv.reader(handle)
        if next(reader, None) != _NAMES:
            log.warning("%s: not a list of transfers; what it knew is looked up again", path)
            return rows
        for values in reader:
            try:
                row = dict(zip(_NAMES, values, strict=True))
                rows[row["path"]] = row | {name: int(row[name]) for name in _COUNTS}
            except ValueError:
                spoilt += 1
    if spoilt:
        log.info("%s: %d broken lines passed over", path, spoilt)
    return rows


class Ledger:
    """The file beside a manifest that outlives it. One writer; rows come from any thread."""

    def __init__(self, path: Path):
        self.path, self._lock = path, threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = open(path, "a+b", buffering=0)  # noqa: SIM115 (closed by `close`)
        self._handle.seek(0)
        content = self._handle.read()
        self._handle.truncate(content.rfind(b"\n") + 1)  # a kill may have cut the last line short
        if b"\n" not in content:
            self._write(_NAMES)

    def _write(self, values: list) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        self._handle.write(text.getvalue().encode())

    def append(self, row: dict) -> None:
        """Note what became of one file."""
        with self._lock:
            self._write([row[name] for name in _NAMES])

    def close(self, rows: pd.DataFrame) -> None:
        """Replace the lines by ``rows``, one per file; nothing changes where there are none."""
        self._handle.close()
        if len(rows):
            write_table(self.path, rows, MANIFEST)
