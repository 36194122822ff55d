"""How far every line fit is from the truth, and how often its errors cover it, on simulated Tully-Fisher relations.

    OMP_NUM_THREADS=1 nice python benchmarks/line_simulations.py [--relations 500]
    python benchmarks/line_simulations.py selection         only the fits that are told the selection, added to the JSON
    python benchmarks/line_simulations.py figure            draw line_simulations.png again from the JSON

A population: log M* normal about 10.1 with a spread of 0.59 dex, log V = 0.26 (log M* - 10.09) + 2.26 with a scatter of 0.05 dex;
the forward relation's truth is the same population's mean log M* at a log V. Measured: log M* with 0.1 dex (the masses come
without errors), log V with errors like those of log_v_22 of 1,354 used real MaNGA galaxies (median 0.020 dex, 16th to 84th
percentile 0.014 to 0.040: log-normal of 0.54, 0.01 to 0.2 dex); like SAMI: twice as large, an assumption. Outliers lie 0.3 dex
below in log V with a spread of 0.2, as the real ones do. Selection: measured log M* above 9. Sizes are the thesis' (1,137 MaNGA
and 697 SAMI galaxies) for the reverse relation with selection and up to 5 % outliers, a quarter of them elsewhere. MNR is also
told the selection (``mnr_selection``), with 5 % outliers. Then, reverse, 200 galaxies with a spread of 0.5 dex: errors of log M*
of 0.1, 0.2 and 0.4 dex.
Kept in ``line_simulations.json``.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from record import keep

from tullyflow.relation.methods import fit_by_method
from tullyflow.relation.regression import fit_mnr

SEED = 2026
SLOPE, PIVOT, INTERCEPT, SCATTER, MEAN, SPREAD = 0.26, 10.09, 2.26, 0.05, 10.1, 0.59
MASS_ERR, MASS_MIN = 0.1, 9.0
MEDIAN_ERR = {"manga": 0.020, "sami": 0.040}
SIZE = {"manga": 1137, "sami": 697}
SHARES = (0.0, 0.05, 0.2)
METHODS = ("lts", "mnr", "mnr_without_outliers", "ols", "bisector")
VALUES = ("slope", "intercept", "scatter")


def truth(relation: str) -> dict:
    if relation == "reverse":
        return {"slope": SLOPE, "intercept": INTERCEPT, "scatter": SCATTER, "pivot": PIVOT}
    v_var, pivot = (SLOPE * SPREAD) ** 2 + SCATTER**2, 2.256
    slope = SLOPE * SPREAD**2 / v_var
    intercept = MEAN + slope * (pivot - INTERCEPT - SLOPE * (MEAN - PIVOT))
    return {"slope": slope, "intercept": intercept, "scatter": float(np.sqrt(SPREAD**2 - slope**2 * v_var)), "pivot": pivot}


def sky(cell: dict, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """x, y and their errors of one simulated sample, after the selection."""
    n = 3 * cell["n"]
    mass = rng.normal(MEAN, cell.get("spread", SPREAD), n)
    err = np.clip(rng.lognormal(np.log(MEDIAN_ERR[cell["survey"]]), 0.54, n), 0.01, 0.2)
    log_v = SLOPE * (mass - PIVOT) + INTERCEPT + rng.normal(0, SCATTER, n) + err * rng.standard_normal(n)
    log_v = np.where(rng.random(n) < cell["outliers"], log_v + rng.normal(-0.3, 0.2, n), log_v)
    mass_err = np.full(n, cell.get("mass_err", MASS_ERR))
    mass = mass + mass_err * rng.standard_normal(n)
    chosen = np.flatnonzero(mass > MASS_MIN)[: cell["n"]] if cell["selection"] else np.arange(cell["n"])
    m, m_err, v, v_err = (values[chosen] for values in (mass, mass_err, log_v, err))
    return (m, v, m_err, v_err) if cell["relation"] == "reverse" else (v, m, v_err, m_err)


def fit(method: str, points, pivot: float, rng: np.random.Generator, relation: str):
    if method == "mnr_selection":
        axis = "x" if relation == "reverse" else "y"
        return fit_mnr(*points, pivot, rng=rng, **{f"{axis}_range": (MASS_MIN, np.inf)})
    if method == "mnr_without_outliers":
        return fit_mnr(*points, pivot, outliers=False, rng=rng)
    return fit_by_method(method, *points, pivot, rng=rng)


def measure(cell: dict, number: int, relations: int, methods=METHODS) -> list[dict]:
    """Bias and coverage of every method in one cell; ``bias_sigma`` is in mean errors, its own error 1/sqrt(relations)."""
    true = truth(cell["relation"])
    found = {method: [] for method in methods}
    begin = time.process_time()
    for k in range(relations):
        rng = np.random.default_rng([SEED, number, k])
        points = sky(cell, rng)
        for method in methods:
            line = fit(method, points, true["pivot"], rng, cell["relation"])
            found[method].append([*(getattr(line, name) for name in VALUES), *(getattr(line, f"{name}_err") for name in VALUES)])
    rows = []
    for method, lines in found.items():
        value, err = np.array(lines)[:, :3], np.array(lines)[:, 3:]
        row = {**cell, "method": method}
        for k, name in enumerate(VALUES):
            off = value[:, k] - true[name]
            typical = float(np.nanmean(err[:, k]))
            row |= {f"{name}_bias": float(off.mean()), f"{name}_bias_sigma": float(off.mean() / typical), f"{name}_err": typical,
                    f"{name}_spread": float(off.std()), f"{name}_coverage": float(np.mean(np.abs(off) < err[:, k]))}  # fmt: skip
        rows.append(row)
    print(f"{cell}: {time.process_time() - begin:.0f} s", file=sys.stderr, flush=True)
    return rows


def cells() -> list[dict]:
    grid = []
    for relation in ("reverse", "forward"):
        for selection in (True, False):
            for share in SHARES:
                full = relation == "reverse" and selection and share <= 0.05
                for survey, size in SIZE.items():
                    n = size if full else size // 4
                    grid.append({"relation": relation, "survey": survey, "selection": selection, "outliers": share, "n": n})
    return grid


def large_errors() -> list[dict]:
    base = {"relation": "reverse", "survey": "manga", "selection": False, "outliers": 0.0, "n": 200, "spread": 0.5}
    return [{**base, "mass_err": err} for err in (0.1, 0.2, 0.4)]


def told_of_selection(relations: int) -> list[dict]:
    chosen = [(k, cell) for k, cell in enumerate(cells()) if cell["selection"] and cell["outliers"] == 0.05]
    return [row for number, cell in chosen for row in measure(cell, number, relations, ("mnr_selection",))]


def draw(figures: dict, path: Path) -> None:
    from tullyflow.report.figures.style import BAND, OKABE_ITO, house_style, new_figure

    looks = {"lts": ("blue", "o", "LTS"), "mnr": ("vermilion", "s", "MNR"),
             "mnr_without_outliers": ("purple", "D", "MNR, no outliers allowed"),
             "ols": ("green", "^", "least squares"), "bisector": ("orange", "v", "bisector")}  # fmt: skip
    with house_style():
        figure = new_figure(9.5, 8.2)
        axes = figure.subplots(3, 3)
        for column, name in enumerate(VALUES):
            for row, what in enumerate(("bias_sigma", "coverage")):
                panel = axes[row, column]
                for method, (colour, marker, label) in looks.items():
                    for survey, line in (("manga", "-"), ("sami", ":")):
                        rows = [r for r in figures["cells"] if (r["method"], r["survey"], r["relation"]) == (method, survey, "reverse")]
                        rows = [r for r in rows if r["selection"]]
                        x = [100 * r["outliers"] for r in rows]
                        # bias at the thesis' size, whatever the size simulated: errors go as one over its root
                        y = [r[f"{name}_{what}"] * (np.sqrt(SIZE[survey] / r["n"]) if row == 0 else 100) for r in rows]
                        panel.plot(x, y, line, color=OKABE_ITO[colour], marker=marker, markersize=4, label=label if line == "-" else None)
                for r in figures.get("told_of_selection", []):
                    if r["relation"] == "reverse":
                        y = r[f"{name}_{what}"] * (1 if row == 0 else 100)
                        panel.plot(5, y, "*", color=OKABE_ITO["black"], markersize=8, label="MNR told the selection", zorder=5)
                panel.set_xticks([0, 5, 20])
                if row == 0:
                    panel.set_yscale("symlog", linthresh=1)
                    panel.axhspan(-0.3, 0.3, color=BAND, alpha=0.25, linewidth=0)
                    panel.set(title=name, ylabel="bias (sigma)" if column == 0 else "")
                else:
                    panel.axhspan(64, 72, color=BAND, alpha=0.25, linewidth=0)
                    panel.set(ylim=(-3, 103), xlabel="outliers (%)", ylabel="truth within 1 sigma (%)" if column == 0 else "")
            panel = axes[2, column]
            for method, (colour, marker, _) in looks.items():
                rows = [r for r in figures["large_errors"] if r["method"] == method]
                if rows:
                    y = [100 * r[f"{name}_bias"] / truth("reverse")[name] for r in rows]
                    panel.plot([r["mass_err"] for r in rows], y, color=OKABE_ITO[colour], marker=marker, markersize=4)
            panel.axhline(0, color=BAND, linewidth=0.8)
            label = "bias (%), no outliers" if column == 0 else ""
            panel.set(xlabel="error of log M* (dex); spread 0.5", ylabel=label, xticks=[0.1, 0.2, 0.4])
        handles, labels = axes[0, 0].get_legend_handles_labels()
        named = dict(zip(labels, handles, strict=True))
        figure.legend(named.values(), named, loc="outside upper left", ncols=6, alignment="left", title_fontproperties={"weight": "bold"},
                      title="Reverse relation, log M* > 9: MaNGA-like (solid), SAMI-like (dotted); grey: what is aimed at")  # fmt: skip
        figure.savefig(path, dpi=130, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("selection", "figure"))
    parser.add_argument("--relations", type=int, default=500, help="relations per cell")
    args = parser.parse_args()
    here = Path(__file__).parent
    if args.what:
        figures = json.loads((here / "line_simulations.json").read_text())["figures"]
    else:
        rows = [row for number, cell in enumerate(cells()) for row in measure(cell, number, args.relations)]
        large = [row for k, cell in enumerate(large_errors()) for row in measure(cell, 100 + k, args.relations, ("lts", "mnr", "ols"))]
        figures = {"relations": args.relations, "truth": {name: truth(name) for name in ("reverse", "forward")}, "cells": rows,
                   "large_errors": large}  # fmt: skip
    if args.what != "figure":
        figures["told_of_selection"] = told_of_selection(args.relations)
        keep("line_simulations", figures)
    draw(figures, here / "line_simulations.png")


if __name__ == "__main__":
    main()
