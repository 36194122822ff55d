"""The disc drawn anywhere on the stamp is the decoder's disc, and its derivatives are those of the maps."""

from functools import lru_cache

import pytest
import torch

from tullyflow.disc.beam import Beam
from tullyflow.disc.gradients import disc_gradients, names_of
from tullyflow.disc.observation import Accuracy, observe_disc
from tullyflow.disc.profiles import Radial, exponential_intensity, rotation_velocity, tanh_velocity
from tullyflow.disc.projection import project_disc
from tullyflow.errors import ModelError

LOGS = ("r_scale", "r_turn", "v_max_sini")
DISCS = torch.tensor([  # on the stamp's axes; turned and misplaced; with the receding side to the left
    [50.0, 0.2, 0.1, 150.0, 0, 0, 0, 0, 1], [72, 0.35, 0.05, 80, 7, 1.2, -0.7, 5, 1.3], [25, 0.15, 0.3, 200, -160, 0.3, 0.4, -4, 0.8],
], dtype=torch.float64)  # fmt: skip
BEAM = torch.tensor([4.0, 6.0, 3.0], dtype=torch.float64)


def test_in_place_it_is_the_decoders_disc():
    still = DISCS.clone()
    still[:, 4:8], still[:, 8] = 0, 1
    for beam in (BEAM, None):
        seen, decoded = disc_gradients(still, beam), project_disc(*still[:, :4].unbind(1), beam_fwhm=beam)
        assert torch.allclose(seen.intensity, decoded.intensity, atol=1e-6)
        assert torch.allclose(seen.velocity, decoded.velocity, atol=1e-4)


def test_elsewhere_it_is_the_disc_of_the_other_projection():
    """`observe_disc` knows axes and centres, smears by Fourier transforms and shares only the sight lines."""
    inclination, r_scale, r_turn, v_sini, axis, x, y, v_sys, _ = DISCS.unbind(1)
    light = Radial(exponential_intensity, (r_scale * 32,))
    curve = Radial(rotation_velocity, (v_sini / torch.sin(torch.deg2rad(inclination)), r_turn * 32))
    other = observe_disc(inclination, light, curve, axis_deg=axis, centre=(x, y), beam=Beam.round(BEAM), accuracy=Accuracy(8))
    seen = disc_gradients(DISCS, BEAM, nodes=8)
    inner = (slice(None), slice(8, -8), slice(8, -8))  # beyond the stamp one uses coarser cells
    assert (seen.velocity - v_sys.view(-1, 1, 1) - other.velocity)[inner].abs().amax() < 0.3  # km/s
    shape = seen.intensity / seen.intensity.amax((1, 2), keepdim=True) - other.intensity / other.intensity.amax((1, 2), keepdim=True)
    assert shape[inner].abs().amax() < 0.003


def of_curve(curve, outer=(0.4, -0.3, 0.15)):
    return torch.cat([DISCS, torch.tensor(outer, dtype=torch.float64).unsqueeze(1)], dim=1) if curve == "slope" else DISCS


@lru_cache
def finely(curve):
    return disc_gradients(of_curve(curve), BEAM, nodes=12, curve=curve)


SHAPED = ("inclination_deg", "r_scale", "r_turn", "axis_deg", "centre_x")
CASES = [("arctan", n) for n in names_of("arctan")] + [("slope", n) for n in (*SHAPED, "outer_slope")] + [("tanh", n) for n in SHAPED[:3]]


@pytest.mark.parametrize(("curve", "name"), CASES)
def test_derivatives_are_those_of_the_maps(curve, name):
    """Central differences, at 12 nodes, where the quadrature's own error is small; the intensity's peak stays what it is."""
    discs = of_curve(curve)
    k, step = names_of(curve).index(name), 1e-4
    up, down = discs.clone(), discs.clone()
    if name in LOGS:
        up[:, k], down[:, k] = up[:, k] * (1 + step), down[:, k] * (1 - step)
    else:
        up[:, k], down[:, k] = up[:, k] + step, down[:, k] - step
    above, below, here = *(disc_gradients(p, BEAM, nodes=12, curve=curve) for p in (up, down)), finely(curve)
    by_velocity = (above.velocity - below.velocity) / (2 * step)
    scale = by_velocity.abs().amax((1, 2)).clamp(min=1e-6)
    assert ((by_velocity - here.by_velocity[:, k]).abs().amax((1, 2)) / scale).max() < 0.01
    by_intensity = (above.intensity - below.intensity) / (2 * step) - here.by_intensity[:, k]
    alone = slice(1 if name.startswith("centre") else 0, None)  # of four equally bright pixels another one is the peak
    assert by_intensity[alone].abs().amax() < 2e-3 * max(1.0, here.by_intensity[:, k].abs().max().item())


def test_cells_of_half_a_pixel_hold_an_edge_on_disc_and_change_no_other():
    """Against points finer still, a quarter of a pixel."""
    for inclination, largest_gain in ((50.0, 0.001), (88.0, 0.02)):
        disc = torch.tensor([[inclination, 0.2, 0.1, 150.0, 0, 0, 0, 0, 1]], dtype=torch.float64)
        whole, halves, quarters = (disc_gradients(disc, BEAM[:1] / 2, nodes=12, cells=cells) for cells in (1, 2, 4))
        coarse, fine = ((maps.intensity - quarters.intensity).abs().max() for maps in (whole, halves))
        assert 5 * fine < coarse < largest_gain
        coarse, fine = ((maps.velocity - quarters.velocity).abs().max() for maps in (whole, halves))
        assert 4 * fine < coarse < 1  # km/s


def test_an_outer_slope_of_zero_is_the_arctan_to_rounding():
    flat, arctan = disc_gradients(of_curve("slope", (0.0, 0.0, 0.0)), BEAM, curve="slope"), disc_gradients(DISCS, BEAM)
    assert torch.allclose(flat.velocity, arctan.velocity, rtol=1e-12, atol=1e-9)
    assert torch.allclose(flat.by_velocity[:, :9], arctan.by_velocity, rtol=1e-12, atol=1e-9)
    assert torch.equal(flat.intensity, arctan.intensity)
    assert flat.by_velocity[:, 9].abs().amax((1, 2)).min() > 5  # km/s: and yet it would matter


def test_a_tanh_elsewhere_is_that_of_the_other_projection():
    inclination, r_scale, r_turn, v_sini, axis, x, y, v_sys, _ = DISCS.unbind(1)
    curve = Radial(tanh_velocity, (v_sini / torch.sin(torch.deg2rad(inclination)), r_turn * 32))
    light = Radial(exponential_intensity, (r_scale * 32,))
    other = observe_disc(inclination, light, curve, axis_deg=axis, centre=(x, y), beam=Beam.round(BEAM), accuracy=Accuracy(8))
    seen = disc_gradients(DISCS, BEAM, nodes=8, curve="tanh")
    assert (seen.velocity - v_sys.view(-1, 1, 1) - other.velocity)[:, 8:-8, 8:-8].abs().amax() < 0.3  # km/s


def test_a_curve_nobody_knows_is_refused():
    with pytest.raises(ModelError, match="known: arctan, tanh, slope"):
        disc_gradients(DISCS, BEAM, curve="polyex")


@pytest.mark.parametrize("curve", ["arctan", "tanh", "slope"])
def test_turning_by_180_deg_changes_the_sign_of_the_velocity_and_nothing_else(curve):
    turned = of_curve(curve).clone()
    turned[:, 4] += 180
    one, two = (disc_gradients(discs, BEAM, curve=curve) for discs in (of_curve(curve), turned))
    v_sys = DISCS[:, 7].view(-1, 1, 1)
    assert torch.allclose(one.velocity - v_sys, -(two.velocity - v_sys), atol=1e-8)
    assert torch.allclose(one.intensity, two.intensity, atol=1e-10)


def test_one_galaxys_nan_is_its_own():
    broken = DISCS.clone()
    broken[1, 2] = torch.nan
    seen, whole = disc_gradients(broken, BEAM), disc_gradients(DISCS, BEAM)
    assert seen.velocity[1].isnan().all()
    for k in (0, 2):
        assert torch.equal(seen.velocity[k], whole.velocity[k])
