"""Thumbnails of every galaxy: data, model and residual side by side, a hundred galaxies to an image, one shard in memory at a time."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from tullyflow.report.addresses import safe_name
from tullyflow.report.figures.style import RESIDUAL_LIMIT_KMS
from tullyflow.report.panels import colour_index, png, shrink, velocity_limits
from tullyflow.tables import whole_file

__all__ = ["ACROSS", "PER_SHEET", "SIDE", "Sheets", "write_sheets"]

_LOG = logging.getLogger("tullyflow")

SIDE = 48  # pixels of a panel; a thumbnail is three of them
ACROSS = 4  # thumbnails in a row of a sheet
PER_SHEET = 100


@dataclass(frozen=True)
class Sheets:
    """The images, and where each galaxy of the sample is: ``sheet`` and ``slot`` (galaxy,), -1 where it has no thumbnail."""

    names: list[str]
    sheet: np.ndarray
    slot: np.ndarray
    total_bytes: int


def _thumbnails(velocity: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Return index images (galaxy, SIDE, 3 SIDE), y down, of velocity and model stamps (galaxy, y, x) in km/s."""
    velocity = shrink(velocity, SIDE)
    model = np.where(np.isfinite(velocity), shrink(model, SIDE), np.nan)
    limits = velocity_limits(velocity)[:, None, None]
    bound = RESIDUAL_LIMIT_KMS
    panels = (colour_index(velocity, -limits, limits), colour_index(model, -limits, limits), colour_index(velocity - model, -bound, bound))
    return np.concatenate(panels, axis=2)[:, ::-1]


def _sheet(thumbnails: np.ndarray) -> bytes:
    rows = -(-len(thumbnails) // ACROSS)
    padded = np.zeros((rows * ACROSS, SIDE, 3 * SIDE), dtype=np.uint8)
    padded[: len(thumbnails)] = thumbnails
    return png(padded.reshape(rows, ACROSS, SIDE, 3 * SIDE).transpose(0, 2, 1, 3).reshape(rows * SIDE, ACROSS * 3 * SIDE))


def _stamps(hdus: "fits.HDUList | None", name: str, start: int, stop: int) -> np.ndarray | None:
    return np.asarray(hdus[name].section[start:stop], dtype=np.float32) if hdus is not None and name in hdus else None


def write_sheets(
    sample: pd.DataFrame, maps_paths: Sequence[str | Path], models_paths: Sequence[str | Path], folder: str | Path
) -> Sheets:
    """Write the thumbnails of every galaxy that has maps into ``folder``; the images of a run before are removed.

    ``sample`` holds rows of ``tables.SAMPLE``; a galaxy whose shard has no maps file here, or whose map is empty, gets none.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    models = {Path(path).stem: path for path in models_paths}
    sheet, slot, names, total = np.full(len(sample), -1), np.full(len(sample), -1), [], 0
    positions = pd.Series(np.arange(len(sample)), index=sample.index)
    rows_of = {
        str(shard): {str(name): int(positions[label]) for label, name in group["galaxy"].items()}
        for shard, group in sample.groupby("shard", sort=False)
    }
    for path in map(Path, maps_paths):
        rows = rows_of.get(path.stem)
        if rows is None:
            continue
        with fits.open(path) as data:
            model = fits.open(models[path.stem]) if path.stem in models else None
            try:
                galaxies = [str(name).strip() for name in data["GALAXIES"].data["galaxy"]]
                for start in range(0, len(galaxies), PER_SHEET):
                    stop = min(start + PER_SHEET, len(galaxies))
                    velocity = _stamps(data, "VELOCITY", start, stop)
                    fitted = _stamps(model, "MODEL_VELOCITY", start, stop)
                    shown = [
                        k for k in range(stop - start) if galaxies[start + k] in rows and np.isfinite(velocity[k]).any()
                    ]
                    if not shown:
                        continue
                    fitted = np.full_like(velocity, np.nan) if fitted is None else fitted
                    content = _sheet(_thumbnails(velocity[shown], fitted[shown]))
                    for k, which in enumerate(shown):
                        sheet[rows[galaxies[start + which]]], slot[rows[galaxies[start + which]]] = len(names), k
                    names.append(f"{safe_name(path.stem)}-{start // PER_SHEET:03d}.png")
                    with whole_file(folder / names[-1]) as part:
                        part.write_bytes(content)
                    total += len(content)
            finally:
                if model is not None:
                    model.close()
    _LOG.info("report: %d thumbnails in %d images, %.1f MB", int((sheet >= 0).sum()), len(names), total / 1e6)
    return Sheets(names, sheet, slot, total)
