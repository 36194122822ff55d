"""Velocities at defined radii: their limits, their errors, and which of them no data reach."""

import numpy as np
import pytest

from tullyflow.conventions import velocity_radii
from tullyflow.network.velocities import calibrated_samples, extrapolations, velocity_at
from tullyflow.tables import VELOCITIES

TILT, R_SCALE, R_TURN, V_SINI = 50.0, 4.0, 3.0, 120.0
R_E, R_MAX = 8.0, 13.0


def drawn(errors=(3.0, 0.08, 0.2, 0.04), correlation=0.3, n=40_000):
    mean = np.array([[TILT, R_SCALE, R_TURN, V_SINI]])
    return mean, calibrated_samples(mean, np.array([errors]), np.array([correlation]), n, np.random.default_rng(3))


def velocities(mean, samples, r_e=R_E, r_max=R_MAX):
    radii = velocity_radii(mean[:, 1], [r_e], [r_max])
    drawn_radii = velocity_radii(samples[..., 1], r_e, r_max)
    return {name: velocity_at(radii[name], mean, samples, drawn_radii[name]) for name in VELOCITIES}


def light_within(radius):
    """Share of an exponential disc's light within so many scale lengths, summed over thin rings."""
    r = np.linspace(0, 40, 400_001)
    ring = r * np.exp(-r)
    return ring[r <= radius].sum() / ring.sum()


def test_radii_hold_the_share_of_light_they_are_named_after():
    radii = velocity_radii(R_SCALE, np.nan, R_MAX)
    assert light_within(radii["v_re"] / R_SCALE) == pytest.approx(0.5, abs=1e-3)
    assert light_within(radii["v_80"] / R_SCALE) == pytest.approx(0.8, abs=1e-3)
    assert radii["v_22"] == 2.2 * R_SCALE and radii["v_max"] == np.inf and radii["v_rmax"] == R_MAX


@pytest.mark.parametrize(("r_e", "used"), [(8.0, 8.0), (np.nan, 1.678 * R_SCALE), (0.0, 1.678 * R_SCALE), (-999.0, 1.678 * R_SCALE)])
def test_r_e_is_the_catalogues_where_it_gives_one(r_e, used):
    assert velocity_radii([R_SCALE], [r_e], [R_MAX])["v_re"][0] == pytest.approx(used)


def test_velocities_rise_with_their_radius_to_the_asymptote():
    mean, samples = drawn(n=100)
    found = velocities(mean, samples, r_e=1.678 * R_SCALE)
    values = [found[name].value_kms[0] for name in ("v_re", "v_22", "v_80", "v_rmax", "v_max")]
    assert values == sorted(values) and values[0] < 0.9 * values[-1]
    assert values[-1] == pytest.approx(V_SINI / np.sin(np.radians(TILT)))
    assert found["v_rmax"].value_kms[0] == pytest.approx(2 / np.pi * values[-1] * np.arctan(R_MAX / R_TURN))


def test_curve_that_turns_over_at_once_has_one_velocity():
    mean, samples = drawn(n=100)
    mean[:, 2] = samples[..., 2] = 1e-9
    values = [velocity.value_kms[0] for velocity in velocities(mean, samples).values()]
    assert values == pytest.approx([V_SINI / np.sin(np.radians(TILT))] * 5)


def test_velocity_at_the_centre_is_zero():
    mean, samples = drawn(n=100)
    assert velocity_at(np.array([0.0]), mean, samples).value_kms[0] == 0


@pytest.mark.parametrize("name", VELOCITIES)
def test_each_error_adds_inclination_velocity_turnover_and_radius(name):
    """First order: ln V = ln(V sin i) - ln sin i + ln arctan(R / r_turn), with R / r_scale fixed where the radius is so many lengths."""
    errors, correlation = (1.5, 0.04, 0.08, 0.03), 0.3
    found = velocities(*drawn(errors, correlation))[name]
    radius = velocity_radii(R_SCALE, R_E, R_MAX)[name]
    u = radius / R_TURN
    by_u = 0.0 if np.isinf(u) else u / ((1 + u**2) * np.arctan(u))  # d ln arctan u / d ln u
    by_i = np.radians(errors[0]) / np.tan(np.radians(TILT))
    turn, v, scale = -by_u * errors[2], errors[3], by_u * errors[1] * (name in ("v_22", "v_80"))
    expected = np.sqrt(by_i**2 + turn**2 + v**2 + 2 * correlation * turn * v + scale**2) / np.log(10)
    assert found.log_err[0] == pytest.approx(expected, rel=0.04)
    assert found.err_kms[0] == pytest.approx(expected * np.log(10) * found.value_kms[0], rel=0.04)


def test_inclination_and_velocity_go_together_in_the_samples():
    """V = V sin i / sin i: what takes the disc more face-on makes it faster, and the error of V knows."""
    _, samples = drawn()
    v = samples[..., 3] / np.sin(np.radians(samples[..., 0]))
    assert np.corrcoef(samples[..., 0].ravel(), v.ravel())[0, 1] < -0.5
    sure, unsure = (velocities(*drawn((err, 0.08, 0.2, 0.04)))["v_max"].log_err[0] for err in (0.01, 6.0))
    assert unsure > 2 * sure


def test_uncertain_scale_length_makes_a_rising_curve_uncertain_there_and_nowhere_else():
    sure, unsure = (velocities(*drawn((0.1, err, 0.01, 0.01))) for err in (0.001, 0.3))
    for name in ("v_22", "v_80"):
        assert unsure[name].log_err[0] > 2 * sure[name].log_err[0]
    for name in ("v_max", "v_rmax", "v_re"):  # R_e is the catalogue's here
        assert unsure[name].log_err[0] == pytest.approx(sure[name].log_err[0], rel=0.05)


def test_extrapolation_is_beyond_the_outermost_data_and_only_there():
    r_max = np.array([8.7, 8.9, 3.0, 100.0])
    radii = velocity_radii(np.full(4, R_SCALE), np.full(4, R_E), r_max)
    r_turn = np.array([4.3, 4.5, 1.4, 60.0])
    found = {name.removesuffix("_extrapolated"): list(flags) for name, flags in extrapolations(radii, r_turn, r_max).items()}
    assert found == {
        "v_max": [False, True, False, True],  # the data reach two turnover radii, or they do not
        "v_22": [True, False, True, False],  # 8.8 arcsec
        "v_re": [False, False, True, False],
        "v_80": [True, True, True, False],  # 11.98 arcsec
        "v_rmax": [False] * 4,
    }


def test_where_the_data_end_nowhere_known_nothing_is_called_an_extrapolation():
    nan = np.array([np.nan])
    found = extrapolations(velocity_radii([R_SCALE], [R_E], nan), np.array([50.0]), nan)
    assert not any(flag[0] for flag in found.values())
    mean, samples = drawn(n=50)
    assert np.isnan(velocities(mean, samples, r_max=np.nan)["v_rmax"].value_kms[0])


def test_another_curve_multiplies_values_and_adds_its_own_error():
    mean, samples = drawn(n=5000)
    arctan = velocity_at(np.array([R_MAX]), mean, samples)
    other = arctan.times(np.array([0.9]), np.array([0.05]))
    assert other.value_kms == pytest.approx(0.9 * arctan.value_kms)
    assert other.err_kms / other.value_kms == pytest.approx(np.hypot(arctan.err_kms / arctan.value_kms, 0.05))
    assert other.log_err == pytest.approx(np.hypot(arctan.log_err, 0.05 / np.log(10)))
    same = arctan.times(np.ones(1), np.zeros(1))
    assert (same.value_kms, same.err_kms, same.log_err) == (arctan.value_kms, arctan.err_kms, arctan.log_err)
