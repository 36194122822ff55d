"""The figure of `accuracy`: a column per condition, a row per parameter, and whether the errors keep their word."""

from pathlib import Path

from matplotlib.lines import Line2D

from tullyflow.disc.bound import DISC
from tullyflow.report.figures.style import BAND, FIT, OKABE_ITO, house_style, new_figure, save_picture

__all__ = ["draw"]

COLUMNS = {
    "Peak S/N": ("snr",), "Share of pixels lost": ("random", "wedge"), "Beam FWHM (stamp pixels)": ("beam",),
    "Error of the axis (deg)": ("axis",), "Error of the centre (pixels)": ("centre",),
}  # fmt: skip
ROWS = {"inclination_deg": "inclination (deg)", "r_scale": "r_scale (%)", "r_turn": "r_turn (%)", "v_max_sini": "V sin i (%)"}
COLOURS = {"inclination_deg": "vermilion", "r_scale": "blue", "r_turn": "green", "v_max_sini": "purple"}
ONE_SIGMA = 0.6827


def _series(cells: dict, axis: str, name: str, figure: str) -> tuple[list[float], list[float]]:
    there = [(float(value), cell[name][figure]) for value, cell in cells[axis].items() if name in cell]
    return [x for x, _ in there], [y for _, y in there]


def draw(cells: dict, path: Path) -> None:
    """Scatter (points), |median bias| (dotted) and the bound (dashed); below, the share of discs within 1 sigma."""
    with house_style():
        figure = new_figure(12, 10.5)
        panels = figure.subplots(len(ROWS) + 1, len(COLUMNS), sharex="col", sharey="row")
        for (title, axes), column in zip(COLUMNS.items(), panels.T, strict=True):
            for panel, name in zip(column, DISC, strict=False):
                for axis, filled in zip(axes, (True, False), strict=False):
                    colour = OKABE_ITO[COLOURS[name]]
                    panel.plot(*_series(cells, axis, name, "scatter"), "o-", color=colour, mfc=colour if filled else "white", ms=4)
                    panel.plot(*_series(cells, axis, name, "bound"), "--", color=FIT, lw=1, dashes=(4, 2) if filled else (1.5, 1.5))
                    x, bias = _series(cells, axis, name, "bias")
                    panel.plot(x, [max(abs(b), 1e-3) for b in bias], ":", color=colour, lw=1.1)
                panel.set_yscale("log")
            for axis, look in zip(axes, ("o-", "o--"), strict=False):
                for name in DISC:
                    column[-1].plot(*_series(cells, axis, name, "within"), look, color=OKABE_ITO[COLOURS[name]], ms=3, lw=1)
            column[-1].axhline(ONE_SIGMA, color=BAND, lw=1, zorder=0)
            column[-1].set_ylim(0, 1)
            column[-1].set_xlabel(title)
            if axes[0] in ("snr", "beam"):
                column[-1].set_xscale("log")
                ticks = [float(v) for v in cells[axes[0]]]
                column[-1].set_xticks(ticks, [f"{t:g}" for t in ticks])
                column[-1].minorticks_off()
        for panel, label in zip(panels[:, 0], (*ROWS.values(), "share within 1 sigma"), strict=True):
            panel.set_ylabel(label)
        for panel, name in zip(panels[:, 0], DISC, strict=False):
            panel.set_ylim(bottom=min(min(_series(cells, a, name, "bound")[1]) for a in cells) / 2)
        looks = [{"marker": "o"}, {"ls": ":"}, {"ls": "--"}, {"marker": "o", "mfc": "white"}]
        handles = [Line2D([], [], color=FIT, **look) for look in looks]
        labels = ["robust scatter (68 % half-width)", "|median bias|", "Cramér-Rao bound (median)", "the same, pixels lost in a wedge"]
        figure.legend(handles, labels, loc="outside upper center", ncols=4)
    save_picture(figure, path)
