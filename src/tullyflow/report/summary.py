"""The numbers of the page: counts, fits against the literature, bounds, and what the run cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.relation.recommended import recommended_methods
from tullyflow.report.figures.style import survey_style
from tullyflow.report.words import number, plus_minus
from tullyflow.tables import PARAMETERS

__all__ = [
    "Counts", "StageCost", "at_bounds", "cautions", "count_galaxies", "headline", "is_fit", "main_fit",
    "recommended", "stage_costs", "survey_label",
]  # fmt: skip


@dataclass(frozen=True)
class Counts:
    """How many galaxies reached each stage; ``linked`` of them are further observations of a galaxy that counts elsewhere."""

    label: str
    targets: int
    mapped: int
    inferred: int
    used: int
    linked: int = 0


@dataclass(frozen=True)
class StageCost:
    """One rule's jobs: wall time summed (s), the longest, and the largest resident memory (MB)."""

    rule: str
    jobs: int
    seconds: float
    longest_s: float
    memory_mb: float
    share: float


def survey_label(survey: str, release: str) -> str:
    """Return what a survey and its release are called on a page; one's own galaxies have no release."""
    label = survey_style(survey).label
    return label if release in ("", "user") else f"{label} {release}"


def count_galaxies(sample: pd.DataFrame) -> list[Counts]:
    """Count per survey and release, and last for all: targets, with maps, with inferred kinematics, in the relation."""

    def count(label: str, rows: pd.DataFrame) -> Counts:
        mapped, inferred = rows["pa_deg"].notna(), rows["v_max_sini_kms"].notna()
        return Counts(label, len(rows), int(mapped.sum()), int(inferred.sum()), int(rows["used"].sum()), int((rows["same_as"] != "").sum()))

    groups = sample.groupby(["survey", "release"], sort=False)
    return [*(count(survey_label(str(s), str(r)), rows) for (s, r), rows in groups), count("all", sample)]


def is_fit(fit: Mapping) -> bool:
    """Whether a relation's JSON carries a line, rather than an error."""
    return "error" not in fit and all(isinstance(fit.get(k), int | float) and np.isfinite(fit[k]) for k in ("slope", "intercept", "pivot"))


_CONTROL_LIMIT, _CONTROL_P = 0.15, 0.01  # of Spearman's rho with the inclination, and its p


def recommended(fits: Sequence[Mapping]) -> dict[str, Mapping]:
    """Return by relation the fit the page recommends: the settings' first velocity that has one, by the best method there is.

    The order of the methods is that of `recommended_methods`, what simulated relations found (benchmarks/line_simulations.py).
    """
    best: dict[str, Mapping] = {}
    for fit in (fit for fit in fits if is_fit(fit)):
        relation = str(fit.get("relation"))
        merit = {name: place for place, name in enumerate(recommended_methods(relation).methods)}
        now = best.setdefault(relation, fit)
        same = fit.get("velocity") == now.get("velocity")
        if same and merit.get(str(fit.get("method")), len(merit)) < merit.get(str(now.get("method")), len(merit)):
            best[relation] = fit
    return best


def cautions(best: Mapping[str, Mapping], trends: Mapping | None) -> list[str]:
    """Say which recommended fits fail the control: residuals that go with the inclination, which nothing in a galaxy knows.

    ``trends`` is what `tullyflow.relation.trends.measure_trends` wrote, or None.
    """
    sentences = []
    for row in (trends or {}).get("rows", []):
        fit = best.get(str(row.get("y")).removeprefix("residual_"))
        if row.get("kind") != "control" or row.get("survey") != "all" or fit is None or row.get("velocity") != fit.get("velocity"):
            continue
        rho = row.get("rho")
        if isinstance(rho, float) and abs(rho) > _CONTROL_LIMIT and (row.get("p") or 0.0) < _CONTROL_P:
            sentences.append(
                f"Caution: residuals of the {fit['relation'].replace('_', ' ')} relation go with the inclination (ρ = {number(rho, 2)}). "
                "Nothing in a galaxy knows from where it is seen: inclinations, dust or rotation curves are biased, and the line with them."
            )
    return sentences


def main_fit(fits: Sequence[Mapping]) -> Mapping | None:
    """Return the fit the summary quotes: the recommended one of the reverse relation."""
    return recommended(fits).get("reverse")


def headline(counts: Counts, fit: Mapping | None) -> str:
    """Say in one sentence how many galaxies reached the relation and what the reverse relation is."""
    reach = (
        f"Of {counts.targets} targets {counts.mapped} have usable maps, {counts.inferred} have inferred kinematics "
        f"and {counts.used} are in the relation"
    )
    if fit is None:
        return reach + "; no reverse relation could be fitted."
    factor, speed = 10 ** fit["slope"], 10 ** fit["intercept"]
    factor_err = factor * np.log(10) * float(fit.get("slope_err") or np.nan)
    speed_err = speed * np.log(10) * float(fit.get("intercept_err") or np.nan)
    sentence = (
        f"{reach}: a disc of 10^{fit['pivot']:.2f} M☉ rotates at {plus_minus(speed, speed_err, 0)} km/s, "
        f"one ten times as massive {plus_minus(factor, factor_err, 2)} times as fast"
    )
    if not fit.get("scatter"):
        return sentence + (", and their errors account for all the scatter." if fit.get("scatter") == 0 else ".")
    return f"{sentence}, and galaxies scatter about this by {plus_minus(fit['scatter'], fit.get('scatter_err'))} dex beyond their errors."


def at_bounds(sample: pd.DataFrame) -> list[dict]:
    """Return per survey the inferred galaxies and, for each of the four parameters, how many sit at a bound of its range."""
    rows = []
    for survey, group in sample[sample["v_max_sini_kms"].notna()].groupby("survey", sort=False):
        counts = {name: int(group[f"{name}_at_bound"].sum()) for name in PARAMETERS}
        rows.append({"survey": survey_style(str(survey)).label, "inferred": len(group), **counts})
    return rows


def stage_costs(benchmarks_dir: str | Path | None) -> list[StageCost]:
    """Sum Snakemake's benchmark files ``{rule}/*.tsv`` per rule, dearest first; empty where there are none.

    A value Snakemake could not measure ("-", "NA") is left out of the sum; a file without the columns ``s`` and
    ``max_rss`` is skipped.
    """
    if benchmarks_dir is None or not Path(benchmarks_dir).is_dir():
        return []
    costs = []
    for folder in sorted(p for p in Path(benchmarks_dir).iterdir() if p.is_dir()):
        tables = [pd.read_csv(p, sep="\t", na_values=["-", "NA"]) for p in sorted(folder.rglob("*.tsv")) if p.stat().st_size]
        tables = [t for t in tables if {"s", "max_rss"} <= set(t.columns)]
        if not tables:
            continue
        jobs = pd.concat(tables, ignore_index=True)
        seconds, memory = pd.to_numeric(jobs["s"], errors="coerce"), pd.to_numeric(jobs["max_rss"], errors="coerce")
        costs.append(StageCost(folder.name, len(jobs), float(seconds.sum()), float(seconds.max()), float(memory.max()), 0.0))
    largest = max((c.seconds for c in costs), default=0.0)
    shares = [StageCost(c.rule, c.jobs, c.seconds, c.longest_s, c.memory_mb, c.seconds / largest if largest else 0.0) for c in costs]
    return sorted(shares, key=lambda c: -c.seconds)
