"""Least trimmed squares beside LtsFit (Cappellari+2013), which is not ours to ship: the same lines, and how fast.

    OMP_NUM_THREADS=1 python benchmarks/lts.py --ltsfit-python VENV/bin/python [--sparc ../shared/truth/sparc_galaxies.csv]

VENV is an environment with ``pip install ltsfit``. Both fit SPARC (Lelli+2016: log L[3.6] on log V_flat, galaxies with V_flat;
errors: the table's own of V_flat, 0.1 dex of L) and 20 simulated sets (100 to 1,834 points; errors of x 0.05 or 0.1, of y
log-normal about 0.02; 0, 5 or 20 % outliers 0.2 below with a spread of 0.3); then in turn, five times, one set of 1,834
points: processor seconds of one thread, each taken inside its own process. Kept in ``lts.json``.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
from record import keep

from tullyflow.relation.lts import fit_lts

SETS = 20
ROUNDS = 5

THEIRS = """
import contextlib, io, json, sys, time
import matplotlib
matplotlib.use("Agg")
import numpy as np
from ltsfit.ltsfit import ltsfit
for line in sys.stdin:
    job = json.loads(line)
    x, y, x_err, y_err = np.array(job["points"])
    np.random.seed(job["seed"])
    begin = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        fit = ltsfit(x, y, x_err, y_err, pivot=job["pivot"], plot=False)
    seconds = time.process_time() - begin
    found = dict(slope=fit.coef[1], intercept=fit.coef[0], slope_err=fit.coef_err[1], intercept_err=fit.coef_err[0],
                 scatter=fit.sig_int, scatter_err=fit.sig_int_err)
    found = {name: float(value) for name, value in found.items()}
    print(json.dumps(dict(found, used=np.asarray(fit.mask, dtype=bool).tolist(), seconds=seconds)), flush=True)
"""


def sparc(path: Path) -> tuple[np.ndarray, ...]:
    table = pd.read_csv(path)
    table = table[table["Vflat_kms"] > 0]
    v = table["Vflat_kms"].to_numpy()
    light = 9 + np.log10(table["L36_1e9_Lsun"].to_numpy())
    return np.log10(v), light, table["e_Vflat_kms"].to_numpy() / v / np.log(10), np.full(v.size, 0.1)


def simulated(number: int, n: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng([7, number])
    x, x_err, y_err = rng.normal(10.1, 0.6, n), np.full(n, (0.05, 0.1)[number % 2]), rng.lognormal(np.log(0.02), 0.5, n)
    y = 0.26 * (x - 10.09) + 2.26 + rng.normal(0, 0.05, n) + y_err * rng.standard_normal(n)
    y = np.where(rng.random(n) < (0.0, 0.05, 0.2)[number % 3], y + rng.normal(-0.2, 0.3, n), y)
    return x + x_err * rng.standard_normal(n), y, x_err, y_err


class LtsFit:
    """A process of the other environment that fits what it is sent."""

    def __init__(self, python: str):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen([python, "-c", THEIRS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def fit(self, points, pivot: float, seed: int) -> dict:
        self.process.stdin.write(json.dumps({"points": np.array(points).tolist(), "pivot": pivot, "seed": seed}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def ours(points, pivot: float, seed: int) -> dict:
    begin = time.process_time()
    fit = fit_lts(*points, pivot, rng=np.random.default_rng(seed))
    names = ("slope", "intercept", "slope_err", "intercept_err", "scatter", "scatter_err", "used")
    return {name: getattr(fit, name) for name in names} | {"seconds": time.process_time() - begin}


def compared(name: str, points, theirs: LtsFit, seed: int) -> dict:
    """Differences in LtsFit's own sigmas, and the outliers that both, or one of them, name."""
    pivot = float(np.median(points[0]))
    a, b = ours(points, pivot, seed), theirs.fit(points, pivot, seed)
    out_a, out_b = ~a["used"], ~np.array(b["used"])
    row = {"set": name, "points": points[0].size}
    row |= {f"{key}_difference_sigma": abs(a[key] - b[key]) / b[f"{key}_err"] for key in ("slope", "intercept", "scatter")}
    row |= {f"{key}_err_ratio": a[f"{key}_err"] / b[f"{key}_err"] for key in ("slope", "intercept", "scatter")}
    return row | {"outliers": int(out_a.sum()), "outliers_ltsfit": int(out_b.sum()), "outliers_both": int(np.sum(out_a & out_b))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ltsfit-python", required=True, help="python of an environment with ltsfit")
    parser.add_argument("--sparc", type=Path, default=Path(__file__).parents[2] / "shared/truth/sparc_galaxies.csv")
    args = parser.parse_args()
    theirs = LtsFit(args.ltsfit_python)
    rows = [compared("SPARC", sparc(args.sparc), theirs, 0)]
    sizes = np.round(np.geomspace(100, 1834, SETS)).astype(int)
    rows += [compared(f"simulation {k}", simulated(k, int(n)), theirs, k) for k, n in enumerate(sizes)]
    points = simulated(SETS - 1, 1834)
    pairs = [[fit(points, 10.09, k)["seconds"] for fit in (ours, theirs.fit)] for k in range(ROUNDS)]
    here, there = (statistics.median(column) for column in zip(*pairs, strict=True))
    found, both = sum(row["outliers"] + row["outliers_ltsfit"] for row in rows), sum(row["outliers_both"] for row in rows)
    largest = {key: max(row[key] for row in rows) for key in rows[0] if key.endswith("difference_sigma")}
    speed = {"points": 1834, "seconds": here, "seconds_ltsfit": there, "ratio": there / here, "pairs": pairs}
    keep("lts", {"largest": largest, "outliers_in_common": both / max(found - both, 1), "speed": speed, "sets": rows})


if __name__ == "__main__":
    main()
