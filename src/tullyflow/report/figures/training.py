"""Training curves: how a survey's network learnt, and whether it still was when it stopped."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from tullyflow.errors import ModelError
from tullyflow.report.figures.style import FIT, OKABE_ITO, house_style, new_figure

__all__ = ["clock", "plot_training", "read_history"]

_CURVES = (
    ("loss", "training, both maps", FIT, "-"),
    ("loss_intensity", "training, intensity", OKABE_ITO["orange"], "-"),
    ("loss_velocity", "training, velocity", OKABE_ITO["blue"], "-"),
    ("validation_loss", "validation, both maps", FIT, (0, (4, 2))),
)


def read_history(path: str | Path) -> pd.DataFrame:
    """Read ``history.csv``: an ``epoch`` (or ``step``) and one column per loss. Raise `ModelError` where there is none."""
    try:
        history = pd.read_csv(path)
    except (OSError, ValueError) as err:
        raise ModelError(f"{path}: not a readable training history: {' '.join(str(err).split())}.") from err
    if "loss" not in history.columns or not {"epoch", "step"} & set(history.columns):
        raise ModelError(f"{path}: no columns epoch (or step) and loss; found {', '.join(map(str, history.columns))}.")
    return history


def clock(history: pd.DataFrame) -> str:
    """Return the column that counts: ``epoch`` on a survey's galaxies, ``step`` on synthetic discs."""
    return "epoch" if "epoch" in history else "step"


def plot_training(history: pd.DataFrame, title: str) -> Figure:
    """Draw the losses against epoch (or step), and the learning rate in a thin panel below.

    The axis is logarithmic; linear where a loss is a log-likelihood, which may be negative. ``history`` is what `read_history` returns;
    columns that are absent or all NaN are not drawn.
    """
    count = clock(history)
    with house_style():
        figure = new_figure(5.2, 3.6)
        has_rate = "learning_rate" in history and (history["learning_rate"] > 0).any()
        panels = figure.subplots(
            2 if has_rate else 1, 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": [4, 1] if has_rate else [1]}
        )[:, 0]
        few = len(history) < 20
        likelihood = (history["loss"] <= 0).any()
        for column, label, colour, dashes in _CURVES:
            if column not in history or not (likelihood or (history[column] > 0).any()):
                continue
            values = history[column].where(likelihood | (history[column] > 0), np.nan)
            shown = values.notna()
            panels[0].plot(history[count][shown], values[shown], color=colour, linestyle=dashes, label=label, marker="." if few else None)
        panels[0].set(ylabel="- ln likelihood" if likelihood else "loss", title=title)
        if not likelihood:
            panels[0].set_yscale("log")
            panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panels[0].yaxis.set_minor_formatter(NullFormatter())
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside lower center", ncols=2)
        if has_rate:
            panels[1].plot(history[count], history["learning_rate"], color=OKABE_ITO["green"])
            highest = float(history["learning_rate"].max())
            panels[1].set(ylabel="rate", ylim=(0, 1.15 * highest), yticks=[0, highest], yticklabels=["0", f"{highest:.2g}"])
            panels[1].set_xlabel(count)
        else:
            panels[0].set_xlabel(count)
    return figure
