"""Ranges, masks, norms, and what the losses may reach."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tullyflow.errors import ModelError
from tullyflow.flags import PIXEL
from tullyflow.maps.shards import Shard
from tullyflow.network.autoencoder import DiscAutoencoder, map_loss
from tullyflow.network.batch import percentile_norm, resolve_device, stamps_of_shards
from tullyflow.network.synthetic import draw_discs


@pytest.fixture
def discs(model):
    return draw_discs(5, model, torch.Generator().manual_seed(5))


def test_outputs_and_parameters_are_inverse(model):
    outputs, norm = torch.rand(7, 4) * 2 - 1, torch.linspace(20, 300, 7)
    assert torch.allclose(model.outputs_of(model.parameters_of(outputs, norm), norm), outputs, atol=1e-5)


@pytest.mark.parametrize("log_scale", [True, False])
def test_outputs_stay_in_their_ranges(changed, log_scale):
    network = changed(log_scale=log_scale, velocity_norm=500, ranges={"v_max": [50, 500]}).network
    ends = DiscAutoencoder(network).parameters_of(torch.tensor([[-9.0] * 4, [9.0] * 4]), torch.full((2,), 500.0)).stack()
    low, high = zip(network.ranges.inclination_deg, network.ranges.r_scale, network.ranges.r_turn, (50, 500), strict=True)
    assert ends[0].tolist() == pytest.approx(low) and ends[1].tolist() == pytest.approx(high)


def test_middle_of_a_logarithmic_range_is_its_geometric_mean(model):
    middle = model.parameters_of(torch.zeros(1, 4), torch.tensor([100.0]))
    low, high = model.network.ranges.r_scale
    assert middle.r_scale.item() == pytest.approx((low * high) ** 0.5)
    assert middle.v_max_sini.item() == pytest.approx(100 * np.sqrt(np.prod(model.network.ranges.v_max)))


@pytest.mark.parametrize("loss", ["mse", "chi2"])
def test_masked_pixels_never_reach_the_loss(changed, discs, loss):
    network = changed(loss=loss).network
    model = DiscAutoencoder(network).eval()
    stamps = discs.stamps
    filled = {
        name: torch.where(stamps.valid, getattr(stamps, name), getattr(stamps, name) + 1e4)
        for name in ("intensity", "intensity_err", "velocity", "velocity_err")
    }
    other = replace(stamps, **filled)
    assert not torch.equal(other.velocity, stamps.velocity)
    before, after = (map_loss(model(s), s, network).total for s in (stamps, other))
    assert torch.equal(before, after)


def test_loss_over_all_pixels_scales_with_the_fill_factor(changed, discs):
    model = DiscAutoencoder(changed().network).eval()
    maps, stamps = model(discs.stamps), discs.stamps
    valid, every = (map_loss(maps, stamps, changed(mean_over=over).network).velocity for over in ("valid", "all"))
    assert torch.allclose(every, valid * stamps.valid.float().mean((1, 2)))


@pytest.mark.parametrize("architecture", ["folded", "dawson2021"])
def test_velocity_loss_does_not_reach_inclination_and_scale_length(changed, discs, architecture):
    model = DiscAutoencoder(changed(architecture=architecture).network).eval()
    outputs = model.encode(discs.stamps)
    losses = map_loss(model.decode(model.parameters_of(outputs, discs.stamps.norm), discs.stamps.beam), discs.stamps, model.network)
    by_velocity, by_intensity = (
        torch.autograd.grad(loss.sum(), outputs, retain_graph=True)[0] for loss in (losses.velocity, losses.intensity)
    )
    assert not by_velocity[:, :2].any() and by_velocity[:, 2:].any()
    assert by_intensity[:, :2].any() and not by_intensity[:, 2:].any()
    if architecture == "dawson2021":
        losses.velocity.sum().backward()
        assert not any(p.grad is not None and p.grad.any() for p in model.encoders.intensity.parameters())
        assert any(p.grad.abs().max() > 0 for p in model.encoders.velocity.parameters())


def test_truth_has_the_smallest_loss(model, discs):
    truth, stamps = discs.parameters, discs.stamps
    at_truth = map_loss(model.decode(truth, stamps.beam), stamps, model.network)
    off = map_loss(model.decode(replace(truth, v_max_sini=1.3 * truth.v_max_sini), stamps.beam), stamps, model.network)
    assert (at_truth.velocity < off.velocity).all()
    thick = map_loss(model.decode(replace(truth, r_scale=1.8 * truth.r_scale), stamps.beam), stamps, model.network)
    assert (at_truth.intensity < thick.intensity).all()


def test_fitted_brightness_ignores_the_scale_of_the_map(changed, discs):
    network = changed(intensity_scale="fit").network
    maps = DiscAutoencoder(network).decode(discs.parameters, discs.stamps.beam)
    one = map_loss(maps, discs.stamps, network).intensity
    dimmed = replace(discs.stamps, intensity=discs.stamps.intensity / 2)
    assert torch.allclose(map_loss(maps, dimmed, network).intensity, one / 4, rtol=1e-3)


def test_percentile_norm_makes_velocity_equivariant(model, discs):
    """Three times the velocity, three times V_max sin i, and nothing else changes."""
    stamps = discs.stamps
    assert torch.allclose(percentile_norm(stamps.velocity, stamps.valid), stamps.norm)
    faster = replace(
        stamps, velocity=3 * stamps.velocity, velocity_err=3 * stamps.velocity_err, norm=percentile_norm(3 * stamps.velocity, stamps.valid)
    )
    one, three = (model.eval().parameters_of(model.encode(s), s.norm).stack() for s in (stamps, faster))
    assert torch.allclose(three, one * torch.tensor([1.0, 1.0, 1.0, 3.0]), rtol=1e-4)


def test_percentile_norm_is_numpys_and_ignores_masked_pixels():
    rng = np.random.default_rng(2)
    velocity, valid = rng.normal(0, 80, (3, 64, 64)), rng.random((3, 64, 64)) < 0.4
    expected = [np.percentile(np.abs(v[m]), 95, method="lower") for v, m in zip(velocity, valid, strict=True)]
    velocity[~valid] = 1e6
    assert percentile_norm(torch.tensor(velocity), torch.tensor(valid)).tolist() == pytest.approx(expected)


def test_beam_changes_what_the_encoders_say_only_where_they_are_told(changed, discs):
    wide = replace(discs.stamps, beam=discs.stamps.beam + 9)
    told, untold = (DiscAutoencoder(changed(beam_input=b).network).eval() for b in (True, False))
    assert not torch.equal(told.encode(discs.stamps), told.encode(wide))
    assert torch.equal(untold.encode(discs.stamps), untold.encode(wide))


def test_stamps_of_a_shard_fill_masks_errors_and_beams(discs):
    import pandas as pd

    n = len(discs.stamps)
    image = {name: getattr(discs.stamps, name).numpy().copy() for name in ("intensity", "intensity_err", "velocity", "velocity_err")}
    mask = np.where(discs.stamps.valid.numpy(), 0, PIXEL.LOW_SNR).astype(np.int32)
    image["velocity"][0] = np.nan  # no stamp
    image["velocity_err"][1] = np.nan  # no error map
    mask[2, 30:34, 30:34] |= PIXEL.NEGATIVE_DISPERSION  # spoils the dispersion only
    galaxies = pd.DataFrame({"stamp_scale_arcsec": [0.5, 0.5, 0.5, np.nan, 0.5], "psf_fwhm_arcsec": [2.5, 2.5, 2.5, 2.5, np.nan]})
    unread = ("dispersion", "dispersion_err", "velocity_field", "stellar_velocity_field")
    shard = Shard(galaxies, **image, **dict.fromkeys(unread, image["velocity"]), mask=mask)
    stamps, usable = stamps_of_shards([shard], "percentile", velocity_err=5.0)
    assert usable.tolist() == [False, True, True, False, True]
    assert len(stamps) == n and all(getattr(stamps, name).isfinite().all() for name in ("velocity", "velocity_err", "beam", "norm"))
    assert (stamps.velocity_err[1] == 5.0).all()
    assert stamps.valid[2, 31, 31] and not stamps.valid[0].any()
    assert stamps.beam.tolist() == [5.0, 5.0, 5.0, 0.0, 0.0]
    with pytest.raises(ModelError, match=r"velocity stamps of shape \(5, 32, 64\) for 5 galaxies; it reads 64x64"):
        stamps_of_shards([replace(shard, velocity=shard.velocity[:, :32])], "percentile", velocity_err=5.0)


def test_absent_device_is_refused_with_a_sentence():
    if torch.cuda.is_available() and torch.cuda.device_count() > 90:
        pytest.skip("this machine has 91 GPUs")
    with pytest.raises(ModelError, match="'cuda:90' is not on this machine"):
        resolve_device("cuda:90")
    assert resolve_device("cpu").type == "cpu"
