"""Refined discs: nearer to the truth than the network, in the table where they converged, never told narrow where they did not."""

import numpy as np
import pytest
import torch
from astropy.io import fits

from tullyflow.disc.gradients import disc_gradients
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.network.batch import Stamps
from tullyflow.network.inference import infer
from tullyflow.network.refinement import FITTED, refine_discs
from tullyflow.settings import Network
from tullyflow.tables import KINEMATICS, PARAMETERS, PLACING, read_table

CPU = torch.device("cpu")
FEW, PIXELS_LEFT = 7, 18  # a galaxy, and how many pixels it keeps: twice the free parameters, one beam's area


@pytest.fixture(scope="module")
def both(settings, write_shard, trained_dir, tmp_path_factory):
    """Tables of 40 discs with the network's answers and with refined ones, and the truth; one disc has next to no pixels."""
    folder = tmp_path_factory.mktemp("refined")
    maps, targets, discs = write_shard(n=40, seed=21)
    with fits.open(maps, mode="update") as hdus:
        valid = np.argwhere(hdus["MASK"].data[FEW] == 0)
        for y, x in valid[np.argsort(np.hypot(*(valid - 31.5).T))][PIXELS_LEFT:]:
            hdus["MASK"].data[FEW, y, x] = PIXEL.LOW_SNR
    tables = []
    for refine in (False, True):
        data = settings.model_copy(update={"network": settings.network.model_copy(update={"refine": refine})})
        infer(maps, targets, trained_dir, data, folder / f"{refine}.parquet", folder / f"{refine}.fits")
        tables.append(read_table(folder / f"{refine}.parquet", KINEMATICS))
    return *tables, discs.parameters


def whole(fit):
    """Which galaxies were fitted with inclination and scale length free."""
    return (fit["curve_kind"] == "fit") & ((fit["flags"] & GALAXY.INCLINATION_NOT_FITTED) == 0)


def test_refined_discs_are_nearer_to_the_truth_and_so_are_the_maps(both):
    network, fit, truth = both
    true = truth.stack().numpy()
    for k, (name, share) in enumerate((("inclination_deg", 0.7), ("r_scale_arcsec", 0.7), ("r_turn_arcsec", 1.0), ("v_max_sini_kms", 0.6))):
        unit = 32 * 0.7 if "arcsec" in name else 1.0
        off = [np.median(np.abs((table[name] / unit - true[:, k]) / (true[:, k] if k else 1))[whole(fit)]) for table in (network, fit)]
        assert off[1] < share * off[0], name
    assert fit["reconstruction_velocity_kms"].median() < network["reconstruction_velocity_kms"].median()


def test_the_table_says_whose_disc_it_is_and_keeps_the_networks(both):
    network, fit, _ = both
    assert set(network["curve_kind"]) == {"network"}
    assert network[list(PLACING)].isna().all(axis=None)
    assert whole(fit).mean() > 0.7
    left = fit[fit["curve_kind"] == "network"]
    for name in PARAMETERS:
        stem, unit = name.rsplit("_", 1)
        own = f"{stem}_network_{unit}"
        assert np.allclose(network[name], network[own]) and np.allclose(fit[own], network[own])
        assert np.allclose(left[name], left[own])
        assert not np.isclose(fit[name], fit[own])[whole(fit)].any()
    held = (fit["flags"] & GALAXY.INCLINATION_NOT_FITTED) > 0
    for name in ("inclination_deg", "inclination_deg_err", "r_scale_arcsec", "r_scale_arcsec_err"):
        assert np.allclose(fit[name][held], network[name][held])


def test_a_fitted_value_is_at_no_bound_of_the_network(both):
    fit = both[1][both[1]["curve_kind"] == "fit"]
    assert not fit["v_max_sini_kms_at_bound"].any() and not fit["r_turn_arcsec_at_bound"].any()
    assert not both[1][whole(both[1])]["inclination_deg_at_bound"].any()


def test_its_errors_are_those_of_the_fit_and_cover(both):
    """68 % of normal errors lie within one sigma; 40 discs, on a calibration by 40, put 45-95 % there."""
    _, fit, truth = both
    off = np.abs(fit["v_max_sini_kms"] - truth.v_max_sini.numpy()) / fit["v_max_sini_kms_err"]
    assert 0.45 < np.mean(off < 1) < 0.95
    assert (fit["v_max_kms_err"] > 0).all() and (fit["log_v_22_err"] > 0).all()
    fitted = fit[fit["curve_kind"] == "fit"]
    for name in (*PARAMETERS, *PLACING):
        ratio = fitted[f"{name}_err95"] / fitted[f"{name}_err"]
        assert ratio.min() > 1 and ratio.median() > 1.8, name


def test_a_galaxy_of_too_few_pixels_keeps_the_networks_answer_and_errors_and_says_so(both):
    network, fit, _ = both
    row, own = fit.iloc[FEW], network.iloc[FEW]
    assert row["n_pixels"] == PIXELS_LEFT and row["curve_kind"] == "network" and row["curve_shape"] == ""
    assert row["flags"] & GALAXY.FIT_FAILED and not own["flags"] & GALAXY.FIT_FAILED
    for name in PARAMETERS:
        assert row[f"{name}_err"] == pytest.approx(own[f"{name}_err"])
        assert row[f"{name}_err95"] == pytest.approx(2 * own[f"{name}_err"])
    assert np.isnan([row[name] for name in PLACING]).all()
    failed = (fit["flags"] & GALAXY.FIT_FAILED) > 0
    assert (failed == (fit["curve_kind"] == "network")).all() and failed.mean() < 0.3


def survey(n=8, inclination=55.0, r_scale=0.3, extra=0.0, pixels=None, seed=0):
    """Stamps of one disc seen ``n`` times with noise (3 km/s stated, ``extra`` beside, S/N 50), and starts off it."""
    true = np.array([[inclination, r_scale, 0.1, 150.0]] * n)
    placing = [[2.0, 0.5, -0.7, 4.0]] * n
    beam = torch.full((n,), 4.0, dtype=torch.float64)
    maps = disc_gradients(torch.as_tensor(np.hstack([true, placing, np.ones((n, 1))])), beam)
    generator = torch.Generator().manual_seed(seed)
    noise = [torch.randn(maps.velocity.shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    error = torch.full_like(maps.velocity, 3.0)
    valid = maps.intensity > 0.05
    if pixels:
        valid &= torch.rand(valid.shape, generator=generator) < pixels / valid.sum((1, 2)).view(-1, 1, 1)
    images = maps.intensity + 0.02 * noise[0], torch.full_like(error, 0.02), maps.velocity + np.hypot(3, extra) * noise[1], error
    rng = np.random.default_rng(seed)
    start = true * np.exp([0, 0.1, 0.4, 0.1] * rng.standard_normal((n, 4)))
    start[:, 0] = (inclination + 5 * rng.standard_normal(n)).clip(5, 88)
    return Stamps(*(image.float() for image in images), valid, beam.float(), torch.ones(n)), true, start


def refined(stamps, start, held=False):
    return refine_discs(stamps, start, np.full(len(start), held), Network(), CPU)


def test_all_of_a_disc_is_found_within_the_errors():
    stamps, true, start = survey()
    found = refined(stamps, start)
    assert found.converged.all() and not found.held.any()
    sigma = np.sqrt(np.einsum("gii->gi", found.covariance))
    off = np.concatenate([found.parameters[:, :1] - true[:, :1], np.log(found.parameters[:, 1:] / true[:, 1:])], axis=1)
    pull = np.concatenate([off, found.placing - [2.0, 0.5, -0.7, 4.0]], axis=1) / sigma
    assert pull.shape == (8, len(FITTED)) and 0.4 < np.sqrt(np.mean(pull**2)) < 1.4
    assert np.abs(off[:, 0]).mean() < 0.1 * np.abs(start[:, 0] - 55).mean()


@pytest.mark.parametrize("extra", [0.0, 8.0])
def test_what_the_errors_given_do_not_explain_is_measured(extra):
    stamps, _, start = survey(extra=extra)
    found = refined(stamps, start)
    assert np.median(found.mismatch[:, 1]) == pytest.approx(extra, abs=0.8)
    assert found.mismatch[:, 0].max() < 0.01


def test_held_discs_keep_inclination_and_scale_and_say_how_the_rest_follows():
    stamps, true, start = survey(n=4)
    start[:, :2] = true[:, :2]
    moved = start.copy()
    moved[:, 0] += 4
    one, two = refined(stamps, start, held=True), refined(stamps, moved, held=True)
    assert one.held.all() and np.allclose(one.parameters[:, :2], start[:, :2], rtol=1e-12)
    assert not one.covariance[:, :2].any() and not one.covariance[:, :, :2].any()
    follows = np.log(two.parameters[:, 3] / one.parameters[:, 3]) / 4
    assert follows == pytest.approx(one.by_held[:, 3, 0], rel=0.3) and (follows > 0).all() and not one.by_held[:, :2].any()


@pytest.mark.parametrize("inclination", [1.0, 89.99])
def test_a_disc_at_a_limit_is_never_told_narrow(inclination):
    """Face-on and edge-on: the fit stands with an error that holds the truth, or it says nothing of the inclination."""
    stamps, _, start = survey(inclination=inclination)
    found = refined(stamps, start)
    free = found.converged & ~found.held
    assert not free.all()
    off = np.abs(found.parameters[free, 0] - inclination)
    assert (off < 4 * np.sqrt(found.covariance[free, 0, 0])).all()
    assert not found.covariance[found.converged & found.held, :2].any()


def test_a_fit_that_knows_less_than_that_discs_lie_at_random_leaves_the_inclination_to_the_network():
    """Discs of a scale length of half a pixel under a beam of 4: next to nothing tells their inclination."""
    stamps, _, start = survey(n=9, inclination=30.0, r_scale=0.02)
    found = refined(stamps, start)
    free = found.converged & ~found.held
    assert (np.sqrt(found.covariance[free, 0, 0]) < 21.6).all()
    assert (found.converged & found.held).sum() > 2


@pytest.mark.parametrize("pixels", [6, 14])
def test_fewer_pixels_than_measurements_are_no_fit(pixels):
    stamps, _, start = survey(pixels=pixels)
    found = refined(stamps, start)
    assert not found.converged.any()
    for part in (found.parameters, found.placing, found.covariance):
        assert np.isnan(part).all()


def test_a_galaxy_without_an_answer_is_nan_and_alone():
    stamps, _, start = survey(n=3)
    together = refined(stamps, start)
    start[1] = np.nan
    apart = refined(stamps, start)
    assert apart.converged.tolist() == [True, False, True]
    assert np.allclose(apart.parameters[[0, 2]], together.parameters[[0, 2]], rtol=1e-5)


def test_no_galaxies_are_no_answers():
    stamps, _, start = survey(n=2)
    found = refined(stamps.select(slice(0, 0)), start[:0])
    assert found.parameters.shape == (0, 4) and found.covariance.shape == (0, 8, 8)
