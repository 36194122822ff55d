"""What inference writes: every row, in units, with errors that hang together."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from astropy.io import fits

from tullyflow.disc.profiles import rotation_velocity
from tullyflow.errors import ModelError
from tullyflow.flags import GALAXY
from tullyflow.network.calibration import identity
from tullyflow.network.checkpoint import Checkpoint, load_checkpoint
from tullyflow.network.fit_calibration import unchanged
from tullyflow.network.inference import _flags_of_range, infer
from tullyflow.network.reconstruction import reconstruct
from tullyflow.network.velocities import calibrated_samples, rotation_curve, velocity_at
from tullyflow.settings import Stream
from tullyflow.tables import KINEMATICS, PARAMETERS, read_table

DEAD, PHOTOMETRIC = 1, 3


@pytest.fixture(scope="module")
def inferred(settings, write_shard, trained_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inferred")
    maps, targets, discs = write_shard(n=6, dead=(DEAD,), photometric=(PHOTOMETRIC,))
    infer(maps, targets, trained_dir, settings, folder / "kinematics.parquet", folder / "models.fits")
    return folder, maps, targets, read_table(folder / "kinematics.parquet", KINEMATICS), discs


def test_every_target_has_its_row(inferred):
    table = inferred[3]
    assert list(table["galaxy"]) == [f"galaxy {k}" for k in range(6)]
    alive = table.drop(index=DEAD)
    numbers = [c.name for c in KINEMATICS if c.kind == "f"]
    assert np.isfinite(alive[numbers].to_numpy()).all(), alive[numbers].columns[~np.isfinite(alive[numbers]).all()]
    assert set(table["mode"]) == {"blind"}


def test_galaxy_without_a_stamp_keeps_its_flag_and_says_so(inferred):
    dead = inferred[3].iloc[DEAD]
    assert dead["flags"] == GALAXY.MISSING_FILE | GALAXY.NOT_INFERRED
    assert dead["messages"] == "The file is not there."
    assert np.isnan(dead["v_max_kms"]) and dead["n_pixels"] == 0 and dead["inclination_kind"] == ""


def test_columns_hang_together(inferred):
    table = inferred[3].drop(index=DEAD)
    for name in PARAMETERS:
        assert (table[f"{name}_mad"] <= table[f"{name}_std"]).all()
        assert (table[f"{name}_p16"] <= table[f"{name}_p50"]).all() and (table[f"{name}_p50"] <= table[f"{name}_p84"]).all()
        assert (table[f"{name}_err"] > 0).all()
    kinematic = table.drop(index=PHOTOMETRIC)
    sin = np.sin(np.radians(kinematic["inclination_deg"]))
    assert np.allclose(kinematic["v_max_kms"] * sin, kinematic["v_max_sini_kms"])
    columns = (2.2 * kinematic["r_scale_arcsec"], kinematic["v_max_kms"], kinematic["r_turn_arcsec"])
    at_22 = rotation_velocity(*(torch.tensor(column.to_numpy()) for column in columns))
    assert np.allclose(kinematic["v_22_kms"], at_22.numpy())
    at_r_e = 2 / np.pi * table["v_max_kms"] * np.arctan(9.0 / table["r_turn_arcsec"])
    assert np.allclose(table["v_re_kms"], at_r_e)


def test_lengths_are_in_arcsec(inferred, settings):
    """Half-width 32 px of 0.7 arcsec; the range's ends bound the mean."""
    table, (low, high) = inferred[3].drop(index=DEAD), settings.network.ranges.r_scale
    assert table["r_scale_arcsec"].between(low * 22.4 * 0.999, high * 22.4 * 1.001).all()


def test_photometric_inclination_is_used_where_the_stamp_was_photometry(inferred):
    row = inferred[3].iloc[PHOTOMETRIC]
    assert row["inclination_kind"] == "photometric"
    assert (row["inclination_used_deg"], row["inclination_used_err_deg"]) == (55.0, 4.0)
    assert row["v_max_kms"] == pytest.approx(row["v_max_sini_kms"] / np.sin(np.radians(55)))
    v_22 = 2 / np.pi * row["v_max_kms"] * np.arctan(2.2 * (9.0 / 1.678) / row["r_turn_arcsec"])
    assert row["v_22_kms"] == pytest.approx(v_22, rel=1e-6)
    assert row["r_scale_used_arcsec"] == pytest.approx(9.0 / 1.678)
    others = inferred[3].drop(index=[DEAD, PHOTOMETRIC])
    assert np.allclose(others["r_scale_used_arcsec"], others["r_scale_arcsec"])


def test_inference_twice_gives_equal_files(inferred, settings, trained_dir, tmp_path):
    folder, maps, targets, _, _ = inferred
    infer(maps, targets, trained_dir, settings, tmp_path / "kinematics.parquet", tmp_path / "models.fits")
    for name in ("kinematics.parquet", "models.fits"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_model_file_is_whole_and_follows_the_stamps(inferred):
    folder, _, _, table, discs = inferred
    with fits.open(folder / "models.fits", checksum=True) as hdus:
        hdus.verify("exception")
        assert all(hdu.verify_checksum() == 1 for hdu in hdus)
        velocity, curves = hdus["MODEL_VELOCITY"].data, hdus["CURVES"].data
        assert velocity.shape == hdus["MODEL_INTENSITY"].data.shape == (6, 64, 64)
        assert np.isnan(velocity[DEAD]).all()
        valid = discs.stamps.valid.numpy()
        for k in set(range(6)) - {DEAD, PHOTOMETRIC}:
            rms = np.sqrt(np.mean((velocity[k] - discs.stamps.velocity.numpy()[k])[valid[k]] ** 2))
            assert rms == pytest.approx(table["reconstruction_velocity_kms"][k], rel=1e-3)
            middle = 2 / np.pi * table["v_max_kms"][k] * np.arctan(curves["radius_arcsec"][k] / table["r_turn_arcsec"][k])
            assert (curves["v_rot_p16"][k] <= middle * 1.02).all() and (middle <= curves["v_rot_p84"][k] * 1.02).all()
        assert curves["radius_arcsec"].shape == (6, 32) and curves["radius_arcsec"][0, -1] == pytest.approx(15.0)


def test_truth_reconstructs_with_a_reduced_chi_squared_below_one(settings, trained_dir, inferred):
    """The floor of 5 km/s is beside the true noise; misplacement costs a little; the network's own guess costs more."""
    discs, model = inferred[4], load_checkpoint(trained_dir, settings.network, torch.device("cpu")).model
    truth = discs.parameters.stack().numpy()
    fit = reconstruct(model, discs.stamps, truth)
    assert np.median(fit.chi2_velocity) < 1
    wrong = truth.copy()
    wrong[:, 3] *= 1.5
    assert (reconstruct(model, discs.stamps, wrong).rms_velocity_kms > fit.rms_velocity_kms).all()


def test_mixed_up_targets_are_refused(settings, write_shard, trained_dir, tmp_path):
    maps, _, _ = write_shard(n=3)
    _, targets, _ = write_shard(n=4)
    with pytest.raises(ModelError, match="in order"):
        infer(maps, targets, trained_dir, settings, tmp_path / "k.parquet", tmp_path / "m.fits")


def test_galaxies_of_the_training_list_are_combined(settings, write_shard, trained_dir, tmp_path):
    from tullyflow.network.checkpoint import Checkpoint, save_checkpoint

    maps, targets, _ = write_shard(n=3)
    checkpoint = load_checkpoint(trained_dir, settings.network, torch.device("cpu"))
    named = Checkpoint(checkpoint.model, checkpoint.calibration, ("galaxy 1",), "the survey")
    assert asdict(named)["trained_on"] == ("galaxy 1",)
    save_checkpoint(named, tmp_path / "weights", settings.seed)
    infer(maps, targets, tmp_path / "weights", settings, tmp_path / "k.parquet", tmp_path / "m.fits")
    assert list(read_table(tmp_path / "k.parquet", KINEMATICS)["mode"]) == ["blind", "combined", "blind"]


def drawn_samples(inclination=60.0, errors=(3.0, 0.05, 0.3, 0.1), correlation=0.0, r_turn=3.0):
    mean = np.array([[inclination, 5.0, r_turn, 120.0]])
    samples = calibrated_samples(mean, np.array([errors]), np.array([correlation]), 20_000, np.random.default_rng(0))
    return mean, samples


def test_asymptotic_velocity_error_adds_inclination_and_velocity():
    """log V = log V sin i - log sin i: first-order propagation."""
    velocity = velocity_at(np.array([np.inf]), *drawn_samples())
    expected = np.hypot(0.1, np.radians(3.0) / np.tan(np.radians(60.0))) / np.log(10)
    assert velocity.value_kms[0] == pytest.approx(120 / np.sin(np.radians(60)))
    assert velocity.log_err[0] == pytest.approx(expected, rel=0.03)
    assert velocity.err_kms[0] == pytest.approx(expected * np.log(10) * velocity.value_kms[0], rel=0.03)


def test_correlated_turnover_makes_inner_velocities_surer():
    free, tied = (velocity_at(np.array([1.0]), *drawn_samples(correlation=c, r_turn=20.0)) for c in (0.0, 0.9))
    assert tied.log_err[0] < 0.85 * free.log_err[0]


def test_edge_on_samples_stay_below_ninety():
    _, samples = drawn_samples(inclination=89.0, errors=(5.0, 0.1, 0.1, 0.1))
    assert samples[..., 0].max() <= 90 and samples[..., 0].std() > 2


def test_nan_radius_gives_nan_velocity():
    assert np.isnan(velocity_at(np.array([np.nan]), *drawn_samples()).value_kms[0])


def test_rotation_curve_bands_are_ordered_and_rise():
    radii = np.linspace(0.5, 20, 7)[None]
    low, middle, high = rotation_curve(radii, drawn_samples()[1])
    assert (low < middle).all() and (middle < high).all() and (np.diff(middle) > 0).all()


def test_beam_noise_and_axis_outside_the_training_are_flagged(settings, inferred):
    """Of the same galaxies those are flagged whose beam, noise at the peak or error of the axis no disc of the stream had."""
    table, stamps = inferred[3], inferred[4].stamps
    assert not (table["flags"] & GALAXY.OUTSIDE_TRAINING).any()
    brightest = stamps.intensity == stamps.intensity.amax((1, 2), keepdim=True)
    beam, snr, err = stamps.beam.numpy(), 1 / stamps.intensity_err[brightest].numpy(), stamps.velocity_err[brightest].numpy()
    pa_err = np.array([0.5, 1, 2, 4, 8, np.nan])
    cases = {
        "beam": ((0, float(np.median(beam))), beam > 1.02 * np.median(beam)),
        "snr": ((float(np.median(snr)), 1e6), snr < np.median(snr) / 1.02),
        "velocity_err": ((0.1, float(np.median(err))), err > 1.02 * np.median(err)),
        "pa_err": (1.0, np.array([False, False, False, True, True, False])),
    }
    wide = {"beam": (0, 99), "snr": (1e-3, 1e6), "velocity_err": (0.1, 1e3), "pa_err": 99.0}
    columns = range_columns()

    def flagged(**limits):
        network = settings.network.model_copy(update={"stream": Stream(**(wide | limits))})
        return _flags_of_range(stamps, pa_err, columns, Checkpoint(SimpleNamespace(network=network), identity()))

    for key, (value, expected) in cases.items():
        flags = flagged(**{key: value})
        flag, other = GALAXY.OUTSIDE_TRAINING, GALAXY.UNCERTAIN_AXIS
        flag, other = (other, flag) if key == "pa_err" else (flag, other)
        assert ((flags & flag) > 0).tolist() == expected.tolist() and not (flags & other).any(), key
        assert 0 < expected.sum() < 6
    sharp = flagged(beam=(2.0, 99.0), no_beam=0)
    assert ((sharp & GALAXY.OUTSIDE_TRAINING) > 0).tolist() == (beam < 2 / 1.02).tolist()


def range_columns(**changes):
    """Columns of six galaxies that the fit answers for, all of whose motion is rotation."""
    columns = {"curve_kind": np.full(6, "fit"), "r_turn_pixels": np.full(6, 99.0), "rotation_share": np.full(6, 0.99)}
    columns |= {"inclination_not_fitted": np.arange(6) == 5}
    return columns | {"non_circular_kms": np.full(6, 2.0), "non_circular_err_kms": np.full(6, 0.5)} | changes


def test_fits_outside_their_calibration_and_without_an_answer_and_disturbed_discs_are_flagged(settings, inferred):
    stamps, model = inferred[4].stamps, SimpleNamespace(network=settings.network.model_copy(update={"initial_weights": "none"}))
    beam, ten = stamps.beam.numpy(), (0.001, 1e3)
    narrow = replace(unchanged(), source="survey", beam=(0.0, float(np.median(beam)) / 1.5), velocity_err=ten)
    kind = np.array(["fit", "fit", "network", "fit", "network", "fit"])
    moving = {"rotation_share": np.array([0.94, 0.94, np.nan, 0.96, 0.99, 0.5]), "non_circular_kms": np.array([2, 0.9, np.nan, 2, 2, 9])}
    columns, checkpoint = range_columns(curve_kind=kind, **moving), Checkpoint(model, identity(), fit_calibration=narrow)
    flags = _flags_of_range(stamps, np.zeros(6), columns, checkpoint)

    def having(flag):
        return np.flatnonzero(flags & flag).tolist()

    assert having(GALAXY.OUTSIDE_TRAINING) == np.flatnonzero((kind == "fit") & (beam > np.median(beam))).tolist() != []
    assert having(GALAXY.FIT_FAILED) == [2, 4]
    assert having(GALAXY.DISTURBED) == [0, 5]
    assert having(GALAXY.INCLINATION_NOT_FITTED) == [5]


def test_turnover_inside_the_beam_is_flagged(inferred):
    table = inferred[3].drop(index=DEAD)
    beam = inferred[4].stamps.beam.numpy()[table.index] * 0.7
    assert ((table["flags"] & GALAXY.UNRESOLVED_TURNOVER) > 0).tolist() == (table["r_turn_arcsec"] < 0.5 * beam).tolist()
