"""Tables for people: ECSV and FITS that carry the unit and the description of every column."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.table import Column as EcsvColumn
from astropy.table import Table

from tullyflow.errors import RelationError
from tullyflow.tables import Column, whole_file

__all__ = ["write_described"]

_KINDS = {"f": np.float64, "i": np.int64, "b": np.bool_, "s": np.str_}
_FORMATS = {"f": "D", "i": "K", "b": "L"}
_DISPLAYS = {"f": "G15.7", "i": "I12"}
_ASCII = str.maketrans({"σ": "sigma", "χ": "chi", "±": "+-", "–": "-", "−": "-", "☉": "sun", "′": "'", "″": '"', "°": " deg", "²": "2"})


def write_described(path: str | Path, frame: pd.DataFrame, columns: Sequence[Column]) -> None:
    """Write the ``columns`` of a frame, rows in its order, as ECSV or FITS by the suffix of ``path``; NaN stays NaN.

    FITS: one table, extension TABLE, with TUNIT, TCOMM (the description) and TDISP; text is brought to ASCII, which is all that
    FITS can hold. FITS has no dex: such a unit ends the description instead, in brackets.

    Raises `RelationError` for another suffix.
    """
    path = Path(path)
    if path.suffix not in (".ecsv", ".fits"):
        raise RelationError(f"{path}: tables are written as .ecsv or .fits.")
    with whole_file(path) as part:
        if path.suffix == ".ecsv":
            _ecsv(frame, columns).write(part, format="ascii.ecsv")
        else:
            fits.HDUList([fits.PrimaryHDU(), _fits(frame, columns)]).writeto(part, checksum=True)


def _ecsv(frame: pd.DataFrame, columns: Sequence[Column]) -> Table:
    return Table([
        EcsvColumn(frame[c.name].to_numpy(dtype=_KINDS[c.kind]), name=c.name, unit=c.unit or None, description=c.description)
        for c in columns
    ])  # fmt: skip


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text.translate(_ASCII)).encode("ascii", "replace").decode()


def _fits(frame: pd.DataFrame, columns: Sequence[Column]) -> fits.BinTableHDU:
    made = []
    for c in columns:
        values = frame[c.name].to_numpy(dtype=_KINDS[c.kind])
        if c.kind == "s":
            found, codes = np.unique(values, return_inverse=True)
            values = np.array([_ascii(text) for text in found], dtype=np.bytes_)[codes] if len(found) else np.array([], dtype="S1")
        form = _FORMATS.get(c.kind) or f"{max(values.dtype.itemsize, 1)}A"
        unit = None if c.unit.startswith("dex") else c.unit or None
        made.append(fits.Column(name=c.name, format=form, unit=unit, array=values, disp=_DISPLAYS.get(c.kind)))
    hdu = fits.BinTableHDU.from_columns(made, name="TABLE")
    for k, c in enumerate(columns, start=1):
        unit = f" [{c.unit}]" if c.unit.startswith("dex") else ""
        hdu.header.set(f"TCOMM{k}", _ascii(c.description + unit), after=f"TFORM{k}")
    return hdu
