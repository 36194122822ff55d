"""Stamps as small pictures: colours by index into one palette, so that a picture is its numbers and a PNG is a few kilobytes."""

import io
from functools import cache

import numpy as np
from PIL import Image

from tullyflow.report.figures.style import INTENSITY_MAP, VELOCITY_MAP

__all__ = ["LEVELS", "MASKED", "colour_index", "palette", "png", "shrink", "velocity_limits"]

LEVELS = 63  # shades of a colour map; odd, so that zero has one of its own
MASKED = LEVELS  # index of pixels without a value
_GREY = (228, 228, 228)


@cache
def palette(kind: str = "velocity") -> bytes:
    """Return the palette (RGB, LEVELS + 1 colours) of ``velocity`` (diverging) or ``intensity``; the last colour is grey: no value."""
    import matplotlib as mpl

    colours = mpl.colormaps[{"velocity": VELOCITY_MAP, "intensity": INTENSITY_MAP}[kind]](np.linspace(0, 1, LEVELS))[:, :3]
    return bytes(np.round(colours * 255).astype(np.uint8).ravel().tolist()) + bytes(_GREY)


def shrink(stamps: np.ndarray, size: int) -> np.ndarray:
    """Return stamps (galaxy, y, x) at ``size`` pixels a side (galaxy, size, size): means over area; NaN where over half is NaN."""
    n = stamps.shape[-1]
    edges = np.arange(size + 1) * n / size
    pixels = np.arange(n)
    overlap = np.clip(np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels), 0, None)  # (size, n)
    known = np.isfinite(stamps)
    weight = overlap @ known @ overlap.T
    total = overlap @ np.where(known, stamps, 0.0) @ overlap.T
    return np.where(weight > 0.5 * (n / size) ** 2, total / np.maximum(weight, 1e-9), np.nan)


def velocity_limits(stamps: np.ndarray, percentile: float = 98.0, step: float = 10.0, least: float = 20.0) -> np.ndarray:
    """Return the colour limit of each stamp (galaxy,), km/s: a percentile of |v| rounded up; ``least`` where nothing is known."""
    speeds = np.abs(stamps).reshape(len(stamps), -1)
    known = np.isfinite(speeds).any(axis=1)
    limits = np.full(len(stamps), least)
    if known.any():
        limits[known] = np.maximum(least, np.ceil(np.nanpercentile(speeds[known], percentile, axis=1) / step) * step)
    return limits


def colour_index(values: np.ndarray, low, high) -> np.ndarray:
    """Return the palette index (uint8) of values between ``low`` and ``high`` (beyond: the last colour; NaN: `MASKED`)."""
    share = np.clip((values - low) / (np.asarray(high) - low), 0, 1)
    return np.where(np.isfinite(share), np.round(share * (LEVELS - 1)), MASKED).astype(np.uint8)


def png(index: np.ndarray, kind: str = "velocity") -> bytes:
    """Return an index image (y down, x) as PNG."""
    image = Image.fromarray(np.ascontiguousarray(index), mode="P")
    image.putpalette(palette(kind))
    out = io.BytesIO()
    image.save(out, format="png", optimize=True)
    return out.getvalue()
