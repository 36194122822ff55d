"""Calibrated errors cover the truth as often as one sigma should."""

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from tullyflow.network.autoencoder import DiscAutoencoder, DiscParameters
from tullyflow.network.calibration import Calibration, _fit, _infer, _join, _offset, calibrate, identity, scatter_of_samples
from tullyflow.network.checkpoint import load_checkpoint
from tullyflow.network.inference import sample_posterior
from tullyflow.network.synthetic import Templates, draw_discs, stream_discs, stream_like
from tullyflow.network.training import _discs
from tullyflow.settings import Stream

CPU = torch.device("cpu")


def generator(seed=9):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def trained(settings, trained_dir):
    checkpoint = load_checkpoint(trained_dir, settings.network, CPU)
    checkpoint.model.eval()
    return checkpoint


def narrow_survey(model, n=1000):
    """Small beams, little noise, full coverage, inclinations and lengths in the middle of their ranges."""
    stream = Stream(beam=(0, 2), velocity_err=(0.3, 0.6), snr=(250, 500), clumps=0, central_light=0, other_curves=0)
    drawn = draw_discs(n, DiscAutoencoder(model.network.model_copy(update={"stream": stream})), generator(21))
    parameters = drawn.parameters.stack()
    low, high = torch.tensor([50.0, 0.15, 0.1, 0.0]), torch.tensor([70.0, 0.35, 0.3, torch.inf])
    chosen = ((parameters > low) & (parameters < high)).all(dim=1).nonzero().squeeze(1)
    parameters = DiscParameters(*parameters[chosen].unbind(-1))
    stamps = drawn.stamps.select(chosen)
    stamps = replace(stamps, valid=torch.ones_like(stamps.valid))
    return Templates(stamps, parameters, torch.ones(len(chosen)), torch.ones(len(chosen), dtype=torch.bool))


@pytest.fixture(scope="module")
def survey(trained):
    return narrow_survey(trained.model)


@pytest.fixture(scope="module")
def own(trained, survey):
    return survey_calibration(trained.model, trained.calibration, survey)


def survey_calibration(model, before, survey):
    g = generator()
    return calibrate(model, islice(stream_like(survey, 100, model, g), 8), g, "survey", before, samples=20)


def test_known_scale_and_floor_are_recovered():
    rng = np.random.default_rng(4)
    scatter = rng.lognormal(0, 1, 20_000)
    residual = rng.normal(0, np.hypot(2.5 * scatter, 1.5))
    assert _fit(residual, scatter) == pytest.approx((2.5, 1.5), rel=0.08)


def test_one_sigma_covers_68_percent_of_skewed_residuals():
    rng = np.random.default_rng(5)
    scatter = rng.lognormal(0, 1, 5000)
    residual = scatter * rng.standard_t(2, 5000)
    scale, floor = _fit(residual, scatter)
    assert np.mean(np.abs(residual) <= np.hypot(scale * scatter, floor)) == pytest.approx(0.6827, abs=0.005)


def test_trained_network_covers_new_discs_of_the_kind_it_was_calibrated_on(trained):
    """Discs that are not the model. Four binomial errors of 500 discs and of the 300 the fit was made on."""
    g = generator(77)
    truth, mean, scatter = _infer(trained.model, islice(_discs(trained.model, g, None), 5), 30, g)
    calibrated = np.abs(truth - mean + trained.calibration.offsets(mean)) <= trained.calibration.errors(mean, scatter)
    covered = np.mean(calibrated, axis=0)
    assert covered == pytest.approx([0.6827] * 4, abs=4 * np.hypot(0.0208, 0.027))
    sampled = trained.model.sample(next(stream_discs(300, trained.model, g)).stamps, 30, g)
    dropout = scatter_of_samples(sampled.parameters.stack().double().numpy())[1]
    assert (np.median(dropout / sampled.spread.numpy(), axis=0) < 0.8).all(), "dropout alone should be too narrow"


@pytest.mark.parametrize(("change", "kinds"), [({}, True), ({"calibrate_on": "model"}, False)])
def test_discs_to_calibrate_on_are_of_the_kind_that_is_asked_for(changed, survey, change, kinds):
    model = DiscAutoencoder(changed(**change).network)
    for like in (None, survey):
        assert hasattr(next(iter(_discs(model, generator(), like))), "kinds") == kinds
    if kinds:  # every galaxy of a survey has its turn before one comes again
        beams = next(iter(_discs(model, generator(), survey))).stamps.beam
        assert beams[: len(survey)].sort().values.equal(survey.stamps.beam.sort().values)


def test_calibration_survives_json_and_is_the_generators_alone(model):
    one, two = (calibrate(model, islice(stream_discs(100, model, g), 2), g, samples=10) for g in (generator(), generator()))
    assert one == two == Calibration.from_json(json.loads(json.dumps(one.to_json())))
    assert all(0.4 < c < 0.95 for c in one.coverage_after)


def test_identity_leaves_the_scatter_as_it_is():
    scatter = np.array([[1.0, 0.2, 0.3, 0.4], [np.nan] * 4])
    assert np.array_equal(identity().errors(scatter, scatter), scatter, equal_nan=True)


def test_survey_like_discs_are_covered_where_the_broad_errors_are_wrong(trained, survey, own):
    """Errors that hold for discs of all kinds hold for no kind: here they are off by tens of per cent in one parameter or more."""
    g = generator(88)
    truth, mean, scatter = _infer(trained.model, islice(stream_like(survey, 100, trained.model, g), 10), 20, g)
    broad, narrow = (np.mean(np.abs(mean - c.offsets(mean) - truth) <= c.errors(mean, scatter), axis=0) for c in (trained.calibration, own))
    assert len(survey) >= 8
    assert (narrow > 0.60).all() and (narrow < 0.76).all(), narrow
    assert (np.abs(broad - 0.6827) > 0.1).any(), broad
    assert own.source == "survey" and trained.calibration.source == "synthetic"
    assert own.coverage_before == pytest.approx(broad, abs=0.06) and own.coverage_after == pytest.approx(narrow, abs=0.09)


def test_bias_of_the_network_is_recovered_and_taken_off(trained, survey, settings, trained_dir):
    """A network that reads V sin i 15 % too high, and inclination as before."""
    biased = load_checkpoint(trained_dir, settings.network, CPU).model.eval()
    with torch.no_grad():
        biased.encoders.last.bias[3] += 2 * 0.14 / float(biased.high[3] - biased.low[3])
    straight, crooked = (survey_calibration(m, identity(), survey) for m in (trained.model, biased))
    means = [scatter_mean(m, survey.stamps) for m in (trained.model, biased)]
    moved = crooked.offsets(means[1]) - straight.offsets(means[0])
    assert np.median(moved[:, 3]) == pytest.approx(0.14, abs=0.03)
    assert np.median(moved[:, 0]) == pytest.approx(0, abs=1e-9)
    one, two = (sample_posterior(m, survey.stamps, c, 40, generator()).mean for m, c in ((trained.model, straight), (biased, crooked)))
    assert np.median(np.log(two[:, 3] / one[:, 3])) == pytest.approx(0, abs=0.03)


def scatter_mean(model, stamps):
    mean = sample_posterior(model, stamps, identity(), 40, generator()).mean
    return np.concatenate([mean[:, :1], np.log(mean[:, 1:])], axis=1)


def test_bounds_are_those_of_the_raw_mean(trained, survey, settings):
    shifted = replace(identity(), offset=((500.0, 20.0, -20.0, 0.0),))
    raw, moved = (sample_posterior(trained.model, survey.stamps, c, 20, generator()) for c in (identity(), shifted))
    assert np.array_equal(raw.at_bound, moved.at_bound)
    ranges = settings.network.ranges
    ends = (ranges.inclination_deg[0], ranges.r_scale[0], ranges.r_turn[1])
    assert np.allclose(moved.samples[..., :3], ends)
    assert np.allclose(moved.samples[..., 3], raw.samples[..., 3])


def test_bins_a_survey_has_no_discs_in_keep_the_broad_figures(trained, own):
    broad, fitted = trained.calibration, np.array(own.fitted)
    assert (fitted == 0).any() and (fitted.sum(axis=0) == 400).all()
    for name in ("scale", "floor", "offset"):
        same = np.array(getattr(own, name)) == np.array(getattr(broad, name))
        assert same[fitted == 0].all(), name
    assert not (np.array(own.floor) == np.array(broad.floor))[fitted > 0].any()


def test_bins_with_few_discs_join_their_smaller_neighbour():
    assert _join(np.array([100, 20, 70, 0, 300]), keep_empty=False) == [[0], [1, 2], [4]]
    assert _join(np.array([100, 20, 70, 0, 300]), keep_empty=True) == [[0], [1, 2, 3], [4]]
    assert _join(np.array([0, 10, 0, 5, 0]), keep_empty=False) == [[1, 3]]
    assert _join(np.array([90, 90, 90]), keep_empty=True) == [[0], [1], [2]]


def test_only_significant_offsets_are_used():
    difference = np.random.default_rng(2).normal(0, 1, 400)
    difference -= np.median(difference)
    assert _offset(difference + 0.05) == 0.0
    assert _offset(difference + 0.3) == pytest.approx(0.3)
