"""How far position angles are from published ones and from the truth, and whether their errors cover.

    python benchmarks/position_angle.py simulations            10,000 simulated maps: coverage by S/N and inclination
    python benchmarks/position_angle.py real ../shared OUT     real maps: published angles, both halves, blocks; tables in OUT
    python benchmarks/position_angle.py centre                 800 simulated maps: how well the centre is found from 2 pixels beside
    python benchmarks/position_angle.py speed PYTHON           one map by us and by PaFit, which PYTHON's environment has

Each is kept in ``position_angle_{what}.json``.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.wcs import WCS
from record import keep
from scipy.ndimage import gaussian_filter

from tullyflow.conventions import FWHM_PER_SIGMA, sky_to_image_angle
from tullyflow.maps.kinematic_centre import fit_centre
from tullyflow.maps.orientation import image_axes, image_to_sky_angle
from tullyflow.maps.position_angle import fit_position_angle

MAPS = 10_000
SEED = 2026
HALVED = 1_000  # maps on which the checks that real maps allow are tried, where the errors are known to cover
SNR = [0, 3, 6, 12, 25, 50, np.inf]
INCLINATION = [0, 25, 40, 55, 70, 80, 90]
BLOCK = 8  # native pixels (4 arcsec): wider than MaNGA's 2.5 arcsec beam


def away(a, b, period=360.0):
    return (np.asarray(a) - np.asarray(b) + period / 2) % period - period / 2


def draw(rng: np.random.Generator) -> dict:
    """One map: thin arctan disc, exponential light, beam, noise that is white or correlated over the beam, gaps."""
    n = int(rng.integers(32, 73))
    half, centre = n / 2, (n - 1) / 2 + rng.uniform(-0.5, 0.5, 2)
    inclination = np.degrees(np.arccos(rng.uniform(np.cos(np.radians(88)), np.cos(np.radians(8)))))
    angle, v_max = rng.uniform(0, 360), rng.uniform(60, 300)
    r_scale, r_turn = half * rng.uniform(0.2, 0.5), half * 10 ** rng.uniform(-1.7, -0.2)
    width, sigma = rng.uniform(0, 6) / FWHM_PER_SIGMA, 10 ** rng.uniform(0.3, 1.6)
    sin, cos = np.sin(np.radians(inclination)), np.cos(np.radians(inclination))
    y, x = np.mgrid[:n, :n]
    dx, dy = x - centre[0], y - centre[1]
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    along, across = c * dx + s * dy, (c * dy - s * dx) / max(cos, 0.1)
    radius = np.hypot(along, across) + 1e-6
    light, v = np.exp(-radius / r_scale), v_max * sin * 2 / np.pi * np.arctan(radius / r_turn) * along / radius
    noise = rng.normal(size=(n, n))
    if width > 0.2:
        blurred = gaussian_filter(light, width, mode="nearest")
        light, v = blurred, gaussian_filter(light * v, width, mode="nearest") / blurred
        if rng.random() < 0.5:
            noise = gaussian_filter(noise, width, mode="wrap")
            noise /= noise.std()
    err = sigma * np.clip(np.sqrt(light.max() / light), 1, 4) / 1.5
    valid = (np.hypot(dx, dy) < half * rng.uniform(0.75, 1)) & (rng.random((n, n)) > rng.choice([0, 0.05, 0.2]))
    for _ in range(rng.integers(0, 6)):
        gx, gy = rng.uniform(0, n, 2)
        valid &= np.hypot(x - gx, y - gy) > rng.uniform(0.5, n / 7)
    v_sys = rng.uniform(-40, 40)
    return {"v": v + v_sys + err * noise, "err": err, "valid": valid, "centre": tuple(centre), "angle": angle,
            "inclination": inclination, "snr": v_max * sin / sigma, "v_sys": v_sys}  # fmt: skip


def simulate(number: int) -> dict:
    m = draw(np.random.default_rng([SEED, number]))
    fit = fit_position_angle(m["v"], m["err"], m["valid"], m["centre"])
    sides = blocks = float("nan")
    if number < HALVED and not fit.flags:
        sides, blocks = halves(m["v"], np.broadcast_to(m["err"], m["v"].shape), m["valid"], m["centre"], fit)
    return {
        "away": float(away(fit.image_angle_deg, m["angle"])), "err": fit.err_deg, "flags": fit.flags, "snr": m["snr"],
        "inclination": m["inclination"], "v_away": fit.v_sys_kms - m["v_sys"], "v_err": fit.v_sys_err_kms,
        "shared": fit.n_pixels / fit.independent_pixels, "sides": sides, "blocks": blocks,
    }  # fmt: skip


def simulations() -> dict:
    """Share of maps within 1 sigma; per bin also how many binomial standard deviations that is from 0.683."""
    with Pool() as pool:
        made = pd.DataFrame(pool.map(simulate, range(MAPS), chunksize=50))
    good = made[made["flags"] == 0]
    within = good["away"].abs() <= good["err"]

    def by(column: str, edges: list) -> dict:
        groups = within.groupby(pd.cut(good[column], edges), observed=True)
        return {str(k): {"maps": len(g), "within": round(g.mean(), 3), "z": round(_z(g), 1)} for k, g in groups}

    cells = within.groupby([pd.cut(good["inclination"], INCLINATION), pd.cut(good["snr"], SNR)], observed=True)
    table = {f"{a} {b}": {"maps": len(g), "within": round(g.mean(), 3), "z": round(_z(g), 1)} for (a, b), g in cells if len(g) >= 20}
    return {
        "maps": MAPS, "flagged": int((made["flags"] != 0).sum()), "within 1 sigma": round(within.mean(), 4),
        "within 2 sigma": round((good["away"].abs() <= 2 * good["err"]).mean(), 4),
        "pull of approaching - receding side": spread(made["sides"]), "pull between two sets of blocks": spread(made["blocks"]),
        "the same where noise is correlated": [spread(made.loc[made["shared"] > 4, name]) for name in ("sides", "blocks")],
        "median difference deg": round(float(good["away"].median()), 4),
        "turned by 180": int((good["away"].abs() > 90).sum()), "median |away| deg": round(good["away"].abs().median(), 3),
        "v_sys within 1 sigma": round((good["v_away"].abs() <= good["v_err"]).mean(), 3),
        "by S/N (V sin i / noise)": by("snr", SNR), "by inclination": by("inclination", INCLINATION),
        "cells": table, "largest |z| of a cell": max(abs(c["z"]) for c in table.values()),
    }  # fmt: skip


def _z(hits: pd.Series) -> float:
    return float((hits.mean() - 0.683) / np.sqrt(0.683 * 0.317 / len(hits)))


def centre_of(number: int) -> dict:
    rng = np.random.default_rng([SEED, 1, number])
    m = draw(rng)
    off = rng.uniform(-2, 2, 2)
    found = fit_centre(m["v"], m["err"], m["valid"], tuple(np.add(m["centre"], off)))
    dx, dy = found.x - m["centre"][0], found.y - m["centre"][1]
    c, s = np.cos(np.radians(m["angle"])), np.sin(np.radians(m["angle"]))
    return {
        "fitted": found.fitted, "snr": m["snr"], "before": np.hypot(*off), "after": np.hypot(dx, dy),
        "along": (c * dx + s * dy) / found.err_along, "across": (c * dy - s * dx) / found.err_across,
    }  # fmt: skip


def centres() -> dict:
    with Pool() as pool:
        made = pd.DataFrame(pool.map(centre_of, range(800), chunksize=10))
    good = made[made["fitted"]]
    bins = good.groupby(pd.cut(good["snr"], SNR), observed=True)
    return {
        "maps": len(made), "fitted": len(good), "pull along the axis": spread(good["along"]), "pull across": spread(good["across"]),
        "median distance before, pixels": round(float(good["before"].median()), 2),
        "and after, by S/N": {str(k): round(float(g["after"].median()), 3) for k, g in bins},
    }  # fmt: skip


def halves(v, err, valid, centre, fit) -> tuple[float, float]:
    """Pulls of PA(approaching) - PA(receding), each half completed by its point reflection, and of PA between two sets of blocks."""
    rows, columns = np.indices(v.shape)
    x, y = columns - centre[0], rows - centre[1]
    c, s = np.cos(np.radians(fit.image_angle_deg)), np.sin(np.radians(fit.image_angle_deg))
    along = c * x + s * y
    back, across = (np.rint(2 * centre[1] - rows).astype(int), np.rint(2 * centre[0] - columns).astype(int))
    inside = (back >= 0) & (back < v.shape[0]) & (across >= 0) & (across < v.shape[1])
    back, across = np.where(inside, back, 0), np.where(inside, across, 0)
    found = []
    for side in (1, -1):
        own = valid & (side * along > 0)
        other = own[back, across] & inside & (side * along < 0)
        whole = np.where(own, v, np.where(other, 2 * fit.v_sys_kms - v[back, across], np.nan))
        found.append(fit_position_angle(whole, np.where(own, err, err[back, across]), own | other, centre))
    checker = ((rows // BLOCK + columns // BLOCK) % 2) == 0
    blocks = [fit_position_angle(v, err, valid & part, centre) for part in (checker, ~checker)]
    return _pull(*found, factor=np.sqrt(2)), _pull(*blocks, factor=1.0)


def _pull(a, b, factor: float) -> float:
    return (
        float("nan")
        if a.flags or b.flags
        else float(away(a.image_angle_deg, b.image_angle_deg) / (factor * np.hypot(a.err_deg, b.err_deg)))
    )


def real_map(job) -> list[dict]:
    path, names, galaxy = job
    rows = []
    with fits.open(path) as hdus, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            if name not in hdus:
                continue
            v = hdus[name].data.astype(float)
            err = hdus["VELOCITY_ERR"].data.astype(float) if "VELOCITY_ERR" in hdus else np.full(v.shape, 5.0)
            wcs, valid = WCS(hdus[name].header), np.isfinite(v)
            centre = tuple((n - 1) / 2 for n in v.shape[::-1])
            fit = fit_position_angle(v, err, valid, centre)
            sides, blocks = halves(v, err, valid, centre, fit) if not fit.flags else (np.nan, np.nan)
            pa = image_to_sky_angle(fit.image_angle_deg, *image_axes(wcs, centre)) if np.isfinite(fit.image_angle_deg) else np.nan
            rows.append({"galaxy": galaxy, "map": name, "pa": pa, "err": fit.err_deg, "flags": fit.flags, "message": fit.message,
                         "n": fit.n_pixels, "sides": sides, "blocks": blocks, "path": str(path)})  # fmt: skip
    return rows


def compared(found: pd.DataFrame, pa: pd.Series, quality: pd.Series) -> dict:
    """Per class of quality (by eye): number, with an angle, median |difference|, share within 10 and beyond 30 degrees, histogram."""
    out = {}
    for value, name in ((2, "clean"), (1, "messy"), (0, "do not use")):
        here = found[(quality.reindex(found["galaxy"]).to_numpy() == value)]
        published = pa.reindex(here["galaxy"]).to_numpy(float)
        asked = np.isfinite(published)
        d = np.abs(away(here["pa"].to_numpy(float), published))[asked]
        there = np.isfinite(d)
        edges = [0, 1, 2, 5, 10, 30, 90, 180]
        out[name] = {
            "maps": int(asked.sum()), "with an angle": int(there.sum()), "flagged": int((here["flags"].to_numpy()[asked] != 0).sum()),
            "median |difference| deg": round(float(np.median(d[there])), 3), "within 10 deg": int((d[there] <= 10).sum()),
            "within 10 deg, %": round(100 * float((d[there] <= 10).mean()), 1), "beyond 30 deg": int((d[there] > 30).sum()),
            "histogram": dict(zip([f"<{e}" for e in edges[1:]], np.histogram(d[there], edges)[0].tolist(), strict=True)),
        }  # fmt: skip
    return out


def spread(pulls: pd.Series) -> dict:
    p = pulls[np.isfinite(pulls)]
    return {
        "maps": len(p),
        "robust width": round(1.4826 * float((p - p.median()).abs().median()), 2),
        "within 1": round(float((p.abs() <= 1).mean()), 3),
    }


def picture(worst: pd.DataFrame, path: Path) -> None:
    """Velocity maps with the published axis (dashed) and ours (full), north up."""
    from matplotlib import pyplot as plt

    from tullyflow.report.figures.style import VELOCITY_MAP, house_style, round_limit

    with house_style():
        figure, panels = plt.subplots((len(worst) + 4) // 5, 5, figsize=(11, 2.5 * ((len(worst) + 4) // 5)), squeeze=False)
        for panel in panels.ravel():
            panel.axis("off")
        for panel, row in zip(panels.ravel(), worst.itertuples(), strict=False):
            with fits.open(row.path) as hdus:
                v = hdus[row.map].data.astype(float)
                centre, up = tuple((n - 1) / 2 for n in v.shape[::-1]), WCS(hdus[row.map].header)
            north, east = image_axes(up, centre)
            limit = round_limit(v - np.nanmedian(v))
            panel.imshow(v - np.nanmedian(v), origin="lower", cmap=VELOCITY_MAP, vmin=-limit, vmax=limit)
            for pa, look in ((row.published, (0, (3, 2))), (row.pa, "-")):
                a = np.radians(sky_to_image_angle(pa, north, east))
                panel.axline(centre, (centre[0] + np.cos(a), centre[1] + np.sin(a)), color="k", linestyle=look, linewidth=1.0)
            found = f"{row.pa:.0f} +- {row.err:.0f}, published {row.published:.0f}"
            panel.set_title(f"{row.galaxy} {row.kind}\n{found}; {limit:.0f} km/s", fontsize=6)
        figure.tight_layout()
        figure.savefig(path, dpi=130)


def real(shared: Path, out: Path) -> dict:
    """Published angles (Duckworth+2019) of 100 stellar maps with errors and of 4,107 galaxies' gas and stars."""
    few = pd.read_csv(shared / "truth/manga_kinematic_pa.csv").set_index("plateifu")
    many = pd.read_csv(shared / "truth/manga_velocity_field_classes.csv").set_index("galaxy")
    folder = shared / "truth/manga_stellar_velocity"
    jobs = [(folder / f"{g}.fits.gz", ["VELOCITY"], g) for g in pd.read_csv(folder / "galaxies.csv").galaxy if g in few.index]
    mirror = shared / "mirror/manga_velocity_fields"
    fields = pd.read_csv(mirror / "galaxies.csv")
    jobs += [(mirror / row.velocity, ["VELOCITY", "STELLAR_VELOCITY"], row.galaxy) for row in fields.itertuples()]
    with Pool() as pool:
        found = pd.DataFrame([row for rows in pool.map(real_map, jobs, chunksize=20) for row in rows])
    stellar = found[found["path"].str.startswith(str(folder))]
    rest = found.drop(stellar.index)
    gas, stars = rest[rest["map"] == "VELOCITY"], rest[rest["map"] == "STELLAR_VELOCITY"]
    out.mkdir(parents=True, exist_ok=True)
    found.to_csv(out / "found.csv", index=False)
    clean = {name: f[quality.reindex(f["galaxy"]).to_numpy() == 2] for name, f, quality in
             (("gas", gas, many["halpha_qual"]), ("stars", stars, many["stel_qual"]))}  # fmt: skip
    worst = []
    for name, column in (("gas", "halpha_pa"), ("stars", "stellar_pa")):
        f = clean[name].assign(published=many[column].reindex(clean[name]["galaxy"]).to_numpy())
        f["difference"] = away(f["pa"], f["published"])
        worst.append(f[(f["difference"].abs() > 30)].assign(kind=name))
    worst = pd.concat(worst).sort_values("err")
    worst.to_csv(out / "outliers.csv", index=False)
    picture(worst, out / "outliers.png")
    return {
        "100 stellar maps": compared(stellar, few["stellar_pa"], few["stel_qual"]),
        "fields, gas": compared(gas, many["halpha_pa"], many["halpha_qual"]),
        "fields, stars": compared(stars, many["stellar_pa"], many["stel_qual"]),
        "pull of approaching - receding side": {name: spread(f["sides"]) for name, f in clean.items()},
        "pull between two sets of 4 arcsec blocks": {name: spread(f["blocks"]) for name, f in clean.items()},
        "clean, beyond 30 deg": len(worst),
    }


PAFIT = """
import sys, time
import numpy as np
from pafit.fit_kinematic_pa import fit_kinematic_pa
x, y, v, err = np.load(sys.argv[1])
start = time.perf_counter()
angle, err, _ = fit_kinematic_pa(x, y, v, dvel=err, nsteps=181, quiet=True, plot=False)
print(time.perf_counter() - start, angle, err)
"""


def speed(python: str) -> dict:
    """One map of about 2,000 pixels with noise: PaFit with steps of 1 deg (181 angles over 180 deg) and us, alternating, 3 times."""
    y, x = (a.astype(float) - 25.7 for a in np.mgrid[:52, :52])
    radius = np.hypot(x, y / 0.6) + 1e-9
    err = np.full(x.shape, 5.0)
    v = 150 * 2 / np.pi * np.arctan(radius / 4) * x / radius + np.random.default_rng(SEED).normal(0, 5, x.shape)
    valid = np.hypot(x, y) < 25.7
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.npy"
        np.save(path, np.stack([a[valid] for a in (x, y, v, err)]))
        theirs, ours = [], []
        for _ in range(3):
            done = subprocess.run([python, "-c", PAFIT, str(path)], capture_output=True, text=True, check=True)
            theirs.append([float(word) for word in done.stdout.split()[-3:]])
            for _ in range(10):
                start = time.perf_counter()
                fit = fit_position_angle(v, err, valid, (25.7, 25.7))
                ours.append(time.perf_counter() - start)
    seconds = float(np.median([t[0] for t in theirs]))
    return {
        "pixels": int(valid.sum()), "PaFit s": round(seconds, 3), "ours s": round(float(np.median(ours)), 5),
        "ratio": round(seconds / float(np.median(ours)), 1), "angle put in, from the map's north": 270.0,
        "PaFit angle, 3 sigma deg": theirs[0][1:], "ours, 1 sigma deg": [round((fit.image_angle_deg - 90) % 360, 2), round(fit.err_deg, 2)],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["simulations", "real", "centre", "speed"])
    parser.add_argument("where", nargs="?", help="real: folder with truth/ and mirror/; speed: a Python that has pafit")
    parser.add_argument("out", type=Path, nargs="?", help="folder for tables")
    args = parser.parse_args()
    if (args.what in ("real", "speed") and not args.where) or (args.what == "real" and not args.out):
        sys.exit("real: give the folder with truth/ and mirror/, and one for the tables. speed: give a Python that has pafit.")
    made = {
        "simulations": simulations, "centre": centres, "speed": lambda: speed(args.where),
        "real": lambda: real(Path(args.where), args.out),
    }  # fmt: skip
    keep(f"position_angle_{args.what}", made[args.what]())


if __name__ == "__main__":
    main()
