"""The tables that say what the relation hangs on: fits by group, what every choice changes, trends, and how the errors were calibrated."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tullyflow.errors import RelationError
from tullyflow.relation.record import read_record
from tullyflow.report.figures.style import survey_style
from tullyflow.report.sections import Listing
from tullyflow.report.words import number, plus_minus

__all__ = ["calibration_listing", "choice_listing", "group_listing", "trend_listings"]

_PARAMETERS = ("inclination", "scale length", "turnover radius", "V_max sin i")
_DISCS = {"survey": "simulated discs like the survey's galaxies", "synthetic": "simulated discs of every kind", "none": "not calibrated"}
_KINDS = {"all": "all", "survey": "survey", "ssfr": "star formation", "morphology": "morphology"}


def _group_words(row: Mapping) -> str:
    return survey_style(str(row["group"])).label if row.get("kind") == "survey" else str(row.get("words") or row.get("group"))


def _short(row: Mapping) -> tuple[str, ...]:
    return (
        plus_minus(row.get("slope"), row.get("slope_err")), plus_minus(row.get("intercept"), row.get("intercept_err")),
        plus_minus(row.get("scatter"), row.get("scatter_err")), number(row.get("rms")),
    )  # fmt: skip


def _cells(row: Mapping, shifts: tuple[str, str]) -> tuple[str, ...]:
    return (*_short(row), *(f"{number(row.get(key), 1, sign=True)} σ" if row.get(key) is not None else "–" for key in shifts))


def group_listing(groups: Mapping | None, chosen: Mapping | None) -> tuple[Listing, list[str]]:
    """List the fits by survey and class of the relation, velocity and method of ``chosen`` (a fit), and say who is in no class."""
    columns = ("galaxies of", "group", "used", "slope", "intercept", "intrinsic scatter", "rms", "slope differs", "intercept differs", "")
    empty = Listing("", columns)
    if not groups or chosen is None:
        return empty, []
    keys = ("relation", "velocity", "method")
    rows = [row for row in groups.get("rows", []) if all(row.get(key) == chosen.get(key) for key in keys)]
    cells = [
        (
            _KINDS.get(str(row["kind"]), row["kind"]), _group_words(row), _count(row),
            *_cells(row, ("slope_offset_sigmas", "intercept_offset_sigmas")), row.get("error") or "",
        )
        for row in rows
    ]  # fmt: skip
    notes = [str(group["note"]) for group in groups.get("groups", []) if group.get("note")]
    for name, count in (groups.get("not_classified") or {}).items():
        if count:
            notes.append(f"{count} galaxies of the relation are in no class of {_KINDS.get(name, name)}.")
    caption = f"{' · '.join(str(chosen[key]).replace('_band', ' band') for key in keys)}; differences are from the fit of all"
    return Listing(caption, columns, cells, frozenset({1, 9})), list(dict.fromkeys(notes))


def choice_listing(choices: Mapping | None) -> Listing:
    """List what the relation becomes when one choice at a time is changed."""
    columns = ("what is changed", "to", "galaxies", "slope", "intercept", "scatter", "rms", "slope shifts", "intercept shifts", "")
    if not choices:
        return Listing("", columns)
    cells = [
        (
            str(row.get("section", "")), str(row.get("words") or row.get("choice", "")), _count(row),
            *_cells(row, ("slope_shift_sigmas", "intercept_shift_sigmas")), row.get("error") or row.get("note") or "",
        )
        for row in choices.get("rows", [])
    ]  # fmt: skip
    base = choices.get("baseline") or {}
    words = " · ".join(str(base[key]).replace("_band", " band") for key in ("relation", "velocity", "method") if key in base)
    return Listing(f"{words}; one choice changed at a time, shifts in the first row's σ", columns, cells, frozenset({1, 9}))


def trend_listings(trends: Mapping | None) -> list[Listing]:
    """List Spearman's coefficients with their bootstrap errors and permutation p, trends first, then residuals, then controls."""
    columns = ("of", "with", "galaxies of", "galaxies", "Spearman's ρ", "p", "published", "")
    captions = {
        "direct": "Trends along the relation", "residual": "Residuals of the relation: what the scatter goes with",
        "control": "Controls: what should show nothing",
    }  # fmt: skip
    listings = []
    for kind, caption in captions.items():
        rows = [row for row in (trends or {}).get("rows", []) if row.get("kind") == kind]
        cells = [
            (
                str(row.get("y_words") or row.get("y")), str(row.get("x_words") or row.get("x")) + _fixed(row), _survey(row),
                row.get("n") or 0, plus_minus(row.get("rho"), row.get("rho_err"), 2), _chance(row.get("p")), _published(row),
                row.get("error") or "",
            )
            for row in rows
        ]  # fmt: skip
        if cells:
            listings.append(Listing(caption, columns, cells, frozenset({1, 2, 6, 7})))
    return listings


def _count(row: Mapping) -> Any:
    return "–" if row.get("n_used") is None else row["n_used"]


def _published(row: Mapping) -> str:
    return "" if row.get("published") is None else f"{number(row['published'], 2)} ({row.get('published_source')})"


def _fixed(row: Mapping) -> str:
    return " at fixed mass" if row.get("at_fixed") == "log_mstar" else ""


def _survey(row: Mapping) -> str:
    return "all" if row.get("survey") == "all" else survey_style(str(row.get("survey", ""))).label


def _chance(p: Any) -> str:
    if not isinstance(p, int | float):
        return "–"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def calibration_listing(network_dirs: Sequence[str | Path]) -> Listing:
    """List how many of the discs held out lie within one sigma, before and after the calibration, as each network's model.json says."""
    rows = []
    for folder in map(Path, network_dirs):
        try:
            calibration = read_record(folder / "model.json").get("calibration") or {}
        except RelationError:
            continue
        before, after = (list(calibration.get(key) or [None] * 4) for key in ("coverage_before", "coverage_after"))
        survey, _, release = folder.name.partition("-")
        name = "synthetic discs" if survey in ("initial", "synthetic") else f"{survey_style(survey).label} {release}".strip()
        pairs = (f"{_percent(b)} → {_percent(a)}" for b, a in zip(before, after, strict=False))
        rows.append((name, _DISCS.get(str(calibration.get("source")), "–"), calibration.get("discs", "–"), *pairs))
    columns = ("network", "calibrated on", "discs", *_PARAMETERS)
    return Listing("Discs within one sigma of the truth, before → after the calibration (68 % are right)", columns, rows, frozenset({1}))


def _percent(share: Any) -> str:
    return f"{100 * share:.0f} %" if isinstance(share, int | float) and math.isfinite(share) else "–"
