"""Figures on the page: small copies inside it, the files themselves beside it."""

import base64
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from tullyflow.errors import ModelError, SettingsError
from tullyflow.report.calibration import coverage_table, network_name
from tullyflow.report.figures.coverage import plot_coverage
from tullyflow.report.figures.drift import drift_corrections, plot_drift
from tullyflow.report.figures.inclination import plot_inclination
from tullyflow.report.figures.listing import VELOCITY_WORDS, figure_names, find_figure
from tullyflow.report.figures.style import save_figure
from tullyflow.report.figures.training import clock, plot_training, read_history
from tullyflow.report.linewidths import width_sentence

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["Picture", "check_pictures", "coverage_pictures", "embed", "listed_pictures", "picture", "training_pictures"]

_LOG = logging.getLogger("tullyflow")
_DRIFT = (  # benchmarks/drift.json
    "{n} of {of} galaxies of the relation have a velocity corrected for asymmetric drift ({kind}). Which correction is right hangs on the "
    "gas: in mock MaNGA maps of gas of 25, 40 and 60 km/s, the same in all directions, evans makes velocities at r_max 4, 7 and 10 % too "
    "fast, and a reverse relation of V_max flatter than the truth (slope 0.23 for 0.26 at 40 km/s; 0.27 uncorrected), while isotropic "
    "gives velocities at r_max back within 1 %."
)
_WIDEST = 1000  # pixels inside the page; the PNG beside it has them all


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its image inside the page, its files beside it (relative addresses)."""

    name: str
    image: str
    width: int
    height: int
    alt: str
    caption: str
    png: str
    pdf: str
    csv: str


def embed(path: Path) -> tuple[str, int, int]:
    """Return a PNG as a data address (WebP, at most 1000 pixels wide), and the width and height it is shown at."""
    with Image.open(path) as image:
        small = image.convert("RGB")
    if small.width > _WIDEST:
        small = small.resize((_WIDEST, round(small.height * _WIDEST / small.width)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, format="webp", quality=76, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode(), small.width, small.height


def picture(figure: Figure, stem: Path, data: pd.DataFrame, alt: str, caption: str) -> Picture:
    """Save a figure of the page's own as ``stem``.png, .pdf, .csv in the report's folder ``figures``."""
    saved = save_figure(figure, stem, data)
    return Picture(stem.name, *embed(saved.png), alt, caption, *(f"figures/{path.name}" for path in (saved.png, saved.pdf, saved.csv)))


def listed_pictures(paths: Sequence[str | Path], settings: "Settings", out_dir: Path) -> list[tuple[str, Picture]]:
    """Return the run's figures (PNG files with PDF and CSV beside them) as pairs of number and picture, the thesis' first.

    A file that is no figure of these settings is left out and logged.
    """
    pictures = []
    places = {name: place for place, name in enumerate(figure_names(settings))}
    for path in sorted(map(Path, paths), key=lambda path: places.get(path.stem, len(places))):
        try:
            entry = find_figure(path.stem, settings)
        except SettingsError as err:
            _LOG.warning("report: %s is left out. %s", path, err)
            continue
        near = Path("..") / path.parent.name if path.parent.resolve().parent == out_dir.resolve().parent else path.parent.resolve()
        files = ((near / path.with_suffix(suffix).name).as_posix() for suffix in (".png", ".pdf", ".csv"))
        pictures.append((entry.number, Picture(entry.name, *embed(path), entry.title, entry.caption, *files)))
    return pictures


def training_pictures(network_dirs: Sequence[str | Path], target: Path) -> list[Picture]:
    """Draw the training curve of every network that has a history."""
    pictures = []
    for folder in map(Path, network_dirs):
        try:
            history = read_history(folder / "history.csv")
        except ModelError as err:
            _LOG.warning("report: %s No training curve for %s.", err, folder.name)
            continue
        if history.empty:
            continue
        name = network_name(folder)
        name = name[:1].upper() + name[1:]
        last = history.iloc[-1]
        caption = f"{name}: loss {last['loss']:.3g} after {clock(history)} {int(last[clock(history)])}."
        pictures.append(picture(plot_training(history, name), target / f"training-{folder.name}", history, f"Training of {name}", caption))
    return pictures


def coverage_pictures(network_dirs: Sequence[str | Path], target: Path) -> list[Picture]:
    """Draw how often the intervals of the fits hold the truth, for every network on whose discs that was measured."""
    pictures = []
    for folder in map(Path, network_dirs):
        table = coverage_table(folder)
        if table.empty:
            continue
        caption = (
            f"{network_name(folder)}: shares of simulated galaxies that are deliberately not the model (bars, warps, arms, other curves) "
            "within the intervals of the fit. Errors that mean what they say lie on the line, and within the band."
        )
        title = f"Coverage, {network_name(folder)}"
        pictures.append(picture(plot_coverage(table, title), target / f"coverage-{folder.name}", table, title, caption))
    return pictures


def check_pictures(sample: pd.DataFrame, settings: "Settings", folder: Path) -> tuple[list[Picture], list[str]]:
    """Draw inclinations and drift corrections, and say in notes what cannot be drawn."""
    pictures, notes = [], []
    velocity = settings.relation.velocities[0]
    known = sample[sample["inclination_used_deg"].notna()]
    if len(known):
        figure = plot_inclination(known, settings.relation.inclination_min)
        data = known[["galaxy", "survey", "inclination_used_deg", "inclination_used_err_deg", "used"]]
        caption = "Random orientations follow sin i; a pile-up at one angle is the network's prejudice, not the sky's."
        pictures.append(picture(figure, folder / "inclination", data, "Histogram of inclinations", caption))
    corrections, velocities = drift_corrections(sample, velocity), settings.relation.velocities
    changed = [(sample[f"{name}_circ_kms"] != sample[f"{name}_kms"]) & sample[f"{name}_circ_kms"].notna() for name in velocities]
    corrected = int((np.any(changed, axis=0) & sample["used"]).sum())
    if settings.relation.drift == "off":
        notes.append("The asymmetric drift correction is switched off (relation.drift).")
    elif not corrected:
        notes.append("No galaxy of the relation has a velocity corrected for asymmetric drift.")
    else:
        notes.append(_DRIFT.format(n=corrected, of=int(sample["used"].sum()), kind=settings.relation.drift))
        if corrections["correction_kms"].any():
            caption = "What the asymmetric drift correction added; warm gas in slow discs moves most."
            figure = plot_drift(corrections, VELOCITY_WORDS[velocity])
            pictures.append(picture(figure, folder / "drift", corrections, "Histogram of asymmetric drift corrections", caption))
    widths = width_sentence(sample, velocity)
    if widths:
        notes.append(widths)
    return pictures, notes
