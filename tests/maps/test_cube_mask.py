"""Promises of the mask of a cube's line."""

import numpy as np
import pytest
from scipy import ndimage

from tullyflow.conventions import FWHM_PER_SIGMA
from tullyflow.maps.cube_mask import LineMask, MaskLimits, find_line, smoothed_channels

LIMITS = MaskLimits(high=5.0, low=3.0, channels_min=2, beams_min=2.0, grow_beams=0.5)


def line_cube(n=40, channels=60, step=5.0, sigma=15.0, peak=0.05):
    """Gaussian lines on a velocity gradient, in a disc without symmetry: (channel, y, x)."""
    y, x = np.indices((n, n + 6), dtype=float)
    velocity = step * (np.arange(channels) - channels / 2) + 1000
    centre = 1000 + 4 * (x - 18) - 2 * (y - 22)
    bright = np.exp(-np.hypot(x - 18, (y - 22) / 0.7) / 8)
    return peak * bright * np.exp(-0.5 * ((velocity[:, None, None] - centre) / sigma) ** 2)


def noise(seed, shape, beam=3.0):
    white = np.random.default_rng(seed).standard_normal(shape)
    smooth = ndimage.gaussian_filter(white, (0, beam / FWHM_PER_SIGMA, beam / FWHM_PER_SIGMA), mode="wrap")
    return (smooth / smooth.std()).astype(np.float32)


def test_mask_finds_the_line_and_leaves_the_noise():
    cube = line_cube()
    mask, found, covered = find_line(cube + 0.005 * noise(3, cube.shape), 3.0, LIMITS)
    signal = np.stack(list(mask))
    assert signal[cube > 0.015].mean() > 0.98
    assert signal[cube < 1e-5].mean() < 0.01
    assert abs(found.rms / 0.005 - 1) < 0.05
    assert covered.all()


def test_pure_noise_is_no_line():
    found = [find_line(noise(seed, (60, 64, 72)), 3.0, LIMITS)[0].regions for seed in range(10)]
    assert sum(found) <= 2


@pytest.mark.parametrize("seed", range(6))
def test_regions_found_channel_by_channel_are_those_of_the_whole_cube(seed):
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((14, 23, 31)), (0.8, 1.1, 1.3))
    smooth /= smooth.std()
    low, high, spans, voxels = 0.7 + 0.1 * seed, 2.5, 3, 40  # near percolation: long winding regions
    grow = 0.6 * seed  # pixels
    mask = LineMask(smooth.shape, grow)
    for image in smooth:
        mask.add(image > low, image > high)
    mask.close(spans, voxels)
    regions, n = ndimage.label(smooth > low)
    keep = np.zeros(n + 1, bool)
    for k, box in enumerate(ndimage.find_objects(regions), start=1):
        inside = regions == k
        keep[k] = smooth[inside].max() > high and box[0].stop - box[0].start >= spans and inside.sum() >= voxels
    y, x = np.indices((7, 7)) - 3
    whole = ndimage.binary_dilation(keep[regions], structure=[np.hypot(x, y) <= max(grow, 0.5)])
    whole = ndimage.binary_dilation(whole, structure=np.ones((3, 1, 1)))
    assert 0 < keep.sum() < n
    assert mask.regions == keep.sum()
    np.testing.assert_array_equal(np.stack(list(mask)), whole)
    np.testing.assert_array_equal(mask[5], whole[5])


def test_smoothing_by_channels_is_that_of_the_whole_cube():
    cube = noise(1, (9, 20, 26))
    cube[2, 3, 4] = np.nan
    width = 3.0 / FWHM_PER_SIGMA
    whole = ndimage.gaussian_filter(np.nan_to_num(cube), (0, width, width), mode="constant")
    whole = ndimage.convolve1d(whole, [0.25, 0.5, 0.25], axis=0, mode="constant")
    images, smooth = zip(*smoothed_channels(cube, 3.0), strict=True)
    np.testing.assert_allclose(smooth, whole, atol=1e-6)
    np.testing.assert_array_equal(images, cube)


def test_a_noisy_channel_is_not_taken_for_line():
    cube = noise(4, (60, 64, 72))
    cube[20:22] *= 5
    mask, found, _ = find_line(cube, 3.0, LIMITS)
    assert found.by_channel
    assert mask.regions <= 1


def test_zeros_of_a_blanked_border_are_no_coverage_and_no_noise():
    cube = line_cube() + 0.005 * noise(5, (60, 40, 46))
    cube[:, :, :6] = 0.0
    cube[:, 36:] = np.nan
    cube[13] = 0.0  # a flagged channel
    _, found, covered = find_line(cube, 3.0, LIMITS)
    assert not covered[:, :6].any()
    assert not covered[36:].any()
    assert covered[:36, 6:].all()
    assert abs(found.rms / 0.005 - 1) < 0.06


@pytest.mark.parametrize("value", [np.nan, 0.0, 7.0])
def test_a_constant_cube_has_no_line(value):
    mask, found, _ = find_line(np.full((12, 16, 18), value, dtype=np.float32), 3.0, LIMITS)
    assert mask.regions == 0
    assert not np.stack(list(mask)).any()
    assert not found.rms > 0
