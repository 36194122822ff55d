"""Trends along and about the relation: rank correlations of velocities, residuals and turnover radii with what galaxies are made of.

The published ones are those of thesis chapter 4. At fixed mass a trend is more than the mass behind it; the inclination is the control:
a velocity or residual that goes with it is a fault of the correction, not a property of galaxies. Two quantities that have a third in
them correlate by algebra alone: r_turn is fitted together with V_max, and ratios are made of masses and magnitudes; such rows say so.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.conventions import log_mass_to_light
from tullyflow.relation.fit_tables import columns_of, write_rows
from tullyflow.relation.rank_correlation import BOOTSTRAPS, MIN_PAIRS, PERMUTATIONS, correlate_ranks
from tullyflow.relation.record import read_record, write_record
from tullyflow.relation.tully_fisher import log_velocity, relation_points
from tullyflow.settings import Settings
from tullyflow.tables import SAMPLE, read_table

__all__ = ["PUBLISHED", "QUANTITIES", "list_trends", "measure_trends", "quantities"]

_LOG = logging.getLogger("tullyflow")
QUANTITIES = {
    "log_v": "velocity", "log_mstar": "stellar mass", "log_age_yr": "stellar age", "log_ml": "mass-to-light ratio",
    "log_ssfr": "specific star formation rate", "log_sfr": "star formation rate", "r_turn_over_re": "turnover radius over R_e",
    "delta_pa_deg": "misalignment of gas and stars", "inclination_used_deg": "inclination",
    "residual_reverse": "residual of the reverse relation", "residual_forward": "residual of the forward relation",
    "residual_r_band": "residual of the r-band relation", "residual_baryonic": "residual of the baryonic relation",
}  # fmt: skip
_DRIVERS = ("r_turn_over_re", "log_age_yr", "log_ml", "log_ssfr", "log_sfr", "delta_pa_deg")
_SAME = 1e-3  # dex: a ratio that is made of a mass and a magnitude comes back to that
_CONTROL = "inclination_used_deg"
PUBLISHED = {  # (x, y, survey): Spearman's coefficient, thesis chapter 4
    ("log_age_yr", "log_v", "manga"): 0.605, ("log_ml", "log_v", "manga"): 0.168, ("log_ml", "log_v", "sami"): 0.693,
    ("log_mstar", "r_turn_over_re", "manga"): -0.37, ("log_mstar", "r_turn_over_re", "sami"): -0.69,
    ("r_turn_over_re", "residual_r_band", "sami"): 0.39, ("r_turn_over_re", "residual_r_band", "manga"): 0.36,
}  # fmt: skip
_WITH_MASS = ("residual_reverse", "residual_forward", "residual_baryonic")
_FITTED_TOGETHER = (
    "r_turn and V_max are fitted together, and V_22 / V_max is a function of r_turn over the scale length alone: part of what V_max "
    "and its residuals show with r_turn / R_e is algebra. A velocity at a radius hardly has that part."
)
_OWN_LIGHT = (
    "The mass-to-light ratio is made of stellar mass and M_r (log M* + 0.4 M_r), as catalogues have no other: with a residual in mass "
    "or M_r a quantity is in part correlated with itself."
)
_OWN_MASS = (
    "The specific star formation rate is one over stellar mass: with a residual that has the mass in it, a quantity is in part "
    "correlated with itself."
)
_COLUMNS = columns_of("""
kind|s||direct, residual (of a relation), or control (should be 0)
velocity|s||the velocity in it; empty for none
x|s||first quantity
y|s||second quantity
at_fixed|s||quantity held fixed; empty for none
survey|s||survey, or all
n|i||galaxies that have them
rho|f||Spearman's coefficient
rho_err|f||its 1 sigma (bootstrap)
p|f||share of permutations that correlate as much
published|f||published coefficient
published_source|s||whose
shared|s||a quantity both have in them, so that they correlate by algebra too
error|s||why there is none
""")


@dataclass(frozen=True)
class Trend:
    """A pair of quantities, what is held fixed, and what the pair is for."""

    kind: str
    x: str
    y: str
    at_fixed: str | None = None

    @property
    def with_velocity(self) -> bool:
        return self.y == "log_v" or self.y.startswith("residual_")


def list_trends(relations: Sequence[str]) -> list[Trend]:
    """Return the pairs to correlate; the residuals are those of ``relations``, in this order."""
    trends = [Trend("direct", x, "log_v") for x in ("log_age_yr", "log_ml", "log_ssfr", "log_sfr")]
    trends += [Trend("direct", "log_mstar", "r_turn_over_re")]
    trends += [Trend("direct", x, "log_v", "log_mstar") for x in _DRIVERS]
    for relation in relations:
        residual = f"residual_{relation}"
        trends += [Trend("residual", x, residual) for x in _DRIVERS]
        trends += [Trend("residual", x, residual, "log_mstar") for x in _DRIVERS]
        trends.append(Trend("control", _CONTROL, residual))
    return [*trends, Trend("control", _CONTROL, "log_v"), Trend("control", _CONTROL, "log_v", "log_mstar")]


def quantities(sample: pd.DataFrame, fits: Sequence[Mapping], velocity: str, settings: Settings) -> pd.DataFrame:
    """Return what the trends correlate: columns of `QUANTITIES`, survey, one row per used galaxy (index of the sample).

    ``fits``: JSON of `fit_relation`; of each relation the first one with ``velocity`` and a line gives the residuals, y less the
    line, of all galaxies it could take, its outliers too. A quantity nobody has is NaN. M/L is the catalogue's, else that of mass and
    magnitude.
    """
    used = sample[sample["used"]]
    log_ml = used["log_ml"].where(np.isfinite(used["log_ml"]), log_mass_to_light(used["log_mstar"], used["abs_mag_r"]))
    table = pd.DataFrame({
        "survey": used["survey"], "log_v": log_velocity(used, velocity, settings.relation)[0],
        **{name: used[name] for name in ("log_mstar", "log_age_yr", "log_ssfr", "log_sfr", "delta_pa_deg", _CONTROL)}, "log_ml": log_ml,
        "r_turn_over_re": used["r_turn_arcsec"] / used["r_e_arcsec"].where(used["r_e_arcsec"] > 0),
    })  # fmt: skip
    for fit in fits:
        name = f"residual_{fit['relation']}"
        if name in table or fit["velocity"] != velocity or "error" in fit:
            continue
        points = relation_points(sample, fit["relation"], velocity, settings)
        residual = points.y - fit["slope"] * (points.x - fit["pivot"]) - fit["intercept"]
        table[name] = pd.Series(residual, index=points.rows)
    return table.reindex(columns=["survey", *QUANTITIES])


def _measure(chosen: pd.DataFrame, trend: Trend, seed: int) -> dict:
    wanted = [name for name in (trend.x, trend.y, trend.at_fixed) if name]
    columns = [chosen[name].to_numpy(dtype=float) for name in wanted]
    found = correlate_ranks(*columns[:2], np.random.default_rng(seed), *columns[2:])
    absent = [QUANTITIES[name] for name, values in zip(wanted, columns, strict=True) if not np.isfinite(values).any()]
    why = None
    if absent:
        why = f"not available: no galaxy has a {' or a '.join(absent)}."
    elif found.n < MIN_PAIRS:
        why = f"not available: {found.n} galaxies have all of it, {MIN_PAIRS} are needed."
    elif not np.isfinite(found.rho):
        why = "All values are the same."
    return {"n": found.n, "rho": found.rho, "rho_err": found.rho_err, "p": found.p, "error": why}


def _shared(chosen: pd.DataFrame, trend: Trend, velocity: str) -> str | None:
    """Say what both quantities of a trend have in them; None for nothing. A mass that is held fixed is no part of either."""
    if trend.x == "r_turn_over_re" and trend.with_velocity and velocity == "v_max":
        return _FITTED_TOGETHER
    mass = trend.y in _WITH_MASS and trend.at_fixed != "log_mstar"
    if trend.x == "log_ml" and (mass or trend.y == "residual_r_band"):
        made = log_mass_to_light(chosen["log_mstar"], chosen["abs_mag_r"])
        return _OWN_LIGHT if np.isclose(chosen["log_ml"], made, rtol=0, atol=_SAME).any() else None
    return _OWN_MASS if trend.x == "log_ssfr" and mass else None


def _rows(table: pd.DataFrame, trend: Trend, velocity: str, surveys: Sequence[str], seed: int) -> list[dict]:
    """One trend for all galaxies, then for each survey; a single survey's is that of all."""
    together = _measure(table, trend, seed)
    source = "Dawson thesis" if velocity == "v_max" or not trend.with_velocity else "Dawson thesis, of V_max"
    rows = []
    for survey in ("all", *surveys):
        chosen = table if survey == "all" else table[table["survey"] == survey]
        published = None if trend.at_fixed else PUBLISHED.get((trend.x, trend.y, survey))
        measured = _measure(chosen, trend, seed) if survey != "all" and len(surveys) > 1 else together
        rows.append({
            "kind": trend.kind, "velocity": velocity if trend.with_velocity else None, "x": trend.x, "y": trend.y,
            "at_fixed": trend.at_fixed, "survey": survey, "x_words": QUANTITIES[trend.x], "y_words": QUANTITIES[trend.y],
            "published": published, "published_source": None if published is None else source,
            "shared": None if measured["error"] else _shared(chosen, trend, velocity),
        } | measured)  # fmt: skip
    return rows


def measure_trends(sample_path: str | Path, fit_paths: Sequence[str | Path], settings: Settings, out_path: str | Path) -> dict:
    """Correlate the used galaxies' quantities, survey by survey and together, and write JSON and ECSV.

    The velocity is the settings' first; residuals are those of every velocity, the first one's first, from the fits of ``fit_paths`` in
    the settings' first method that has a line. ``rows``: kind, velocity (None where there is none in it), x, y with words, at_fixed,
    survey, n, rho, rho_err, p, the published coefficient of the same survey, ``shared``, a sentence where both have a quantity in them,
    and ``error`` where there is no coefficient: a column nobody has, fewer than 10 galaxies. p is of one trend alone; of a hundred rows
    some are below 0.01 by chance.

    Raises `CatalogueError` for an unreadable sample, `RelationError` for an unreadable fit.
    """
    sample, velocities = read_table(sample_path, SAMPLE), settings.relation.velocities
    order = {method: k for k, method in enumerate(settings.relation.methods)}
    fits = sorted((read_record(path) for path in fit_paths), key=lambda fit: order.get(fit["method"], len(order)))
    surveys = list(dict.fromkeys(sample.loc[sample["used"], "survey"]))
    rows = []
    for velocity in velocities:
        relations = [r for r in settings.relation.relations if any((f["relation"], f["velocity"]) == (r, velocity) for f in fits)]
        table = quantities(sample, fits, velocity, settings)
        table["abs_mag_r"] = sample["abs_mag_r"]
        trends = [t for t in list_trends(relations) if velocity == velocities[0] or t.y.startswith("residual_")]
        rows += [row for trend in trends for row in _rows(table, trend, velocity, surveys, settings.seed)]
    record = {"velocity": velocities[0], "permutations": PERMUTATIONS, "bootstraps": BOOTSTRAPS, "rows": rows}
    write_record(out_path, record)
    write_rows(Path(out_path).with_suffix(".ecsv"), rows, _COLUMNS)
    known = [row for row in rows if row["error"] is None]
    _LOG.info("trends: %d of %d could be measured, %d of them with p < 0.01", len(known), len(rows), sum(row["p"] < 0.01 for row in known))
    for row in known:
        if (row["kind"], row["survey"]) == ("control", "all") and row["p"] < 0.01:
            _LOG.warning("trends: %s goes with the inclination (rho %.2f, p %.4f)", _said(row), row["rho"], row["p"])
    return record


def _said(row: Mapping) -> str:
    return f"the {row['y_words']} ({row['velocity']}){' at fixed mass' if row['at_fixed'] else ''}"
