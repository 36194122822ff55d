import numpy as np
import pytest
import torch

from tullyflow.errors import ModelError
from tullyflow.network.judges.fields import fields_of, in_batches


@pytest.fixture
def velocity():
    """Five fields in km/s: a plane, the same with a systemic velocity, one pixel, all alike, and nothing."""
    y, x = np.mgrid[:64, :64] - 31.5
    plane = np.where(np.hypot(x, y) < 25, 4.0 * x - 2.0 * y, np.nan)
    point, alike = np.full((64, 64), np.nan), np.where(np.hypot(x, y) < 25, 7.0, np.nan)
    point[3, 4] = 100.0
    return np.stack([plane, plane + 1500, point, alike, np.full((64, 64), np.nan)])


def test_fields_are_about_zero_within_one_and_know_their_scale(velocity):
    fields, judged = fields_of(velocity)
    assert judged.tolist() == [True, True, False, False, False]
    assert fields.velocity.abs().max() == 1 and fields.velocity.isfinite().all()
    torch.testing.assert_close(fields.velocity[0], fields.velocity[1], atol=1e-4, rtol=0)
    inside = fields.velocity[0].abs() < 1
    back = (fields.velocity[0] * fields.scale_kms[0]).numpy()
    np.testing.assert_allclose(back[inside & fields.valid[0]], velocity[0][inside & fields.valid[0]], atol=1e-3)
    clipped = (fields.velocity[0].abs() == 1).sum() / fields.valid[0].sum()
    assert 0.03 < clipped < 0.05  # what lies beyond the 96th percentile of |v|


def test_fields_that_cannot_be_judged_are_zero_and_not_valid(velocity):
    fields, judged = fields_of(velocity)
    assert not fields.velocity[~judged].any() and not fields.valid[~judged].any()


def test_an_outlier_does_not_set_the_scale(velocity):
    spoiled = velocity[:1].copy()
    spoiled[0, 30, 30] = 1e5
    assert fields_of(spoiled)[0].scale_kms[0] == pytest.approx(float(fields_of(velocity)[0].scale_kms[0]), rel=0.01)


def test_batches_are_the_fields_in_order(velocity):
    fields, _ = fields_of(np.concatenate([velocity] * 3))
    assert torch.equal(torch.cat([part.velocity for part in in_batches(fields, size=4)]), fields.velocity)


def test_fields_of_another_size_are_refused():
    with pytest.raises(ModelError, match=r"shape \(2, 32, 32\); it reads \(N, 64, 64\)"):
        fields_of(np.zeros((2, 32, 32)))
