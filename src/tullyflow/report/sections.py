"""The tables of the page: numbers become words here, once, with proper minus signs and errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from tullyflow.flags import GALAXY
from tullyflow.relation.cuts import cut_flow
from tullyflow.relation.literature import LITERATURE, offsets
from tullyflow.report.figures.style import survey_style
from tullyflow.report.summary import Counts, is_fit
from tullyflow.report.words import number, plus_minus
from tullyflow.tables import PARAMETERS

__all__ = [
    "Listing",
    "bound_listing",
    "comparison_listing",
    "fit_listing",
    "fit_words",
    "flow_listing",
    "reach_listing",
    "warning_listing",
]

_PARAMETER_WORDS = dict(zip(PARAMETERS, ("inclination", "scale length", "turnover radius", "V_max sin i"), strict=True))


@dataclass(frozen=True)
class Listing:
    """A table of the page; ``text`` holds the columns that are set as text, ``total`` sets the last row apart."""

    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    text: frozenset[int] = frozenset()
    total: bool = False


def fit_listing(fits: Sequence[dict]) -> Listing:
    """List every fit that succeeded, one row each."""
    rows = [
        (
            str(fit.get("relation", "")).replace("_", " "), fit.get("velocity", ""), fit.get("method", ""),
            plus_minus(fit["slope"], fit.get("slope_err")), plus_minus(fit["intercept"], fit.get("intercept_err")),
            number(fit["pivot"]), plus_minus(fit.get("scatter"), fit.get("scatter_err")), number(fit.get("rms")),
            fit.get("n_used", "–"), fit.get("n_outliers", "–"),
        )
        for fit in fits if is_fit(fit)
    ]  # fmt: skip
    columns = ("relation", "velocity", "method", "slope", "intercept", "pivot", "intrinsic scatter", "rms", "used", "outliers")
    return Listing("Fits: y = slope (x − pivot) + intercept", columns, rows, frozenset({1, 2}))


def fit_words(fit: Mapping) -> str:
    """Name a fit briefly: relation, velocity, method."""
    return " · ".join(str(fit.get(key, "?")).replace("r_band", "r band") for key in ("relation", "velocity", "method"))


def comparison_listing(fits: Sequence[Mapping]) -> Listing:
    """List every published line of the fits' relations, and how far ours is from it (`tullyflow.relation.literature.offsets`)."""
    rows = []
    for fit in fits:
        lines = {line["name"]: line for line in LITERATURE if line["relation"] == fit.get("relation")}
        for offset in offsets(fit):
            line = lines[offset.name]
            differences = (f"{number(sigmas, 1, sign=True)} σ" for sigmas in (offset.slope_sigmas, offset.intercept_sigmas))
            theirs = (plus_minus(line["slope"], line["slope_err"]), plus_minus(line["intercept"], line["intercept_err"]))
            alike = "; ".join(offset.unlike) or "nothing known"
            rows.append((line["name"], fit["relation"].replace("_", " "), line["n"], *theirs, *differences, alike))
    ours = "; ".join(dict.fromkeys(f"{fit.get('velocity')} by {fit.get('method')}" for fit in fits if is_fit(fit)))
    columns = ("published", "relation", "galaxies", "slope", "intercept", "slope differs", "intercept differs", "done differently")
    return Listing(f"Published lines; differences are ours ({ours}) minus theirs", columns, rows, frozenset({1, 7}))


def reach_listing(counts: Sequence[Counts]) -> Listing:
    """List how far the galaxies of each survey and release came, and how many are observed elsewhere, where one is."""
    linked = any(c.linked for c in counts)
    rows = [(c.label, c.targets, *((c.linked,) if linked else ()), c.mapped, c.inferred, c.used) for c in counts]
    also = ("counted by another observation",) if linked else ()
    columns = ("survey", "targets", *also, "with maps", "with kinematics", "in the relation")
    return Listing("How far the galaxies came", columns, rows, total=True)


def flow_listing(sample: pd.DataFrame) -> Listing:
    """List every excluding flag that occurs, per survey: galaxies that carry it, and those no earlier cut had taken."""
    flow = cut_flow(sample)
    surveys = list(dict.fromkeys(flow["survey"]))
    cells = {(row.survey, row.flag): row for row in flow.itertuples()}
    present = set(flow["flag"])
    rows = []
    for flag in GALAXY:
        if flag.name in present:
            counts = [cells.get((survey, flag.name)) for survey in surveys]
            shown = ("–" if row is None else f"{row.alone} ({row.in_order})" for row in counts)
            rows.append((flag.name, flag.sentence, *shown, sum(row.in_order for row in counts if row is not None)))
    columns = ("flag", "meaning", *(survey_style(str(survey)).label for survey in surveys), "taken out")
    return Listing("Cuts in order: galaxies with the flag, and in brackets those no earlier cut had taken", columns, rows, frozenset({1}))


def warning_listing(sample: pd.DataFrame) -> Listing:
    """List the flags that exclude nobody: how many galaxies of the relation, and of all, carry them."""
    bits = sample["flags"].to_numpy(dtype="int64")
    used = sample["used"].to_numpy(dtype=bool)
    rows = []
    for flag in GALAXY:
        here = (bits & flag.mask) != 0
        if not flag.excludes and here.any():
            rows.append((flag.name, flag.sentence, int((here & used).sum()), int(here.sum())))
    return Listing("Warnings: these galaxies stay in", ("flag", "meaning", "in the relation", "of all"), rows, frozenset({1}))


def bound_listing(bounds: Sequence[dict]) -> Listing:
    """List per survey how many inferred galaxies sit at a bound of each parameter."""

    def cell(count: int, of: int) -> str:
        return f"{count} ({100 * count / of:.0f} %)" if of else "–"

    rows = [(row["survey"], row["inferred"], *(cell(row[name], row["inferred"]) for name in PARAMETERS)) for row in bounds]
    return Listing("Galaxies at a bound", ("survey", "inferred", *(_PARAMETER_WORDS[name] for name in PARAMETERS)), rows)
