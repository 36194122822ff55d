"""Measures of fields: blind to how a field lies, and telling order from disorder."""

import numpy as np
import pytest
import torch

from tullyflow.network.judges.field_measures import COMPARED, MEASURED, compare, halved, measure
from tullyflow.network.judges.fields import fields_of

Y, X = np.mgrid[:64, :64] - 31.5


def disc(angle=20.0, noise=2.0, amplitude=120.0, seed=0):
    along = np.cos(np.radians(angle)) * X + np.sin(np.radians(angle)) * Y
    velocity = amplitude * np.tanh(along / 10) + np.random.default_rng(seed).normal(0, noise, X.shape)
    return np.where((np.hypot(X, Y) < 28) & ~((X > 12) & (Y > 9)), velocity, np.nan).astype(np.float32)


def of(field):
    return dict(zip(MEASURED, measure(fields_of(field[None])[0]).values[0].tolist(), strict=True))


def test_every_measure_has_its_name():
    measured = measure(fields_of(np.stack([disc(), disc(70)]))[0])
    assert measured.values.shape == (2, len(MEASURED)) and compare(measured, measured).shape == (2, len(COMPARED))
    assert len(set(MEASURED)) == len(MEASURED)


@pytest.mark.parametrize("turn", [np.rot90, np.flipud, np.fliplr, np.transpose, np.negative], ids=lambda f: f.__name__)
def test_measures_do_not_change_with_how_a_field_lies(turn):
    fields = np.stack([disc(noise=30), disc(55, noise=200, seed=2)])
    turned = np.stack([turn(f) for f in fields])
    first, second = (measure(fields_of(f)[0]) for f in (fields, turned))
    torch.testing.assert_close(first.values, second.values, atol=2e-4, rtol=2e-3)
    torch.testing.assert_close(compare(first, first.select([1, 0])), compare(second, second.select([1, 0])), atol=2e-4, rtol=2e-3)


def test_a_smooth_odd_field_is_explained_and_noise_is_not():
    order, chaos = of(disc()), of(np.where(np.isfinite(disc()), np.random.default_rng(1).normal(0, 80, X.shape), np.nan))
    for name in ("unexplained_odd_3", "unexplained_odd_5", "unexplained_ring_0", "unexplained_ring_2"):
        assert order[name] < 0.12 and chaos[name] > 0.7, name
    assert order["even"] < -0.9 and abs(chaos["even"]) < 0.3
    assert chaos["step"] > 5 * order["step"]


def test_a_bowl_is_even_and_not_explained_by_odd_polynomials():
    bowl = of(np.where(np.hypot(X, Y) < 28, X**2 + 0.5 * Y**2, np.nan).astype(np.float32))
    assert bowl["even"] > 0.9 and bowl["unexplained_odd_5"] > 0.9 and bowl["unexplained_all_3"] < 0.1


def test_what_lies_where_there_is_no_pixel_does_not_enter():
    fields, _ = fields_of(disc()[None])
    blocks = torch.nn.functional.max_pool2d(fields.valid.float(), 2).bool()
    image, there = halved(fields)
    assert torch.equal(there, blocks) and (image[~there] == 0).all()
    some = fields.valid[0].numpy()
    np.testing.assert_allclose(image[0, 16, 16].item(), fields.velocity[0, 32:34, 32:34].mean().item(), atol=1e-6)
    edge = np.argwhere(some.reshape(32, 2, 32, 2).sum((1, 3)) % 4 > 0)[0]
    block = fields.velocity[0].numpy().reshape(32, 2, 32, 2)[edge[0], :, edge[1]]
    np.testing.assert_allclose(image[0, edge[0], edge[1]], block[some.reshape(32, 2, 32, 2)[edge[0], :, edge[1]]].mean(), atol=1e-6)


def test_fields_of_a_galaxy_are_compared():
    same = dict(zip(COMPARED, compare(*(measure(fields_of(f[None])[0]) for f in (disc(), disc()))) [0].tolist(), strict=True))
    counter = dict(zip(COMPARED, compare(*(measure(fields_of(f[None])[0]) for f in (disc(), -0.5 * disc())))[0].tolist(), strict=True))
    across = dict(zip(COMPARED, compare(*(measure(fields_of(f[None])[0]) for f in (disc(), disc(110))))[0].tolist(), strict=True))
    assert same["correlation"] == pytest.approx(1, abs=1e-3) and same["cos_slopes"] == pytest.approx(1, abs=1e-2)
    assert same["log_scales"] == pytest.approx(0, abs=1e-6) and same["overlap"] == pytest.approx(1)
    assert counter["correlation"] == pytest.approx(-1, abs=1e-2) and counter["log_scales"] == pytest.approx(np.log10(2), abs=0.01)
    assert abs(across["cos_slopes"]) < 0.1 and across["log_difference"] > same["log_difference"] + 1


def test_a_field_without_pixels_has_finite_measures():
    blank = measure(fields_of(np.full((1, 64, 64), np.nan))[0])
    assert blank.values.isfinite().all() and compare(blank, measure(fields_of(disc()[None])[0])).isfinite().all()
