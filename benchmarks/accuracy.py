"""Accuracy of a trained network against noise, gaps, beam, and errors of position angle and centre, beside the Cramer-Rao bound.

    python benchmarks/accuracy.py --weights DIR [--discs 300]

The same discs of the network's own model, with the same noise deviates, under every condition: one is varied at a time about the
reference (peak S/N 30, no gaps, a beam of 3 stamp pixels, axis and centre exact). Noise and cut: `mock_stamps`. Gaps: pixels at random,
or a wedge from the centre. Errors of axis and centre have the size stated and a random sign or direction.

Per condition and parameter, inclination in deg, the others in per cent: median bias and robust scatter (half of the middle 68 %) of
found - true, the median Cramer-Rao bound of the same discs (brightness free; axis or centre free where they are in error), and
``ratio``, the 68th percentile of |found - true| / bound, disc by disc: 1 for an unbiased estimator that uses everything. The network
knows its ranges and the population it was trained on, a prior: where the data say little it may scatter less than the bound.
``within`` is the share inside the calibrated 1 sigma. Kept in accuracy.json and accuracy.png.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accuracy_figure import draw
from mock_stamps import grid, half_width, load, mock_stamps, uniform
from record import keep
from torch import Tensor

from tullyflow.conventions import HALF_WIDTH, STAMP
from tullyflow.disc.beam import Beam
from tullyflow.disc.bound import DISC, MapDerivatives, cramer_rao, map_derivatives
from tullyflow.disc.observation import Accuracy, observe_disc
from tullyflow.disc.profiles import Radial, exponential_intensity, rotation_velocity
from tullyflow.disc.projection import project_disc
from tullyflow.network.batch import MIN_PIXELS, Stamps
from tullyflow.network.calibration import deg_and_logs
from tullyflow.network.checkpoint import Checkpoint
from tullyflow.network.inference import sample_posterior
from tullyflow.network.reconstruction import reconstruct

SEED = 2026
SAMPLES = 100
NODES = 4  # those of the decoder
CHUNK = 50
FEWEST_WITHIN = 0.5  # of the discs inside 1 sigma
POPULATION = {"inclination_deg": (25.0, 80.0), "r_scale": (0.15, 0.5), "r_turn": (0.03, 0.4), "v_max_sini": (60.0, 300.0)}
TO_SHOWN = np.array([1.0, 100.0, 100.0, 100.0])  # deg stay, ln become per cent


@dataclass(frozen=True)
class Condition:
    """Peak S/N, share of pixels lost at random and in a wedge, beam (FWHM, pixels), errors of axis (deg) and centre (pixels)."""

    snr: float = 30.0
    random: float = 0.0
    wedge: float = 0.0
    beam: float = 3.0
    axis: float = 0.0
    centre: float = 0.0

    @property
    def free(self) -> tuple[str, ...]:
        """What the bound does not know either."""
        axis, centre = ("axis_deg",) if self.axis else (), ("centre_x", "centre_y") if self.centre else ()
        return ("brightness", *axis, *centre)


REFERENCE = Condition()
VARIED = {
    "snr": (5.0, 10.0, 20.0, 30.0, 50.0, 100.0),
    "random": (0.0, 0.1, 0.2, 0.4),
    "wedge": (0.0, 0.1, 0.2, 0.4),
    "beam": (1.0, 2.0, 3.0, 4.0, 8.0, 18.0, 25.0),
    "axis": (0.0, 2.0, 5.0, 10.0),
    "centre": (0.0, 0.5, 1.0, 2.0),
}


class Discs:
    """The discs of the population, with everything random about them drawn once."""

    def __init__(self, n: int, generator: torch.Generator):
        self.n = n
        (i, r_scale), (turn, v) = (
            [uniform(generator, n, *POPULATION[k]) for k in ("inclination_deg", "r_scale")],
            [uniform(generator, n, *np.log(POPULATION[k])).exp() for k in ("r_turn", "v_max_sini")],
        )
        self.parameters = torch.stack([i, r_scale, turn, v], dim=1)
        self.deviates = tuple(torch.randn((n, STAMP, STAMP), generator=generator) for _ in range(2))
        self.lots = torch.rand((n, STAMP, STAMP), generator=generator)
        self.sign = torch.where(uniform(generator, n, 0, 1) < 0.5, -1.0, 1.0)
        self.towards, self.wedge = (uniform(generator, n, 0, 2 * np.pi) for _ in range(2))
        self._derivatives: dict[float, MapDerivatives] = {}

    def maps(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """True intensity and velocity (galaxy, y, x): the network's decoder, or where they are misplaced the same disc anywhere."""
        i, r_scale, r_turn, v = self.parameters.unbind(1)
        beam = torch.full((self.n,), condition.beam)
        if not (condition.axis or condition.centre):
            return tuple(project_disc(i, r_scale, r_turn, v, nodes=NODES, beam_fwhm=beam))
        light = Radial(exponential_intensity, (r_scale * HALF_WIDTH,))
        curve = Radial(rotation_velocity, (v / torch.sin(torch.deg2rad(i)), r_turn * HALF_WIDTH))
        centre = (condition.centre * self.towards.cos(), condition.centre * self.towards.sin())
        placed = {"axis_deg": condition.axis * self.sign, "centre": centre, "beam": Beam.round(beam), "accuracy": Accuracy(NODES)}
        seen = observe_disc(i, light, curve, **placed)
        return seen.intensity, seen.velocity

    def looked_at(self, condition: Condition) -> Tensor:
        x, y = grid()
        away = torch.remainder(torch.atan2(y, x) - self.wedge.view(-1, 1, 1), 2 * torch.pi)
        return (self.lots >= condition.random) & (away >= 2 * torch.pi * condition.wedge)

    def stamps(self, condition: Condition, checkpoint: Checkpoint) -> Stamps:
        snr, beam = (torch.full((self.n,), value) for value in (condition.snr, condition.beam))
        return mock_stamps(*self.maps(condition), snr, self.looked_at(condition), self.deviates, beam, checkpoint.model.network)

    def bound(self, condition: Condition, stamps: Stamps) -> np.ndarray:
        """Cramer-Rao bounds (galaxy, 4) of the stamps: deg, then relative."""
        if condition.beam not in self._derivatives:
            geometry = ("axis_deg", "centre_x", "centre_y") if condition.beam == REFERENCE.beam else ()
            parts = [self._chunk(part, condition.beam, ("brightness", *geometry)) for part in self.parameters.split(CHUNK)]
            names, maps = parts[0].names, [torch.cat([getattr(p, m) for p in parts]) for m in ("intensity", "velocity")]
            self._derivatives = {b: d for b, d in self._derivatives.items() if b == REFERENCE.beam}
            self._derivatives[condition.beam] = MapDerivatives(names, *maps)
        every = self._derivatives[condition.beam]
        chosen = [k for k, name in enumerate(every.names) if k < len(DISC) or name in condition.free]
        some = MapDerivatives(tuple(every.names[k] for k in chosen), every.intensity[:, chosen], every.velocity[:, chosen])
        sigma = cramer_rao(some, stamps.intensity_err, stamps.velocity_err, stamps.valid).sigma[:, :4].numpy()
        return np.concatenate([sigma[:, :1], sigma[:, 1:] / self.parameters[:, 1:].double().numpy()], axis=1)

    def _chunk(self, parameters: Tensor, beam: float, free: tuple[str, ...]) -> MapDerivatives:
        return map_derivatives(*parameters.unbind(1), free=free, beam_fwhm=torch.full((len(parameters),), beam), nodes=NODES)


def measure(discs: Discs, condition: Condition, checkpoint: Checkpoint) -> pd.DataFrame:
    """One row per disc: off_, err_ and bound_ of every parameter as shown, whether it is at a bound, and what can be seen of the data."""
    model, stamps = checkpoint.model.eval(), discs.stamps(condition, checkpoint)
    usable = (stamps.valid.sum((1, 2)) >= MIN_PIXELS).numpy()
    posterior = sample_posterior(model, stamps, checkpoint.calibration, SAMPLES, torch.Generator().manual_seed(SEED))
    off = (deg_and_logs(posterior.mean) - deg_and_logs(discs.parameters.double().numpy())) * TO_SHOWN
    figures = {"off": off, "err": posterior.errors * TO_SHOWN, "bound": discs.bound(condition, stamps) * TO_SHOWN}
    columns = {f"{kind}_{name}": values[:, k] for kind, values in figures.items() for k, name in enumerate(DISC)}
    columns |= {f"at_bound_{name}": posterior.at_bound[:, k] for k, name in enumerate(DISC)}
    found = posterior.mean
    x, y = (torch.where(stamps.valid, at, 0).sum((1, 2)) for at in grid())
    square = torch.where(stamps.valid, sum(at.square() for at in grid()), 0).sum((1, 2))
    columns |= {
        "lopsided": (torch.hypot(x, y) / torch.sqrt(square * stamps.valid.sum((1, 2)).clamp(min=1)).clamp(min=1)).numpy(),
        "usable": usable, "pixels": stamps.valid.sum((1, 2)).numpy(),
        "r_turn_over_beam": found[:, 2] * HALF_WIDTH / condition.beam, "r_scale_over_beam": found[:, 1] * HALF_WIDTH / condition.beam,
        "chi2_velocity": reconstruct(model, stamps, found).chi2_velocity,
    }  # fmt: skip
    return pd.DataFrame(columns)


def summary(rows: pd.DataFrame) -> dict:
    """Figures of the usable discs per parameter, and shares of all discs."""
    good = rows[rows["usable"]]
    out = {"discs": len(rows), "unusable": int((~rows["usable"]).sum())}
    if good.empty:
        return out
    out["chi2_velocity"] = round(float(good["chi2_velocity"].median()), 3)
    out["at a bound"] = round(float(good[[f"at_bound_{n}" for n in DISC]].any(axis=1).mean()), 3)
    for name in DISC:
        off, err, bound = (good[f"{kind}_{name}"].to_numpy() for kind in ("off", "err", "bound"))
        out[name] = {
            "bias": round(float(np.median(off)), 3), "scatter": round(float(half_width(off)), 3),
            "bound": round(float(np.median(bound)), 4), "ratio": round(float(np.quantile(np.abs(off) / bound, 0.6827)), 2),
            "error": round(float(np.median(err)), 3), "within": round(float((np.abs(off) <= err).mean()), 3),
            "at bound": round(float(good[f"at_bound_{name}"].mean()), 3),
        }  # fmt: skip
    return out


def seen_in_the_data(measured: dict[Condition, pd.DataFrame], chi2_limit: float) -> dict:
    """How large errors are, and whether they keep their word, by what a pipeline sees without the truth.

    Each over the conditions that move it (axes of `VARIED`), the reference included once.
    """
    bins = {
        "found r_turn / beam": ("r_turn_over_beam", (0, 0.25, 0.5, 1, 2, np.inf), ("beam",)),
        "found r_scale / beam": ("r_scale_over_beam", (0, 0.5, 1, 2, np.inf), ("beam",)),
        "pixels": ("pixels", (0, 100, 300, 1000, np.inf), ("snr", "random", "wedge")),
        "lopsidedness of the valid pixels": ("lopsided", (0, 0.1, 0.2, 0.4, np.inf), ("random", "wedge")),
        "chi2 of the velocity, and its limit": ("chi2_velocity", (0, chi2_limit, np.inf), ("axis", "centre")),
    }
    out = {}
    for title, (column, edges, axes) in bins.items():
        chosen = [rows for c, rows in measured.items() if any(c == replace(REFERENCE, **{a: getattr(c, a)}) for a in axes)]
        rows = pd.concat(chosen)
        out[title] = {}
        for within, group in rows[rows["usable"]].groupby(pd.cut(rows[column], edges), observed=True):
            figures = {"discs": len(group)}
            for name in DISC:
                off = group[f"off_{name}"].abs()
                covered = float((off <= group[f"err_{name}"]).mean())
                wide, typical = float(off.quantile(0.6827)), float(group[f"bound_{name}"].median())
                figures[name] = {"68 % within": round(wide, 2), "bound": round(typical, 3), "within": round(covered, 3)}
            out[title][str(within)] = figures
    return out


def broken(cells: dict) -> list[str]:
    """Conditions and parameters where the errors are far from their word, or the bias is larger than the scatter and the errors."""
    found = []
    for axis, values in cells.items():
        for value, cell in values.items():
            for name, c in ((n, cell[n]) for n in DISC if n in cell):
                if c["within"] < FEWEST_WITHIN or abs(c["bias"]) > max(c["scatter"], c["error"]):
                    found.append(f"{axis} {value}: {name} {c['within']:.2f} within, bias {c['bias']:.1f}, scatter {c['scatter']:.1f}")
    return found


def show(figures: dict) -> None:
    heads = {"inclination_deg": "i (deg)", "r_scale": "r_scale (%)", "r_turn": "r_turn (%)", "v_max_sini": "V sin i (%)"}
    print("condition".ljust(14), *(h.center(39) for h in heads.values()), "bound  chi2", sep=" | ")
    print(" " * 14, *("   bias scatter   bound   ratio  within" for _ in heads), "", sep=" | ")
    for axis, cells in figures.items():
        for value, cell in cells.items():
            line = [f"{axis} {value}".ljust(14)]
            for name in heads:
                c = cell.get(name, {})
                line.append(" ".join(f"{c.get(key, np.nan):7.2f}" for key in ("bias", "scatter", "bound", "ratio", "within")))
            print(*line, f"{cell.get('at a bound', np.nan):5.2f} {cell.get('chi2_velocity', np.nan):5.2f}", sep=" | ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder of a trained network")
    parser.add_argument("--discs", type=int, default=300)
    args = parser.parse_args()
    checkpoint = load(args.weights)
    discs = Discs(args.discs, torch.Generator().manual_seed(SEED))
    measured: dict[Condition, pd.DataFrame] = {}
    for axis, values in VARIED.items():
        for value in values:
            condition = replace(REFERENCE, **{axis: value})
            if condition not in measured:
                measured[condition] = measure(discs, condition, checkpoint)
    cells = {axis: {f"{v:g}": summary(measured[replace(REFERENCE, **{axis: v})]) for v in values} for axis, values in VARIED.items()}
    chi2 = measured[REFERENCE]["chi2_velocity"]
    limit = float(chi2.median() + 3 * half_width(chi2.to_numpy()))
    for axis, values in VARIED.items():
        for value in values:
            over = measured[replace(REFERENCE, **{axis: value})]["chi2_velocity"] > limit
            cells[axis][f"{value:g}"]["chi2 over the limit"] = round(float(over.mean()), 3)
    show(cells)
    print(*broken(cells), sep="\n")
    keep("accuracy", {
        "network": {"architecture": checkpoint.model.network.architecture, "origin": checkpoint.origin},
        "discs": args.discs, "population": POPULATION, "units": "inclination deg, the others per cent",
        "chi2 limit (the reference's median + 3 sigma)": round(limit, 3), "broken": broken(cells),
        "conditions": cells, "seen in the data": seen_in_the_data(measured, limit),
    })  # fmt: skip
    draw(cells, Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
