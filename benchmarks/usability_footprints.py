"""The same galaxies in other fields of view: does a network of usability know a hexagon, or a galaxy?"""

import numpy as np
import torch

from tullyflow.network.judges.field_measures import halved, measure
from tullyflow.network.judges.fields import fields_of, in_batches
from tullyflow.network.judges.footprints import FOOTPRINTS, cut_field, draw_footprint, fill_gaps, smooth_field
from tullyflow.network.judges.usability_fitting import Measured, PreparedFields

SEED = 1_009  # never that of a training's own variations
_Y, _X = (np.mgrid[:64, :64] - 31.5) / 32


def hexagon(size, turn):
    angle = np.arctan2(_Y, _X) - turn
    return np.hypot(_X, _Y) * np.cos((angle + np.pi / 6) % (np.pi / 3) - np.pi / 6) < size


def square(size, turn):
    along, across = np.cos(turn) * _X + np.sin(turn) * _Y, np.cos(turn) * _Y - np.sin(turn) * _X
    return np.maximum(np.abs(along), np.abs(across)) < size


def half(rng):
    """All on one side of a chord near the middle: a shape that no training has."""
    turn = rng.uniform(0, 2 * np.pi)
    return np.cos(turn) * _X + np.sin(turn) * _Y < rng.uniform(0.1, 0.4)


AREA = 1.7  # half-widths squared, of a bundle of either shape
VIEWS = {
    "as observed": lambda field, rng: field,
    "holes filled": lambda field, rng: fill_gaps(field),
    **{kind: (lambda field, rng, kind=kind: cut_field(field, draw_footprint(kind, rng))) for kind in FOOTPRINTS},
    "a smaller hexagon, turned": lambda field, rng: cut_field(field, hexagon((AREA / 2 / 3**0.5) ** 0.5, rng.uniform(0, np.pi))),
    "a square of its area, turned": lambda field, rng: cut_field(field, square(AREA**0.5 / 2, rng.uniform(0, np.pi))),
    "half, never trained on": lambda field, rng: cut_field(field, half(rng)),
    "smoothed, 1 pixel": lambda field, rng: smooth_field(field, 1.0),
    "smoothed, 2 pixels": lambda field, rng: smooth_field(field, 2.0),
    "as SAMI: a circle, coarser": lambda field, rng: smooth_field(cut_field(fill_gaps(field), np.hypot(_X, _Y) < 0.8), 1.0),
    "as GHASP: patches in a large circle": lambda field, rng: cut_field(fill_gaps(field), draw_footprint("patchy", rng)),
}
SHOWN = tuple(VIEWS)


def shown(labelled, name):
    """Fields of gas and stars (galaxy, 64, 64) in another view, the same one for both fields of a galaxy."""
    def one(field, k):
        return VIEWS[name](field, np.random.default_rng((SEED, SHOWN.index(name), k))) if np.isfinite(field).any() else field

    return [np.stack([one(field, k) for k, field in enumerate(images)]) for images in (labelled.gas, labelled.stars)]


def _judged(labelled):
    made = [fields_of(one) for one in (labelled.gas, labelled.stars)]
    return [fields for fields, _ in made], torch.from_numpy(np.stack([there for _, there in made], axis=1))


def masks_alone(labelled, training):
    """Prepare for the published network an image of where there are pixels in place of their velocities."""
    fields, there = _judged(labelled)
    return PreparedFields(*(torch.cat([2 * halved(part)[1].float() - 1 for part in in_batches(one)]) for one in fields), there), training


def noise_alone(labelled, training):
    """Prepare for the default network white noise of 100 km/s in the footprint of each field: all else is gone."""
    rng = np.random.default_rng(SEED)
    noise = [np.where(np.isfinite(one), rng.normal(0, 100, one.shape), np.nan) for one in (labelled.gas, labelled.stars)]
    fields = [fields_of(one)[0] for one in noise]
    read = [Measured.joined([measure(part) for part in in_batches(one)]) for one in fields]
    return PreparedFields(*read, _judged(labelled)[1]), training
