"""The gallery: which galaxies are shown, and their pictures and captions."""

import base64
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.flags import GALAXY
from tullyflow.report.figures.strip import BLOCKS, plot_strip
from tullyflow.report.figures.style import house_style, palette_png, survey_style
from tullyflow.report.galaxy import GalaxyView, read_views

__all__ = ["Card", "build_gallery", "card_caption", "select_galaxies", "strip_images"]

_DPI = 130


@dataclass(frozen=True)
class Card:
    """One galaxy of the gallery: words (not escaped) and its pictures as data addresses."""

    galaxy: str
    survey: str
    caption: str
    sentences: str
    used: bool
    images: tuple[str, ...]


def select_galaxies(sample: pd.DataFrame, count: int, velocity: str = "v_max") -> pd.DataFrame:
    """Choose up to ``count`` galaxies with a stamp: for every kind of flag its clearest case, the rest spread in velocity.

    At most a third go to flagged galaxies, one per flag, of all surveys in turn; the others are used ones, at equal steps
    through the sample sorted by ``{velocity}_kms`` (the slowest and the fastest included). Used ones come first, slow to
    fast; the choice depends on the sample alone. Galaxies without maps (no ``n_spaxels``) are never chosen.
    """
    shown = sample[(sample["n_spaxels"] > 0) & sample["v_sys_kms"].notna()]
    used = shown[shown["used"]].sort_values([f"{velocity}_kms", "galaxy"], kind="stable")
    rest = shown[~shown["used"]]
    flagged: list = []
    for flag in GALAXY:
        cases = rest[(rest["flags"].astype("int64") & flag.mask) != 0].drop(index=flagged, errors="ignore")
        if len(cases) and flag.excludes:
            fewest = cases["flags"].map(lambda bits: int(bits).bit_count())
            flagged.append(fewest.idxmin())
    flagged = flagged[: max(count // 3, count - len(used))]
    n_used = min(count - len(flagged), len(used))
    steps = np.unique(np.linspace(0, len(used) - 1, n_used).round().astype(int)) if n_used else []
    return pd.concat([used.iloc[steps], shown.loc[flagged]])


def _value(row: Mapping, name: str, err: str, digits: int, unit: str) -> str:
    value, sigma = float(row.get(name, np.nan)), float(row.get(err, np.nan))
    if not np.isfinite(value):
        return "–"
    return f"{value:.{digits}f} ± {sigma:.{digits}f}{unit}" if np.isfinite(sigma) else f"{value:.{digits}f}{unit}"


def card_caption(row: Mapping, velocity: str = "v_max") -> str:
    """Return velocity and inclination with their errors, and the position angle, of one row of the sample."""
    return (
        f"V {_value(row, f'{velocity}_kms', f'{velocity}_kms_err', 0, ' km/s')} · "
        f"i {_value(row, 'inclination_used_deg', 'inclination_used_err_deg', 0, '°')} · "
        f"PA {_value(row, 'pa_deg', 'pa_err_deg', 0, '°')}"
    )


def strip_images(view: GalaxyView) -> tuple[bytes, ...]:
    """Draw a galaxy's strip and return its three blocks (data, model, curve) as PNG bytes of 256 colours."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    with house_style():
        figure = plot_strip(view)
        figure.set_dpi(_DPI)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # (y, x, rgb)
    borders = np.round(np.array(BLOCKS) * pixels.shape[1]).astype(int)
    blocks = (np.ascontiguousarray(pixels[:, left:right]) for left, right in itertools.pairwise(borders))
    return tuple(palette_png(Image.fromarray(block)) for block in blocks)


def build_gallery(
    sample: pd.DataFrame,
    maps_paths: Sequence[str | Path],
    models_paths: Sequence[str | Path],
    count: int,
    velocity: str = "v_max",
) -> list[Card]:
    """Return the cards of the gallery, at most ``count``; empty where there are no maps files.

    See `select_galaxies` for the choice and `tullyflow.report.galaxy.read_views` for what is read and raised.
    """
    if count == 0 or not maps_paths:
        return []
    cards = []
    for view in read_views(select_galaxies(sample, count, velocity), maps_paths, models_paths):
        row = view.row
        cards.append(
            Card(
                galaxy=str(row["galaxy"]),
                survey=f"{survey_style(str(row['survey'])).label} {row['release']}",
                caption=card_caption(row, velocity),
                sentences=GALAXY.sentences(int(row["flags"]) & ~GALAXY.MOCK),  # the page says MOCK once
                used=bool(row["used"]),
                images=tuple("data:image/png;base64," + base64.b64encode(block).decode() for block in strip_images(view)),
            )
        )
    return cards
