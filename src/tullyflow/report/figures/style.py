"""The house style of every figure: colours, markers, maps, and how a figure is saved.

Colours are those of Okabe & Ito (2008), told apart by people with any colour vision; every survey
has its own marker as well, so that a grey print still works. A figure is saved three times: PNG to
look at, PDF to print, CSV with the numbers behind it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from tullyflow.errors import SettingsError
from tullyflow.tables import whole_file

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BAND", "EXCLUDED", "FIT", "INTENSITY_MAP", "LITERATURE_DASHES", "OKABE_ITO", "RESIDUAL_LIMIT_KMS", "VELOCITY_MAP", "SavedFigure",
    "SurveyStyle", "house_style", "new_figure", "round_limit", "save_figure", "save_picture", "survey_style",
]  # fmt: skip

OKABE_ITO = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
}
FIT = "#1a1a1a"
BAND = "#8a8a8a"
EXCLUDED = "#b4b4b4"
VELOCITY_MAP = "RdBu_r"  # red recedes, white is the systemic velocity
INTENSITY_MAP = "cividis"
RESIDUAL_LIMIT_KMS = 30.0
LITERATURE_DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)), "-", (0, (2, 3)))

_RC = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.4,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "mathtext.fontset": "dejavusans",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class SurveyStyle:
    """How a survey's galaxies are drawn and what it is called in a legend."""

    label: str
    colour: str
    marker: str


_SURVEYS = {
    "manga": SurveyStyle("MaNGA", OKABE_ITO["blue"], "o"),
    "sami": SurveyStyle("SAMI", OKABE_ITO["vermilion"], "s"),
    "things": SurveyStyle("THINGS", OKABE_ITO["green"], "D"),
    "local": SurveyStyle("own galaxies", OKABE_ITO["purple"], "^"),
}


@dataclass(frozen=True)
class SavedFigure:
    """The three files of one figure."""

    png: Path
    pdf: Path
    csv: Path


def survey_style(survey: str) -> SurveyStyle:
    """Return a survey's style; an unknown survey is orange with its own name."""
    return _SURVEYS.get(survey, SurveyStyle(survey, OKABE_ITO["orange"], "v"))


@contextmanager
def house_style() -> Iterator[None]:
    """Draw what is inside the block in the house style, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return a figure that no global state knows, so that nothing is left open."""
    return Figure(figsize=(width_in, height_in), layout="constrained")


def round_limit(values, percentile: float = 98.0, step: float = 10.0, least: float = 20.0) -> float:
    """Return a symmetric colour limit: a percentile of |values| rounded up to ``step``; NaN are left out."""
    finite = np.abs(np.asarray(values, dtype=float))
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return least
    return max(least, float(np.ceil(np.percentile(finite, percentile) / step) * step))


def save_picture(figure: Figure, path: str | Path) -> None:
    """Write a figure as one file, PNG (150 dpi) or PDF by its suffix, whole or not at all; raise `SettingsError` for another suffix."""
    path = Path(path)
    if path.suffix not in (".png", ".pdf"):
        raise SettingsError(f"{path}: a picture is written as .png or .pdf.")
    metadata = {"Software": None} if path.suffix == ".png" else {"CreationDate": None}
    with house_style(), whole_file(path) as part:
        figure.savefig(part, format=path.suffix[1:], dpi=150, metadata=metadata)


def save_figure(figure: Figure, stem: str | Path, data: "pd.DataFrame") -> SavedFigure:
    """Write ``stem``.png (200 dpi), .pdf and .csv (the data behind the figure), each whole or not at all.

    Files carry no date, so that an unchanged figure is an unchanged file.
    """
    stem = Path(stem)
    saved = SavedFigure(*(stem.with_name(stem.name + suffix) for suffix in (".png", ".pdf", ".csv")))
    with house_style():
        with whole_file(saved.png) as part:
            figure.savefig(part, format="png", dpi=200, metadata={"Software": None}, pil_kwargs={"optimize": True})
        with whole_file(saved.pdf) as part:
            figure.savefig(part, format="pdf", dpi=200, metadata={"CreationDate": None})
    with whole_file(saved.csv) as part:
        data.to_csv(part, index=False)
    return saved
