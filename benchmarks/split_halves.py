"""Two halves of a real velocity field that share neither a bin nor, across a gap, a beam.

A field's velocities are Voronoi-binned: pixels of one bin carry one value, and are told by it. Every bin goes to the half in which its
centroid lies; where its pixels reach into the other half they belong to neither. So do the pixels nearer than half the gap to a border.
Everything is in the stamp's frame (x along the major axis), in stamp pixels from its middle.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from astropy.io import fits
from scipy.ndimage import map_coordinates
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from tullyflow.conventions import STAMP, STAMP_CENTRE
from tullyflow.maps.shards import read_shard
from tullyflow.network.batch import Stamps, stamps_of_shards

__all__ = ["Cut", "Field", "cut_halves", "read_fields"]

NARROWEST = 4.0  # stamp pixels: a block where the beam is unknown


@dataclass(frozen=True)
class Cut:
    """How to halve: squares of ``width`` beams in two colours, or (None) the approaching and the receding side; ``gap`` in beams."""

    name: str
    width: float | None
    gap: float = 0.5


@dataclass(frozen=True)
class Field:
    """Of each stamp pixel the bin (y, x), -1 without; the bins' centroids; the stars' velocity on the stamp (y, x), NaN without."""

    bins: np.ndarray
    x: np.ndarray
    y: np.ndarray
    stars: np.ndarray


def bins_of(velocity: np.ndarray) -> np.ndarray:
    """Number (y, x) the bins of a map: connected pixels of one and the same value; -1 where there is none."""
    index, there = np.arange(velocity.size).reshape(velocity.shape), np.isfinite(velocity)
    pairs = []
    for a, b in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        same = there[a] & there[b] & (velocity[a] == velocity[b])
        pairs.append(np.stack([index[a][same], index[b][same]]))
    i, j = np.concatenate(pairs, axis=1)
    graph = coo_matrix((np.ones(len(i), bool), (i, j)), shape=(velocity.size, velocity.size))
    return np.where(there, connected_components(graph, directed=False)[1].reshape(velocity.shape), -1)


def _read_field(path: Path, galaxy: pd.Series) -> Field:
    """Put a native field on its stamp's frame; the files have north up and east left."""
    with fits.open(path) as hdus:
        velocity, stars = (hdus[name].data.astype(float) for name in ("VELOCITY", "STELLAR_VELOCITY"))
    angle, ratio = np.radians(galaxy.pa_deg + 90), galaxy.stamp_scale_arcsec / galaxy.pixel_scale_arcsec
    cos, sin = np.cos(angle), np.sin(angle)
    at = (np.arange(STAMP) - STAMP_CENTRE) * ratio
    x, y = cos * at - sin * at[:, None] + galaxy.x_centre, sin * at + cos * at[:, None] + galaxy.y_centre
    native = bins_of(velocity)
    bins = map_coordinates(native, [y, x], order=0, mode="constant", cval=-1)
    rows, columns = np.nonzero(native >= 0)
    number, dx, dy = native[rows, columns], columns - galaxy.x_centre, rows - galaxy.y_centre
    count = np.bincount(number, minlength=velocity.size).clip(1)
    along, across = (np.bincount(number, w, velocity.size) / count / ratio for w in (cos * dx + sin * dy, cos * dy - sin * dx))
    there = np.isfinite(stars)
    sound = map_coordinates(there.astype(float), [y, x], order=1, mode="constant", cval=0.0) > 0.999
    onto = map_coordinates(np.where(there, stars, 0), [y, x], order=1, mode="constant", cval=0.0) - galaxy.v_sys_kms
    return Field(bins, along, across, np.where(sound, onto, np.nan))


def read_fields(run: Path, native: Path, names: set[str], velocity_err: float) -> tuple[pd.DataFrame, Stamps, list[Field]]:
    """Read the galaxies ``names`` of a finished run's maps: their rows of ``tables.GALAXIES``, stamps and fields, in the run's order."""
    rows, parts, found = [], [], []
    for path in sorted((run / "maps").glob("*.fits")):
        shard = read_shard(path)
        chosen = np.flatnonzero(shard.galaxies["galaxy"].isin(names))
        stamps, _ = stamps_of_shards([shard], "percentile", velocity_err)
        parts.append(stamps.select(torch.from_numpy(chosen)))
        rows.append(shard.galaxies.iloc[chosen])
        for _, galaxy in rows[-1].iterrows():
            found.append(_read_field(native / galaxy.galaxy.split("-")[0] / f"{galaxy.galaxy}.fits.gz", galaxy))
    return pd.concat(rows, ignore_index=True), Stamps.joined(parts), found


def cut_halves(cut: Cut, field: Field, valid: np.ndarray, beam: float, placing: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the two halves (2, y, x) of the ``valid`` pixels, and which share of the bins had pixels on both sides of a border.

    ``placing`` is the whole galaxy's axis (deg) and centre x, y (pixels): the sides are those of its own minor axis.
    """
    at = np.arange(STAMP) - STAMP_CENTRE
    x, y = np.meshgrid(at, at)
    if cut.width is None:
        angle = np.radians(placing[0])

        def along(x, y):
            return np.cos(angle) * (x - placing[1]) + np.sin(angle) * (y - placing[2])

        def colour(x, y):
            return (along(x, y) > 0).astype(int)

        border = np.abs(along(x, y))
    else:
        width = max(cut.width * beam, NARROWEST)

        def colour(x, y):
            return (np.floor(x / width) + np.floor(y / width)).astype(int) % 2

        border = np.minimum(*(np.minimum(p % width, width - p % width) for p in (x, y)))
    here, owner = colour(x, y), colour(field.x, field.y)[np.maximum(field.bins, 0)]
    own = valid & (field.bins >= 0)
    sides = np.unique(np.stack([field.bins[own], here[own]]), axis=1)
    both = np.unique(sides[0], return_counts=True)[1] > 1
    kept = own & (here == owner) & (border >= cut.gap * beam / 2)
    return np.stack([kept & (here == half) for half in (0, 1)]), float(both.mean()) if len(both) else np.nan
