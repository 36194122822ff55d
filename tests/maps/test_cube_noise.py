"""Promises of the noise of a cube: where it varies, and how alike channels are."""

import numpy as np
import pytest
from scipy import ndimage

from tullyflow.conventions import FWHM_PER_SIGMA
from tullyflow.maps.cube_noise import instrument_variance, measure_noise, thinned

BEAM = 3.0


def noise_cube(seed, shape=(40, 96, 80), beam=BEAM):
    """Noise of unit standard deviation, correlated by the beam on the sky, white along channels."""
    white = np.random.default_rng(seed).standard_normal(shape)
    smooth = ndimage.gaussian_filter(white, (0, beam / FWHM_PER_SIGMA, beam / FWHM_PER_SIGMA), mode="wrap")
    return (smooth / smooth.std()).astype(np.float32)


def measured(cube, usable=None, **how):
    return measure_noise(cube, np.ones(cube.shape, bool) if usable is None else usable, BEAM, 1, cube.shape[1:], **how)


def test_even_noise_is_one_number():
    alone = [measured(3e-3 * noise_cube(seed)) for seed in range(12)]
    np.testing.assert_allclose([n.rms for n in alone], 3e-3, rtol=0.03)
    assert not any(n.by_channel for n in alone)
    assert all(n.gain is None and len(n.correlation) == 0 and n.baseline == 0 for n in alone)


def test_a_noisy_channel_and_a_rising_edge_have_their_own_noise():
    true = np.ones(40)
    true[7] = 3.0
    true[-5:] = [1.1, 1.3, 1.6, 2.0, 2.5]
    found = measured(noise_cube(1) * true[:, None, None])
    assert found.by_channel
    np.testing.assert_allclose(found.channel_rms, true, rtol=0.08)
    np.testing.assert_allclose(found.rms, 1.0, rtol=0.03)


def test_noise_that_rises_towards_the_edge_of_the_primary_beam_is_followed():
    y, x = np.indices((96, 80))
    true = np.exp(0.5 * np.hypot((x - 30) / 45, (y - 50) / 50) ** 2)
    found = measured(noise_cube(2) * true)
    assert found.gain is not None
    assert not found.by_channel
    ratio = found.rms * found.gain / true
    assert 0.9 < np.median(ratio) < 1.1
    assert np.percentile(np.abs(ratio - 1), 90) < 0.12


def test_line_that_was_not_masked_does_not_raise_the_noise():
    cube = noise_cube(3)
    cube[10:20, 20:60, 20:60] += 6.0
    assert abs(measured(cube).rms - 1) < 0.05
    assert abs(measured(cube).channel_rms[15] - 1) < 0.08


def test_hanning_smoothing_is_measured_and_nothing_else():
    found = measured(ndimage.convolve1d(noise_cube(4, (60, 96, 80)), [0.25, 0.5, 0.25], axis=0, mode="wrap"))
    np.testing.assert_allclose(found.correlation, [2 / 3, 1 / 6], atol=0.02)
    np.testing.assert_allclose(found.rms, np.sqrt(3 / 8), rtol=0.03)
    assert found.baseline == 0
    np.testing.assert_allclose(instrument_variance(found), 1 / 12 + 1 / 2, rtol=0.05)
    np.testing.assert_allclose(instrument_variance(measured(noise_cube(4))), 1 / 12)


def test_residual_continuum_is_an_offset_of_spectra_not_a_correlation_of_channels():
    offset = noise_cube(5, (1, 96, 80))
    found = measured(noise_cube(6) + 0.5 * offset)
    np.testing.assert_allclose(found.baseline, 0.25 / 1.25, atol=0.03)
    assert len(found.correlation) == 0
    np.testing.assert_allclose(found.rms, np.sqrt(1.25), rtol=0.05)


def test_only_usable_voxels_and_quiet_channels_count():
    cube, usable = noise_cube(7), np.ones((40, 96, 80), bool)
    cube[:, :, :30] = -50.0
    usable[:, :, :30] = False
    quiet = np.zeros(40, bool)
    quiet[:8] = True
    cube[8:] *= 2
    found = measured(cube, usable, quiet=quiet)
    np.testing.assert_allclose(found.rms, 1, rtol=0.05)
    np.testing.assert_allclose(np.median(found.channel_rms[8:]), 2, rtol=0.03)
    np.testing.assert_allclose(found.channel_rms[8:], 2, rtol=0.23)  # 3 sigma of a channel's 470 independent voxels


def test_nothing_usable_gives_no_noise():
    cube = noise_cube(8)
    assert np.isnan(measured(cube, np.zeros(cube.shape, bool)).rms)


@pytest.mark.parametrize(("shape", "step"), [((100, 1024, 1024), 5), ((60, 2048, 2048), 8), ((60, 40, 46), 1)])
def test_large_cubes_are_thinned_to_what_noise_needs(shape, step):
    assert thinned(shape) == step
