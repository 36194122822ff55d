"""The figures of `circularity`: kappa found against true, recall, coverage and the folded latent plane; and the ALMA maps.

A good figure has the medians on the diagonal, both recalls above the targets, coverage at 68 %, and high kappa right of the boundary.
"""

import itertools
from pathlib import Path

import numpy as np
import torch

from tullyflow.network.judges.circularity import Circularity, CircularityNetwork
from tullyflow.network.judges.circularity_maps import SimulatedFields
from tullyflow.network.judges.fields import fields_of
from tullyflow.report.figures.style import BAND, FIT, OKABE_ITO, house_style, new_figure, save_picture

__all__ = ["draw", "draw_alma"]

_COLOURS = {"no noise": "blue", "peak S/N 10": "vermilion", "as surveys see": "green"}
_TARGETS = {"no noise": 0.90, "peak S/N 10": 0.87}
_TENTHS = np.arange(0, 1.01, 0.1)


def _tenth(kappa: np.ndarray) -> np.ndarray:
    return (kappa * 10).astype(int).clip(0, 9)


def draw(
    simulated: dict[str, SimulatedFields], answers: dict[str, dict[str, Circularity]], published: CircularityNetwork, path: Path
) -> None:
    """Six panels: kappa of the default network without noise and with, recall by tenth, both networks, coverage, folded latent plane."""
    with house_style():
        figure = new_figure(12.5, 7.5)
        panels = figure.subplots(2, 3)
        for panel, seen in zip(panels[0], ("no noise", "peak S/N 10"), strict=False):
            _found_against_true(panel, simulated[seen].kappa, answers["direct"][seen])
            panel.set_title(f"default network, {seen}")
        middles = _TENTHS[:-1] + 0.05
        for seen, colour in _COLOURS.items():
            kappa = simulated[seen].kappa
            for name, look in (("direct", "-"), ("published, trained again", ":")):
                right = (answers[name][seen].kappa >= 0.5) == (kappa >= 0.5)
                label = seen if name == "direct" else f"{seen}, published"
                panels[0, 2].plot(middles, [right[_tenth(kappa) == k].mean() for k in range(10)], look, marker="o", ms=3,
                                  color=OKABE_ITO[colour], label=label)  # fmt: skip
        panels[0, 2].set(xlabel="true kappa", ylabel="share on the right side of 0.5", ylim=(0, 1.02), title="recall by tenth of kappa")
        panels[0, 2].legend(fontsize=6)
        _recalls(panels[1, 0], simulated, answers)
        _coverage(panels[1, 1], simulated, answers["direct"])
        _latent_plane(figure, panels[1, 2], simulated["no noise"], published)
    save_picture(figure, path)


def _found_against_true(panel, kappa: np.ndarray, found: Circularity) -> None:
    there = np.isfinite(found.kappa)
    counts, _, _ = np.histogram2d(kappa[there], found.kappa[there], bins=25, range=[[0, 1], [0, 1]])
    panel.imshow((counts / counts.sum(axis=1, keepdims=True).clip(1)).T, origin="lower", extent=(0, 1, 0, 1), cmap="Greys", aspect="auto")
    tenth = _tenth(kappa)
    levels = np.array([np.nanquantile(found.kappa[tenth == k], (0.16, 0.5, 0.84)) for k in range(10)])
    middles = _TENTHS[:-1] + 0.05
    panel.errorbar(middles, levels[:, 1], (levels[:, 1] - levels[:, 0], levels[:, 2] - levels[:, 1]), fmt="o", ms=4,
                   color=OKABE_ITO["blue"], label="median, 68 %")  # fmt: skip
    panel.plot([0, 1], [0, 1], color=FIT, lw=1)
    panel.axhline(0.5, color=BAND, lw=1)
    panel.axvline(0.5, color=BAND, lw=1)
    panel.set(xlabel="true kappa", ylabel="kappa found", xlim=(0, 1), ylim=(0, 1))
    panel.legend(fontsize=7, loc="upper left")


def _recalls(panel, simulated: dict[str, SimulatedFields], answers: dict[str, dict[str, Circularity]]) -> None:
    """Mean recall of both classes against the inclination."""
    edges = np.array([5, 20, 40, 60, 85])
    for seen, colour in _COLOURS.items():
        ordered, tilt = simulated[seen].kappa >= 0.5, simulated[seen].inclination_deg
        for name, look in (("direct", "-"), ("published, trained again", ":")):
            right = (answers[name][seen].kappa >= 0.5) == ordered
            steps = [(tilt >= a) & (tilt < b) for a, b in itertools.pairwise(edges)]
            means = [(right[s & ordered].mean() + right[s & ~ordered].mean()) / 2 for s in steps]
            panel.plot((edges[:-1] + edges[1:]) / 2, means, look, marker="o", ms=3, color=OKABE_ITO[colour])
        if seen in _TARGETS:
            panel.axhline(_TARGETS[seen], color=OKABE_ITO[colour], lw=0.8, ls="--")
    panel.set(
        xlabel="inclination (deg)",
        ylabel="mean recall of both classes",
        ylim=(0.4, 1),
        title="full: default; dotted: published",
    )


def _coverage(panel, simulated: dict[str, SimulatedFields], answers: dict[str, Circularity]) -> None:
    """Share of true kappa within k errors, against what a Gaussian has."""
    factors = np.linspace(0.1, 3, 30)
    expected = torch.erf(torch.from_numpy(factors) / 2**0.5).numpy()
    for seen, colour in _COLOURS.items():
        found = answers[seen]
        pull = np.abs(found.kappa - simulated[seen].kappa) / found.err
        panel.plot(expected, [(pull < factor).mean() for factor in factors], color=OKABE_ITO[colour], label=seen)
    panel.plot([0, 1], [0, 1], color=FIT, lw=1)
    panel.axvline(0.6827, color=BAND, lw=1)
    panel.set(xlabel="share expected within k errors", ylabel="share found", title="coverage of the error")
    panel.legend(fontsize=7)


def _latent_plane(figure, panel, simulated: SimulatedFields, published: CircularityNetwork) -> None:
    """The folded latent plane of the published network, coloured by kappa, with its boundary."""
    looked, judged = fields_of(simulated.field)
    with torch.inference_mode():
        x, y, z = published.model.components(looked).numpy()[judged].T
    points = panel.scatter(np.hypot(x, y), np.abs(z), c=simulated.kappa[judged], s=3, cmap="cividis", vmin=0, vmax=1)
    panel.axvline(float(published.model.boundary), color=OKABE_ITO["vermilion"])
    figure.colorbar(points, ax=panel, label="true kappa")
    panel.set(xlabel="(x$^2$ + y$^2$)$^{1/2}$, latent", ylabel="|z|, latent", title="published network: folded latent plane, no noise")


def draw_alma(figures: dict, velocity: np.ndarray, path: Path) -> None:
    """The 14 maps with both networks' kappa, the eye, the published model and the two axes."""
    with house_style():
        figure = new_figure(13, 5.4)
        panels = figure.subplots(2, 7)
        for panel, field, (name, row) in zip(panels.flat, velocity, figures["maps"].items(), strict=True):
            limit = np.nanpercentile(np.abs(field), 96)
            panel.imshow(field, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit)
            ours, away = row["axis, deg"][0], row["latent angle - axis, deg"]
            for angle, colour, look in ((ours, "black", "-"), (ours + away, "green", "--")):
                c, s = -np.sin(np.radians(angle)), np.cos(np.radians(angle))
                panel.plot([31.5, 31.5 + 30 * c], [31.5, 31.5 + 30 * s], look, color=OKABE_ITO.get(colour, colour), lw=1.2)
            kappa, err = row["direct"]
            says = "regular" if row["eye"] else "disturbed"
            panel.set_title(
                f"{name}, eye: {says}\n$\\kappa$ = {kappa:.2f} ± {err:.2f}\n"
                f"retrained {row['published, trained again'][0]:.2f} | paper {'>' if row['published model'] else '<'} 0.5",
                fontsize=6.5,
            )
            panel.set_xticks([])
            panel.set_yticks([])
    save_picture(figure, path)
