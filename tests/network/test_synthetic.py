"""The synthetic stream holds what it says: labels, errors, masks, ends."""

from dataclasses import replace

import pytest
import torch

from tullyflow.network import drawing, synthetic
from tullyflow.network.autoencoder import DiscAutoencoder, DiscParameters
from tullyflow.network.drawing import Draw, native_noise
from tullyflow.network.synthetic import Templates, draw_discs, draw_like, stream_like


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def test_seed_gives_the_same_discs(model):
    one, two = (draw_discs(4, model, generator()) for _ in range(2))
    assert torch.equal(one.stamps.velocity, two.stamps.velocity) and torch.equal(one.labels, two.labels)
    assert not torch.equal(one.labels, draw_discs(4, model, generator(2)).labels)


def test_labels_are_the_parameters(model):
    discs = draw_discs(200, model, generator())
    parameters = model.parameters_of(discs.labels, discs.stamps.norm).stack()
    within = discs.labels[:, 3].abs() < 1
    assert within.float().mean() > 0.8
    assert torch.allclose(parameters[within], discs.parameters.stack()[within], rtol=1e-4)


def test_discs_reach_the_ends_of_the_ranges(model):
    labels = draw_discs(400, model, generator()).labels
    assert (labels[:, :3].amin(0) == -1).all() and (labels[:, :3].amax(0) == 1).all()


def test_stamps_are_normalised_filled_and_finite(model):
    stamps = draw_discs(100, model, generator()).stamps
    assert torch.allclose(stamps.intensity.amax((1, 2)), torch.ones(100))
    assert (stamps.velocity[~stamps.valid] == 0).all() and stamps.velocity.isfinite().all()
    assert stamps.valid[:, 31:33, 31:33].all()
    fill = stamps.valid.float().mean((1, 2))
    assert fill.min() < 0.3 and fill.max() > 0.9


PLAIN = {"pa_err": 0, "centre_err": 0, "v_sys_err": 0, "clumps": 0, "central_light": 0, "other_curves": 0}


def test_errors_are_those_of_the_noise(changed):
    """Without misplacement and clumps, the true disc leaves residuals of one error."""
    model = DiscAutoencoder(changed(stream=PLAIN).network)
    discs = draw_discs(100, model, generator())
    maps = model.decode(DiscParameters(*discs.parameters.stack().unbind(-1)), discs.stamps.beam)
    scaled = ((discs.stamps.velocity - maps.velocity) / discs.stamps.velocity_err)[discs.stamps.valid]
    assert scaled.std().item() == pytest.approx(1, abs=0.02)
    assert scaled.mean().item() == pytest.approx(0, abs=0.02)


def test_noise_grows_outwards(model):
    stamps = draw_discs(50, model, generator()).stamps
    edge = stamps.velocity_err[:, :, :8].mean((1, 2))
    assert (edge > 1.2 * stamps.velocity_err[:, 31, 31]).float().mean() > 0.8


def test_other_curves_are_labelled_by_the_nearest_arctan(changed):
    """The label's own maps leave residuals well below V, and arctans keep theirs."""
    quiet = PLAIN | {"velocity_err": [1e-6, 2e-6], "gaps": False, "faintest": None}
    some, none = (DiscAutoencoder(changed(stream=quiet | {"other_curves": share}).network) for share in (1, 0))
    discs = draw_discs(100, some, generator())
    maps = some.decode(discs.parameters, discs.stamps.beam)
    share = (maps.velocity - discs.stamps.velocity).square().mean((1, 2)).sqrt() / discs.stamps.velocity.square().mean((1, 2)).sqrt()
    assert 0.003 < share.median() < 0.05 and share.max() < 0.25
    low, high = some.network.ranges.r_turn
    assert discs.parameters.r_turn.min() >= low * 0.999 and discs.parameters.r_turn.max() <= high * 1.001
    plain = draw_discs(100, none, generator())
    plain_maps = none.decode(plain.parameters, plain.stamps.beam)
    assert (plain_maps.velocity - plain.stamps.velocity).abs().max() < 0.1


def test_central_light_is_round_and_as_wide_as_the_beam(model):
    parameters = DiscParameters(*torch.tensor([[60.0, 0.3, 0.2, 100.0]]).repeat(50, 1).T)
    light = synthetic._central_light(parameters, torch.full((50,), 9.0), 0.5, Draw(50, generator(), torch.device("cpu")))
    assert torch.allclose(light, light.mT, atol=1e-7) and torch.equal(light, light.flip(1))
    some = light.abs().amax((1, 2)) > 0
    assert 0.3 < some.float().mean() < 0.7
    axis = torch.arange(64) - 31.5
    width = ((light.sum(1) * axis.square()).sum(1) / light.sum((1, 2)))[some].sqrt()
    assert (width > 9 / 2.3548).all() and (width < 9).all()


def test_stream_settings_without_gaps_beam_and_noise_give_the_decoders_maps(changed):
    quiet = PLAIN | {"gaps": False, "faintest": None, "no_beam": 1, "snr": [1e6, 2e6], "velocity_err": [1e-5, 2e-5]}
    model = DiscAutoencoder(changed(stream=quiet).network)
    discs = draw_discs(20, model, generator())
    maps = model.decode(discs.parameters, discs.stamps.beam)
    assert discs.stamps.valid.all() and not discs.stamps.beam.any()
    assert torch.allclose(maps.intensity, discs.stamps.intensity, atol=1e-4)
    assert torch.allclose(maps.velocity, discs.stamps.velocity, atol=0.1)


def test_misplacement_turns_and_shifts():
    draw = Draw(200, generator(), torch.device("cpu"))
    axis = torch.arange(64) - 31.5
    blob = torch.exp(-((axis[None, :] + 4).square() + (axis[:, None] - 9).square()) / 18).expand(200, 1, 64, 64)
    moved = synthetic._misplace(blob, draw, 2.0, 3.0)[:, 0]
    x = (moved.sum(1) * axis).sum(1) / moved.sum((1, 2))
    assert x.std().item() == pytest.approx(3.0, rel=0.15)


def templates(model, n=6, native_pixel=1.0, clumpy=True, seed=5):
    discs = draw_discs(n, model, generator(seed))
    return Templates(discs.stamps, discs.parameters, torch.full((n,), native_pixel), torch.full((n,), clumpy))


def test_like_discs_keep_mask_beam_and_errors(model):
    survey = templates(model)
    discs = draw_like(survey, model, generator())
    assert torch.equal(discs.stamps.valid, survey.stamps.valid) and torch.equal(discs.stamps.beam, survey.stamps.beam)
    assert (discs.stamps.velocity[~survey.stamps.valid] == 0).all() and (discs.stamps.intensity[~survey.stamps.valid] == 0).all()
    assert torch.equal(discs.stamps.velocity_err, survey.stamps.velocity_err)
    assert torch.allclose(discs.stamps.intensity.amax((1, 2)), torch.ones(6))


def test_like_discs_are_the_seeds_alone(model):
    one, two, other = (next(stream_like(templates(model), 8, model, generator(seed))) for seed in (1, 1, 2))
    assert torch.equal(one.stamps.velocity, two.stamps.velocity) and torch.equal(one.labels, two.labels)
    assert not torch.equal(one.labels, other.labels)


def test_every_galaxy_of_a_survey_comes_equally_often(model):
    survey = templates(model, n=5)
    stream = stream_like(survey, 4, model, generator())
    beams = torch.cat([next(stream).stamps.beam for _ in range(5)])
    assert [int((beams == beam).sum()) for beam in survey.stamps.beam] == [4] * 5


def test_like_discs_lie_near_their_galaxies_and_within_the_ranges(changed):
    model = DiscAutoencoder(changed(stream=PLAIN).network)
    found = DiscParameters(*torch.tensor([[89.0, 0.2, 0.2, 100.0], [45, 0.3, 0.1, 80], [60, 0.25, 0.9, 150], [6, 0.4, 0.011, 40]]).T)
    survey = replace(templates(model, n=4), parameters=found).select(torch.arange(4).repeat_interleave(300))
    drawn, found = draw_like(survey, model, generator()).parameters.stack(), survey.parameters.stack()
    ranges = model.network.ranges
    for k, (low, high) in enumerate((ranges.inclination_deg, ranges.r_scale, ranges.r_turn)):
        assert drawn[:, k].min() >= low * 0.999 and drawn[:, k].max() <= high * 1.001
    inside = (found[:, 0] > 20) & (found[:, 0] < 75)
    assert (drawn - found)[inside, 0].std().item() == pytest.approx(4, rel=0.1)
    assert (drawn / found)[:, 1].log().std().item() == pytest.approx(0.1, rel=0.15)
    assert (drawn / found)[inside, 2][:300].log().std().item() == pytest.approx(0.3, rel=0.15)


@pytest.mark.parametrize("native_pixel", [1.0, 3.0])
def test_noise_of_like_discs_is_independent_from_one_native_pixel_to_the_next(model, native_pixel):
    noise = native_noise(torch.full((50,), native_pixel), Draw(50, generator(), torch.device("cpu")))
    near, far = ((noise[..., k:] * noise[..., :-k]).mean().item() / noise.square().mean().item() for k in (1, 6))
    assert far == pytest.approx(0, abs=0.02)
    assert near == pytest.approx(0, abs=0.02) if native_pixel == 1 else near > 0.6


def test_photometric_intensity_has_no_clumps(changed, monkeypatch):
    model = DiscAutoencoder(changed(stream=PLAIN | {"clumps": 0.35, "snr": [1e5, 1e6]}).network)
    monkeypatch.setattr(synthetic, "LIKE_PA_ERR", 0.0)
    monkeypatch.setattr(drawing, "_LIKE_INCLINATION", 0.0)
    monkeypatch.setattr(drawing, "_LIKE_LN", (0.0, 0.0, 0.0))
    for clumpy, rms in ((True, pytest.approx(0.12, abs=0.1)), (False, pytest.approx(0, abs=0.003))):
        survey = templates(model, n=40, clumpy=clumpy)
        discs = draw_like(survey, model, generator())
        maps = model.decode(discs.parameters, discs.stamps.beam)
        valid = discs.stamps.valid & (maps.intensity > 0.05)
        ratio = torch.where(valid, discs.stamps.intensity / maps.intensity, torch.nan)
        ratio = ratio / ratio.flatten(1).nanmedian(dim=1).values.view(-1, 1, 1)
        scatter = (ratio[valid] - 1).square().mean().sqrt().item()
        assert scatter == rms and (scatter > 0.03) == clumpy
