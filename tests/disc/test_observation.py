"""Any disc as it is seen, against closed forms, sums along sight lines, symmetries, derivatives and a finer grid."""

import math

import numpy as np
import pytest
import torch
from scipy.special import k1

from tullyflow.disc.beam import Beam, smear_maps
from tullyflow.disc.observation import Accuracy, observe_disc
from tullyflow.disc.profiles import (
    Radial,
    broken_exponential_intensity,
    exponential_intensity,
    exponential_velocity,
    isothermal_velocity,
    ring_intensity,
    rotation_velocity,
    sersic_intensity,
    tanh_velocity,
    universal_velocity,
)
from tullyflow.disc.projection import project_disc
from tullyflow.errors import ModelError

PER_SIGMA = 2 * math.sqrt(2 * math.log(2))
AXIS = torch.arange(64, dtype=torch.float64) - 31.5
LIGHTS = {
    exponential_intensity: (8.0,),
    sersic_intensity: (10.0, 2.5),
    ring_intensity: (15.0, 4.0),
    broken_exponential_intensity: (8.0, 20.0, 2.0, 4.0),
}
CURVES = {
    rotation_velocity: (200.0, 3.0),
    tanh_velocity: (200.0, 5.0),
    exponential_velocity: (200.0, 4.0),
    universal_velocity: (200.0, 4.0, 2.5, 0.3),
    isothermal_velocity: (200.0, 3.0),
}


def f64(*values):
    return tuple(torch.tensor([v], dtype=torch.float64) for v in values)


def radial(function, *parameters):
    return Radial(function, f64(*parameters))


def rigid_velocity(radius, gradient):
    return gradient * radius


def ellipse(major, minor, axis_deg):
    return Beam(*f64(major, minor, axis_deg))


EXPONENTIAL, ARCTAN = radial(exponential_intensity, 6.0), radial(rotation_velocity, 200.0, 3.0)
LOPSIDED = {"axis_deg": 25.0, "centre": (1.3, -2.2), "v_sys": 40.0, "dispersion": 10.0}


def test_network_decoder_is_the_special_case():
    maps = observe_disc(*f64(60.0), radial(exponential_intensity, 8.0), ARCTAN, beam=ellipse(5.0, 5.0, 0.0), accuracy=Accuracy(nodes=4))
    decoded = project_disc(*f64(60.0, 8 / 32, 3 / 32, 200 * math.sin(math.radians(60))), beam_fwhm=f64(5.0)[0])
    assert torch.allclose(maps.intensity / maps.intensity.max(), decoded.intensity, atol=5e-4)
    assert torch.allclose(maps.velocity, decoded.velocity, atol=0.2)


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("curve", CURVES)
def test_sixteen_nodes_agree_with_sums_along_the_sight_line(light, curve):
    """0.4 % of the peak; where a thousandth of it is left, 2 % of V in velocity and dispersion."""
    rng = np.random.default_rng([len(light.__name__), len(curve.__name__)])
    for inclination in rng.uniform(5, 82, 5):
        disc = radial(light, *LIGHTS[light]), radial(curve, *CURVES[curve])
        maps = observe_disc(*f64(inclination), *disc, thickness=1.5, accuracy=Accuracy(nodes=16))
        cos, sin = math.cos(math.radians(inclination)), math.sin(math.radians(inclination))
        peak = maps.intensity.max().item()
        for column, row in rng.integers(16, 48, (6, 2)):
            x, y = AXIS[column], AXIS[row]
            depth = torch.linspace(-1, 1, 40_001, dtype=torch.float64) * min(60 / cos, 300) + y * sin / cos
            radius = torch.hypot(x, y * cos + depth * sin)
            emission = disc[0](radius[None])[0] * torch.exp(-(depth * cos - y * sin).abs() / 1.5) / 3
            velocity = disc[1](radius[None])[0] * sin * x / radius
            flux = torch.trapezoid(emission, depth)
            mean = torch.trapezoid(emission * velocity, depth) / flux
            spread = (torch.trapezoid(emission * (velocity - mean) ** 2, depth) / flux).sqrt()
            at = (0, row, column)
            assert abs(maps.intensity[at] - flux) < 4e-3 * peak, (inclination, at)
            if flux > 1e-3 * peak:
                assert abs(maps.velocity[at] - mean) < 4, (inclination, at)
                assert abs(maps.dispersion[at] - spread) < 4, (inclination, at)


@pytest.mark.parametrize("light", LIGHTS)
def test_face_on_disc_is_its_own_profile_and_does_not_move(light):
    maps = observe_disc(*f64(0.0), radial(light, *LIGHTS[light]), ARCTAN, dispersion=radial(exponential_velocity, 30.0, 9.0))
    radius = torch.hypot(AXIS[None, :], AXIS[:, None])
    assert torch.allclose(maps.intensity[0], light(radius, *f64(*LIGHTS[light])), rtol=1e-6)
    assert maps.velocity.abs().max() < 1e-9
    assert torch.allclose(maps.dispersion[0], exponential_velocity(radius, 30.0, 9.0), rtol=1e-6)


def test_thin_disc_is_its_profile_and_curve_on_a_tilted_plane():
    maps = observe_disc(*f64(60.0), EXPONENTIAL, ARCTAN, thickness=0.003, dispersion=7.0)
    radius = torch.hypot(AXIS[None, :], AXIS[:, None] / math.cos(math.radians(60)))
    assert torch.allclose(maps.intensity[0], torch.exp(-radius / 6) / math.cos(math.radians(60)), rtol=3e-3)
    expected = rotation_velocity(radius, 200.0, 3.0) * math.sin(math.radians(60)) * AXIS[None, :] / radius
    assert torch.allclose(maps.velocity[0], expected, atol=0.1)
    assert torch.allclose(maps.dispersion, torch.full_like(maps.dispersion, 7.0), atol=0.1)


def test_edge_on_exponential_disc_is_a_bessel_function():
    """F = |x| K1(|x| / r_scale) exp(-|z| / r_z) / r_z (van der Kruit & Searle 1981, here exponential in z)."""
    maps = observe_disc(*f64(90.0), EXPONENTIAL, ARCTAN, thickness=2.5, accuracy=Accuracy(nodes=16))
    x = AXIS.abs().numpy()
    expected = torch.from_numpy(x * k1(x / 6))[None, :] * torch.exp(-AXIS.abs() / 2.5)[:, None] / 2.5
    assert torch.allclose(maps.intensity[0], expected, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("light", LIGHTS)
def test_light_is_conserved_whatever_the_inclination_and_thickness(light):
    radius = torch.linspace(0, 400, 400_001, dtype=torch.float64)
    total = torch.trapezoid(light(radius, *f64(*LIGHTS[light])) * 2 * math.pi * radius, radius).item()
    small = [p / 3 if k == 0 or light is ring_intensity else p for k, p in enumerate(LIGHTS[light])]
    if light is broken_exponential_intensity:
        small = [p / 3 for p in LIGHTS[light][:3]] + [4.0]
    for inclination, thickness in ((0.0, 1.0), (40.0, 1.0), (75.0, 2.0)):
        beam = ellipse(5.0, 3.0, 30.0)
        maps = observe_disc(*f64(inclination), radial(light, *small), ARCTAN, thickness=thickness, beam=beam, size=128,
                            accuracy=Accuracy(subpixels=5))  # fmt: skip
        assert maps.intensity.sum().item() == pytest.approx(total / 9, rel=0.01), (inclination, thickness)


@pytest.mark.parametrize(("inclination", "thickness"), [(50.0, 0.5), (80.0, 3.0), (90.0, 1.0)])
def test_rigid_disc_is_a_plane_with_no_dispersion(inclination, thickness):
    """V = w R projects to w sin i x at every depth."""
    maps = observe_disc(*f64(inclination), EXPONENTIAL, radial(rigid_velocity, 6.0), thickness=thickness)
    expected = (6 * math.sin(math.radians(inclination)) * AXIS).expand(64, 64)
    assert torch.allclose(maps.velocity[0], expected, rtol=1e-5)
    assert maps.dispersion.max() < 1e-2


def test_flat_curve_is_flat_along_the_major_axis_of_a_thin_disc():
    maps = observe_disc(*f64(50.0), EXPONENTIAL, radial(tanh_velocity, 200.0, 1e-3), thickness=0.003)
    expected = torch.full((24,), 200 * math.sin(math.radians(50)), dtype=torch.float64)
    assert torch.allclose(maps.velocity[0, 32, 40:], expected, rtol=5e-3)


@pytest.mark.parametrize(("major", "minor", "beam_axis"), [(7.0, 7.0, 0.0), (9.0, 4.0, 0.0), (9.0, 4.0, 35.0), (8.0, 3.0, 140.0)])
def test_beam_smears_a_gaussian_rigid_disc_as_the_closed_form_says(major, minor, beam_axis):
    """Light of covariance A under a beam C: what is seen at r comes from N(A S r, A - A S A), S = (A + C)^-1; v = g x."""
    light, gradient, sin, cos = radial(ring_intensity, 0.0, 6.0), 5.0, math.sin(math.radians(60)), 0.5
    maps = observe_disc(*f64(60.0), light, radial(rigid_velocity, gradient), thickness=0.01, beam=ellipse(major, minor, beam_axis))
    a = np.diag([36.0, 36.0 * cos**2])
    turn = np.array([[f(math.radians(beam_axis)) for f in pair] for pair in ((math.cos, lambda t: -math.sin(t)), (math.sin, math.cos))])
    c = turn @ np.diag([(major / PER_SIGMA) ** 2, (minor / PER_SIGMA) ** 2]) @ turn.T
    seen = a @ np.linalg.inv(a + c)
    x, y = (v.numpy() for v in torch.meshgrid(AXIS, AXIS, indexing="xy"))
    velocity = gradient * sin * (seen[0, 0] * x + seen[0, 1] * y)
    spread = gradient * sin * math.sqrt((a - seen @ a)[0, 0])
    light_left = (maps.intensity > 0.02 * maps.intensity.max())[0].numpy()
    assert np.abs(maps.velocity[0].numpy() - velocity)[light_left].max() < 0.3
    assert np.abs(maps.dispersion[0].numpy() - spread)[light_left].max() < 0.3


def test_axis_turns_the_map():
    """A receding side at +y is the map of one at +x turned by a quarter, its beam and centre with it."""
    common = {"v_sys": 40.0, "dispersion": 10.0}
    along = observe_disc(*f64(60.0), EXPONENTIAL, ARCTAN, centre=(3.0, 1.0), beam=ellipse(6.0, 3.0, 20.0), **common)
    turned = observe_disc(*f64(60.0), EXPONENTIAL, ARCTAN, axis_deg=90.0, centre=(-1.0, 3.0), beam=ellipse(6.0, 3.0, 110.0), **common)
    for a, b in zip(vars(along).values(), vars(turned).values(), strict=True):
        assert torch.allclose(torch.rot90(a, -1, (1, 2)), b, rtol=1e-6, atol=1e-9)
    assert turned.velocity[0, 50, 31] > 150 > -70 > turned.velocity[0, 10, 31]


def test_half_turn_swaps_the_receding_side_and_leaves_light_and_dispersion():
    ahead, back = (observe_disc(*f64(60.0), EXPONENTIAL, ARCTAN, axis_deg=a, beam=ellipse(6.0, 3.0, 20.0)) for a in (25.0, 205.0))
    assert torch.allclose(ahead.velocity, -back.velocity, atol=1e-9)
    assert torch.allclose(ahead.intensity, back.intensity)
    assert torch.allclose(ahead.dispersion, back.dispersion, atol=1e-6)


def test_centre_moves_the_map_by_whole_pixels():
    still = observe_disc(*f64(60.0), EXPONENTIAL, ARCTAN, axis_deg=25.0, beam=ellipse(6.0, 3.0, 20.0))
    moved = observe_disc(*f64(60.0), EXPONENTIAL, ARCTAN, axis_deg=25.0, beam=ellipse(6.0, 3.0, 20.0), centre=(5.0, -2.0))
    assert torch.allclose(moved.intensity[:, :-2, 5:], still.intensity[:, 2:, :-5])
    assert torch.allclose(moved.dispersion[:, :-2, 5:], still.dispersion[:, 2:, :-5], rtol=1e-5)


def test_systemic_velocity_adds_and_dispersions_add_in_quadrature():
    beam = ellipse(6.0, 3.0, 20.0)
    cold = observe_disc(*f64(70.0), EXPONENTIAL, ARCTAN, axis_deg=25.0, beam=beam)
    warm = observe_disc(*f64(70.0), EXPONENTIAL, ARCTAN, axis_deg=25.0, beam=beam, v_sys=1234.0, dispersion=15.0)
    bright = cold.intensity > 1e-6 * cold.intensity.max()
    assert torch.allclose((warm.velocity - cold.velocity)[bright], torch.tensor(1234.0, dtype=torch.float64))
    assert torch.allclose(warm.dispersion[bright] ** 2, cold.dispersion[bright] ** 2 + 225, rtol=1e-6)


def seen_at(zoom, inclination, r_turn, accuracy):
    """The middle 12 x 12 pixels of a small disc under a beam of 2 pixels, on a grid ``zoom`` times finer sampled at the pixels' centres."""
    v_max = 1 / math.sin(math.radians(inclination))
    maps = observe_disc(
        *f64(inclination), radial(exponential_intensity, 3.2 * zoom), radial(rotation_velocity, v_max, r_turn * zoom),
        thickness=zoom, beam=ellipse(2.0 * zoom, 2.0 * zoom, 0.0), size=12 * zoom, accuracy=accuracy,
    )  # fmt: skip
    middle = [m[0, zoom // 2 :: zoom, zoom // 2 :: zoom] for m in (maps.intensity, maps.velocity, maps.dispersion)]
    return [middle[0] / middle[0].max(), *middle[1:]]


@pytest.mark.parametrize(("inclination", "r_turn", "allowed"), [(30.0, 0.32, 0.008), (60.0, 0.32, 0.005), (80.0, 3.2, 0.002)])
def test_points_within_the_central_pixels_bring_the_centre_right(inclination, r_turn, allowed):
    """To this share of the peak and of V sin i, dispersion included, and twice better than values at pixel centres."""
    truth = seen_at(9, inclination, r_turn, Accuracy())

    def error(accuracy):
        return max((m - t).abs().max() for m, t in zip(seen_at(1, inclination, r_turn, accuracy), truth, strict=True))

    fine = error(Accuracy(subpixels=5))
    assert fine < allowed
    assert error(Accuracy()) > 1.8 * fine


@pytest.mark.parametrize(("inclination", "allowed"), [(60.0, 0.001), (88.0, 0.01)])
def test_central_cells_bring_the_light_of_the_network_decoder_right(inclination, allowed):
    truth = seen_at(9, inclination, 3.2, Accuracy())[0]

    def error(central_cells):
        maps = project_disc(*f64(inclination, 0.1, 0.1, 1.0), beam_fwhm=f64(2.0)[0], central_cells=central_cells)
        return (maps.intensity[0, 26:38, 26:38] - truth).abs().max()

    assert error(4) < allowed
    assert error(1) > 2 * error(4)


def test_every_derivative_agrees_with_finite_differences():
    generator = torch.Generator().manual_seed(2)
    start = [60.0, 1.7, 1.3, 90.0, 0.8, 2.0, 0.2, 20.0, 0.3, -0.4, 0.7, 12.0, 2.0, 1.3, 50.0]
    both = torch.tensor([start, [75.0, *start[1:]]], dtype=torch.float64)
    both = both * (1 + 0.1 * torch.rand(both.shape, generator=generator, dtype=torch.float64))

    def maps(i, r_e, n, v, r_turn, sharp, outer, axis, x, y, thickness, sigma, major, minor, beam_axis):
        seen = observe_disc(
            i, Radial(sersic_intensity, (r_e, n)), Radial(universal_velocity, (v, r_turn, sharp, outer)), axis_deg=axis, centre=(x, y),
            thickness=thickness, dispersion=sigma, beam=Beam(major, minor, beam_axis), accuracy=Accuracy(3, 2, 1), size=4,
        )  # fmt: skip
        return seen.intensity, seen.velocity, seen.dispersion

    assert torch.autograd.gradcheck(maps, [c.clone().requires_grad_() for c in both.unbind(-1)], eps=1e-6, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("inclination", [0.0, 45.0, 89.99, 90.0])
@pytest.mark.parametrize("light", LIGHTS)
def test_ends_of_the_ranges_are_finite_in_float32_and_so_are_their_derivatives(inclination, light):
    """The centre on a pixel's own centre, R = 0; nothing local to the dispersion, which is 0 in places."""
    parameters = [torch.tensor([p], requires_grad=True) for p in (inclination, *LIGHTS[light])]
    curve = Radial(rotation_velocity, tuple(torch.tensor([p], requires_grad=True) for p in (200.0, 0.3)))
    for beam in (None, Beam(torch.tensor([3.0]), torch.tensor([0.0]), torch.tensor([10.0]))):
        maps = observe_disc(parameters[0], Radial(light, tuple(parameters[1:])), curve, centre=(0.5, 0.5), beam=beam)
        assert all(m.dtype == torch.float32 and m.isfinite().all() for m in vars(maps).values())
        sum(m.square().sum() for m in vars(maps).values()).backward()
        assert all(p.grad.isfinite().all() for p in [*parameters, *curve.parameters])


def test_nan_stays_in_its_galaxy_and_each_has_its_own_disc():
    def per_galaxy(*values):
        return torch.tensor(values, dtype=torch.float64)

    light = Radial(exponential_intensity, (per_galaxy(4, 4, 9),))
    curve = Radial(rotation_velocity, (per_galaxy(100, 100, 300), per_galaxy(2, 2, 2)))
    beam = Beam(per_galaxy(3, 3, 6), per_galaxy(2, 3, 3), per_galaxy(0, 0, 45))
    maps = observe_disc(per_galaxy(40, math.nan, 70), light, curve, beam=beam, **LOPSIDED)
    assert maps.velocity[1].isnan().all() and maps.velocity[0].isfinite().all()
    disc = radial(exponential_intensity, 9.0), radial(rotation_velocity, 300.0, 2.0)
    alone = observe_disc(*f64(70.0), *disc, beam=ellipse(6.0, 3.0, 45.0), **LOPSIDED)
    assert torch.allclose(maps.velocity[2], alone.velocity[0], atol=1e-6)
    assert torch.allclose(maps.dispersion[2], alone.dispersion[0], atol=1e-6)


def test_unknown_light_needs_a_decay_length():
    def plateau(radius, reach):
        return torch.sigmoid((reach - radius) / 2)

    light = radial(plateau, 15.0)
    with pytest.raises(ModelError, match="the decay length of plateau is not known; give decay_length"):
        observe_disc(*f64(40.0), light, ARCTAN)
    maps = observe_disc(*f64(0.0), light, ARCTAN, decay_length=f64(8.0)[0])
    assert maps.intensity[0, 31, 31].item() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(
    ("inclination", "axis_deg", "light", "curve", "thickness", "beam"),
    [
        (40.0, 25.0, (sersic_intensity, 7.0, 1.5), (universal_velocity, 200.0, 3.0, 2.5, 0.0), 0.5, (7.0, 4.0, 45.0)),
        (70.0, 140.0, (ring_intensity, 12.0, 4.0), (isothermal_velocity, 200.0, 2.0), 1.0, (6.0, 3.0, 90.0)),
    ],
)
def test_kinms_sees_the_same_three_moments(inclination, axis_deg, light, curve, thickness, beam):
    """KinMS throws cloudlets into a cube and smears each channel. Its pixels collect light over their area, 1/12 of variance more
    than ours, and each channel adds step^2/12. Its rotated beams are elliptical as asked at multiples of 45 deg alone."""
    from kinms import KinMS

    radius = np.arange(0.001, 90, 0.05)
    sb, velocity = (f[0](torch.from_numpy(radius), *f64(*f[1:])).numpy() for f in (light, curve))
    step = 8.0
    bpa = 90.0 - beam[2]
    cube = KinMS(
        64, 64, 560.0, cellSize=1.0, dv=step, beamSize=[*beam[:2], bpa], nSamps=4_000_000, verbose=False, seed=[3, 1, 4, 1],
    ).model_cube(
        inclination, axis_deg - 90, sbProf=sb, sbRad=radius, velRad=radius, velProf=velocity, diskThick=thickness, gasSigma=12.0,
        phaseCent=[-0.5, -0.5],
    )  # fmt: skip
    channels = (np.arange(cube.shape[2]) - cube.shape[2] / 2) * step
    flux = cube.sum(axis=2).T
    with np.errstate(invalid="ignore"):
        mean = (cube * channels).sum(axis=2).T / flux
        spread = np.sqrt((cube * channels**2).sum(axis=2).T / flux - mean**2 - step**2 / 12)
    wider = [math.hypot(b, PER_SIGMA / math.sqrt(12)) for b in beam[:2]]
    maps = observe_disc(
        *f64(inclination), radial(*light), radial(*curve), axis_deg=axis_deg, thickness=thickness, dispersion=12.0,
        beam=ellipse(*wider, beam[2]), accuracy=Accuracy(16, 5),
    )  # fmt: skip
    intensity, velocity_map, dispersion = (m[0].numpy() for m in vars(maps).values())
    compared = intensity > 0.05 * intensity.max()
    compared[:, :8] = compared[:, -8:] = compared[:8] = compared[-8:] = False  # a cube brings no light in from outside it
    flux = flux / flux[compared].sum() * intensity[compared].sum()
    for theirs, ours, allowed in ((flux, intensity, 0.006 * intensity.max()), (mean, velocity_map, 0.6), (spread, dispersion, 0.6)):
        difference = (theirs - ours)[compared]
        assert np.abs(difference).max() < allowed
        assert np.abs(np.median(difference)) < allowed / 10


def test_nothing_is_made_on_another_device():
    """The meta device refuses to mix with tensors of another one."""
    some = torch.full((2,), 3.0, device="meta")
    curve = Radial(universal_velocity, (some, some, some, some))
    for light, parameters in LIGHTS.items():
        maps = observe_disc(some, Radial(light, (some,) * len(parameters)), curve, axis_deg=some, centre=(some, 1.0))
        assert {m.device.type for m in vars(maps).values()} == {"meta"}
    assert smear_maps(torch.zeros((2, 3, 30, 30), device="meta"), Beam(some, some, some), 5).device.type == "meta"
    assert project_disc(some, some, some, some, beam_fwhm=some, central_cells=4).velocity.device.type == "meta"


def test_float32_agrees_with_float64():
    def seen(dtype):
        disc = (
            Radial(f, tuple(p.to(dtype) for p in f64(*v))) for f, v in ((sersic_intensity, (8.0, 2.0)), (rotation_velocity, (200.0, 2.0)))
        )
        return observe_disc(
            torch.tensor([65.0], dtype=dtype), *disc, beam=Beam(*(b.to(dtype) for b in f64(5.0, 3.0, 30.0))),
            accuracy=Accuracy(subpixels=3), **LOPSIDED,
        )  # fmt: skip

    single, double = seen(torch.float32), seen(torch.float64)
    assert single.velocity.dtype == torch.float32
    assert torch.allclose(single.intensity.double(), double.intensity, rtol=1e-4)
    assert torch.allclose(single.velocity.double(), double.velocity, atol=0.02)
    assert torch.allclose(single.dispersion.double(), double.dispersion, atol=0.02)
