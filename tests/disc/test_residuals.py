"""Motion that is coherent over a beam is measured, noise is not."""

import pytest
import torch

from tullyflow.disc.residuals import Blocks, measure_residuals

N, BEAM = 24, 7.0


def fields(width, rms, seed):
    """Normal fields (galaxy, y, x) of this rms, smooth over ``width`` pixels (FWHM); 0: white."""
    white = torch.randn((N, 96, 96), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if width:
        at = torch.arange(96, dtype=torch.float64)
        smooth = torch.exp(-((at.unsqueeze(0) - at.unsqueeze(1)) / (width / 2.3548)).square() / 2)
        white = smooth @ white @ smooth.mT / smooth.square().sum(1)[48]
    return rms * white[:, 16:80, 16:80]


def looked_at():
    valid = torch.ones((N, 64, 64), dtype=torch.float64)
    valid[:, :, :9], valid[:, 20:26, 30:40] = 0, 0
    return valid


def measured(residual, weight=None, rotation=100.0):
    model = rotation * torch.linspace(-1, 1, 64, dtype=torch.float64).expand(N, 64, 64)
    return measure_residuals(residual, model, looked_at() if weight is None else weight, torch.full((N,), BEAM, dtype=torch.float64))


def test_noise_of_pixels_leaves_nothing_however_large():
    found = measured(fields(0, 40.0, 1))
    assert found.rms.square().mean().sqrt() < 3
    assert found.share_of_rotation.min() > 0.99


def test_motion_smooth_over_more_than_a_beam_is_found_under_noise():
    found = measured(fields(3 * BEAM, 10.0, 2) + fields(0, 20.0, 3))
    assert 7.5 < found.rms.square().mean().sqrt() < 10.5
    assert ((found.rms.median() - 8.5) / found.rms_err.median()).abs() < 3
    assert torch.allclose(found.share_of_v, found.rms / 100)


def test_more_motion_is_a_smaller_share_of_rotation():
    small, large = (measured(fields(2 * BEAM, rms, 4)) for rms in (5.0, 60.0))
    assert (large.share_of_rotation < small.share_of_rotation).all()
    assert large.share_of_rotation.median() < 0.7
    assert ((large.share_of_rotation >= 0) & (large.share_of_rotation <= 1)).all()


def test_pixels_without_weight_never_enter():
    residual, weight = fields(BEAM, 10.0, 5), looked_at()
    spoiled = torch.where(weight > 0, residual, 1e6)
    one, two = measured(residual * (weight > 0)), measured(torch.where(weight > 0, spoiled, 0))
    assert torch.equal(one.rms, two.rms)
    scaled = measured(residual, 7 * weight)
    assert torch.allclose(one.rms, scaled.rms)


def test_a_galaxy_with_nothing_to_compare_is_nan_and_alone():
    residual, weight = fields(BEAM, 10.0, 6), looked_at()
    weight[3] = 0
    weight[3, 30, 30] = 1
    found, whole = measured(residual, weight), measured(residual)
    assert found.rms[3].isnan()
    assert found.rms[4].item() == pytest.approx(whole.rms[4].item())


def test_blocks_are_at_least_as_wide_as_asked_and_hold_every_pixel_once():
    valid = looked_at() > 0
    blocks = Blocks(torch.linspace(4, 15, N), valid)
    counts = blocks.sums(valid.unsqueeze(1).float()).squeeze(1)
    assert torch.equal(counts.sum(1), valid.sum((1, 2)).double())
    assert (64 / blocks.sums(torch.ones((N, 1, 64, 64))).squeeze(1).gt(0).sum(1).sqrt() >= torch.linspace(4, 15, N) - 1e-6).all()
