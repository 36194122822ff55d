"""What changes when each choice is changed: one relation fitted again and again, with one setting different each time.

The same galaxies serve, so a shift is no significance: it is given in sigmas of the baseline to say how far the choice carries.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.relation.choice_list import Choice, list_choices
from tullyflow.relation.fit_tables import FIT_COLUMNS, columns_of, write_rows
from tullyflow.relation.quality import RECONSTRUCTION_COLUMNS, measure_threshold
from tullyflow.relation.record import write_record
from tullyflow.relation.reselect import Undecided, select_again, undecided
from tullyflow.relation.tully_fisher import fit_record, relation_points
from tullyflow.relation.weighted import fit_weighted
from tullyflow.settings import Relation, Settings
from tullyflow.tables import SAMPLE, read_table

__all__ = ["vary_choices"]

_LOG = logging.getLogger("tullyflow")
_SIGMAS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, None)
_COLUMNS = (
    *columns_of("""
section|s||which kind of choice
choice|s||what is different from the baseline
words|s||the same in words
reference|s||the choice the shifts are from
n_sample|i||galaxies the choice leaves in
"""),
    *FIT_COLUMNS,
    *columns_of("""
slope_shift|f||slope less that of the reference
slope_shift_sigmas|f||the same in sigmas of the reference
intercept_shift|f||intercept less that of the reference, y's unit
intercept_shift_sigmas|f||the same in sigmas of the reference
note|s||what to know of the row
error|s||why there is no line
"""),
)


def _leave_out(sample: pd.DataFrame, without: int | str | None) -> pd.DataFrame:
    if without is None:
        return sample
    carries = sample[without] if isinstance(without, str) else (sample["flags"] & without) != 0
    return sample.assign(used=sample["used"] & ~carries.to_numpy(dtype=bool))


def _note(choice: Choice, sample: pd.DataFrame, baseline: pd.DataFrame, relation: Relation, velocity: str) -> str | None:
    """What a reader must know: that nothing changed, and why."""
    used = sample["used"].to_numpy(dtype=bool)
    if choice.section == "drift":
        of, who = (baseline, "The baseline corrects ") if relation.drift == "off" else (sample, "Corrected: ")
        moved = (of[f"{velocity}_circ_kms"] != of[f"{velocity}_kms"]) & of[f"{velocity}_kms"].notna()
        dispersions = int(np.isfinite(sample.loc[used, "outer_dispersion_kms"]).sum())
        return f"{who}{int(moved[used].sum())} of {used.sum()} galaxies; {dispersions} have a dispersion."
    if choice.section == "mass error":
        without = int((~(sample.loc[used, "log_mstar_err"] > 0)).sum())
        return f"{without} of {used.sum()} masses come without an error."
    if choice.section in ("reconstruction", "cuts", "warnings") and np.array_equal(used, baseline["used"].to_numpy(dtype=bool)):
        return "The same galaxies."
    return None


def _inverted(forward: dict, pivot: float) -> dict:
    """A forward fit x = (y - intercept) / slope + its pivot as a reverse one at ``pivot``; its scatter and rms in y, over the slope."""
    if "error" in forward:
        return forward
    if forward["slope"] == 0:
        return {"error": "fit: the forward line is flat and cannot be inverted.", "n_used": forward["n_used"]}
    slope, lever = forward["slope"], pivot - forward["intercept"]
    value = forward["pivot"] + lever / slope
    by_both = np.array([-lever / slope**2, -1 / slope])
    return forward | {
        "slope": 1 / slope, "slope_err": forward["slope_err"] / slope**2, "intercept": value, "pivot": pivot,
        "intercept_err": float(np.sqrt(by_both @ forward["covariance"] @ by_both)),
        **{key: forward[key] / abs(slope) for key in ("scatter", "scatter_err", "rms")},
    }  # fmt: skip


def _row(choice: Choice, before: Undecided, baseline: pd.DataFrame, which: Mapping, settings: Settings) -> dict:
    relation = settings.relation.model_copy(update=dict(choice.changes))
    changed = settings.model_copy(update={"relation": relation})
    velocity, method = choice.velocity or which["velocity"], choice.method or which["method"]
    sample = _leave_out(select_again(before, relation) if choice.changes else baseline, choice.without)
    note = _note(choice, sample, baseline, relation, velocity)
    if choice.weighted:
        points = relation_points(sample, which["relation"], velocity, changed)
        fit = fit_weighted(points.x, points.y, sample.loc[points.rows, "volume_weight"].to_numpy(), which["pivot"], settings.seed)
        note = f"{int((sample.loc[points.rows, 'volume_weight'] > 0).sum())} of {points.x.size} galaxies have a weight."
    elif choice.inverted:
        fit = _inverted(fit_record(sample, "forward", velocity, method, changed), which["pivot"])
    else:
        fit = fit_record(sample, which["relation"], velocity, method, changed, which["pivot"])
    names = [c.name for c in FIT_COLUMNS]
    row = {"section": choice.section, "choice": choice.key, "words": choice.words, "reference": choice.reference, "note": note}
    return row | {"n_sample": int(sample["used"].sum()), "error": fit.get("error")} | {name: fit.get(name) for name in names}


def _add_shifts(rows: list[dict]) -> None:
    """Each row's distance from its reference, and that in sigmas of the reference; in place."""
    of = {row["choice"]: row for row in rows}
    for row in rows:
        reference = of.get(row["reference"], of["baseline"])
        for name in ("slope", "intercept"):
            there = row[name] is not None and reference[name] is not None
            shift = row[name] - reference[name] if there else None
            row[f"{name}_shift"] = shift
            row[f"{name}_shift_sigmas"] = shift / reference[f"{name}_err"] if there and reference[f"{name}_err"] else None


def _thresholds(before: Undecided, which: Mapping, settings: Settings) -> list[dict]:
    """Slope against the threshold of the reconstruction, for both statistics (from the same zero point)."""
    rows = []
    for statistic in RECONSTRUCTION_COLUMNS:
        for sigma in _SIGMAS:
            changes = {"reconstruction": statistic, "reconstruction_sigma": sigma} if sigma else {"reconstruction": "off"}
            relation = settings.relation.model_copy(update=changes)
            sample = select_again(before, relation)
            fit = fit_record(sample, which["relation"], which["velocity"], which["method"], settings, which["pivot"])
            row = {"statistic": statistic, "sigma": sigma, "n_sample": int(sample["used"].sum()), "error": fit.get("error")}
            rows.append(row | {c.name: fit.get(c.name) for c in FIT_COLUMNS})
        by_v = measure_threshold(before.sample, settings.relation.model_copy(update={"reconstruction": statistic}))["spearman_with_v"]
        rows[-len(_SIGMAS) :] = [row | {"spearman_with_v": by_v} for row in rows[-len(_SIGMAS) :]]
    return rows


def vary_choices(sample_path: str | Path, settings: Settings, out_path: str | Path) -> dict:
    """Fit the first relation, velocity and method of the settings, and again with each choice changed; write JSON and ECSV.

    Marginalised normal regression is a choice, never the baseline: its sampling would take minutes for so many fits.

    ``baseline``: relation, velocity, method, drift, pivot. ``rows``: per choice the fit with intercepts at the baseline's pivot, the
    galaxies, and the shifts of slope and intercept from the ``reference`` (the baseline; for volume weights the same fit without) in
    sigmas of the reference. ``thresholds``: the fit against the reconstruction's threshold, for both statistics, and the rank
    correlation of the statistic with V_max sin i. A choice without a line carries its ``error``; nothing raises but an unreadable
    sample (`CatalogueError`).
    """
    sample = read_table(sample_path, SAMPLE)
    wanted = settings.relation
    quick = [method for method in wanted.methods if method != "mnr"]
    which = {"relation": wanted.relations[0], "velocity": wanted.velocities[0], "method": quick[0] if quick else "lts"}
    points = relation_points(sample, which["relation"], which["velocity"], settings)
    which |= {"drift": points.drift, "pivot": points.pivot}
    before = undecided(sample, settings)
    again = select_again(before, wanted)
    if (differ := int((again["used"] != sample["used"]).sum())) > 0:
        _LOG.warning("choices: the settings select %d galaxies otherwise than the sample has them; the sample's are the baseline", differ)
    choices = list_choices(wanted, which["velocity"], which["method"], which["relation"])
    rows = [_row(choice, before, sample, which, settings) for choice in choices]
    _add_shifts(rows)
    record = {"baseline": which, "rows": rows, "thresholds": _thresholds(before, which, settings)}
    write_record(out_path, record)
    write_rows(Path(out_path).with_suffix(".ecsv"), rows, _COLUMNS)
    known = [row for row in rows if row["slope_shift_sigmas"] is not None]
    for row in sorted(known, key=lambda r: -abs(r["slope_shift_sigmas"]))[:3]:
        _LOG.info("choices: %s: slope %+.4f (%+.1f sigma of the baseline)", row["choice"], row["slope_shift"], row["slope_shift_sigmas"])
    return record
