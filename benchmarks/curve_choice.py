"""Does the map know its rotation curve? How often the right one is preferred, what that does to V, and what disturbs a disc.

    python benchmarks/curve_choice.py [--fields results/fields --classes CLASSES.csv]

300 mocks each of arctan, tanh, and of rising and declining curves that are *not* the model's: Giovanelli & Haynes 2002,
V (1 - exp(-x)) (1 + alpha x), x = R/r, with d ln V/d ln R of 0.15-0.4 up or down at three scale lengths. Beam 5-10 stamp pixels, peak
S/N 12-60, noise white or correlated as MaNGA's is (a Gaussian of 0.38 beams). The arctan is fitted first, inclination and scale length
held at the truth, so that all errors are the curve's. Then bars, warps and lopsided discs: what is found of motions that do not turn.
With ``--fields``, the shapes of the galaxies of a finished run, and with ``--classes`` (galaxy, halpha_qual, halpha_feature) how the
residual measures tell fields that were called bad or peculiar by eye. Kept in curve_choice.json. One thread.
"""

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from mock_stamps import mock_stamps, uniform
from record import keep
from torch import Tensor

from tullyflow.conventions import HALF_WIDTH, STAMP
from tullyflow.disc.disturbed import Disturbance, disturbed_disc
from tullyflow.disc.fit import DiscData, fit_discs
from tullyflow.disc.profiles import Radial, rotation_velocity, tanh_velocity
from tullyflow.maps.shards import read_shard
from tullyflow.network.allocator import keep_freed_memory
from tullyflow.network.batch import Stamps, stamps_of_shards
from tullyflow.network.model_choice import DISTURBED_SHARE, ChosenCurves, choose_curves
from tullyflow.settings import Network

SEED, GALAXIES, CHUNK = 2031, 300, 50
SHAPES = ("arctan", "tanh", "rising", "declining")
DISTURBED = {
    "nothing": {}, "bar": {"bar_tangential": 0.2, "bar_radial": 0.2}, "lopsided": {"lopsided": 0.1},
    "warp": {"warp_axis": 10.0, "warp_inclination": 5.0}, "strong warp": {"warp_axis": 25.0, "warp_inclination": 10.0},
}  # fmt: skip
CORRELATED_BEAMS = 0.38  # 1.92 spaxels of 0.5 arcsec (Westfall+2019 section 9.3.1), beam 2.5 arcsec
PRIOR = {"r_turn": 1.0, "v_max_sini": 1.0, "centre_x": 1.0, "centre_y": 1.0}
CPU = torch.device("cpu")


def polyex(radius: Tensor, v: Tensor, r: Tensor, alpha: Tensor) -> Tensor:
    return -v * torch.expm1(-radius / r) * (1 + alpha * radius / r)


def correlated(noise: Tensor, beam: Tensor) -> Tensor:
    """Noise (galaxy, y, x) of unit variance, smooth over a part of each beam."""
    at = torch.arange(STAMP, dtype=noise.dtype)
    off = (at.unsqueeze(0) - at.unsqueeze(1)).unsqueeze(0) / (CORRELATED_BEAMS * beam / math.sqrt(2)).view(-1, 1, 1)
    smooth = torch.exp(-off.square() / 2)
    smooth = smooth / smooth.square().sum(2, keepdim=True).sqrt()
    return smooth @ noise @ smooth.mT


def draw_galaxies(shape: str, n: int, generator: torch.Generator, network: Network, alike: bool, disturbed: dict | None = None):
    """Stamps, true parameters (galaxy, 4), the curve times sin i, and the undisturbed disc's velocities less the disturbed one's.

    ``alike``: noise is correlated, else white.
    """

    def draw(low: float, high: float) -> Tensor:
        return uniform(generator, n, low, high)

    inclination, r_scale = torch.rad2deg(torch.acos(draw(math.cos(math.radians(75)), math.cos(math.radians(30))))), draw(0.2, 0.45)
    scale, v, beam = r_scale * HALF_WIDTH, draw(math.log(60), math.log(220)).exp(), draw(5, 10)
    turn = scale * draw(math.log(0.2), math.log(1.0)).exp()
    if shape in ("rising", "declining"):
        slope = draw(0.15, 0.4) * (1 if shape == "rising" else -1)
        curve = Radial(polyex, (v, turn, slope / (1 - slope) * turn / (3 * scale)))
    else:
        curve = Radial(tanh_velocity if shape == "tanh" else rotation_velocity, (v, turn))
    zero = torch.zeros(n)
    still = Disturbance(*(zero,) * 11)
    angles = {"bar_angle": draw(0, math.pi), "lopsided_angle": draw(0, 2 * math.pi)}
    still = replace(still, bar_radius=0.7 * scale, warp_radius=1.5 * scale, warp_length=scale, **angles)
    units = {"bar_tangential": v, "bar_radial": v}
    extra = replace(still, **{name: size * units.get(name, zero + 1) for name, size in (disturbed or {}).items()})
    place = {"axis_deg": draw(-4, 4), "centre": (draw(-1, 1), draw(-1, 1)), "thickness": 0.1 * scale, "beam_fwhm": beam}
    maps = disturbed_disc(inclination, scale, curve, extra, **place)
    off = disturbed_disc(inclination, scale, curve, still, **place).velocity - maps.velocity
    coarse = torch.randn((n, 1, 16, 16), generator=generator)
    coarse = torch.nn.functional.interpolate(coarse, size=(STAMP, STAMP), mode="bilinear").squeeze(1)
    noise = [torch.randn((n, STAMP, STAMP), generator=generator) for _ in range(2)]
    noise = [correlated(part, beam) for part in noise] if alike else noise
    at = torch.arange(STAMP) - (STAMP - 1) / 2
    field = torch.hypot(at.view(1, -1), at.view(-1, 1)).expand(n, -1, -1) < HALF_WIDTH
    snr = draw(math.log(12), math.log(60)).exp()
    stamps = mock_stamps(maps.intensity * torch.exp(0.15 * coarse), maps.velocity, snr, field, tuple(noise), beam, network)
    return stamps, torch.stack([inclination, r_scale, turn / HALF_WIDTH, v], 1), curve, off


def reach(stamps: Stamps, inclination: Tensor) -> np.ndarray:
    """r_max (galaxy,) in half-widths: the 98th percentile of the deprojected radii of valid pixels, about the major axis."""
    at = (torch.arange(STAMP) - (STAMP - 1) / 2).to(torch.float64)
    found = []
    for valid, i in zip(stamps.valid, inclination, strict=True):
        y, x = (part[valid] for part in torch.meshgrid(at, at, indexing="ij"))
        radius = torch.hypot(x, y / torch.cos(torch.deg2rad(i.double())))
        near = y.abs() < x.abs()
        found.append(float(radius[near].quantile(0.98)) / HALF_WIDTH if near.sum() > 3 else math.nan)
    return np.array(found)


def ask(stamps: Stamps, truth: Tensor, network: Network) -> tuple[ChosenCurves, np.ndarray, np.ndarray, float]:
    """Fit the arctan, then ask; return also r_max, which arctans converged, and processor ms a galaxy."""
    start = torch.cat([truth, torch.zeros((len(truth), 4)), torch.ones((len(truth), 1))], dim=1).double()
    start[:, 2] = 0.5 * start[:, 1]
    floor = (network.velocity_error_floor**2 + (network.mismatch_fraction * start[:, 3]).square()).view(-1, 1, 1)
    error = (stamps.velocity_err.square() + floor).sqrt().float()
    data = DiscData(stamps.intensity, stamps.intensity_err, stamps.velocity, error, stamps.valid, stamps.beam)
    fit = fit_discs(data, start, prior=PRIOR, block=1.5 * stamps.beam, steps=30)
    r_max = reach(stamps, truth[:, 0])
    radii = np.stack([2.2 * truth[:, 1].numpy(), r_max], 1)
    began = time.process_time()
    chosen = choose_curves(stamps, fit.parameters[:, :4].numpy(), fit.parameters[:, 4:8].numpy(), network, CPU, radii, r_max)
    return chosen, r_max, fit.converged.numpy(), 1000 * (time.process_time() - began) / len(truth)


def within(found: np.ndarray, true: np.ndarray) -> list[float]:
    """68 % of |ln(found / true)|, and its median, per cent."""
    off = 100 * np.log(found / true)
    return [round(float(np.nanquantile(np.abs(off), 0.6827)), 2), round(float(np.nanmedian(off)), 2)]


def shapes(network: Network) -> dict:
    figures = {}
    for noise in ("white", "correlated"):
        for shape in SHAPES:
            generator, parts = torch.Generator().manual_seed(SEED), []
            for _ in range(GALAXIES // CHUNK):
                stamps, truth, curve, _ = draw_galaxies(shape, CHUNK, generator, network, noise == "correlated")
                chosen, r_max, converged, ms = ask(stamps, truth, network)
                at = torch.tensor(np.stack([2.2 * truth[:, 1].numpy(), r_max], 1)) * HALF_WIDTH
                true, step = curve(at).numpy(), 1.01
                frame = pd.DataFrame({"shape": chosen.curve_shape, "beta": chosen.outer_slope, "n": chosen.measurements, "ms": ms,
                                      "rising": chosen.rising, "nc": chosen.non_circular_kms, "rotation": chosen.rotation_share,
                                      "steep": np.log(curve(at * step).numpy()[:, 1] / true[:, 1]) / math.log(step),
                                      "steep_found": chosen.slope_at_r_max, "converged": converged})  # fmt: skip
                for k, name in enumerate(("V_2.2", "V_rmax")):
                    frame[name], frame[f"{name} error"] = true[:, k], chosen.ln_v_err[:, k]
                    frame[f"{name} found"], frame[f"{name} arctan"] = chosen.v_sini_kms[:, k], chosen.v_sini_arctan_kms[:, k]
                parts.append(frame)
            d = pd.concat(parts)
            kind = np.where(d["shape"] == "slope", np.where(d["beta"] > 0, "rising", "declining"), d["shape"])
            other = d["shape"] != "arctan"
            row = {"preferred, %": {k: round(100 * float(np.mean(kind == k)), 1) for k in SHAPES}}
            for name in ("V_2.2", "V_rmax"):
                pull = np.abs(np.log(d[f"{name} found"] / d[name])) / d[f"{name} error"]
                row[f"{name}: 68 % within, median off, %"] = {
                    "arctan": within(d[f"{name} arctan"], d[name]), "preferred": within(d[f"{name} found"], d[name]),
                    "arctan, where not preferred": within(d[f"{name} arctan"][other], d[name][other]) if other.any() else None,
                    "preferred, there": within(d[f"{name} found"][other], d[name][other]) if other.any() else None,
                    "within 1 sigma, %": round(100 * float(np.mean(pull < 1)), 1),
                }  # fmt: skip
            row |= {
                "d ln V/d ln R at r_max: median, found": [round(float(d[k].median()), 2) for k in ("steep", "steep_found")],
                "called rising, %": round(100 * float(d["rising"].mean()), 1),
                "measurements (median)": round(float(d["n"].median())), "non-circular km/s (median)": round(float(d["nc"].median()), 2),
                "arctan converged, %": round(100 * float(d["converged"].mean()), 1), "processor ms each": round(float(d["ms"].mean()), 1),
            }  # fmt: skip
            figures[f"{shape}, {noise} noise"] = row
    return figures


def disturbances(network: Network) -> dict:
    figures = {}
    for name, extra in DISTURBED.items():
        generator, rows = torch.Generator().manual_seed(SEED + 1), []
        for _ in range(2):
            stamps, truth, _, off = draw_galaxies("arctan", CHUNK, generator, network, True, extra)
            chosen, *_ = ask(stamps, truth, network)
            pixels = stamps.valid.sum((1, 2))
            rms = (torch.where(stamps.valid, off.square(), 0).sum((1, 2)) / pixels).sqrt()
            found = chosen.non_circular_kms / truth[:, 3].numpy()
            rows.append(np.stack([rms / truth[:, 3], found, chosen.rotation_share, chosen.curve_shape != "arctan", disturbed(chosen)]))
        put_in, found, rotation, other, called = np.concatenate(rows, axis=1)
        figures[name] = {
            "put in, rms, % of V sin i": round(100 * float(np.median(put_in)), 1), "found": round(100 * float(np.median(found)), 1),
            "rotation's share: 5, 50, 95 %": np.quantile(rotation, (0.05, 0.5, 0.95)).round(3).tolist(),
            "not an arctan, %": round(100 * float(other.mean()), 1), "called disturbed, %": round(100 * float(called.mean()), 1),
        }  # fmt: skip
    return figures


def disturbed(chosen: ChosenCurves) -> np.ndarray:
    return chosen.non_circular_share > DISTURBED_SHARE


def real(results: Path, network: Network) -> pd.DataFrame:
    """What is found of the galaxies of a finished run, from its own answers."""
    parts = []
    for path in sorted((results / "maps").glob("*.fits")):
        shard, kinematics = read_shard(path), pd.read_parquet(results / "kinematics" / f"{path.stem}.parquet")
        stamps, usable = stamps_of_shards([shard], network.velocity_norm, 5.0)
        rows = np.flatnonzero(usable & np.isfinite(kinematics["v_max_sini_kms"].to_numpy()))
        if not len(rows):
            continue
        galaxies, k = (frame.iloc[rows].reset_index(drop=True) for frame in (shard.galaxies, kinematics))
        half = HALF_WIDTH * galaxies["stamp_scale_arcsec"].to_numpy()
        lengths = [k[name] / half for name in ("r_scale_used_arcsec", "r_turn_arcsec")]
        parameters = np.stack([k["inclination_used_deg"], *lengths, k["v_max_sini_kms"]], 1)
        names = ("axis_offset_deg", "centre_x_offset", "centre_y_offset", "v_sys_offset_kms")
        placing = np.nan_to_num(np.stack([k[name] for name in names], 1))
        r_max = galaxies["r_max_arcsec"].to_numpy() / half
        radii = np.stack([2.2 * parameters[:, 1], r_max], 1)
        chosen = choose_curves(stamps.select(torch.from_numpy(rows)), parameters, placing, network, CPU, radii, r_max)
        ratio = chosen.v_sini_kms / chosen.v_sini_arctan_kms
        parts.append(pd.DataFrame({
            "galaxy": k["galaxy"], "fitted": k["curve_kind"] == "fit", "shape": chosen.curve_shape, "beta": chosen.outer_slope,
            "rising": chosen.rising, "disturbed": disturbed(chosen), "share": chosen.non_circular_share, "km/s": chosen.non_circular_kms,
            "rotation": chosen.rotation_share, "V_2.2": ratio[:, 0], "V_rmax": ratio[:, 1], "n": chosen.measurements,
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def of_fields(found: pd.DataFrame, classes: Path | None) -> dict:
    fitted = found[found["fitted"]]
    shares = fitted["shape"].value_counts(normalize=True)
    figures = {
        "galaxies": len(fitted), "preferred, %": {k: round(100 * float(v), 1) for k, v in shares.items()},
        "measurements (16, 50, 84 %)": fitted["n"].quantile([0.16, 0.5, 0.84]).round().tolist(),
        "rising, %": round(100 * float(fitted["rising"].mean()), 1), "disturbed, %": round(100 * float(fitted["disturbed"].mean()), 1),
    }  # fmt: skip
    for shape in ("tanh", "slope"):
        these = fitted[fitted["shape"] == shape]
        figures[f"{shape}: over the arctan's (5, 16, 50, 84, 95 %)"] = {
            name: these[name].quantile([0.05, 0.16, 0.5, 0.84, 0.95]).round(3).tolist() for name in ("V_2.2", "V_rmax")
        }
    if classes is None:
        return figures
    both = found.merge(pd.read_csv(classes), on="galaxy")
    peculiar = both["halpha_feature"] > 0
    groups = {"2, no feature": (both["halpha_qual"] == 2) & ~peculiar, "1, no feature": (both["halpha_qual"] == 1) & ~peculiar,
              "1 and 2 with a feature": (both["halpha_qual"] > 0) & peculiar, "0": both["halpha_qual"] == 0}  # fmt: skip
    figures["by class of the eye"] = {
        name: {
            "fields": int(rows.sum()), "disturbed, %": round(100 * float(both["disturbed"][rows].mean()), 1),
            "rotation's share (16, 50, 84 %)": both["rotation"][rows].quantile([0.16, 0.5, 0.84]).round(3).tolist(),
            "non-circular over V sin i": both["share"][rows].quantile([0.16, 0.5, 0.84]).round(3).tolist(),
            "km/s": both["km/s"][rows].quantile([0.16, 0.5, 0.84]).round(1).tolist(),
        }
        for name, rows in groups.items()
    }  # fmt: skip
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=Path, help="results of a finished run, with maps and kinematics")
    parser.add_argument("--classes", type=Path, help="classes by eye, CSV")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    network = Network()
    figures = {"mocks": shapes(network), "disturbed": disturbances(network)}
    if args.fields is not None:
        figures["real fields"] = of_fields(real(args.fields, network), args.classes)
    keep("curve_choice", figures)


if __name__ == "__main__":
    main()
