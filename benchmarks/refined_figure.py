"""The figure of `refined_discs`: deviations without noise against inclination, and with noise the error over its bound.

A good figure has the fit on the floor and below the target everywhere, and all points of the lower row below 1.15.
"""

from itertools import pairwise
from pathlib import Path

from tullyflow.report.figures.style import BAND, FIT, OKABE_ITO, house_style, new_figure, save_picture

__all__ = ["draw"]

LABELS = {
    "inclination_deg": "inclination (deg)",
    "r_scale": "r_scale (half-widths)",
    "r_turn": "r_turn (half-widths)",
    "v_max_sini": "V sin i (km/s)",
}
LINES = {"network": ("vermilion", "s"), "refined": ("blue", "o"), "floor": ("green", "^")}
WORDS = {"network": "network alone, in place", "refined": "refined, misplaced, all nine free", "floor": "what the maps hold"}
LARGEST_RATIO = 1.15


def draw(figures: dict, path: Path) -> None:
    """Two rows: mean |found - true| of KinMS galaxies in bins of inclination; rms error over the Cramer-Rao bound of noisy discs."""
    sets = {name: cell for name, cell in figures["blind"]["sets"].items() if "<= i <" in name}
    edges = [float(name.split()[0]) for name in sets] + [float(list(sets)[-1].split()[-1])]
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    cells = figures["noise"]
    with house_style():
        figure = new_figure(12.5, 6.5)
        panels = figure.subplots(2, len(LABELS))
        for (name, label), above, below in zip(LABELS.items(), *panels, strict=True):
            for key, (colour, marker) in LINES.items():
                means = [cell[key][name][0] for cell in sets.values()]
                above.plot(middles, means, marker=marker, ms=4, color=OKABE_ITO[colour], label=WORDS[key])
            above.axhline(figures["blind"]["wanted"][name], color=FIT, ls="--", lw=1, label="wanted")
            above.set_yscale("log")
            above.set_xlabel("inclination (deg)")
            above.set_title(label)
            for beam, colour in (("2", "blue"), ("4", "orange")):
                there = [(float(key.split()[1].rstrip(",")), cell) for key, cell in cells.items() if key.endswith(f"beam {beam}")]
                for chosen, look in (("near normal", "o-"), ("all", "o:")):
                    points = [(snr, cell[chosen][name]["rms error / bound"]) for snr, cell in there if chosen in cell]
                    below.plot(*zip(*points, strict=True), look, ms=4, mfc=OKABE_ITO[colour] if chosen != "all" else "white",
                               color=OKABE_ITO[colour], label=f"beam {beam} pixels, {chosen}")  # fmt: skip
            below.axhline(LARGEST_RATIO, color=FIT, ls="--", lw=1)
            below.axhline(1, color=BAND, lw=1, zorder=0)
            below.set_xscale("log")
            below.set_ylim(0.6, 2)
            below.set_xlabel("peak S/N")
        panels[0, 0].set_ylabel("mean |found - true|")
        panels[1, 0].set_ylabel("rms error / bound")
        panels[0, 0].legend(fontsize=7)
        panels[1, 0].legend(fontsize=7)
    save_picture(figure, path)
