"""What the interactive relation is drawn from: axes, fits and published lines, as the page's script takes them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from tullyflow.relation.literature import LITERATURE
from tullyflow.relation.recommended import recommended_methods
from tullyflow.report.columns import relation_axes
from tullyflow.report.figures.listing import METHOD_WORDS, RELATION_WORDS, VELOCITY_WORDS
from tullyflow.report.words import number, plus_minus

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["advice", "axis_label", "fit_name", "relation_data"]

_SUBSCRIPTS = {"v_max": "Vmax", "v_22": "V2.2", "v_re": "V(Re)", "v_80": "V80", "v_rmax": "V(r max)", "v_opt": "Vopt"}
_NUMBERS = ("slope", "slope_err", "intercept", "intercept_err", "pivot", "scatter", "scatter_err", "rms", "n_used", "n_outliers", "error")


def axis_label(name: str, corrected: bool = False) -> str:
    """Return what stands on an axis, from its name in a fit's record: ``log10(v_22_circ_kms)`` is "log V2.2 (km/s)".

    ``corrected`` says whether any velocity carries a drift correction.
    """
    if name.startswith("log10(v_"):
        key = name.removeprefix("log10(").removesuffix("_kms)").removesuffix("_circ")
        return f"log {_SUBSCRIPTS.get(key, key)} (km/s{', drift corrected' if corrected else ''})"
    if name.startswith("abs_mag_r"):
        return f"M_r{' less internal extinction' if 'extinction' in name else ''} (mag)"
    return {"log_mstar": "log stellar mass (M☉)", "log_mbar": "log baryonic mass (M☉)"}.get(name, name)


def fit_name(fit: Mapping, joint: str = "") -> str:
    """Return the name of a fit in words, or its machine key with ``joint`` between the parts."""
    relation, velocity, method = (str(fit.get(key, "?")) for key in ("relation", "velocity", "method"))
    if joint:
        return joint.join((relation, velocity, method))
    return f"{RELATION_WORDS.get(relation, relation)}, {VELOCITY_WORDS.get(velocity, velocity)}, {METHOD_WORDS.get(method, method)}"


def advice(fit: Mapping) -> str:
    """Return a recommended fit in sentences: what it is, its numbers, and why it is recommended."""
    unit = "mag" if str(fit.get("y", "")).startswith("abs_mag") else "dex"
    best = recommended_methods(str(fit.get("relation")))
    why = f" {best.why}" if fit.get("method") == best.methods[0] else ""
    return (
        f"{fit_name(fit)}: slope {plus_minus(fit['slope'], fit.get('slope_err'))}, intercept "
        f"{plus_minus(fit['intercept'], fit.get('intercept_err'))} at {number(fit['pivot'])}, intrinsic scatter "
        f"{plus_minus(fit.get('scatter'), fit.get('scatter_err'))} {unit}, rms {number(fit.get('rms'))} {unit}, "
        f"{fit.get('n_used', '?')} galaxies.{why}"
    )


def _outliers(sample: pd.DataFrame, fits: Sequence[Mapping]) -> list[list[int]]:
    """Positions of each fit's outliers: named by the galaxy alone, or as survey-release/galaxy."""
    names = sample["galaxy"].astype(str)
    full = sample["survey"].astype(str) + "-" + sample["release"].astype(str) + "/" + names
    used = sample["used"].to_numpy(dtype=bool)
    found = []
    for fit in fits:
        outliers = set(fit.get("outliers") or [])
        found.append([k for k in (names.isin(outliers) | full.isin(outliers)).to_numpy().nonzero()[0].tolist() if used[k]])
    return found


def relation_data(sample: pd.DataFrame, fits: Sequence[Mapping], best: Mapping[str, Mapping], settings: "Settings") -> dict[str, Any]:
    """Return axes, fits and published lines; ``best`` are the recommended fits by relation."""
    axes = relation_axes(sample, fits, settings)
    corrected = {fit.get(axis) for fit in fits if fit.get("drift", "off") != "off" for axis in ("x", "y")}
    chosen = {fit_name(fit, "-") for fit in best.values()}
    listed = []
    for fit, outliers in zip(fits, _outliers(sample, fits), strict=True):
        values = {key: fit[key] for key in _NUMBERS if fit.get(key) is not None}
        listed.append(values | {
            "relation": fit.get("relation"), "velocity": fit.get("velocity"), "method": fit.get("method"), "x": fit.get("x"),
            "y": fit.get("y"), "surveys": fit.get("surveys") or [], "outliers": outliers, "recommended": fit_name(fit, "-") in chosen,
            "unit": "mag" if str(fit.get("y", "")).startswith("abs_mag") else "dex",
        })  # fmt: skip

    def options(key: str, words: Mapping[str, str]) -> list[tuple[str, str]]:
        return [(name, words.get(name, name)) for name in dict.fromkeys(str(fit.get(key)) for fit in fits)]

    lines = [
        {"words": _SUBSCRIPTS.get(line["velocity"], line["velocity"])}
        | {key: line[key] for key in ("name", "relation", "slope", "intercept", "pivot")}
        for line in LITERATURE if line["relation"] in {fit.get("relation") for fit in fits}
    ]  # fmt: skip
    start = next(iter(best.values()), fits[0])
    return {
        "axes": {name: axis | {"label": axis_label(name, name in corrected)} for name, axis in axes.items()},
        "magnitude": next((name for name in axes if name.startswith("abs_mag")), ""),
        "fits": listed,
        "literature": lines,
        "options": {
            "relation": options("relation", RELATION_WORDS), "velocity": options("velocity", VELOCITY_WORDS),
            "method": options("method", METHOD_WORDS),
        },
        "start": {key: start.get(key) for key in ("relation", "velocity", "method")},
    }  # fmt: skip
