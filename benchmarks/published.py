"""Real galaxies through the workflow, beside published values.

    python benchmarks/published.py sample --mirror MIRROR     eleven MaNGA and SAMI galaxies (config/real_sample.yaml)
    python benchmarks/published.py fields --truth CSV         a finished run of velocity fields: angles, residuals, bounds

MIRROR is a folder laid out like the archives, TRUTH a table of published position angles. Nothing of them is shipped.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from record import keep

from tullyflow import tables
from tullyflow.flags import GALAXY
from tullyflow.relation.line import LineFit
from tullyflow.relation.lts import fit_lts
from tullyflow.relation.tully_fisher import fit_line, relation_points
from tullyflow.settings import load_settings

ROOT = Path(__file__).resolve().parents[1]
EQUAL_ERR = 0.02  # dex, of every log V: clipping at 2.6 sigma is then clipping in dex
SNAKEMAKE = str(Path(sys.executable).with_name("snakemake"))


def run(*arguments: str) -> None:
    subprocess.run([SNAKEMAKE, "--cores", "2", *arguments], cwd=ROOT, check=True)


def sample_of(name: str) -> pd.DataFrame:
    return tables.read_table(ROOT / "results" / name / "sample.parquet", tables.SAMPLE)


def difference(a, b, period=360.0):
    return (np.asarray(a, float) - np.asarray(b, float) + period / 2) % period - period / 2


def real_sample(mirror: Path) -> None:
    run("--configfile", "config/real_sample.yaml", "--config", f"mirror={mirror}")
    found = sample_of("real_sample").set_index("galaxy")
    manga = pd.read_csv(mirror.parent / "truth" / "manga_kinematic_pa.csv").drop_duplicates("plateifu").set_index("plateifu")
    sami = pd.read_csv(mirror / "datacentral/sami/dr3/catalogues/sami_samiDR3gaskinPA.csv").set_index("cubeidpub")
    figures = {"rows": len(found)}
    for name, row in found.iterrows():
        receding = (sami.pa_gaskin.get(f"{name}_A", np.nan) + 180) % 360  # the catalogue points to the approaching side
        published = manga.halpha_pa.get(name, np.nan) if row.survey == "manga" else receding
        figures[name] = {
            "PA": f"{row.pa_deg:.1f} +- {row.pa_err_deg:.1f}",
            "published": published,
            "difference": round(float(difference(row.pa_deg, published)), 1),
            "V_max": f"{row.v_max_kms:.0f} +- {row.v_max_kms_err:.0f}",
            "inclination": f"{row.inclination_used_deg:.0f}",
            "log_mstar": round(row.log_mstar, 2),
            "flags": row.flag_names,
            "messages": row.messages,
        }
    keep("published_sample", figures)


def reverse_lines(found: pd.DataFrame) -> dict:
    """The reverse relation of the used galaxies: by velocity, error given to the masses (dex), and whose rotation curve."""
    chosen, sini = load_settings(ROOT / "config" / "local.yaml"), np.sin(np.radians(found.inclination_used_deg))
    alone = found.copy()  # the network's own curves, on the same galaxies
    alone["v_max_circ_kms"] = found.v_max_sini_network_kms / sini
    alone["v_22_circ_kms"] = alone.v_max_circ_kms * 2 / np.pi * np.arctan(2.2 * found.r_scale_used_arcsec / found.r_turn_network_arcsec)
    lines = {}
    for curves, sample in (("refined", found), ("network", alone)):
        for velocity in ("v_max", "v_22"):
            for err in (0.0, 0.1):
                settings = chosen.model_copy(update={"relation": chosen.relation.model_copy(update={"log_mstar_err": err})})
                points = relation_points(sample, "reverse", velocity, settings)
                for method in ("lts", "mnr") if err else ("lts",):
                    fit = fit_line(points, method, settings)
                    lines[f"{curves}, {velocity}, {method}, masses {err:g} dex"] = line_of(fit, len(points.x))
            rng = np.random.default_rng(chosen.seed)
            alike = fit_lts(points.x, points.y, 0.0, EQUAL_ERR, points.pivot, rng=rng)
            lines[f"{curves}, {velocity}, lts, all errors alike"] = line_of(alike, len(points.x))
    return lines


def line_of(fit: LineFit, galaxies: int) -> dict:
    return {
        "galaxies": galaxies, "in the line": fit.n_used, "slope": f"{fit.slope:.3f} +- {fit.slope_err:.3f}",
        "intercept at 10.09": f"{fit.intercept:.3f} +- {fit.intercept_err:.3f}", "rms dex": round(fit.rms, 4),
        "intrinsic scatter dex": f"{fit.scatter:.3f} +- {fit.scatter_err:.3f}",
    }  # fmt: skip


def kept(joined: pd.DataFrame) -> dict:
    """Who of the galaxies with photometric inclinations of 35-80 deg and Sersic n < 2.5 is used, by the classes given by eye."""
    photometric = joined.inclination_phot_deg.between(35, 80) & (joined.sersic_n < 2.5)
    on_axis = difference(joined.pa_deg, joined.pa_phot_deg, 180.0)
    good = photometric & ~(np.abs(on_axis) > 30)
    clean, used = joined.halpha_qual == 2, joined.used
    return {
        "clean": int((photometric & clean).sum()), "of them used, %": round(100 * float(used[photometric & clean].mean()), 1),
        "of the clean with photometric axes within 30 deg, %": round(100 * float(used[good & clean].mean()), 1),
        "of the used, do not use, %": round(100 * float((joined.halpha_qual[used] == 0).mean()), 1),
        "of the used, messy, %": round(100 * float((joined.halpha_qual[used] == 1).mean()), 1),
    }  # fmt: skip


def fields(truth: Path) -> None:
    found = sample_of("fields").set_index("galaxy")
    table = pd.read_csv(truth).set_index("galaxy")
    joined = found.join(table[["halpha_pa", "halpha_qual"]], how="inner")
    figures = {"galaxies": len(found), "used": int(found.used.sum())}
    for label, quality in (("clean", 2), ("messy", 1), ("do not use", 0)):
        part = joined[joined.halpha_qual == quality]
        off = np.abs(difference(part.pa_deg, part.halpha_pa))
        off = off[np.isfinite(off)]
        figures[label] = {
            "galaxies": len(part),
            "with a PA": len(off),
            "median |dPA| deg": round(float(np.median(off)), 2),
            "within 10 deg, %": round(100 * float(np.mean(off < 10)), 1),
            "used": int(part.used.sum()),
        }
    inferred = joined[joined.n_pixels > 0]
    for label, part in (("inferred", inferred), ("inferred, clean", inferred[inferred.halpha_qual == 2])):
        over_v = part.reconstruction_velocity_kms / part.v_max_sini_kms
        figures[label] = {
            "galaxies": len(part),
            "rms residual km/s (16, 50, 84 %)": [round(float(v), 1) for v in np.percentile(part.reconstruction_velocity_kms, (16, 50, 84))],
            "over V_max sin i, median": round(float(over_v.median()), 3),
            "chi2 per pixel, median": round(float(part.chi2_velocity.median()), 2),
            "at a bound": {name: int(part[f"{name}_at_bound"].sum()) for name in tables.PARAMETERS},
            "flags": {name: int((part["flags"] & getattr(GALAXY, name) > 0).sum()) for name in ("OUTSIDE_TRAINING", "UNRESOLVED_TURNOVER")},
        }
    figures |= {"by-eye classes of the used": kept(joined), "reverse relation": reverse_lines(found)}
    keep("published_fields", figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sample", "fields"])
    parser.add_argument("--mirror", type=Path)
    parser.add_argument("--truth", type=Path)
    args = parser.parse_args()
    if args.what == "fields":
        fields(args.truth.resolve())
    else:
        real_sample(args.mirror.resolve())


if __name__ == "__main__":
    main()
