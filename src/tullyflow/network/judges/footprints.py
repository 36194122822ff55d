"""Fields of view other than the survey's own, so that a network of velocity fields does not learn a bundle's shape.

A field is cut to a footprint and made again, as another instrument would have shown it; holes may be filled and it may be smoothed.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter

from tullyflow.conventions import STAMP
from tullyflow.maps.fields import make_field

__all__ = ["FOOTPRINTS", "SMOOTHINGS", "cut_field", "draw_footprint", "fill_gaps", "smooth_field", "vary_field"]

FOOTPRINTS = ("circle", "square", "ellipse", "ragged", "gaps", "patchy")
SMOOTHINGS = (1.0, 2.0)  # sigma, field pixels
_KEPT_MIN = 0.25  # of a field's pixels: less is another map
_VARIED = 0.8  # share of varied fields that are cut
_FILLED, _SMOOTHED = 0.5, 0.25
_LIMIT = 0.99  # quantile of |v| that a filled gap takes

_AXIS = (np.arange(STAMP) - (STAMP - 1) / 2) / (STAMP / 2)


def draw_footprint(kind: str, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Draw a footprint (64, 64) of a kind of ``FOOTPRINTS``, its size, place and orientation at random.

    ``circle``, ``square`` and ``ellipse`` are what they are called; ``ragged`` is a circle with an uneven edge; ``gaps`` has round holes,
    as masked stars leave; ``patchy`` is a large round field of which emission fills the part above a random level.
    """
    y, x = _AXIS[:, None] - generator.normal(0, 0.06), _AXIS - generator.normal(0, 0.06)
    turn = generator.uniform(0, np.pi)
    along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    radius = np.hypot(x, y)
    if kind == "circle":
        return radius < generator.uniform(0.55, 0.95)
    if kind == "square":
        return np.maximum(np.abs(along), np.abs(across)) < generator.uniform(0.5, 0.8)
    if kind == "ellipse":
        return np.hypot(along, across / generator.uniform(0.45, 0.9)) < generator.uniform(0.7, 1.0)
    if kind == "ragged":
        angle, edge = np.arctan2(y, x), generator.uniform(0.65, 0.9)
        for k in range(2, 9):
            edge = edge + generator.normal(0, 0.25 / k) * np.cos(k * angle + generator.uniform(0, 2 * np.pi))
        return radius < edge
    if kind == "gaps":
        there = np.ones((STAMP, STAMP), dtype=bool)
        for _ in range(generator.integers(2, 7)):
            at, size = generator.uniform(-0.8, 0.8, 2), generator.uniform(0.06, 0.22)
            there &= np.hypot(x - at[0], y - at[1]) > size
        return there
    if kind == "patchy":
        light = gaussian_filter(generator.normal(size=(STAMP, STAMP)), generator.uniform(1.5, 4))
        light = light / light.std() + 1.5 * (1 - radius)
        return (light > np.quantile(light, generator.uniform(0.15, 0.4))) & (radius < 1)
    raise ValueError(f"footprint {kind!r}; allowed: {', '.join(FOOTPRINTS)}")


def cut_field(field: NDArray, footprint: NDArray) -> NDArray[np.float32]:
    """Return a field (64, 64; NaN = none) as a survey of this footprint would have: cut, and centred and scaled anew.

    Where less than a quarter of its pixels would be left it is returned as it is.
    """
    kept = np.isfinite(field) & footprint
    return make_field(field, kept) if kept.sum() >= _KEPT_MIN * np.isfinite(field).sum() else np.asarray(field, dtype=np.float32)


def fill_gaps(field: NDArray) -> NDArray[np.float32]:
    """Fill the holes inside a field: with its extreme velocity, of the sign of the nearest valid pixel.

    Velocity fields read off figures lack the values beyond the figures' colour range.
    """
    valid = np.isfinite(field)
    holes = binary_fill_holes(valid) & ~valid
    filled = np.array(field, dtype=np.float32)
    if holes.any():
        row, column = distance_transform_edt(~valid, return_distances=False, return_indices=True)
        filled[holes] = np.sign(field[row, column])[holes] * np.quantile(np.abs(field[valid]), _LIMIT)
    return filled


def smooth_field(field: NDArray, sigma: float) -> NDArray[np.float32]:
    """Smooth a field by a round Gaussian of ``sigma`` field pixels over its valid pixels; its footprint stays."""
    valid = np.isfinite(field)
    weight = gaussian_filter(valid.astype(float), sigma, mode="constant")
    mean = gaussian_filter(np.where(valid, field, 0.0), sigma, mode="constant") / np.maximum(weight, 1e-6)
    return np.where(valid, mean, np.nan).astype(np.float32)


def vary_field(field: NDArray, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return a field as another survey might show it: holes filled or not, smoothed a little or not, cut to some footprint or not."""
    if not np.isfinite(field).any():
        return np.asarray(field, dtype=np.float32)
    if generator.random() < _FILLED:
        field = fill_gaps(field)
    if generator.random() < _SMOOTHED:
        field = smooth_field(field, generator.uniform(0, SMOOTHINGS[-1]) + 0.3)
    if generator.random() < _VARIED:
        field = cut_field(field, draw_footprint(FOOTPRINTS[generator.integers(len(FOOTPRINTS))], generator))
    return np.asarray(field, dtype=np.float32)
