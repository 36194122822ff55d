"""What cuts on usability and circularity do to a real relation, and how pure and complete they are beside an eye.

    python benchmarks/judged_relation.py --truth CSV --cross-validated CSV

Reads the sample of a finished run of velocity fields, results/fields/sample.parquet. TRUTH holds the classes by eye (galaxy, halpha_qual,
stel_qual: 0 do not use, 1 messy, 2 clean); CROSS-VALIDATED (galaxy, prob_gas, prob_stars) the probabilities of networks that saw no galaxy
of its plate (benchmarks/usability.py), which replace those of the network that ships: that one was trained on these very classes.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from record import keep

from tullyflow import tables
from tullyflow.flags import GALAXY
from tullyflow.relation.lts import fit_lts
from tullyflow.relation.reselect import select_again, undecided
from tullyflow.relation.tully_fisher import fit_line, relation_points
from tullyflow.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[1]
VELOCITY = "v_22"
EQUAL_ERR = 0.02  # dex, of every log V: clipping at 2.6 sigma is then clipping in dex
BOOTSTRAPS = 300
OFF = {"usable_prob_min": None, "kappa_min": None}
CUTS = {
    "neither": {},
    "usable_prob_min 0.5": {"usable_prob_min": 0.5},
    "usable_prob_min 0.8": {"usable_prob_min": 0.8},
    "usable_prob_min 0.95": {"usable_prob_min": 0.95},
    "kappa_min 0.5": {"kappa_min": 0.5},
    "kappa_min 0.7": {"kappa_min": 0.7},
    "both, 0.5": {"usable_prob_min": 0.5, "kappa_min": 0.5},
    "both, 0.8 and 0.7": {"usable_prob_min": 0.8, "kappa_min": 0.7},
    "usable_prob_min 0.5, no cut on the reconstruction": {"usable_prob_min": 0.5, "reconstruction": "off"},
    "no cut on the reconstruction": {"reconstruction": "off"},
}


def line_of(sample: pd.DataFrame, settings: Settings) -> dict:
    """The reverse relation of the used galaxies, by both methods; the rms and its bootstrap error are those of LTS with equal errors."""
    points = relation_points(sample, "reverse", VELOCITY, settings)
    mnr = fit_line(points, "mnr", settings)
    rng = np.random.default_rng(settings.seed)
    alike = fit_lts(points.x, points.y, 0.0, EQUAL_ERR, points.pivot, rng=rng)
    residual = points.y - (alike.slope * (points.x - points.pivot) + alike.intercept)
    drawn = residual[rng.integers(0, len(residual), (BOOTSTRAPS, len(residual)))]
    widths = np.diff(np.percentile(drawn, (16, 84), axis=1), axis=0)[0] / 2
    return {
        "galaxies": len(points.x), "slope, MNR": f"{mnr.slope:.3f} +- {mnr.slope_err:.3f}",
        "intercept": f"{mnr.intercept:.3f} +- {mnr.intercept_err:.3f}", "intrinsic dex, MNR": f"{mnr.scatter:.4f} +- {mnr.scatter_err:.4f}",
        "rms dex, LTS": round(alike.rms, 4), "rms dex, all": round(float(residual.std()), 4),
        "half of 16-84 %": f"{np.diff(np.percentile(residual, (16, 84)))[0] / 2:.4f} +- {widths.std():.4f}",
        "beyond 0.2 dex": int((np.abs(residual) > 0.2).sum()),
    }  # fmt: skip


def against_eye(sample: pd.DataFrame, before: pd.Series) -> dict:
    """Purity and completeness (%) of the used galaxies, of those that pass the other cuts, for the classes clean, and clean or messy."""
    figures = {}
    for label, least in (("clean", 2), ("clean or messy", 1)):
        good = sample["halpha_qual"] >= least
        figures[f"purity, {label}"] = round(100 * float(good[sample["used"]].mean()), 1)
        figures[f"completeness, {label}"] = round(100 * float(sample["used"][before & good].mean()), 1)
    figures["do not use, used"] = int((sample["used"] & (sample["halpha_qual"] == 0)).sum())
    return figures


def judged_against_eye(sample: pd.DataFrame) -> dict:
    """Of all velocity fields: how pure and complete each judgement is, whatever else is known of the galaxy."""
    figures, good, clean = {}, sample["halpha_qual"] >= 1, sample["halpha_qual"] == 2
    for name, least in (("usable_prob", 0.5), ("usable_prob", 0.9), ("kappa", 0.5), ("kappa", 0.7)):
        known, passes = sample[name].notna(), sample[name] >= least
        row = {"pass": int(passes.sum()), "of": int(known.sum())}
        for label, those in (("clean or messy", good), ("clean", clean)):
            row[f"purity, {label}"] = 100 * float(those[passes].mean())
            row[f"completeness, {label}"] = 100 * float(passes[known & those].mean())
        figures[f"{name} >= {least:g}"] = {key: round(value, 1) for key, value in row.items()}
    return figures


def misaligned(sample: pd.DataFrame) -> dict:
    """Share of galaxies whose gas and stars are more than 30 deg apart, as the fields an eye would use show it, and as all do."""
    known = sample["delta_pa_deg"].notna()
    usable = known & (sample["usable_prob"] >= 0.5) & (sample["usable_stellar_prob"] >= 0.5)
    by_eye = known & (sample["halpha_qual"] >= 1) & (sample["stel_qual"].between(1, 2))
    share = {}
    for label, rows in (("all", known), ("usable", usable), ("usable by eye", by_eye)):
        off = sample["delta_pa_deg"][rows] > 30
        share[label] = f"{100 * off.mean():.1f} +- {100 * np.sqrt(off.mean() * (1 - off.mean()) / len(off)):.1f} % of {len(off)}"
    return share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--cross-validated", type=Path, required=True)
    args = parser.parse_args()
    settings = load_settings(ROOT / "config" / "local.yaml")
    sample = tables.read_table(ROOT / "results" / "fields" / "sample.parquet", tables.SAMPLE)
    unseen = pd.read_csv(args.cross_validated).set_index("galaxy").reindex(sample["galaxy"])
    sample["usable_prob"], sample["usable_stellar_prob"] = unseen["prob_gas"].to_numpy(), unseen["prob_stars"].to_numpy()
    eye = pd.read_csv(args.truth).set_index("galaxy").reindex(sample["galaxy"])
    eye = {name: eye[name].to_numpy() for name in ("halpha_qual", "stel_qual")}
    before = undecided(sample, settings)
    found, passing = {}, None
    for label, cuts in CUTS.items():
        chosen = settings.model_copy(update={"relation": settings.relation.model_copy(update=OFF | cuts)})
        again = select_again(before, chosen.relation).assign(**eye)
        passing = again["used"] if passing is None else passing
        found[label] = {**line_of(again, chosen), **against_eye(again, passing)}
    plain = select_again(before, settings.relation.model_copy(update=OFF)).assign(**eye)
    for label, least in (("the eye: clean or messy", 1), ("the eye: clean", 2)):
        by_eye = plain.assign(used=plain["used"] & (plain["halpha_qual"] >= least))
        found[label] = {**line_of(by_eye, settings), **against_eye(by_eye, passing)}
    unlike = int(((sample["flags"] & GALAXY.UNLIKE_SIMULATED) != 0).sum())
    everybody = {"judged beside the eye": judged_against_eye(plain), "misaligned by more than 30 deg": misaligned(plain)}
    keep("judged_relation", {"velocity": VELOCITY, "unlike what was simulated": unlike, **everybody, "reverse relation": found})


if __name__ == "__main__":
    main()
