"""The figure of `splits`: for each quantity the pulls between halves of real galaxies, beside the unit normal."""

from pathlib import Path

import numpy as np

from tullyflow.report.figures.style import FIT, OKABE_ITO, house_style, new_figure, save_picture

__all__ = ["draw"]

TITLES = {
    "axis_deg": "Position angle", "v_max_sini": "$V\\,\\sin i$", "v_22_sini": "$V_{2.2}\\,\\sin i$", "r_turn": "Turnover radius",
    "centre_x": "Centre, along the axis", "centre_y": "Centre, across the axis", "v_sys": "Systemic velocity",
}  # fmt: skip
WIDEST, STEP = 5.0, 0.25


def draw(pulls: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """A panel per quantity; ``pulls`` by quantity and by cut, NaN where a half was not refined. Beyond 5 counts in the last bar."""
    edges = np.arange(-WIDEST, WIDEST + STEP / 2, STEP)
    x = np.linspace(-WIDEST, WIDEST, 400)
    looks = (("blue", True), ("vermilion", False))
    with house_style():
        figure = new_figure(12, 5.6)
        panels = figure.subplots(2, 4, sharex=True, sharey=True).ravel()
        for panel, (name, by_cut) in zip(panels, pulls.items(), strict=False):
            for k, (cut, values) in enumerate(by_cut.items()):
                (colour, filled), fine = looks[k], values[np.isfinite(values)]
                shares = [f"{100 * np.mean(np.abs(fine) < far):.0f} % within {far}" for far in (1, 2)]
                share = np.histogram(fine.clip(-WIDEST, WIDEST), edges)[0] / max(len(fine), 1) / STEP
                panel.stairs(share, edges, fill=filled, alpha=0.35 if filled else 1, color=OKABE_ITO[colour], lw=1.4, label=cut)
                look = {"color": OKABE_ITO[colour], "fontsize": 8, "ha": ("left", "right")[k], "va": "top"}
                panel.text((0.02, 0.98)[k], 0.97, "\n".join([*shares, f"n = {len(fine)}"]), transform=panel.transAxes, **look)
            panel.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color=FIT, lw=1.1, label="unit normal (68 and 95 %)")
            panel.set_title(TITLES[name])
            panel.set_xlim(-WIDEST, WIDEST)
            panel.set_ylim(0, 0.8)
        for panel in panels[3:7]:
            panel.set_xlabel("difference of the halves / its error")
            panel.tick_params(labelbottom=True)
        for panel in panels[::4]:
            panel.set_ylabel("galaxies per unit")
        for panel in panels[len(pulls) :]:
            panel.set_axis_off()
        panels[-1].legend(*panels[0].get_legend_handles_labels(), loc="center", fontsize=9)
        save_picture(figure, path)
