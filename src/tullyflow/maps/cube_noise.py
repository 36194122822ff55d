"""Noise of a cube: per channel, over the field, and how alike the noise of neighbouring channels is."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tullyflow.conventions import FWHM_PER_SIGMA

__all__ = ["Noise", "channel_correlation", "instrument_variance", "measure_noise", "thinned"]

_VOXELS = 4_000_000  # what the noise is measured on; more would not be better
_LINE_FREE_MIN = 4
_LAGS = 5  # channels; Hanning smoothing reaches 2
_FAR_LAGS = slice(8, 17)  # channels; what is still alike there is the spectrum's baseline
_ALIKE_MIN = 0.02
_BLOCK_BEAMS = 4.0
_BLOCKS_MAX = 12
_INDEPENDENT_MIN = 30.0
_SIGNIFICANT = 5.0  # sigma of the reduced chi^2
_EFFICIENCY = 2.7  # variance of ln rms times the number of independent voxels, from the MAD of the negative half


@dataclass(frozen=True)
class Noise:
    """Noise of one voxel: ``channel_rms[c] * gain(y, x)``.

    ``rms`` is the typical one. ``channel_rms`` (channel,) are all equal unless their spread is more than sampling explains, ``gain``
    is None unless that is so over the field. ``correlation`` holds the coefficients of the noise of channels 1, 2, ... apart,
    beyond ``baseline``, the one of channels far apart: residual continuum, an offset of its own for each spectrum.
    """

    rms: float
    channel_rms: NDArray[np.float64]
    gain: NDArray[np.float32] | None = None
    correlation: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    baseline: float = 0.0

    @property
    def by_channel(self) -> bool:
        return bool(np.ptp(self.channel_rms) > 0)

    def at(self, channel: int) -> NDArray | float:
        """Noise of a channel: one number, or (y, x) where it differs over the field."""
        return self.channel_rms[channel] if self.gain is None else self.channel_rms[channel] * self.gain

    def sentence(self) -> str:
        """What was found, in words."""
        said = [f"noise {self.rms:.3g} per voxel"]
        if self.by_channel:
            said.append(f"by channel {self.channel_rms.min():.3g} to {self.channel_rms.max():.3g}")
        if self.gain is not None:
            said.append(f"over the field {self.gain.min():.2f} to {self.gain.max():.2f} times that")
        if len(self.correlation):
            said.append("neighbouring channels correlated by " + ", ".join(f"{r:.2f}" for r in self.correlation))
        if self.baseline:
            said.append(f"spectra offset by {np.sqrt(self.baseline):.2f} of it")
        return "; ".join(said)


def thinned(shape: tuple[int, int, int]) -> int:
    """Every so-manieth pixel along x and y leaves about four million voxels of a cube (channel, y, x): enough for its noise."""
    return max(1, round(np.sqrt(np.prod(shape, dtype=float) / _VOXELS)))


def measure_noise(
    sample: NDArray, usable: NDArray, beam_pixels: float, step: int, shape: tuple[int, int], *, quiet: NDArray | None = None,
) -> Noise:  # fmt: skip
    """Noise of a thinned cube.

    Parameters
    ----------
    sample : (channel, y, x)
        Every ``step``-th pixel of the cube.
    usable : (channel, y, x), bool
        Voxels that are finite and hold no line, as far as known.
    beam_pixels
        FWHM of the correlation of neighbouring pixels, in pixels of the whole cube: how many voxels are independent.
    shape
        (y, x) of the whole cube: the shape of ``gain``.
    quiet : (channel,), bool
        Channels without line. Where there are at least 4, the typical noise, its change over the field and the correlation
        of channels are theirs.

    Notes
    -----
    Each rms is 1.4826 times the median of |negative values|: line and continuum are positive, so what is left of them does not
    raise it. A channel whose own rms differs keeps it where the spread of ln rms over the channels exceeds sampling noise by
    5 sigma (reduced chi^2), drawn towards the median by its share of sampling noise; likewise blocks of at least 4 beams over
    the field, at most 12 x 12, interpolated. A channel without any usable voxel takes the median.
    """
    calm = quiet if quiet is not None and quiet.sum() >= _LINE_FREE_MIN else np.ones(len(sample), dtype=bool)
    area = max(1.0, 2 * np.pi * (beam_pixels / FWHM_PER_SIGMA / step) ** 2)  # voxels of the sample per independent one
    channel, used = _by_channel(sample, usable, area)
    if not np.isfinite(used).any():
        return Noise(float("nan"), np.full(len(sample), np.nan))
    correlation, baseline = channel_correlation(sample, usable, channel, calm, area)
    alike = area * (1 + 2 * np.sum(correlation**2) + len(sample) * baseline**2)
    gain = _over_field(sample, usable & calm[:, None, None], channel, alike, beam_pixels / step)
    if gain is not None:
        channel, used = _by_channel(sample / gain, usable, area)
        gain = _enlarged(gain, step, shape)
    rms = float(np.median(used[calm & np.isfinite(used)])) if np.isfinite(used[calm]).any() else float(np.nanmedian(used))
    return Noise(rms, channel if np.ptp(channel) > 0 else np.full(len(sample), rms), gain, correlation, baseline)


def _by_channel(sample: NDArray, usable: NDArray, area: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Noise to use of each channel, and the noise measured in it (NaN where it has no usable voxel)."""
    found, n = np.full(len(sample), np.nan), np.zeros(len(sample))
    for k, (image, good) in enumerate(zip(sample, usable, strict=True)):
        n[k] = good.sum() / area
        found[k] = _robust_rms(image[good])
    return _shrunk(found, n), found


def _over_field(sample: NDArray, usable: NDArray, channel: NDArray, area: float, beam: float) -> NDArray[np.float64] | None:
    """Noise of each pixel of the sample over that of its channel; None where no block of the field differs."""
    _, ny, nx = sample.shape
    rows, columns = (int(np.clip(n / (_BLOCK_BEAMS * beam), 1, _BLOCKS_MAX)) for n in (ny, nx))
    if rows * columns < 4:
        return None
    y, x = (np.linspace(0, n, parts + 1).round().astype(int) for n, parts in ((ny, rows), (nx, columns)))
    found, n = np.full((rows, columns), np.nan), np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            box = (slice(None), slice(y[i], y[i + 1]), slice(x[j], x[j + 1]))
            good = usable[box]
            n[i, j] = good.sum() / area
            if n[i, j] >= _INDEPENDENT_MIN:
                found[i, j] = _robust_rms((sample[box] / channel[:, None, None])[good])
    if np.isfinite(found).sum() < 4:
        return None
    used = _shrunk(found, n)
    if not np.ptp(used) > 0:
        return None
    nearest = ndimage.distance_transform_edt(~np.isfinite(found), return_distances=False, return_indices=True)
    log = np.log(used)[tuple(nearest)] - np.log(np.median(used[np.isfinite(found)]))
    middle = [(edges[:-1] + edges[1:] - 1) / 2 for edges in (y, x)]
    at = [np.interp(np.arange(size), centres, np.arange(len(centres))) for size, centres in ((ny, middle[0]), (nx, middle[1]))]
    return np.exp(ndimage.map_coordinates(log, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest"))


def _enlarged(gain: NDArray, step: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    at = [np.minimum(np.arange(n) / step, size - 1) for n, size in zip(shape, gain.shape, strict=True)]
    return ndimage.map_coordinates(gain, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest").astype(np.float32)


def _shrunk(found: NDArray, n: NDArray) -> NDArray[np.float64]:
    """The values where they differ by more than sampling explains, drawn towards their median; else the median everywhere."""
    known = np.isfinite(found) & (found > 0) & (n > 0)
    if not known.any():
        return np.full(found.shape, np.nan)
    middle = float(np.median(found[known]))
    away = np.where(known, np.log(np.where(known, found, 1.0) / middle), 0.0)
    variance = _EFFICIENCY / np.maximum(n, 1e-6)
    degrees = known.sum() - 1
    if degrees < 2 or np.sum(away[known] ** 2 / variance[known]) / degrees < 1 + _SIGNIFICANT * np.sqrt(2 / degrees):
        return np.full(found.shape, middle)
    excess = max(float(np.mean(away[known] ** 2 - variance[known])), 0.0)
    return np.where(known, middle * np.exp(away * excess / (excess + variance)), middle)


def _robust_rms(values: NDArray) -> float:
    """Standard deviation from the median of |negative values|, those beyond 4 of it left out until none is new; NaN without any."""
    negative = -values[values < 0]
    rms = 1.4826 * float(np.median(negative)) if negative.size else float("nan")
    for _ in range(5):
        kept = negative[negative < 4 * rms]
        again = 1.4826 * float(np.median(kept)) if kept.size else rms
        if not abs(again - rms) > 1e-3 * rms:
            break
        rms = again
    return rms


def channel_correlation(
    sample: NDArray, usable: NDArray, channel_rms: NDArray, calm: NDArray, area: float
) -> tuple[NDArray[np.float64], float]:
    """Correlation of the noise of channels 1, 2, ... apart, and of channels 8 to 16 apart (the baseline).

    Only voxels without line count, of ``calm`` channels where these have neighbours. The first is what exceeds the baseline, up to
    the first lag (5 at most) where that is not 3 sigma. A negative correlation is taken for none: errors are not made smaller by it.
    """
    scaled = np.where(usable, sample, 0.0) / np.where(channel_rms > 0, channel_rms, 1.0)[:, None, None]
    good = usable & (np.abs(scaled) < 4)

    def at(lag: int) -> tuple[float, float]:
        """Coefficient, and the number of independent pairs it is of."""
        pairs = calm[lag:] & calm[:-lag]
        pairs = pairs if pairs.sum() >= _LINE_FREE_MIN else np.ones(len(pairs), dtype=bool)
        both = good[lag:][pairs] & good[:-lag][pairs]
        if not both.sum() > area:
            return 0.0, 1.0
        a, b = scaled[lag:][pairs][both], scaled[:-lag][pairs][both]
        product = np.sum(a * b, dtype=float) / np.sqrt(np.sum(a**2, dtype=float) * np.sum(b**2, dtype=float))
        return float(product), both.sum() / area

    far = np.array([at(lag) for lag in range(len(sample))[_FAR_LAGS]]).reshape(-1, 2)
    baseline = float(far[:, 0].mean()) if len(far) else 0.0
    if not (len(far) and baseline > max(3 / np.sqrt(far[:, 1].mean()), _ALIKE_MIN)):
        baseline = 0.0
    found = []
    for lag in range(1, min(_LAGS, len(sample) - 1) + 1):
        value, n = at(lag)
        if not value - baseline > max(3 / np.sqrt(n), _ALIKE_MIN):
            break
        found.append(value - baseline)
    return np.array(found), baseline


def instrument_variance(noise: Noise) -> float:
    """Variance (channel widths squared) of what the channels add to a line: 1/12 of a box, and of the smoothing of channels.

    White noise smoothed by a kernel of variance s^2 has an autocorrelation of variance 2 s^2 (Hanning smoothing: s^2 = 1/2).
    """
    lag = np.arange(1, len(noise.correlation) + 1)
    return 1 / 12 + float(np.sum(lag**2 * noise.correlation) / (1 - noise.baseline + 2 * np.sum(noise.correlation)))
