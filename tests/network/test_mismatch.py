"""Discs that are deliberately not the model: what is said to be true of them is, and each kind does what it says."""

import math

import pytest
import torch

from tullyflow.disc.fit import DiscData, fit_discs
from tullyflow.disc.gradients import NAMES, disc_gradients
from tullyflow.network import mismatch
from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.drawing import Draw
from tullyflow.network.mismatch import CURVE_RADII, KINDS, draw_mismatched
from tullyflow.network.synthetic import Templates, draw_discs

SHARP = {"pa_err": 5, "centre_err": 1.0, "v_sys_err": 6, "velocity_err": [1e-4, 1e-3], "snr": [1e5, 1e6], "gaps": False,
         "faintest": None, "beam": [1, 5], "no_beam": 0, "v_max_sini": [60, 200]}  # fmt: skip


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def only(monkeypatch):
    """Return a function that gives every disc the kinds named and no other, ovals included."""

    def choose(*kinds):
        monkeypatch.setattr(mismatch, "KINDS", {kind: float(kind in kinds) for kind in KINDS})
        monkeypatch.setattr(mismatch, "_OVAL", (0.0, 0.0))

    return choose


@pytest.fixture
def sharp(changed):
    ranges = {"inclination_deg": [30, 75], "r_scale": [0.15, 0.4], "r_turn": [0.05, 0.3]}
    return DiscAutoencoder(changed(stream=SHARP, ranges=ranges).network)


def test_seed_gives_the_same_discs_however_many_follow(model):
    one, two = draw_mismatched(16, model, generator()), draw_mismatched(20, model, generator())
    assert torch.equal(one.stamps.velocity, two.stamps.velocity[:16]) and torch.equal(one.placing, two.placing[:16])
    assert len(two) == 20 and not torch.equal(one.stamps.velocity, draw_mismatched(16, model, generator(2)).stamps.velocity)


def test_everything_is_finite_and_shares_are_those_named(model):
    discs = draw_mismatched(160, model, generator())
    maps = (discs.stamps.intensity, discs.stamps.velocity, discs.stamps.intensity_err, discs.stamps.velocity_err)
    for part in (*maps, discs.parameters.stack(), discs.placing, discs.curve_sini, discs.streaming):
        assert part.isfinite().all()
    assert torch.allclose(discs.stamps.intensity.amax((1, 2)), torch.ones(160)) and (discs.stamps.velocity[~discs.stamps.valid] == 0).all()
    share = dict(zip(KINDS, discs.kinds.float().mean(0).tolist(), strict=True))
    for kind, expected in KINDS.items():
        assert share[kind] == pytest.approx(expected * (1 - KINDS["bulge"] if kind == "hole" else 1), abs=0.13)
    barred = discs.kinds[:, list(KINDS).index("bar")]
    assert discs.streaming[barred].min() >= 0.0499 and discs.streaming[~barred].max() <= 0.0501


def undisturbed(discs):
    """The maps of the true disc where it truly lies."""
    return disc_gradients(torch.cat([discs.parameters.stack(), discs.placing, torch.ones(len(discs), 1)], dim=1), discs.stamps.beam)


def fitted(discs, free=NAMES):
    stamps, truth = discs.stamps, discs.parameters.stack().double()
    start = torch.cat([truth, torch.zeros_like(truth), torch.ones_like(truth[:, :1])], dim=1)
    errors = torch.full_like(stamps.intensity, 0.01), torch.full_like(stamps.velocity, 1.0)
    data = DiscData(stamps.intensity, errors[0], stamps.velocity, errors[1], stamps.valid, stamps.beam)
    return fit_discs(data, start, free=free).parameters


def test_a_plain_disc_is_found_where_it_is_said_to_be(sharp, only):
    """Signs and units of the placing are the fit's own, and the four parameters are those of the maps."""
    only()
    discs = draw_mismatched(16, sharp, generator(3))
    found = fitted(discs)
    assert discs.placing[:, 0].abs().max() > 4 and discs.placing[:, 3].abs().max() > 5
    for k, allowed in enumerate((0.05, 0.01, 0.01, 0.05)):
        assert (found[:, 4 + k] - discs.placing[:, k]).abs().max() < allowed
    assert (found[:, 0] - discs.parameters.inclination_deg).abs().max() < 0.05
    assert torch.allclose(found[:, 1:4].float(), discs.parameters.stack()[:, 1:], rtol=5e-3)


def test_true_velocities_are_the_curve_of_the_disc(sharp, only):
    only()
    discs = draw_mismatched(30, sharp, generator())
    p = discs.parameters
    for k, radii in enumerate(CURVE_RADII):
        expected = 2 / math.pi * p.v_max_sini * torch.atan(radii * p.r_scale / p.r_turn)
        assert torch.allclose(discs.curve_sini[:, k], expected, rtol=1e-5)
    assert torch.equal(discs.v_22_sini, discs.curve_sini[:, CURVE_RADII.index(2.2)])


def test_other_curves_keep_their_true_velocities_and_are_labelled_by_the_nearest_arctan(sharp, only):
    only("curve")
    discs = draw_mismatched(60, sharp, generator())
    p = discs.parameters
    nearest = 2 / math.pi * p.v_max_sini * torch.atan(2.2 * p.r_scale / p.r_turn)
    off = (nearest / discs.v_22_sini - 1).abs()
    assert 0.001 < off.median() < 0.05
    low, high = sharp.network.ranges.r_turn
    assert p.r_turn.min() >= low * 0.999 and p.r_turn.max() <= high * 1.001


MOTIONS = [("bar", 0.01, 0.1), ("warp", 0.003, 0.2), ("lopsided", 0.003, 0.04), ("radial", 0.003, 0.04), ("streams", 0.01, 0.08)]


@pytest.mark.parametrize(("kind", "least", "most"), MOTIONS)
def test_motions_leave_residuals_of_their_size(sharp, only, kind, least, most):
    """Root mean square over V_2.2 sin i, of the velocities about those of the true disc."""
    only(kind)
    discs = draw_mismatched(32, sharp, generator(2))
    bright = discs.stamps.intensity > 0.02
    residual = torch.where(bright, discs.stamps.velocity - undisturbed(discs).velocity, 0).square().sum((1, 2)) / bright.sum((1, 2))
    share = residual.sqrt() / discs.v_22_sini
    assert least < share.median() < most


def test_structure_of_the_light_leaves_sharp_velocities_alone(changed, only):
    only("bulge", "spiral", "clumps", "break")
    model = DiscAutoencoder(changed(stream=SHARP | {"no_beam": 1, "clumps": 0.35}).network)
    discs = draw_mismatched(16, model, generator(4))
    plain, bright = undisturbed(discs), discs.stamps.intensity > 0.01
    assert not discs.stamps.beam.any()
    assert (discs.stamps.velocity - plain.velocity)[bright].abs().max() < 0.5
    assert (discs.stamps.intensity - plain.intensity).abs().amax((1, 2)).median() > 0.05


def test_noise_is_wrong_by_its_factor_and_correlated_over_the_beam(model):
    draw, beam = Draw(300, generator(), torch.device("cpu")), torch.full((300,), 8.0)
    yes, no = torch.ones(300, dtype=torch.bool), torch.zeros(300, dtype=torch.bool)

    def neighbours(noise):
        return ((noise[..., 2:] * noise[..., :-2]).mean() / noise.square().mean()).item()

    plain, _ = mismatch._noise(torch.ones(300), beam, {"errors": no, "correlated": no}, draw)
    assert plain.std().item() == pytest.approx(1, abs=0.01) and neighbours(plain) == pytest.approx(0, abs=0.01)
    correlated, _ = mismatch._noise(torch.ones(300), beam, {"errors": no, "correlated": yes}, draw)
    assert correlated.std().item() == pytest.approx(1, abs=0.03) and neighbours(correlated) > 0.4
    wrong, _ = mismatch._noise(torch.ones(300), beam, {"errors": yes, "correlated": no}, draw)
    factors = wrong.std((1, 2))
    assert factors.min() > 0.67 and factors.max() < 1.56 and factors.std() > 0.15


def test_discs_like_a_surveys_keep_what_its_telescope_does(model, only):
    only("clumps", "spiral")
    drawn = draw_discs(6, model, generator(5))
    clumpy = torch.tensor([True, False] * 3)
    survey = Templates(drawn.stamps, drawn.parameters, torch.full((6,), 2.0), clumpy)
    discs = draw_mismatched(12, model, generator(), like=survey)
    for k in range(12):
        for name in ("valid", "beam", "velocity_err"):
            assert torch.equal(getattr(discs.stamps, name)[k], getattr(survey.stamps, name)[k % 6])
    assert (discs.stamps.velocity[~discs.stamps.valid] == 0).all()
    off = discs.parameters.inclination_deg - survey.parameters.inclination_deg.repeat(2)
    assert 0.5 < off.abs().median() < 8


def test_photometric_intensity_is_smooth(sharp, only):
    only("clumps", "spiral", "break", "bar")
    drawn = draw_discs(8, sharp, generator(5))
    clumpy = torch.tensor([True, False] * 4)
    discs = draw_mismatched(8, sharp, generator(), like=Templates(drawn.stamps, drawn.parameters, torch.ones(8), clumpy))
    off = (undisturbed(discs).intensity - discs.stamps.intensity).abs().amax((1, 2))
    assert off[~clumpy].max() < 0.02 and off[clumpy].min() > 0.03
