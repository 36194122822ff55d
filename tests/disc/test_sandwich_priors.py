"""Priors enter the covariance as what they are: a measurement whose residuals say nothing of it."""

import pytest
import torch

from tullyflow.disc.sandwich import MapScores, sandwich

PRIOR, WIDTH = 0.7, 8.0  # sigma of a prior; pixels: 10 areas for 2 parameters, so that the correction for them is large


def test_what_a_map_does_not_fix_is_as_uncertain_as_its_prior():
    size, generator = 26, torch.Generator().manual_seed(2)
    by = torch.ones(1, 2, size, size)
    by[:, 1] = 1e-4 * torch.linspace(-1, 1, size)  # the map hardly knows the second parameter
    residual = torch.randn(1, size, size, generator=generator)
    flat = torch.ones_like(residual)
    valid = flat > 0
    precision = torch.tensor([[0.0, PRIOR**-2]], dtype=torch.float64)
    found = sandwich([MapScores(by, residual, flat, valid)], precision, precision, valid, torch.tensor([WIDTH]))
    assert found[0, 1, 1].sqrt().item() == pytest.approx(PRIOR, rel=1e-3)
