"""The encoders: those of Table 1, and the one that folds a disc by its symmetries."""

from dataclasses import replace

import pytest
import torch

from tullyflow.disc.projection import project_disc
from tullyflow.network import synthetic
from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.batch import Stamps
from tullyflow.network.encoder import Encoder, fold
from tullyflow.network.synthetic import draw_discs


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=["folded", "dawson2021"])
def either(request, changed):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return DiscAutoencoder(changed(architecture=request.param, dropout=0.3).network)


def test_encoder_has_the_papers_parameters(changed):
    assert sum(p.numel() for p in Encoder().parameters()) == 622_210
    whole = DiscAutoencoder(changed(architecture="dawson2021", beam_input=False).network)
    assert sum(p.numel() for p in whole.parameters()) == 2 * 622_210


def test_one_more_input_costs_one_weight_per_hidden_unit():
    encoder = Encoder(extra=1)
    assert sum(p.numel() for p in encoder.parameters()) == 622_210 + 256
    assert encoder(torch.rand(3, 64, 64), torch.rand(3, 1)).shape == (3, 2)


def test_features_are_deterministic_and_only_the_last_layer_is_random(either):
    stamps = draw_discs(3, either, generator()).stamps
    assert torch.equal(either.train().features(stamps), either.features(stamps))
    assert not torch.equal(either.encode(stamps), either.encode(stamps))
    assert torch.equal(either.eval().encode(stamps), either.encode(stamps))


def test_sampling_the_last_layer_equals_full_dropout_passes(either):
    """Mean within 5 standard errors, scatter within 6 % of thousands of whole passes."""
    stamps, n = draw_discs(2, either, generator()).stamps, 3000
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        features = either.features(stamps)
        read = either.train().encoders.read
        whole = torch.stack([read(either.dropout(features))[:, :4] for _ in range(n - 20)] + [either.encode(stamps) for _ in range(20)])
        sampled = either.eval().sample(stamps, n, generator()).parameters
        outputs = either.outputs_of(sampled, stamps.norm)
    assert outputs.shape == whole.shape == (n, 2, 4)
    assert whole.abs().max() < 1  # none at a bound
    error = whole.std(dim=0) / n**0.5
    assert ((outputs.mean(dim=0) - whole.mean(dim=0)).abs() < 5 * 1.5 * error).all()
    assert (outputs.std(dim=0) / whole.std(dim=0)).flatten().tolist() == pytest.approx([1] * 8, rel=0.06)


def test_sampling_is_the_generators_alone(either):
    stamps = draw_discs(3, either, generator()).stamps
    one, two, other = (either.sample(stamps, 5, generator(seed)).parameters.stack() for seed in (7, 7, 8))
    assert torch.equal(one, two) and not torch.equal(one, other)


@pytest.mark.parametrize("log_scale", [True, False])
def test_stated_sigma_is_that_of_the_parameter(changed, log_scale):
    """A sigma of an output moves the parameter by the spread: degrees of the inclination, ln of the others."""
    model = DiscAutoencoder(changed(log_scale=log_scale).network).eval()
    stamps = draw_discs(4, model, generator()).stamps
    outputs, log_sigma = model.answer(stamps)
    assert outputs.abs().max() < 0.9
    spread = model.sample(stamps, 400, generator()).spread
    step = 1e-2 * log_sigma.exp()
    up, down = (model.parameters_of(outputs + s * step, stamps.norm).stack() for s in (1, -1))
    moved = torch.cat([(up - down)[:, :1], (up / down).log()[:, 1:]], dim=1) / 2e-2
    assert torch.allclose(moved, spread, rtol=0.05)


def whole_stamps(maps):
    n, ones = len(maps.intensity), torch.ones_like(maps.intensity)
    return Stamps(maps.intensity, 0.01 * ones, maps.velocity, 2 * ones, ones.bool(), torch.full((n,), 3.0), torch.full((n,), 100.0))


def discs(angle=0.0, shift=(0.0, 0.0)):
    """Two discs of float64, turned (rad) and shifted (pixels) with cubic interpolation."""
    inclination, r_scale, r_turn, v = torch.tensor([[50.0, 30], [0.3, 0.5], [0.2, 0.1], [90, 120]], dtype=torch.float64)
    maps = project_disc(inclination, r_scale, r_turn, v, beam_fwhm=torch.full((2,), 12.0, dtype=torch.float64))
    cos, sin = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
    affine = torch.tensor([[[cos, -sin, shift[0] / 32], [sin, cos, shift[1] / 32]]] * 2, dtype=torch.float64)
    both = torch.stack([maps.intensity, maps.velocity], 1)
    grid = torch.nn.functional.affine_grid(affine, list(both.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(both, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return whole_stamps(replace(maps, intensity=moved[:, 0], velocity=moved[:, 1]))


def test_folded_disc_is_its_quadrant():
    stamps = discs()
    folded = fold(stamps)
    assert torch.allclose(folded[:, 0], stamps.intensity[:, 32:, 32:]) and torch.allclose(folded[:, 1], stamps.velocity[:, 32:, 32:] / 100)
    assert (folded[:, 2] == 1).all()
    assert torch.allclose(folded[:, 3], torch.full_like(folded[:, 3], 1 + torch.log(torch.tensor(0.005)).item() / 3))  # 0.01 / sqrt(4)


@pytest.mark.parametrize("moved", [{"angle": 0.02}, {"shift": (1.0, 0.0)}, {"shift": (0.0, 1.0)}])
def test_folding_is_blind_to_small_errors_of_axis_and_centre_to_first_order(moved):
    """Double the error, four times the change; without folding it is twice. (The border, where a shift brings nothing in, aside.)"""
    double = {k: tuple(2 * x for x in v) if isinstance(v, tuple) else 2 * v for k, v in moved.items()}
    none, once, twice = (fold(discs(**m))[:, :2, :28, :28] for m in ({}, moved, double))
    raw_none, raw_once = (discs(**m).velocity for m in ({}, moved))
    change, more = ((x - none).square().mean().sqrt() for x in (once, twice))
    assert more / change == pytest.approx(4, rel=0.2)
    assert change < 0.25 * ((raw_once - raw_none)[:, 4:60, 4:60] / 100).square().mean().sqrt()


def test_folding_is_blind_to_the_systemic_velocity():
    stamps = discs()
    assert torch.allclose(fold(replace(stamps, velocity=stamps.velocity + 7)), fold(stamps))


def test_masked_pixels_never_reach_the_answer(either):
    stamps = draw_discs(4, either, generator()).stamps
    images = ("intensity", "intensity_err", "velocity", "velocity_err")
    other = replace(stamps, **{k: torch.where(stamps.valid, getattr(stamps, k), 1e5) for k in images})
    assert not stamps.valid.all() and torch.equal(either.eval().encode(stamps), either.encode(other))


def test_folding_averages_the_noise_and_says_so(changed):
    """The scatter of folded noise is the folded error, also where quadrants lack."""
    network = changed(stream={"snr": [10, 10.001], "pa_err": 0, "centre_err": 0, "v_sys_err": 0, "clumps": 0, "central_light": 0}).network
    model = DiscAutoencoder(network)
    noisy = draw_discs(60, model, generator()).stamps
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "observe_maps", lambda maps, errors, noise, *rest: observe(maps, errors, (0 * noise[0],) * 2, *rest))
        clean = draw_discs(60, model, generator()).stamps
    one, two = fold(noisy), fold(replace(clean, norm=noisy.norm, intensity_err=noisy.intensity_err))
    peak = (noisy.intensity_err / clean.intensity_err).flatten(1).median(1).values.view(-1, 1, 1)  # noise moves the peak that is 1
    some = one[:, 2] > 0
    scatter = (one[:, 0] - two[:, 0] * peak) / ((one[:, 3] - 1) * 3).exp()
    assert scatter[some].std().item() == pytest.approx(1, abs=0.03)
    assert ((one[:, 1] - two[:, 1]) / ((one[:, 4] - 1) * 3).exp())[some].std().item() == pytest.approx(1, abs=0.03)


observe = synthetic.observe_maps
