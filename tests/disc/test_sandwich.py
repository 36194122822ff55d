"""Errors from residuals: those of the noise where it is white, wider where it is correlated, and none where the maps fix nothing."""

import numpy as np
import torch

from tullyflow.disc.sandwich import MapScores, design_effect, sandwich

SIZE, WIDTH = 48, 6.0


def noise(n, correlated=0.0, seed=3):
    """Unit normal fields (galaxy, y, x), smooth over Gaussians of ``correlated`` pixels (sigma); 0: white."""
    white = torch.randn((n, SIZE + 40, SIZE + 40), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if correlated:
        at = torch.arange(SIZE + 40, dtype=torch.float64)
        smooth = torch.exp(-((at.unsqueeze(0) - at.unsqueeze(1)) / correlated).square() / 2)
        smooth = smooth / smooth.square().sum(1, keepdim=True).sqrt()
        white = smooth @ white @ smooth.mT
    return white[:, 20:-20, 20:-20]


def derivatives(n):
    """Three smooth derivatives (galaxy, 3, y, x), none like another: a constant, a slope, a bend across the other axis."""
    x = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    across, along = torch.meshgrid(x, x, indexing="ij")
    return torch.stack([torch.ones_like(along), along + 0.3 * across, across.square() - 0.2 * along]).expand(n, 3, SIZE, SIZE)


def covariance(residual, by=None, valid=None, width=WIDTH):
    n = len(residual)
    by = derivatives(n) if by is None else by
    valid = torch.ones_like(residual, dtype=torch.bool) if valid is None else valid
    keep = valid.to(residual)
    scores = MapScores(by * keep.unsqueeze(1), residual * keep, torch.ones_like(residual), valid)
    none = torch.zeros(n, by.shape[1], dtype=torch.float64)
    return sandwich([scores], none, none, valid, torch.full((n,), width, dtype=torch.float64))


def inverse_hessian(by):
    flat = by[0].flatten(1)
    return torch.linalg.inv(flat @ flat.mT)


def test_white_noise_has_the_covariance_of_the_inverse_hessian_in_the_mean():
    found, expected = covariance(noise(200)).mean(0), inverse_hessian(derivatives(1))
    root = expected.diagonal().sqrt()
    assert np.allclose(found / (root[:, None] * root), expected / (root[:, None] * root), atol=0.1)


def share_seen(correlated, width):
    """The share of the variance of noise, smooth over Gaussians of ``correlated`` pixels, that a kernel of this width lets through."""
    kernel = width / np.sqrt(2 * np.pi)
    return kernel**2 / (kernel**2 + 2 * correlated**2)


def test_correlated_noise_has_the_scatter_of_the_fits_themselves():
    """What least squares scatters by on 400 fields is what the sandwich of each says, and more than twice what white noise would give."""
    residual, by = noise(400, correlated=0.8), derivatives(1)
    fitted = residual.flatten(1) @ by[0].flatten(1).mT @ inverse_hessian(by)
    scatter, said = fitted.std(0), covariance(residual).diagonal(dim1=1, dim2=2).mean(0).sqrt()
    assert np.allclose(said / scatter, np.sqrt(share_seen(0.8, WIDTH)), atol=0.1)
    assert (said > 2 * inverse_hessian(by).diagonal().sqrt()).all()


def test_errors_are_as_large_as_the_residuals_whatever_was_given():
    residual = noise(20)
    one, two = covariance(residual), covariance(3 * residual)
    assert torch.allclose(two, 9 * one)


def test_what_the_maps_do_not_fix_is_infinite_and_alone():
    residual, by = noise(4), derivatives(4).clone()
    by[1, 2] = 2 * by[1, 0]  # two parameters do the same
    by[2, 1] = 0  # one does nothing
    found = covariance(residual, by)
    assert torch.isinf(found[1:3]).all()
    assert torch.allclose(found[[0, 3]], covariance(residual)[[0, 3]])


def test_less_than_one_area_is_infinite():
    valid = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    valid[0, 20:25, 20:25] = True  # 25 pixels of the 36 that make one measurement
    valid[1] = True
    found = covariance(noise(2), valid=valid)
    assert torch.isinf(found[0]).all() and torch.isfinite(found[1]).all()


def test_nan_stays_in_its_galaxy():
    residual = noise(3)
    whole = covariance(residual)
    residual[1, 4, 5] = torch.nan
    found = covariance(residual)
    assert torch.isinf(found[1]).all()
    assert torch.allclose(found[[0, 2]], whole[[0, 2]])


def test_few_areas_widen_the_errors():
    """9 areas for three parameters: what the fit took from its residuals is given back, and more."""
    valid = torch.zeros(300, SIZE, SIZE, dtype=torch.bool)
    valid[:, 10:28, 10:28] = True
    by = derivatives(300) * valid.unsqueeze(1)
    residual = noise(300)
    flat, inverse = by[0].flatten(1), inverse_hessian(by)
    left = residual - ((residual.flatten(1) @ flat.mT @ inverse) @ flat).view_as(residual)
    found = covariance(left, valid=valid).diagonal(dim1=1, dim2=2).mean(0)
    assert (found > 0.95 * inverse.diagonal()).all()


def test_a_pixel_is_a_measurement_where_noise_is_white():
    valid = torch.ones(50, SIZE, SIZE, dtype=torch.bool)
    found = design_effect(noise(50), valid, torch.full((50,), WIDTH))
    assert found.min() >= 1 and found.mean() < 1.15


def test_pixels_of_a_correlated_map_make_one_measurement_together():
    """Noise by a Gaussian of s pixels is the same over 4 pi s^2 of them, as far as the kernel sees."""
    valid, width = torch.ones(200, SIZE, SIZE, dtype=torch.bool), 2 * WIDTH
    for s in (1.0, 1.5, 2.0):
        count = design_effect(noise(200, s), valid, torch.full((200,), width)).mean().item()
        assert 0.8 < count / (4 * np.pi * s**2 * share_seen(s, width)) < 1.1, s
    assert design_effect(noise(50, 12.0), valid[:50], torch.full((50,), WIDTH)).max() <= WIDTH**2 + 1e-9


def test_pixels_that_do_not_count_make_no_measurement():
    residual, valid = noise(3), torch.ones(3, SIZE, SIZE, dtype=torch.bool)
    valid[:, :, ::3] = False
    spoiled = torch.where(valid, residual, 1e6)
    width = torch.full((3,), WIDTH)
    assert torch.allclose(design_effect(spoiled, valid, width), design_effect(residual, valid, width))
    assert design_effect(residual, torch.zeros_like(valid), width).tolist() == [1.0] * 3
