"""The tables that say what the relation hangs on: fits by group, what every choice changes, and trends."""

from collections.abc import Mapping
from typing import Any

from tullyflow.report.figures.style import survey_style
from tullyflow.report.sections import Listing
from tullyflow.report.words import number, plus_minus

__all__ = ["choice_listing", "group_listing", "trend_listings"]

_KINDS = {"all": "all", "survey": "survey", "ssfr": "star formation", "morphology": "morphology"}
_TRENDS = {
    "direct": "Trends along the relation", "residual": "Residuals of the relation: what the scatter goes with",
    "control": "Controls: what should show nothing",
}  # fmt: skip
_FIT = ("slope", "intercept", "scatter", "rms")


def _fit_cells(row: Mapping) -> tuple[str, ...]:
    return (
        plus_minus(row.get("slope"), row.get("slope_err")), plus_minus(row.get("intercept"), row.get("intercept_err")),
        plus_minus(row.get("scatter"), row.get("scatter_err")), number(row.get("rms")),
    )  # fmt: skip


def _shift(row: Mapping, key: str) -> str:
    """A shift as it is, and in sigmas."""
    if row.get(key) is None:
        return "–"
    sigmas = row.get(f"{key}_sigmas")
    return number(row[key], 3, sign=True) + (f" ({abs(sigmas):.1f} σ)" if sigmas is not None else "")


def _called(fit: Mapping) -> str:
    return " · ".join(str(fit[key]).replace("_band", " band") for key in ("relation", "velocity", "method") if key in fit)


def group_listing(groups: Mapping | None, chosen: Mapping | None) -> tuple[Listing, list[str]]:
    """List the fits by survey and class of the relation, velocity and method of ``chosen`` (a fit), and say why any is missing."""
    columns = ("galaxies of", "group", "used", *_FIT, "slope differs", "intercept differs")
    if not groups or chosen is None:
        return Listing("", columns), []
    rows = [r for r in groups.get("rows", []) if all(r.get(key) == chosen.get(key) for key in ("relation", "velocity", "method"))]
    if sum(row.get("kind") == "survey" for row in rows) == 1:  # the one survey is all
        rows = [row for row in rows if row.get("kind") != "survey"]
    cells = [
        (
            _KINDS.get(str(row["kind"]), row["kind"]), _group_words(row), _count(row), *_fit_cells(row),
            _shift(row, "slope_offset"), _shift(row, "intercept_offset"),
        )
        for row in rows if not row.get("error")
    ]  # fmt: skip
    said = [str(group["note"]) for group in groups.get("groups", []) if group.get("note")]
    said += [f"{_group_words(row)}: {row['error']}" for row in rows if row.get("error") and row["error"] not in said]
    for name, count in (groups.get("not_classified") or {}).items():
        if count:
            said.append(f"{count} galaxies of the relation are in no class of {_KINDS.get(name, name)}.")
    return Listing(f"{_called(chosen)}; differences are from the fit of all", columns, cells, frozenset({1})), list(dict.fromkeys(said))


def choice_listing(choices: Mapping | None) -> tuple[Listing, list[str]]:
    """List what the relation becomes when one choice at a time is changed, and what is to be known of a choice."""
    columns = ("changed", "to", "galaxies", *_FIT, "slope shifts", "intercept shifts")
    if not choices:
        return Listing("", columns), []
    rows = choices.get("rows", [])
    cells = [
        (
            str(row.get("section", "")), _choice_words(row), _count(row), *_fit_cells(row),
            *(("–", "–") if row.get("section") == "baseline" else (_shift(row, "slope_shift"), _shift(row, "intercept_shift"))),
        )
        for row in rows if not row.get("error")
    ]  # fmt: skip
    said = [f"{_choice_words(row)}: {row.get('error') or row['note']}" for row in rows if row.get("error") or row.get("note")]
    caption = f"{_called(choices.get('baseline') or {})}; one choice changed at a time, shifts also in the first row's σ"
    return Listing(caption, columns, cells, frozenset({1})), said


def trend_listings(trends: Mapping | None) -> tuple[list[Listing], list[str]]:
    """List Spearman's coefficients with bootstrap errors and permutation p: trends, residuals, controls.

    The sentences say which cannot be had, which have a quantity on both sides, and how many small p chance alone makes.
    """
    columns = ("of", "with", "galaxies of", "galaxies", "Spearman's ρ", "p", "published")
    rows = (trends or {}).get("rows", [])
    if len({row.get("survey") for row in rows} - {"all"}) == 1 and not any(r.get("published") is not None for r in rows):
        rows = [row for row in rows if row.get("survey") == "all"]  # the one survey is all
    listings, several = [], len({row["velocity"] for row in rows if row.get("velocity")}) > 1
    for kind, caption in _TRENDS.items():
        cells = [
            (
                str(row.get("y_words") or row.get("y")) + _of_velocity(row, several),
                str(row.get("x_words") or row.get("x")) + _fixed(row), _survey(row), row.get("n") or 0,
                plus_minus(row.get("rho"), row.get("rho_err"), 2), _chance(row.get("p")), _published(row),
            )
            for row in rows if row.get("kind") == kind and not row.get("error")
        ]  # fmt: skip
        if cells:
            listings.append(Listing(caption, columns, cells, frozenset({1, 2, 6})))
    said = [_sentence(row["error"]) for row in rows if row.get("error")] + [row["shared"] for row in rows if row.get("shared")]
    if known := sum(len(listing.rows) for listing in listings):
        chance = f"about {known / 100:.0f}" if known >= 100 else "one in a hundred"
        said.append(f"p is of one row alone: of these {known} rows {chance} would have p below 0.01 if nothing went with anything.")
    return listings, list(dict.fromkeys(said))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _of_velocity(row: Mapping, several: bool) -> str:
    return f" ({row['velocity']})" if several and row.get("velocity") else ""


def _group_words(row: Mapping) -> str:
    return survey_style(str(row["group"])).label if row.get("kind") == "survey" else str(row.get("words") or row.get("group"))


def _choice_words(row: Mapping) -> str:
    return str(row.get("words") or row.get("choice", ""))


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
