"""Published Tully-Fisher relations, as the thesis prints them (Tables 4.1 and 4.2, eqs 4.5-4.7), and how far a fit is off.

y = slope (x - pivot) + intercept. Velocities and masses differ from row to row, and ", inverted" is a reverse fit turned
round: compare like with like. Asymmetric errors are averaged here; where a print is at odds with the algebra that made it, the
algebra's value is used and the note says so. The thesis' masses are on a Chabrier IMF for SAMI and on a Salpeter one for MaNGA
(Pipe3D): "mixed". The Hubble constant of its masses and of two others is not stated there: an empty cell.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

__all__ = ["LITERATURE", "Offset", "offsets"]

_TABLE = """
name|relation|slope|slope_err|intercept|intercept_err|pivot|velocity|imf|h|drift|n|note
Dawson thesis|reverse|0.258|0.003|2.265|0.002|10.09|v_max|mixed||evans|1834|Eq. 4.5 prints V_max for log V_max; rms 0.089 dex.
Bloom+2017|reverse|0.310|0.009|2.198|0.100|10.09|v_22|Chabrier||off|729|SAMI DR1; pivot moved by the thesis.
Bekeraité+2016|reverse|0.260|0.017|2.123|0.130|10.09|v_opt|||pressure support|199|CALIFA, stars; converted by Bloom+2017.
Reyes+2011|reverse|0.278|0.010|2.164|0.004|10.09|v_80|Kroupa||off|189|The paper prints 2.142 at 10.10, 2.139 here.
Dawson thesis|forward|3.013|0.037|10.054|0.008|2.256|v_max|mixed||evans|1834|The text calls eq. 4.6 reverse; rms 0.31 is in dex.
Dawson thesis, inverted|forward|3.876|0.0455|10.054|0.012|2.256|v_max|mixed||evans|1834|Intercept prints +0.012 -0.123: 0.012 used.
Bloom+2017, inverted|forward|3.226|0.096|10.278|0.5335|2.256|v_22|Chabrier||off|729|Prints +0.099 -0.093; +0.518 -0.549.
Bekeraité+2016, inverted|forward|3.846|0.2525|10.602|0.552|2.256|v_opt|||pressure support|199|Prints +0.269 -0.236; +0.516 -0.588.
Reyes+2011, inverted|forward|3.597|0.1295|10.421|0.2945|2.256|v_80|Kroupa||off|189|Slope prints +0.134 -0.284, by algebra -0.125.
Dawson thesis|r_band|-5.290|0.100|-19.708|0.022|2.256|v_max|||evans|1834|Eq. 4.7 prints +19.708; rms 0.92 mag.
"""
_INVERTED = ", inverted"
_NUMBERS = {"slope", "slope_err", "intercept", "intercept_err", "pivot"}


def _rows() -> tuple[Mapping, ...]:
    header, *lines = (line.split("|") for line in _TABLE.strip().splitlines())
    rows = []
    for line in lines:
        row = dict(zip(header, line, strict=True))
        typed = {name: float(text) if name in _NUMBERS else text for name, text in row.items()}
        rows.append(MappingProxyType(typed | {"n": int(row["n"]), "h": float(row["h"]) if row["h"] else float("nan")}))
    return tuple(rows)


LITERATURE: tuple[Mapping, ...] = _rows()


@dataclass(frozen=True)
class Offset:
    """How far a fit is from a published relation, in combined sigmas; the intercepts are compared at the published pivot."""

    name: str
    relation: str
    slope_difference: float
    slope_sigmas: float
    intercept_difference: float
    intercept_sigmas: float
    like_with_like: bool
    unlike: tuple[str, ...]
    note: str


def _unlike(line: Mapping, fit: Mapping) -> tuple[str, ...]:
    """What the published line is known to have done differently: direction of the regression, velocity, drift, and the masses' IMF and h.

    What a paper does not state, or the fit does not say, is not a difference. Each catalogue's own IMF is the thesis' "mixed".
    """
    found = ["an inverted reverse fit"] if line["name"].endswith(_INVERTED) else []
    if line["velocity"] != fit.get("velocity"):
        found.append(f"velocity {line['velocity']}")
    if line["drift"] != fit.get("drift"):
        n, of = fit.get("n_corrected") or 0, fit.get("n_used", 0) + fit.get("n_outliers", 0)
        found.append(f"drift {line['drift']}{f' (ours: {n} of {of} corrected)' if 0 < n < of else ''}")
    imf = {"own": "mixed"}.get(str(fit.get("imf")), fit.get("imf"))
    if imf and line["imf"] and line["imf"].lower() != str(imf).lower():
        found.append(f"IMF {line['imf']}")
    if fit.get("h") and np.isfinite(line["h"]) and line["h"] != fit["h"]:
        found.append(f"h = {line['h']:g}")
    return tuple(found)


def offsets(fit: Mapping) -> list[Offset]:
    """Compare a fit (the JSON of a relation) with every published relation of its kind; an empty list where it has an error.

    The fit's intercept is moved to the published pivot with its covariance, where it has one. ``unlike`` names what was done
    differently (velocity, drift, the masses' IMF and h: Salpeter's masses are 0.24 dex heavier, which is 0.06 in log V; and for a
    forward fit a reverse one turned round, which scatter makes steeper: those rows' like is the reverse fit, beside the rows they
    were made of). ``like_with_like`` where nothing is known to be.
    """
    if "error" in fit:
        return []
    alone = np.diag([fit["slope_err"] ** 2, fit["intercept_err"] ** 2])
    covariance = alone if fit.get("covariance") is None else np.asarray(fit["covariance"], dtype=float)
    rows = []
    for line in LITERATURE:
        if line["relation"] != fit["relation"]:
            continue
        lever = np.array([line["pivot"] - fit["pivot"], 1.0])
        slope = fit["slope"] - line["slope"]
        intercept = fit["intercept"] + fit["slope"] * lever[0] - line["intercept"]
        intercept_err = np.sqrt(lever @ covariance @ lever + line["intercept_err"] ** 2)
        unlike = _unlike(line, fit)
        rows.append(
            Offset(
                name=line["name"],
                relation=line["relation"],
                slope_difference=slope,
                slope_sigmas=slope / float(np.hypot(fit["slope_err"], line["slope_err"])),
                intercept_difference=intercept,
                intercept_sigmas=intercept / float(intercept_err),
                like_with_like=not unlike,
                unlike=unlike,
                note=line["note"],
            )
        )
    return rows
