"""The figures of the blind test: python benchmarks/blind_figures.py FOUND_DIR OUT_DIR

    blind_test_truth.png      truth against found, and found - true on a scale of its own (Dawson+2021 fig. 4)
    blind_test_errors.png     |found - true| against inclination and against r_turn seen along the minor axis, in beams
    blind_test_beam.png       r_scale against beam (their fig. A1, called B.1 in places)
    blind_test_velocity.png   rotation velocity against inclination: what a wrong inclination makes of it

A good figure has all points on the line of one to one, and nothing in ``beam`` or ``velocity`` that leaves zero.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from blind_galaxies import HALF, read_population
from blind_test import PAPER, WANTED, cut_by_turnover, deviations

from tullyflow.report.figures.style import EXCLUDED, OKABE_ITO, house_style, new_figure, save_picture

NETWORKS = {"folded": OKABE_ITO["blue"], "dawson2021": OKABE_ITO["vermilion"]}
LABELS = {
    "inclination_deg": "inclination (deg)",
    "r_scale": "r_scale (half-widths)",
    "r_turn": "r_turn (half-widths)",
    "v_max_sini": "asymptotic V sin i (km/s)",
}
TRAINED_ON = {"folded": "told the beam, trained on 0.8-8.5 pixels", "dawson2021": "not told, trained on 2.1 pixels"}
BEAM_COLOURS = ("black", "sky", "blue", "green", "orange", "vermilion", "purple")
SHORT = {"inclination_deg": "i (deg)", "r_scale": "r_scale", "r_turn": "r_turn", "v_max_sini": "V sin i (km/s)"}


def truth_against_found(tables: dict[str, pd.DataFrame], beam: float):
    """Two rows per network: found, and found - true; galaxies that the paper would cut are grey."""
    figure = new_figure(12.5, 10.5)
    axes = figure.subplots(4, 4, sharex="col", gridspec_kw={"height_ratios": [1.5, 1, 1.5, 1]})
    for row, (network, table) in enumerate(tables.items()):
        cut, off = cut_by_turnover(table, beam), deviations(table)
        for column, (name, label) in enumerate(LABELS.items()):
            above, below = axes[2 * row, column], axes[2 * row + 1, column]
            for chosen, colour, order in ((cut, EXCLUDED, 1), (~cut, NETWORKS[network], 2)):
                true, found, err = (table.loc[chosen, c] for c in (f"{name}_true", name, f"{name}_err"))
                above.errorbar(true, found, err, fmt=".", ms=2, lw=0.4, color=colour, zorder=order, rasterized=True)
                below.errorbar(true, off.loc[chosen, name], err, fmt=".", ms=2, lw=0.4, color=colour, zorder=order, rasterized=True)
            ends = table[f"{name}_true"].min(), table[f"{name}_true"].max()
            above.plot(ends, ends, color="black", lw=0.8, ls="--", zorder=3)
            below.axhline(0, color="black", lw=0.8, ls="--", zorder=3)
            limit = 1.3 * np.percentile(off[name].abs(), 99)
            below.set_ylim(-limit, limit)
            mean = off[name].abs().mean()
            above.set_title(f"{network}: mean |deviation| {mean:.2g}\n(paper, cut {PAPER[name]:g}; wanted {WANTED[name]:g})", fontsize=8)
            above.set_ylabel(f"found {SHORT[name]}")
            below.set_ylabel("found - true")
            if row == 1:
                below.set_xlabel(f"true {label}")
    figure.suptitle(f"{len(cut):,} KinMS galaxies, none cut (grey: r_turn along the minor axis < 1.5 beams, {cut.mean():.0%})")
    return figure


def _running(x: np.ndarray, size: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of each bin and the mean, median and 90th percentile (3, bin) of what falls there."""
    which = np.digitize(x, edges) - 1
    rows = [(size[which == k].mean(), *np.percentile(size[which == k], (50, 90))) for k in range(len(edges) - 1)]
    return (edges[1:] + edges[:-1]) / 2, np.array(rows).T


def errors(tables: dict[str, pd.DataFrame], beam: float):
    figure = new_figure(12.5, 6.3)
    axes = figure.subplots(2, 4)
    for network, table in tables.items():
        off = deviations(table).abs()
        inclination = table["inclination_deg_true"].to_numpy()
        projected = (HALF * table["r_turn_true"] * np.cos(np.radians(inclination)) / beam).to_numpy()
        quantiles = np.quantile(projected, np.linspace(0.0, 1, 13))
        quantiles[-1] += 1e-9
        for row, (x, edges) in enumerate(((inclination, np.linspace(10, 90, 17)), (projected, quantiles))):
            for column, name in enumerate(LABELS):
                at, (mean, median, high) = _running(x, off[name].to_numpy(), edges)
                ax = axes[row, column]
                ax.plot(at, mean, color=NETWORKS[network], label=f"{network}: mean")
                ax.plot(at, median, color=NETWORKS[network], ls=":", label="median")
                ax.fill_between(at, median, high, color=NETWORKS[network], alpha=0.15, lw=0, label="to the 90th percentile")
    for row, label in enumerate(("true inclination (deg)", "r_turn cos i (beams)")):
        for column, name in enumerate(LABELS):
            ax = axes[row, column]
            ax.axhline(PAPER[name], color="black", lw=0.8, ls="--", label="the paper's mean, cut")
            ax.axhline(WANTED[name], color="black", lw=0.8, ls=":", label="wanted of folded")
            ax.set(yscale="log", xlabel=label, ylabel=f"|found - true| {SHORT[name]}")
            if row == 1:
                ax.axvline(1.5, color=EXCLUDED, lw=0.8)
                ax.set_xscale("log")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncol=8)
    return figure


def beam_figure(tables: dict[str, pd.DataFrame]):
    """Median (and middle 68 %) of found - true r_scale against r_scale, one line per beam; one panel per network."""
    figure = new_figure(10, 4.2)
    edges = np.linspace(0.1, 0.35, 8)
    for ax, (network, table) in zip(figure.subplots(1, 2), tables.items(), strict=True):
        beams = np.unique(table["beam"])
        for k, beam in enumerate(beams):
            some = table[table["beam"] == beam]
            off, which = (some["r_scale"] - some["r_scale_true"]).to_numpy(), np.digitize(some["r_scale_true"], edges) - 1
            low, middle, high = np.array([np.percentile(off[which == j], (16, 50, 84)) for j in range(len(edges) - 1)]).T
            colour = OKABE_ITO[BEAM_COLOURS[k]]
            at = (edges[1:] + edges[:-1]) / 2 + (k - len(beams) / 2) * 0.002
            ax.errorbar(at, middle, (middle - low, high - middle), fmt="o-", ms=3, color=colour, lw=1, label=f"{beam:.1f}")
        ax.axhline(0, color="black", lw=0.8, ls="--")
        ax.set_title(f"{network} ({TRAINED_ON[network]})")
        ax.set(xlabel="true r_scale (half-widths)", ylabel="found - true r_scale")
        ax.legend(title="beam, pixels", ncol=2)
    return figure


def velocity_figure(tables: dict[str, pd.DataFrame]):
    """Asymptotic rotation velocity against inclination: found, and found over true."""
    figure = new_figure(10, 7)
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    for column, (network, table) in enumerate(tables.items()):
        true = table["v_max_sini_true"] / np.sin(np.radians(table["inclination_deg_true"]))
        found = table["v_max_sini"] / np.sin(np.radians(table["inclination_deg"]))
        above, below = axes[:, column]
        above.plot(table["inclination_deg_true"], true, ".", ms=2, color=EXCLUDED, label="true")
        above.plot(table["inclination_deg"], found, ".", ms=2, color=NETWORKS[network], label="found")
        above.set(yscale="log", title=network)
        above.legend(markerscale=4)
        below.plot(table["inclination_deg"], found / true, ".", ms=2, color=NETWORKS[network])
        below.axhline(1, color="black", lw=0.8, ls="--")
        below.set(ylim=(0.7, 1.3), xlabel="inclination (deg)")
        wrong = ((found / true - 1).abs() > 0.1) & (table["inclination_deg_true"] < 30)
        below.set_title(f"more than 10 % wrong at i < 30 deg: {wrong.sum()} of {(table['inclination_deg_true'] < 30).sum()}", fontsize=8)
    axes[0, 0].set_ylabel("asymptotic V (km/s)")
    axes[1, 0].set_ylabel("V found / true")
    return figure


def main(found: Path, out: Path) -> None:
    beam = read_population()["beam"]
    tables, beams = ({name: pd.read_csv(folder / f"{name}.csv") for name in NETWORKS} for folder in (found, found / "beams"))
    with house_style():
        figures = {
            "truth": truth_against_found(tables, beam),
            "errors": errors(tables, beam),
            "beam": beam_figure(beams),
            "velocity": velocity_figure(tables),
        }
        for name, figure in figures.items():
            save_picture(figure, out / f"blind_test_{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
