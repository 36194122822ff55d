"""The closure of a mock run on the page: tables of put in against found, hard cases, and the shuffled control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from tullyflow.report.figures.style import survey_style
from tullyflow.report.sections import Listing, fit_words
from tullyflow.report.words import number, plus_minus

__all__ = ["ClosureBlock", "closure_block"]

_PARAMETER_WORDS = {
    "inclination": "inclination",
    "pa": "position angle",
    "v_sys": "systemic velocity",
    "v_max_sini": "V_max sin i",
    "v_max": "V_max",
    "r_scale": "scale length",
    "r_turn": "turnover radius",
    "outer_dispersion": "outer dispersion",
}


@dataclass(frozen=True)
class ClosureBlock:
    """What the page shows of a closure file; ``galaxies`` is empty where the file lists none."""

    verdict: str
    closed: bool
    tables: tuple[Listing, ...]
    notes: tuple[str, ...]
    galaxies: pd.DataFrame


def _by_fit(rows: Sequence[Mapping]) -> dict[tuple[str, str], dict[str, Mapping]]:
    """Slope, intercept and scatter of each fit and each put-in it is compared with."""
    fits: dict[tuple[str, str], dict[str, Mapping]] = {}
    for row in rows:
        fits.setdefault((fit_words(row), str(row.get("put_in_from", ""))), {})[row["parameter"]] = row
    return fits


def _pull(row: Mapping) -> str:
    shown = number(row.get("pull"), 1, sign=True)
    return shown if shown == "–" else f"{shown} σ"


def _relation_rows(rows: Sequence[Mapping]) -> list[tuple]:
    listed = []
    for (fit, source), parts in _by_fit(rows).items():
        cells = [fit, source.partition(" of ")[0]]
        for name in ("slope", "intercept", "scatter"):
            row = parts.get(name, {})
            cells += [number(row.get("put_in")), plus_minus(row.get("found"), row.get("err"))]
            if name != "scatter":
                cells.append(_pull(row))
        listed.append(tuple(cells))
    return listed


def _control_rows(rows: Sequence[Mapping]) -> list[tuple]:
    slopes: dict[str, Mapping] = {fit: parts["slope"] for (fit, _), parts in reversed(_by_fit(rows).items()) if "slope" in parts}
    return [(fit, number(r.get("put_in")), plus_minus(r.get("found"), r.get("err")), _pull(r)) for fit, r in reversed(slopes.items())]


def _parameter_rows(rows: Sequence[Mapping]) -> list[tuple]:
    listed = []
    for row in rows:
        share = "–" if row.get("within_1_sigma") is None else f"{number(100 * row['within_1_sigma'], 0)} %"
        name = str(row.get("parameter", "")).rsplit("_", 1)[0]
        values = (number(row.get("median"), 2, sign=True), number(row.get("robust_std"), 2), number(row.get("pull_rms"), 2))
        honest = {True: "yes", False: "✗ no"}.get(row.get("errors_honest"), "–")
        listed.append((_PARAMETER_WORDS.get(name, name), row.get("unit", ""), row.get("n", "–"), *values, share, honest))
    return listed


def _bias_rows(rows: Sequence[Mapping]) -> list[tuple]:
    return [
        (
            row["velocity"], row.get("n", "–"), number(row.get("mean"), 3, sign=True), number(row.get("err")), number(row.get("limit")),
            "yes" if row.get("agrees") else "✗ no",
        )
        for row in rows
    ]  # fmt: skip


def _hard_rows(rows: Sequence[Mapping]) -> list[tuple]:
    listed = []
    for row in rows:
        found = [name for name in str(row.get("found", "")).split(", ") if name != "MOCK"]
        words = (row["galaxy"], survey_style(row.get("survey", "")).label, row.get("case", ""), row.get("expected", ""))
        listed.append((*words, ", ".join(found) or "no flag", "yes" if row.get("ok") else "✗ no"))
    return listed


def _notes(fits: Sequence[Mapping]) -> tuple[str, ...]:
    """The remarks on fits, each once with the fits it belongs to."""
    remarks: dict[str, list[str]] = {}
    for fit in fits:
        if fit.get("note"):
            remarks.setdefault(str(fit["note"]), []).append(fit_words(fit))
    return tuple(f"{'; '.join(names)}: {note}" for note, names in remarks.items())


def closure_block(closure: Mapping) -> ClosureBlock:
    """Turn a closure file (`tullyflow.relation.closure.check_closure`) into tables; an empty part is not shown."""
    relation_columns = (
        "fit", "compared with", "slope in", "slope found", "pull", "intercept in", "intercept found", "pull", "scatter in", "scatter found",
    )  # fmt: skip
    tables = (
        Listing(
            "The relation put in (rotation velocity; the population's line, a fit to the same galaxies' true values), and what was found",
            relation_columns, _relation_rows(closure.get("rows") or ()), frozenset({1}),
        ),
        Listing(
            "Velocity bias, galaxy by galaxy: log V found minus true, averaged over the used galaxies whatever their errors (dex)",
            ("velocity", "galaxies", "mean", "standard error", "limit of |mean|", "within it"),
            _bias_rows(closure.get("velocity_bias") or ()), frozenset({5}),
        ),
        Listing(
            "The control: velocities shuffled among the galaxies, which must not find it; their mean is the same, the slope is lost",
            ("fit", "slope in", "slope found", "pull"), _control_rows(closure.get("control") or ()),
        ),
        Listing(
            "Parameters of the used galaxies, found minus put in: rms of the pull should be 1, and 68 % within one sigma",
            ("parameter", "unit", "galaxies", "median", "robust scatter", "rms of the pull", "within 1 σ", "honest errors"),
            _parameter_rows(closure.get("parameters") or ()), frozenset({1, 7}),
        ),
        Listing(
            "Hard cases: the flags that should be set, and those that were",
            ("galaxy", "survey", "case", "expected", "found", "as expected"),
            _hard_rows(closure.get("hard_cases") or ()),
            frozenset({1, 2, 3, 4}),
        ),
    )  # fmt: skip
    passed = closure.get("passed") or {}
    return ClosureBlock(
        verdict=str(closure.get("verdict") or ""),
        closed=bool(passed) and all(passed.values()),
        tables=tuple(table for table in tables if table.rows),
        notes=_notes(closure.get("fits") or ()),
        galaxies=pd.DataFrame(list(closure.get("galaxies") or ())),
    )
