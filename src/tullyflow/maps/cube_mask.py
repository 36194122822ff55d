"""Where in a cube the line is: connected voxels above two levels of the smoothed cube, one channel in memory at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from tullyflow.conventions import FWHM_PER_SIGMA
from tullyflow.maps.cube_noise import Noise, measure_noise, thinned

__all__ = ["LineMask", "MaskLimits", "find_line", "smoothed_channels"]

_SPECTRAL = (0.25, 0.5, 0.25)


@dataclass(frozen=True)
class MaskLimits:
    """``high`` and ``low`` in noise of the smoothed cube; a region spans ``channels_min`` channels, holds ``beams_min`` beams, and
    is grown by ``grow_beams`` on the sky (and by a channel)."""

    high: float
    low: float
    channels_min: int
    beams_min: float = 0.0
    grow_beams: float = 0.0


class LineMask:
    """Voxels of the line, by channel: ``mask[k]`` is (y, x), bool. Kept as one bit per voxel and one per connected region.

    Two voxels are connected through their faces. `add` takes the channels in order; `close` then chooses the regions, and
    what is given back are these grown by ``grow_pixels`` on the sky and by a channel on either side.
    """

    def __init__(self, shape: tuple[int, int, int], grow_pixels: float = 0.0):
        self.shape = shape
        self.grow_pixels = grow_pixels
        self._packed: list[NDArray[np.uint8]] = []
        self._first = [0]  # number of the first region of each channel
        self._edges: list[NDArray[np.int64]] = []
        self._seeds: list[NDArray[np.bool_]] = []
        self._sizes: list[NDArray[np.int64]] = []
        self._above: NDArray | None = None
        self._kept = np.zeros(0, dtype=bool)
        self.regions = self.found = 0

    def add(self, low: NDArray[np.bool_], high: NDArray[np.bool_]) -> None:
        """Take the next channel: voxels above the low level, and those above the high one."""
        labels, n = ndimage.label(low)
        self._packed.append(np.packbits(low))
        self._sizes.append(np.bincount(labels.ravel(), minlength=n + 1)[1:])
        seeds = np.zeros(n + 1, dtype=bool)
        seeds[labels[high]] = True
        self._seeds.append(seeds[1:])
        first = self._first[-1]
        if self._above is not None:
            both = (self._above > 0) & low
            pairs = np.unique((self._above[both].astype(np.int64) - 1) * max(n, 1) + labels[both] - 1)
            self._edges.append(np.stack([pairs // max(n, 1) + self._first[-2], pairs % max(n, 1) + first]))
        self._above = labels
        self._first.append(first + n)

    def close(self, channels_min: int, voxels_min: float) -> None:
        """Keep the regions that hold a seed, span enough channels and are large enough."""
        self._above = None
        n = self._first[-1]
        edges = np.concatenate(self._edges, axis=1) if self._edges else np.zeros((2, 0), dtype=np.int64)
        graph = sparse.coo_matrix((np.ones(edges.shape[1], dtype=np.int8), (edges[0], edges[1])), shape=(n, n))
        number, region = connected_components(graph, directed=False)
        channel = np.repeat(np.arange(len(self._packed)), np.diff(self._first))
        seeded = np.bincount(region, weights=np.concatenate(self._seeds) if n else None, minlength=number) > 0
        size = np.bincount(region, weights=np.concatenate(self._sizes) if n else None, minlength=number)
        low, high = np.full(number, len(self._packed)), np.full(number, -1)
        np.minimum.at(low, region, channel)
        np.maximum.at(high, region, channel)
        good = seeded & (high - low + 1 >= channels_min) & (size >= voxels_min)
        self.regions, self.found = int(good.sum()), int(seeded.sum())
        self._kept = good[region]
        self._edges, self._seeds, self._sizes = [], [], []

    def _region(self, k: int) -> NDArray[np.bool_]:
        if not 0 <= k < self.shape[0]:
            return np.zeros(self.shape[1:], dtype=bool)
        kept = self._kept[self._first[k] : self._first[k + 1]]
        if not kept.any():
            return np.zeros(self.shape[1:], dtype=bool)
        low = np.unpackbits(self._packed[k], count=self.shape[1] * self.shape[2]).reshape(self.shape[1:]).view(bool)
        labels, _ = ndimage.label(low)
        return _grown(np.concatenate([[False], kept])[labels], self.grow_pixels)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, k: int) -> NDArray[np.bool_]:
        """Voxels of channel k in a kept region, or in one a channel away: so the line's wings stay."""
        if not 0 <= k < self.shape[0]:
            raise IndexError(k)
        return self._region(k - 1) | self._region(k) | self._region(k + 1)

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        before, here = self._region(-1), self._region(0)
        for k in range(self.shape[0]):
            after = self._region(k + 1)
            yield before | here | after
            before, here = here, after


def _grown(image: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Pixels within ``radius`` of a marked one."""
    if radius < 1:
        return image
    margin = int(radius)
    rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
    box = tuple(slice(max(0, at[0] - margin), at[-1] + margin + 1) for at in (rows, columns))
    grown = image.copy()
    grown[box] = ndimage.distance_transform_edt(~image[box]) <= radius
    return grown


def smoothed_channels(cube: Sequence[NDArray], beam_pixels: float) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Each channel and the same smoothed with its beam on the sky and over three channels (1/4, 1/2, 1/4); NaN smooths as zero.

    Outside the cube is zero: a reflected edge would raise the noise there.
    """
    width = beam_pixels / FWHM_PER_SIGMA

    def on_sky(k: int) -> tuple[NDArray, NDArray]:
        image = np.asarray(cube[k], dtype=np.float32)
        smooth = ndimage.gaussian_filter(np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0), width, mode="constant")
        return image, smooth

    before = np.zeros(cube.shape[1:], dtype=np.float32)
    image, here = on_sky(0)
    for k in range(cube.shape[0]):
        next_image, after = on_sky(k + 1) if k + 1 < cube.shape[0] else (None, np.zeros_like(here))
        yield image, np.float32(_SPECTRAL[0]) * before + np.float32(_SPECTRAL[1]) * here + np.float32(_SPECTRAL[2]) * after
        image, before, here = next_image, here, after


def find_line(cube: Sequence[NDArray], beam_pixels: float, limits: MaskLimits) -> tuple[LineMask, Noise, NDArray[np.bool_]]:
    """Find the line in a cube given by channels.

    Parameters
    ----------
    cube : (channel, y, x)
        Anything with ``shape`` whose ``cube[k]`` is an image; read twice, in order. NaN and exact zeros over a whole spectrum are
        no coverage; NaN never counts as signal.
    beam_pixels
        FWHM of the beam, pixels.

    Returns the mask, the noise of the *unsmoothed* cube away from it, and the covered pixels (y, x). Connected voxels above
    ``low`` that hold one above ``high`` are a region; it must span ``channels_min`` channels and hold as many voxels as
    ``beams_min`` beams. Both levels are in noise of the smoothed cube, which has its own channel by channel and over the field
    where it differs (`measure_noise`). The mask is the regions grown by a channel on either side and ``grow_beams`` on the sky: its
    edge then is not drawn by the noise. At low = 2 without growth the peaks of noise beside the line are taken for line: moments
    scatter by 1.2-1.5 of their errors and fluxes are 2-5 % too large; at low = 3 with half a beam neither is so.
    """
    step = thinned(cube.shape)
    thin = (slice(None, None, step),) * 2
    raw, smooth, covered = [], [], np.zeros(cube.shape[1:], dtype=bool)
    for image, smoothed in smoothed_channels(cube, beam_pixels):
        covered |= np.isfinite(image) & (image != 0)
        raw.append(image[thin].copy())
        smooth.append(smoothed[thin].copy())
    raw, smooth = np.stack(raw), np.stack(smooth)
    usable = np.isfinite(raw) & covered[thin] & (np.abs(raw).max(axis=(1, 2), initial=0, where=np.isfinite(raw)) > 0)[:, None, None]
    level = measure_noise(smooth, usable, np.sqrt(2) * beam_pixels, step, cube.shape[1:])

    mask = LineMask(cube.shape, limits.grow_beams * beam_pixels)
    if not level.rms > 0:
        return _empty(mask), Noise(float("nan"), np.full(cube.shape[0], np.nan)), covered
    for k, (image, smoothed) in enumerate(smoothed_channels(cube, beam_pixels)):
        snr = np.where(np.isfinite(image), smoothed / level.at(k), 0.0)
        mask.add(snr > limits.low, snr > limits.high)
    mask.close(limits.channels_min, limits.beams_min * np.pi / (4 * np.log(2)) * beam_pixels**2)

    quiet = np.ones(cube.shape[0], dtype=bool)
    for k, signal in enumerate(mask):
        quiet[k] = not signal.any()
        usable[k] &= ~signal[thin]
    return mask, measure_noise(raw, usable, beam_pixels, step, cube.shape[1:], quiet=quiet), covered


def _empty(mask: LineMask) -> LineMask:
    nothing = np.zeros(mask.shape[1:], dtype=bool)
    for _ in range(mask.shape[0]):
        mask.add(nothing, nothing)
    mask.close(1, 0)
    return mask
