"""Figures of usability: how reliable and how accurate, by share kept and by footprint; and the surest errors to look at."""

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt
from usability_data import KINDS

COLOURS = {"all": "#000000", "gas": "#0072B2", "stars": "#D55E00"}
STYLES = {"default": "-", "published": "--"}
ROWS, COLUMNS = 6, 5


def draw(figures: dict, path) -> None:
    fig, axes = plt.subplots(1, 3, figsize=(16, 5.2), width_ratios=(1, 1, 1.25), layout="constrained")
    for name, style in STYLES.items():
        network = figures["networks"][name]
        for part, colour in COLOURS.items():
            found = network[part]
            label = f"{name}, {part}: {100 * found['accuracy']:.1f} %, ECE {found['calibration_error']:.3f}"
            if part != "all":
                probability, share, _ = found["reliability"]
                axes[0].plot(probability, share, style, marker="o", ms=4, color=colour, label=label)
            axes[1].plot([float(s) for s in found["kept"]], list(found["kept"].values()), style, color=colour, label=label)
    axes[0].plot([0, 1], [0, 1], color="0.7", lw=1, zorder=0)
    axes[0].set(xlabel="probability that an eye would use the field", ylabel="share that the eye used", title="Reliability")
    axes[1].set(xlabel="share kept, the surest first", ylabel="accuracy", title="Accuracy, plates never seen", ylim=(0.85, 1.003))
    for ax in axes[:2]:
        ax.legend(fontsize=8, frameon=False, loc="lower right" if ax is axes[0] else "lower left")
        ax.grid(alpha=0.3)
    views = figures["footprints"]
    height = np.arange(len(views))[::-1]
    marks = {"default": ("o", "#000000"), "footprints as observed": ("s", "#009E73"), "published": ("^", "#CC79A7")}
    for name, (mark, colour) in marks.items():
        label = {"default": "default", "footprints as observed": "default without varied footprints in training"}.get(name, name)
        axes[2].plot([100 * view[name]["all"] for view in views.values()], height, mark, color=colour, label=label)
    alone = figures["footprint_alone"]
    for name, style in (("the commoner class", ":"), ("default network given noise in the masks", "-.")):
        axes[2].axvline(100 * alone[name]["all"], color="0.5", ls=style, lw=1, label=name)
    axes[2].set(xlabel="accuracy, %", title="The same galaxies in other fields of view", yticks=height, yticklabels=list(views))
    axes[2].legend(fontsize=8, frameon=False, loc="lower left")
    axes[2].grid(alpha=0.3)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def draw_errors(labelled, classes, table, errors, path) -> None:
    """Each error's field (orange title) beside the galaxy's other one; the colours end at the 95th percentile of |v|."""
    fig, axes = plt.subplots(ROWS, 2 * COLUMNS, figsize=(25, 17), layout="constrained")
    probability = table[["prob_gas", "prob_stars"]].to_numpy()
    for k, (galaxy, wrong) in enumerate(errors):
        for field, images in enumerate((labelled.gas, labelled.stars)):
            ax, image = axes[k // COLUMNS, 2 * (k % COLUMNS) + field], images[galaxy]
            limit = np.nanpercentile(np.abs(image), 95) if np.isfinite(image).any() else 1
            ax.imshow(image, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit)
            ax.set(xticks=[], yticks=[])
            title = f"{k + 1} {labelled.galaxy[galaxy]} {KINDS[field]}\neye {classes[galaxy, field]:g}, p {probability[galaxy, field]:.3f}"
            ax.set_title(f"{title}, ±{limit:.0f} km/s", fontsize=9, color="#D55E00" if field == wrong else "k")
    fig.savefig(path, dpi=55)
    plt.close(fig)
