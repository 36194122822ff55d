"""How the errors were calibrated, as each network's model.json says: the network's own, and those of the least-squares fits."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tullyflow.errors import RelationError
from tullyflow.relation.record import read_record
from tullyflow.report.figures.style import survey_style
from tullyflow.report.sections import Listing
from tullyflow.report.words import number

__all__ = ["calibration_listing", "coverage_table", "fit_calibration_listing", "network_name"]

_PARAMETERS = ("inclination", "scale length", "turnover radius", "V_max sin i")
_FITTED = (  # words, unit, what the errors are multiplied by to be in it
    ("inclination", "deg", 1), ("scale length", "%", 100), ("turnover radius", "%", 100), ("V_22 sin i", "%", 100), ("axis", "deg", 1),
    ("centre x", "px", 1), ("centre y", "px", 1), ("systemic velocity", "km/s", 1),
)  # fmt: skip
_DISCS = {"survey": "like the survey's galaxies", "synthetic": "of every kind", "none": "not calibrated"}
_COLUMNS = ("parameter", "unit", "within", "before", "after", "err_before", "err_after")


def network_name(folder: Path) -> str:
    """What a network is called on the page, from the name of its folder, ``survey-release``."""
    survey, _, release = folder.name.partition("-")
    return "synthetic discs" if survey in ("initial", "synthetic") else f"{survey_style(survey).label} {release}".strip()


def _calibrations(network_dirs: Sequence[str | Path], key: str) -> Iterator[tuple[Path, Mapping]]:
    for folder in map(Path, network_dirs):
        try:
            yield folder, read_record(folder / "model.json").get(key) or {}
        except RelationError:
            continue


def calibration_listing(network_dirs: Sequence[str | Path]) -> Listing:
    """List how many of the discs held out lie within one sigma of the network's answer, before and after the calibration."""
    rows = []
    for folder, calibration in _calibrations(network_dirs, "calibration"):
        before, after = (list(calibration.get(key) or [None] * 4) for key in ("coverage_before", "coverage_after"))
        pairs = (f"{_percent(b)} → {_percent(a)}" for b, a in zip(before, after, strict=False))
        rows.append((network_name(folder), _DISCS.get(str(calibration.get("source")), "–"), calibration.get("discs", "–"), *pairs))
    columns = ("network", "discs", "number", *_PARAMETERS)
    caption = "The network's own answers: discs within one sigma of the truth, before → after the calibration (68 % are right)"
    return Listing(caption, columns, rows, frozenset({1}))


def coverage_table(folder: str | Path) -> pd.DataFrame:
    """Return what the card in ``folder`` says of the fit's calibration: a row per parameter for one sigma (68 %) and two (95 %).

    Shares ``before`` and ``after`` and median 1 sigma ``err_before`` and ``err_after`` in ``unit``, NaN for what was held; empty where
    the fit was not calibrated or the card is not of this version.
    """
    for _, calibration in _calibrations([folder], "fit_calibration"):
        try:
            shares, widths = calibration["coverage"], calibration["width"]
            rows = [
                (words, unit, within, *(_value(shares[when][level][p]) for when in (0, 1)), *(_value(w[p], scale) for w in widths))
                for level, within in enumerate((68, 95))
                for p, (words, unit, scale) in enumerate(_FITTED)
            ]
            return pd.DataFrame(rows, columns=list(_COLUMNS))
        except (KeyError, IndexError, TypeError):
            break
    return pd.DataFrame(columns=list(_COLUMNS))


def fit_calibration_listing(network_dirs: Sequence[str | Path]) -> Listing:
    """List for each network the shares of discs within 68 and 95 % intervals of the fit and the median error, before → after."""
    rows = []
    for folder, calibration in _calibrations(network_dirs, "fit_calibration"):
        table = coverage_table(folder)
        if table.empty:
            continue
        head = network_name(folder), f"{calibration.get('discs', '–')} {_DISCS.get(str(calibration.get('source')), '')}".strip()
        for within, of in table.groupby("within"):
            cells = (f"{_percent(row.before)} → {_percent(row.after)}" for row in of.itertuples())
            rows.append((*head, f"within {within} %", *cells))
        errors = (f"{_error(row.err_before)} → {_error(row.err_after)}" for row in table[table["within"] == 68].itertuples())
        rows.append((*head, "median 1 σ", *errors))
    columns = ("network", "discs", "", *(f"{words}{f' ({unit})'}" for words, unit, _ in _FITTED))
    caption = "Least-squares fits: discs within the intervals, before → after the calibration (68 and 95 % are right), and their errors"
    return Listing(caption, columns, rows, frozenset({1, 2}))


def _value(share: Any, scale: float = 1.0) -> float:
    return math.nan if share is None else scale * float(share)


def _percent(share: Any) -> str:
    return f"{100 * share:.0f} %" if isinstance(share, int | float) and math.isfinite(share) else "–"


def _error(sigma: float) -> str:
    return number(sigma, 2 if sigma < 10 else 0)
