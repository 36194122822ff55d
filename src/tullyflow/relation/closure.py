"""Closure of a mock run: what was put in against what was found, for relations, galaxies and hard cases.

A check that cannot fail shows nothing: the control fits the same galaxies with their velocities shuffled, and must fail. It
fails by its slope: shuffling leaves the mean of log V as it was, so the bias galaxy by galaxy is judged by a limit of its own.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.errors import RelationError
from tullyflow.relation.parameters import HONEST_PULL_RMS, galaxy_table, parameter_rows, true_velocities, velocity_bias_rows
from tullyflow.relation.record import read_record, write_record
from tullyflow.relation.tully_fisher import RelationPoints, fit_line, relation_points
from tullyflow.settings import Mock, Settings
from tullyflow.tables import SAMPLE, TRUTH, read_table

__all__ = ["check_closure"]

_LOG = logging.getLogger("tullyflow")
_KEYS = ["survey", "release", "galaxy"]
_MOCK_PIVOT = 10.09  # the mock states its intercept here
_TRUE_ERR = 1e-3  # dex or mag: the estimators need an error, true values have none
_MAX_PULL = 3.0
_POPULATION, _SAME_GALAXIES = "population", "true values of the used galaxies"


def _join_truth(sample: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """One row per galaxy of the truth: the sample's columns, and the truth's with the ending ``_true``."""
    renamed = truth.rename(columns={c: f"{c}_true" for c in truth.columns if c not in (*_KEYS, "hard_case", "expected_flags")})
    joined = renamed.merge(sample, on=_KEYS, how="left", indicator="found")
    joined["found"] = joined["found"] == "both"
    joined["used"] = joined["used"].eq(True)  # NaN, a galaxy the sample lacks, is not used
    joined["flag_names"] = joined["flag_names"].fillna("")
    return joined


def _with_true_values(joined: pd.DataFrame) -> pd.DataFrame:
    """The same galaxies with the true masses, magnitudes and velocities, and errors that hardly matter."""
    true = joined.copy()
    true["log_mstar"], true["abs_mag_r"] = joined["log_mstar_true"], joined["abs_mag_r_true"]
    true["log_mstar_err"] = _TRUE_ERR
    for velocity, values in true_velocities(joined).items():
        for kind in ("", "_circ"):
            true[f"{velocity}{kind}_kms"], true[f"log_{velocity}{kind}_err"] = values, _TRUE_ERR
    return true


def _rows(fit: Mapping, put_in: Mapping[str, float], source: str) -> list[dict]:
    """Slope, intercept and scatter of one fit against what was put in; the pull is the difference over the fit's error."""
    rows = []
    for name in ("slope", "intercept", "scatter"):
        found, err = fit[name], fit[f"{name}_err"]
        known = found is not None and err is not None and err > 0
        pull = (found - put_in[name]) / err if known else float("nan")
        rows.append({
            "relation": fit["relation"], "velocity": fit["velocity"], "method": fit["method"], "parameter": name, "put_in_from": source,
            "put_in": put_in[name], "found": found, "err": err, "pull": pull,
        })  # fmt: skip
    return rows


def _pulls(rows: Sequence[Mapping]) -> np.ndarray:
    """|pull| of slope and intercept, which are judged; a scatter is shown only, its estimators are biased by design."""
    return np.array([abs(row["pull"]) for row in rows if row["parameter"] != "scatter"], dtype=float)


def _judge(found: Sequence[Mapping], shuffled: Sequence[Mapping]) -> dict:
    """Whether a fit agrees, and whether its control is beyond 3 sigma somewhere: a control without an error has not failed."""
    pulls, control = _pulls(found), _pulls(shuffled)
    largest = float(control[np.isfinite(control)].max(initial=0.0))
    return {"agrees": bool((pulls < _MAX_PULL).all()), "control_fails": largest >= _MAX_PULL, "control_pull": largest}


def _population(mock: Mock, pivot: float) -> dict[str, float]:
    return {"slope": mock.slope, "intercept": mock.intercept + mock.slope * (pivot - _MOCK_PIVOT), "scatter": mock.scatter}


def _truth_of(fit: Mapping, true: pd.DataFrame, points: RelationPoints, settings: Settings) -> dict[str, float]:
    """Fit the true values of the galaxies of ``points`` with the fit's own method and pivot."""
    chosen = true.loc[points.rows].assign(used=True)
    same = relation_points(chosen, fit["relation"], fit["velocity"], settings)
    line = fit_line(replace(same, pivot=fit["pivot"], y_err=np.full(same.y.shape, _TRUE_ERR)), fit["method"], settings)
    return {"slope": line.slope, "intercept": line.intercept, "scatter": line.scatter}


def _shuffled(fit: Mapping, points: RelationPoints, settings: Settings) -> dict:
    """The fit of the same galaxies with their velocities, errors along, dealt out anew."""
    order = np.random.default_rng(settings.seed).permutation(points.x.size)
    if fit["relation"] in ("reverse", "baryonic"):  # the velocity is y
        mixed = replace(points, y=points.y[order], y_err=points.y_err[order], pivot=fit["pivot"])
    else:
        mixed = replace(points, x=points.x[order], x_err=points.x_err[order], pivot=fit["pivot"])
    line = fit_line(mixed, fit["method"], settings)
    names = ("slope", "slope_err", "intercept", "intercept_err", "scatter", "scatter_err")
    return {key: fit[key] for key in ("relation", "velocity", "method")} | {name: getattr(line, name) for name in names}


def _hard_cases(joined: pd.DataFrame) -> list[dict]:
    """Each hard case: the flags that would be right (any of them; none means it must be used) and those found."""
    rows = []
    for row in joined[joined["hard_case"] != ""].to_dict("records"):
        expected = [name for name in row["expected_flags"].split(",") if name]
        found = [name for name in row["flag_names"].split(",") if name]
        ok = bool(row["found"]) and (bool(set(expected) & set(found)) if expected else bool(row["used"]))
        rows.append({
            "galaxy": row["galaxy"], "survey": row["survey"], "release": row["release"], "case": row["hard_case"],
            "expected": " or ".join(expected) or "used", "found": ", ".join(found) or ("no flag" if row["found"] else "absent"), "ok": ok,
        })  # fmt: skip
    return rows


def _check_relation(fit: Mapping, joined: pd.DataFrame, true: pd.DataFrame, settings: Settings) -> tuple[list[dict], list[dict]]:
    """Rows of one relation and of its control, each against every put-in there is."""
    points = relation_points(joined, fit["relation"], fit["velocity"], settings)
    put_in = {_SAME_GALAXIES: _truth_of(fit, true, points, settings)}
    if fit["relation"] == "reverse" and fit["velocity"] == "v_max" and settings.mock is not None:
        put_in = {_POPULATION: _population(settings.mock, fit["pivot"])} | put_in
    control = _shuffled(fit, points, settings)
    rows = [row for source, values in put_in.items() for row in _rows(fit, values, source)]
    return rows, [row for source, values in put_in.items() for row in _rows(control, values, source)]


def _bias_words(rows: Sequence[Mapping]) -> str:
    """What the velocities are off by, galaxy by galaxy."""
    if not rows:
        return "no velocity could be compared with the truth"
    each = []
    for row in rows:
        beyond = "" if row["agrees"] else f" (biased, the limit is {row['limit']:.3f})"
        each.append(f"{row['velocity']} {row['mean']:+.3f} ± {row['err']:.3f}{beyond}")
    return f"log V found minus true, galaxy by galaxy, is on average {', '.join(each)} dex"


def _error_words(parameters: Sequence[Mapping]) -> str:
    """Which errors are honest, and the rms of the pull of those that are not."""
    judged = [row for row in parameters if row["errors_honest"] is not None]
    wrong = [f"{row['parameter'].rsplit('_', 1)[0]} ({row['pull_rms']:.2f})" for row in judged if not row["errors_honest"]]
    low, high = HONEST_PULL_RMS
    said = f"{len(judged) - len(wrong)} of {len(judged)} errors are honest (rms of the pull {low:g} to {high:g})"
    return f"{said}, not those of {', '.join(wrong)}" if wrong else said


def _control_words(fits: Sequence[Mapping]) -> str:
    pulls = [fit["control_pull"] for fit in fits if "control_pull" in fit]
    if not pulls:
        return "could not be made: this check proves nothing"
    alike = ["{relation} {velocity} {method}".format(**fit) for fit in fits if not fit["control_fails"]]
    if alike:
        return f"does not fail in {', '.join(alike)}: this check proves nothing"
    return f"fails, as it must: in every fit its slope or intercept is off by {min(pulls):.1f} sigma or more"


def _verdict(record: Mapping) -> str:
    pulls = _pulls(record["rows"])
    inside = int((pulls < _MAX_PULL).sum())
    hard = sum(row["ok"] for row in record["hard_cases"])
    closed = "Closed" if all(record["passed"].values()) else "Not closed"
    return (
        f"{closed}: {inside} of {pulls.size} slopes and intercepts are within {_MAX_PULL:g} sigma of what was put in; "
        f"{_bias_words(record['velocity_bias'])}; {hard} of {len(record['hard_cases'])} hard cases are as expected; "
        f"{_error_words(record['parameters'])}; the control with shuffled velocities {_control_words(record['fits'])}."
    )


def check_closure(
    sample_path: str | Path, truth_path: str | Path, relation_paths: Sequence[str | Path], settings: Settings, out_path: str | Path
) -> dict:
    """Compare a mock run with the truth it was made from and write the comparison as JSON.

    ``rows``: per relation, velocity and method the slope, intercept and scatter put in and found, with pulls. Put in is the
    population's line (reverse, V_max: the settings of ``mock``) and, for every relation, what the same estimator gives on the
    true values of the same used galaxies, so that selection and estimator cancel. The mock puts in rotation velocities: a
    fit with drift-corrected ones is compared with them as it is, and should fail.
    ``velocity_bias``: per velocity of the fits, the mean of log10 V found minus true over the used galaxies; it does not
    take the galaxies' errors, so errors that are too wide cannot hide a bias. ``parameters``: found minus true of each
    galaxy's parameters over the used galaxies. ``hard_cases``: flags expected and found. ``control``: the rows again with
    velocities shuffled among the galaxies. ``galaxies``: put in and found, each galaxy. ``fits``: per fit whether slope and
    intercept are within 3 sigma, and whether those of the control are not, with its largest pull. ``passed``: ``relations``,
    ``velocity_bias``, ``control_fails``, ``hard_cases``. ``verdict``: the same as a sentence, and whether the errors are
    honest, which decides nothing.

    Raises `CatalogueError` for an unreadable sample or truth, `RelationError` for an unreadable fit.
    """
    sample = read_table(sample_path, SAMPLE)
    joined = _join_truth(sample, read_table(truth_path, TRUTH))
    true = _with_true_values(joined)
    rows, control, fits = [], [], []
    for path in relation_paths:
        fit = read_record(path)
        name = {key: fit.get(key) for key in ("relation", "velocity", "method")}
        try:
            if "error" in fit:
                raise RelationError(fit["error"])
            found, shuffled = _check_relation(fit, joined, true, settings)
        except RelationError as err:
            fits.append(name | {"agrees": False, "control_fails": True, "note": str(err)})
            continue
        rows += found
        control += shuffled
        as_put_in = fit.get("drift") == "off" and not fit.get("n_corrected")
        note = "" if as_put_in else "Corrected for asymmetric drift; the mock puts in rotation velocities."
        fits.append(name | _judge(found, shuffled) | {"note": note})
    used, hard_cases = joined[joined["used"]], _hard_cases(joined)
    kind = "" if settings.relation.drift == "off" else "_circ"
    bias = velocity_bias_rows(used, {row["velocity"]: f"{row['velocity']}{kind}_kms" for row in rows})
    passed = {
        "relations": bool(fits) and all(fit["agrees"] for fit in fits),
        "velocity_bias": bool(bias) and all(row["agrees"] for row in bias),
        "control_fails": bool(control) and all(fit["control_fails"] for fit in fits),
        "hard_cases": all(row["ok"] for row in hard_cases),
    }
    record = {
        "rows": rows, "control": control, "fits": fits, "passed": passed, "hard_cases": hard_cases, "velocity_bias": bias,
        "parameters": parameter_rows(used), "galaxies": galaxy_table(used).to_dict("records"), "n_used": len(used),
    }  # fmt: skip
    record["verdict"] = _verdict(record)
    write_record(out_path, record)
    _LOG.info("closure: %s", record["verdict"])
    return record
