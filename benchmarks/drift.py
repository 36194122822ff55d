"""Asymmetric drift: does the correction give the circular velocity back, what does it do to the relation, and how large is it really?

    python benchmarks/drift.py --weights DIR [--real SAMPLE.parquet] [--fast]        writes drift.json and drift.png, some minutes

*Equilibrium.* An exponential disc with an arctan curve of rotation; its circular velocity from the radial Jeans equation, solved with
derivatives on a grid, the dispersion isotropic or with the axis ratio that the curve's own epicycles give. Against it the formulae of
relation/drift.py, which assume more (thesis eq. 4.4: a flat curve).
*Maps.* Mock MaNGA galaxies (KinMS, gas of 10-60 km/s) as MAPS files of DR15 and DR17, read, cut, inferred and corrected as a run does
it. KinMS draws an isotropic gas; as the line of sight cannot tell, the same maps also serve as gas of the other kind with sigma its
azimuthal dispersion. Masses are put exactly on log V_circ = 0.26 (log M - 10.09) + 2.26, V_circ at r_max by Jeans, so that what the
reverse fit says beyond that is the velocities'.
*Real.* What the dispersion maps of the real galaxies of a run give.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from mock_stamps import load
from record import HERE, keep

from tullyflow.maps.galaxies import make_galaxy
from tullyflow.maps.shards import gather_shard
from tullyflow.network.inference import infer_shard
from tullyflow.relation.drift import correct_drift, correct_velocities, drift_factor
from tullyflow.settings import Settings, parse_settings
from tullyflow.surveys.mock import observe, true_moments
from tullyflow.surveys.mock_manga import maps_bytes
from tullyflow.surveys.mock_population import MockGalaxy, draw_population
from tullyflow.tables import TARGETS, conform

SLOPE, INTERCEPT, PIVOT = 0.26, 2.26, 10.09
SIGMAS = (10.0, 25.0, 40.0, 60.0)
KINDS = ("isotropic", "evans")
CORRECTIONS = ("off", *KINDS)


def rotation(radius, v_max, r_turn):
    return 2 / np.pi * v_max * np.arctan(radius / r_turn)


def circular(radius: float, v_max: float, r_turn: float, r_scale: float, sigma: float, kind: str) -> float:
    """Circular velocity at a radius of an exponential disc in equilibrium, by the radial Jeans equation (Binney & Tremaine 4.227).

    V_c^2 = V^2 - sigma_R^2 (d ln(nu sigma_R^2) / d ln R + 1 - sigma_phi^2 / sigma_R^2), derivatives by differences on a grid of ln R;
    ``sigma`` (constant) is the azimuthal dispersion, sigma_phi^2 / sigma_R^2 is 1 (isotropic) or (1 + d ln V / d ln R) / 2 (evans).
    """
    ln_r = np.log(radius) + np.linspace(-0.02, 0.02, 41)
    r = np.exp(ln_r)
    ratio = np.ones(r.size) if kind == "isotropic" else (1 + np.gradient(np.log(rotation(r, v_max, r_turn)), ln_r)) / 2
    radial = sigma**2 / ratio
    slope = np.gradient(np.log(np.exp(-r / r_scale) * radial), ln_r)
    return float(np.sqrt(rotation(r, v_max, r_turn) ** 2 - radial * (slope + 1 - ratio))[20])


def equilibrium() -> dict:
    """Formula over Jeans at 3.5 scale lengths, for a curve that is flat there and one that still rises; sigma 10-60 km/s."""
    found = {}
    for curve, r_turn in (("flat (r_turn 0.05 scale lengths)", 0.05), ("rising (r_turn 1.5)", 1.5)):
        for kind in KINDS:
            ratios = {}
            for sigma in (10, 25, 40, 60):
                truth = circular(3.5, 150.0, r_turn, 1.0, sigma, kind)
                v = rotation(3.5, 150.0, r_turn)
                ratios[sigma] = {"V_circ / V": truth / v} | {
                    f"{used} / V_circ": float(correct_drift(v, 0.0, sigma, 0.0, 3.5, 1.0, used).v_kms) / truth for used in KINDS
                }
            found[f"{kind} gas, {curve}"] = {f"sigma {s}": rounded(r) for s, r in ratios.items()}
    return found


def rounded(values: dict, digits: int = 3) -> dict:
    return {k: round(float(v), digits) for k, v in values.items()}


def mocks(settings: Settings, sigma: float, n: int) -> list[MockGalaxy]:
    """Mock MaNGA galaxies of 35-75 deg without hard cases, of one dispersion; half of each release."""
    drawn = [g for g in draw_population(settings) if g.survey == "manga" and not g.hard_case and 35 < g.inclination_deg < 75]
    return [replace(g, gas_dispersion_kms=sigma, star_radius_arcsec=0.0, bad_column=False) for g in drawn[:: max(1, len(drawn) // n)][:n]]


def target_of(galaxy: MockGalaxy) -> pd.DataFrame:
    names = ("galaxy", "survey", "release", "ra_deg", "dec_deg", "z", "distance_mpc", "r_e_arcsec", "axis_ratio", "pa_phot_deg")
    row = {name: getattr(galaxy, name) for name in names} | {"shard": "mock", "psf_fwhm_arcsec": galaxy.psf_fwhm_arcsec}
    return conform(pd.DataFrame([row]), TARGETS)


def observed(galaxies: list[MockGalaxy], settings: Settings, weights: Path) -> pd.DataFrame:
    """The galaxies through files, maps and network; one row each with what was found and the truth at the r_max that was found."""
    targets = pd.concat([target_of(g) for g in galaxies], ignore_index=True)
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for galaxy, (_, target) in zip(galaxies, targets.iterrows(), strict=True):
            path = Path(folder) / f"{galaxy.galaxy}.fits.gz"
            daptype = settings.manga.daptype[galaxy.release]
            maps, stellar = observe(galaxy, true_moments(galaxy, settings.mock.samples))
            path.write_bytes(maps_bytes(galaxy, maps, stellar, daptype, settings.manga.lsf_factor))
            made.append(make_galaxy(target.to_dict(), {"maps": {"status": "ok", "path": str(path), "message": ""}}, settings))
    checkpoint = load(weights)
    shard = gather_shard(made)
    table = infer_shard(shard, targets, checkpoint, settings).table
    frame = targets.drop(columns=["flags", "messages"])
    for part in (shard.galaxies, table):
        frame = frame.drop(columns=[c for c in part if c in frame]).join(part)
    truth = pd.DataFrame([(g.v_max_kms, g.r_turn_arcsec, g.r_scale_arcsec, g.gas_dispersion_kms) for g in galaxies])
    frame[["v_true", "r_turn_true", "r_scale_true", "sigma_true"]] = truth.to_numpy()
    frame["v_rmax_true"] = rotation(frame["r_max_arcsec"], frame["v_true"], frame["r_turn_true"])
    for kind in KINDS:
        columns = ("r_max_arcsec", "v_true", "r_turn_true", "r_scale_true", "sigma_true")
        frame[f"circular_{kind}"] = [circular(*values, kind) for values in frame[list(columns)].to_numpy()]
    return frame[np.isfinite(frame["v_rmax_kms"]) & np.isfinite(frame["outer_dispersion_kms"])].reset_index(drop=True)


def corrected(frame: pd.DataFrame, correction: str, network: bool) -> np.ndarray:
    """V at r_max after the correction with the maps' dispersion: the network's velocity and scale length, or the true ones."""
    if network:
        sample = frame.copy()
        correct_velocities(sample, parse_settings({"relation": {"drift": correction, "drift_at": "r_max"}}).relation)
        return sample["v_rmax_circ_kms"].to_numpy()
    if correction == "off":
        return frame["v_rmax_true"].to_numpy()
    sigma, err = frame["outer_dispersion_kms"], frame["outer_dispersion_err_kms"]
    return correct_drift(frame["v_rmax_true"], 0.0, sigma, err, frame["r_max_arcsec"], frame["r_scale_true"], correction).v_kms


def on_asymptote(frame: pd.DataFrame, correction: str) -> np.ndarray:
    """The network's asymptote with the correction that belongs to r_max (thesis eq. 4.4)."""
    sample = frame.copy()
    correct_velocities(sample, parse_settings({"relation": {"drift": correction, "drift_at": "v_max"}}).relation)
    return sample["v_max_circ_kms"].to_numpy()


def ratio_words(ratio: np.ndarray) -> dict:
    low, middle, high = np.percentile(ratio, (16, 50, 84))
    return rounded({"median": middle, "p16": low, "p84": high})


def relation_of(v: np.ndarray, v_circular: np.ndarray) -> dict:
    """Reverse relation of these velocities, masses exactly on the relation in circular velocity: least squares, 2.6 sigma clipped."""
    mass = (np.log10(v_circular) - INTERCEPT) / SLOPE
    kept = np.ones(v.size, dtype=bool)
    for _ in range(10):
        slope, intercept = np.polyfit(mass[kept], np.log10(v[kept]), 1)
        away = np.log10(v) - slope * mass - intercept
        kept = np.abs(away) < 2.6 * away[kept].std()
    return rounded({"slope": slope, "intercept": intercept, "rms": away[kept].std()})


def measure_maps(weights: Path, n: int) -> tuple[dict, pd.DataFrame]:
    settings = parse_settings({"mock": {"manga_dr15": 3 * n, "manga_dr17": 3 * n, "samples": 60_000}, "network": {"adapt": False}})
    frames = {sigma: observed(mocks(settings, sigma, n), settings, weights) for sigma in SIGMAS}
    found = {}
    for sigma, frame in frames.items():
        said = {"galaxies": len(frame), "outer dispersion / true": ratio_words(frame["outer_dispersion_kms"] / sigma)}
        for release, part in frame.groupby("release"):
            said[f"outer dispersion / true, {release}"] = round(float(np.median(part["outer_dispersion_kms"] / sigma)), 3)
        said["factor r_max / r_scale, true r_scale"] = ratio_words(frame["r_max_arcsec"] / frame["r_scale_true"])
        for kind in KINDS:
            truth = frame[f"circular_{kind}"].to_numpy()
            for network in (False, True):
                where = f"{kind} gas, V of the {'network' if network else 'truth'}"
                velocities = {c: corrected(frame, c, network) for c in CORRECTIONS}
                said[f"V / V_circ at r_max: {where}"] = {c: ratio_words(v / truth) for c, v in velocities.items()}
                said[f"reverse relation: {where}"] = {c: relation_of(v, truth) for c, v in velocities.items()}
            on_v_max = {c: on_asymptote(frame, c) for c in CORRECTIONS}
            said[f"reverse relation: {kind} gas, V_max of the network corrected as the thesis does"] = {
                c: relation_of(v, truth) for c, v in on_v_max.items()
            }
        found[f"sigma {sigma:g} km/s"] = said
    return found, pd.concat(frames.values(), ignore_index=True)


def measure_real(path: Path) -> dict:
    """Dispersion, factor and correction of each galaxy of a run, and the dispersion a correction of 50 km/s would need."""
    sample = pd.read_parquet(path)
    sample = sample[np.isfinite(sample["outer_dispersion_kms"]) & np.isfinite(sample["v_max_kms"])]
    factor = drift_factor(sample["r_max_arcsec"], sample["r_scale_used_arcsec"], "evans")
    galaxies = {}
    for k, row in zip(factor, sample.itertuples(), strict=True):
        changes = {
            kind: float(correct_drift(row.v_max_kms, 0, row.outer_dispersion_kms, 0, row.r_max_arcsec, row.r_scale_used_arcsec, kind).v_kms)
            - row.v_max_kms for kind in KINDS
        }  # fmt: skip
        galaxies[f"{row.survey} {row.release} {row.galaxy}"] = {
            "used": bool(row.used), "sigma": f"{row.outer_dispersion_kms:.1f} +- {row.outer_dispersion_err_kms:.1f}",
            "r_max / r_scale": round(row.r_max_arcsec / row.r_scale_used_arcsec, 2), "factor": round(float(k), 2),
            "V_max": round(row.v_max_kms, 1), "correction (km/s)": rounded(changes, 1),
        }  # fmt: skip
    used = sample["used"].to_numpy()
    typical = float(np.median(factor[used]))
    needed = {f"V {v}": round(float(np.sqrt(((v + 50) ** 2 - v**2) / typical)), 1) for v in (100, 150, 200, 250)}
    gained = {
        f"sigma {s}": rounded({f"V {v}": np.sqrt(v**2 + s**2 * typical) - v for v in (100, 150, 200)}, 1) for s in (15, 25, 40, 60)
    }
    return {
        "run": path.parent.name, "galaxies": galaxies,
        "used: median sigma": round(float(sample.loc[used, "outer_dispersion_kms"].median()), 1), "used: median factor": round(typical, 2),
        "sigma for a correction of 50 km/s at that factor": needed, "correction at that factor (km/s)": gained,
    }  # fmt: skip


def draw(frame: pd.DataFrame, path: Path) -> None:
    from matplotlib.figure import Figure

    from tullyflow.report.figures.style import house_style, save_picture

    with house_style():
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        for axes, kind in zip(figure.subplots(1, 2, sharey=True), KINDS, strict=True):
            for shift, correction in zip((-1.2, 0, 1.2), CORRECTIONS, strict=True):
                ratio = corrected(frame, correction, True) / frame[f"circular_{kind}"]
                middle, low, high = (ratio.groupby(frame["sigma_true"]).quantile(q) for q in (0.5, 0.16, 0.84))
                axes.errorbar(middle.index + shift, middle, (middle - low, high - middle), fmt="o", label=f"correction: {correction}")
            axes.axhline(1, color="0.5", lw=0.8)
            axes.set(xlabel="velocity dispersion put in (km/s)", title=f"{kind} gas")
        figure.axes[0].set_ylabel("V found / V circular, at r_max")
        figure.axes[0].legend()
    save_picture(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", type=Path, required=True, help="folder of a network trained on synthetic discs")
    parser.add_argument("--real", type=Path, help="sample.parquet of a run on real galaxies with dispersion maps")
    parser.add_argument("--fast", action="store_true", help="6 galaxies for each dispersion; nothing is kept")
    args = parser.parse_args()
    maps, frame = measure_maps(args.weights, 6 if args.fast else 36)
    figures = {"equilibrium": equilibrium(), "maps": maps} | ({"real": measure_real(args.real)} if args.real else {})
    if args.fast:
        print(figures)
        return
    keep("drift", figures)
    draw(frame, HERE / "drift.png")


if __name__ == "__main__":
    main()
