"""The default network of circularity: kappa with an error, blind to how a field lies, and aware of what it has never seen."""

import json

import numpy as np
import pytest
import torch

from tullyflow.errors import ModelError
from tullyflow.network.judges.aligned_fields import aligned, dipole, draw_jitter, fold_field
from tullyflow.network.judges.binned_probability import bin_targets, interpolate, quantiles
from tullyflow.network.judges.circularity import circularity, load_circularity, train, train_circularity
from tullyflow.network.judges.circularity_figures import figures_of, summary_of
from tullyflow.network.judges.circularity_maps import SimulatedFields, write_simulated
from tullyflow.network.judges.circularity_training import balance, calibrated_errors, simulated_set
from tullyflow.network.judges.fields import fields_of
from tullyflow.network.judges.judge_weights import save_weights
from tullyflow.settings import parse_settings

Y, X = (np.mgrid[:64, :64] - 31.5) / 32
GALAXY = np.hypot(X - 0.03, Y + 0.05) < 0.9  # no symmetry, so that a wrong flip is seen


def disc_field(angle_deg: float, disorder: float, rng: np.random.Generator) -> np.ndarray:
    """A rising curve about an inclined axis, with a disordered part smoothed over a few pixels: km/s."""
    from scipy.ndimage import gaussian_filter

    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    x, y = c * X + s * Y, (c * Y - s * X) / 0.6
    radius = np.hypot(x, y)
    ordered = np.arctan(radius / 0.2) * x / np.maximum(radius, 0.02)
    noise = gaussian_filter(rng.standard_normal(X.shape), 3)
    mixed = (1 - disorder) * ordered + disorder * noise / noise.std()
    return np.where(GALAXY & (radius < 1.2), 120 * mixed, np.nan).astype(np.float32)


@pytest.fixture(scope="module")
def many() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    disorder = rng.uniform(0, 1, 240)
    return np.array([disc_field(a, d, rng) for a, d in zip(rng.uniform(0, 360, 240), disorder, strict=True)]), 1 - disorder


@pytest.fixture(scope="module")
def trained(many):
    fields, kappa = many
    return train_circularity(fields[:200], kappa[:200], np.arange(200) // 2, epochs=8, seed=1)


@pytest.fixture(scope="module")
def shipped():
    return load_circularity()


def test_training_learns_order_from_disorder(trained, many):
    found = circularity(trained, many[0][200:])
    assert np.corrcoef(found.kappa, many[1][200:])[0, 1] > 0.8
    assert ((found.err > 0) & (found.err < 0.6)).all()


def test_training_is_the_same_with_the_same_seed(many):
    first, second = (train_circularity(many[0][:60], many[1][:60], np.arange(60) // 3, epochs=1, seed=4) for _ in range(2))
    assert torch.equal(first.model.last.weight, second.model.last.weight)
    assert circularity(first, many[0][:5]).kappa == pytest.approx(circularity(second, many[0][:5]).kappa, abs=0)


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_kappa_is_blind_to_quarter_turns_mirrors_and_sign(shipped, many, turn, mirror, sign):
    fields = many[0][:12]
    other = sign * np.rot90(fields[:, :, ::-1] if mirror else fields, turn, axes=(1, 2))
    before, after = circularity(shipped, fields), circularity(shipped, np.ascontiguousarray(other))
    assert after.kappa == pytest.approx(before.kappa, abs=2e-3)
    assert after.err == pytest.approx(before.err, abs=2e-3)
    assert np.ptp(before.kappa) > 0.2  # not a network that always says the same


def test_any_turn_changes_kappa_by_less_than_its_error(shipped):
    fields = []
    for angle in np.radians(range(0, 360, 20)):
        x, y = np.cos(angle) * X + np.sin(angle) * Y, np.cos(angle) * Y - np.sin(angle) * X
        disturbed = np.tanh(x / 0.3) * np.exp(-2 * y**2) + 0.5 * np.sin(4 * x + 1) * np.cos(7 * y - 2)
        fields.append(np.where(np.hypot(x - 0.05, y * 1.3) < 0.9, 100 * disturbed, np.nan))
    found = circularity(shipped, np.array(fields))
    assert np.ptp(found.kappa) < found.err.min()
    assert 0.1 < found.kappa.mean() < 0.97


def test_a_regular_disc_is_ordered_and_smoothed_noise_is_not(shipped):
    rng = np.random.default_rng(5)
    disc, noise = circularity(shipped, np.array([disc_field(33, 0.0, rng), disc_field(33, 1.0, rng)])).kappa
    assert disc > 0.8
    assert noise < 0.5


def test_fields_without_velocities_have_no_kappa(shipped):
    fields = np.full((4, 64, 64), np.nan, dtype=np.float32)
    fields[1] = 70.0  # one value everywhere
    fields[2, 10, 20:24] = [1, 2, 3, 4]  # four pixels
    fields[3] = disc_field(10, 0.1, np.random.default_rng(1))
    found = circularity(shipped, fields)
    assert np.isnan(found.kappa).tolist() == [True, True, True, False]
    assert np.isnan(found.err).tolist() == [True, True, True, False]
    assert found.unlike.tolist() == [False] * 4
    assert circularity(shipped, fields[:0]).kappa.shape == (0,)


@pytest.mark.parametrize("name", ["checkerboard", "stripes", "two halves", "spot", "rings"])
def test_what_no_galaxy_looks_like_is_unlike(shipped, name):
    column, row = np.meshgrid(np.arange(64), np.arange(64))
    pattern = {
        "checkerboard": np.where((column // 8 + row // 8) % 2, 1.0, -1.0),
        "stripes": np.sin(column * 1.0),
        "two halves": np.where(column < 32, -1.0, 1.0),
        "spot": np.exp(-((column - 20.0) ** 2 + (row - 30.0) ** 2) / 50),
        "rings": np.hypot(column - 32.0, row - 32.0),
    }[name]
    noise = 0.02 * np.random.default_rng(2).standard_normal(pattern.shape)
    assert circularity(shipped, (100 * (pattern + noise))[None].astype(np.float32)).unlike.all()


def test_a_batch_is_answered_as_its_fields_one_by_one(shipped, many):
    together = circularity(shipped, many[0][:5]).kappa
    assert [circularity(shipped, field[None]).kappa[0] for field in many[0][:5]] == pytest.approx(together, abs=1e-5)


def test_fields_of_another_size_are_refused(shipped):
    with pytest.raises(ModelError, match="32"):
        circularity(shipped, np.zeros((2, 32, 32)))


def test_few_galaxies_are_refused_in_a_sentence(many):
    with pytest.raises(ModelError, match="9 simulated galaxies; at least 10"):
        train_circularity(many[0][:18], many[1][:18], np.arange(18) // 2, epochs=1)


def test_ten_galaxies_are_enough_to_train(many):
    network = train_circularity(many[0][:20], many[1][:20], np.arange(20) // 2)
    assert np.isfinite(circularity(network, many[0][:3]).err).all()


def test_weights_come_back_as_they_were_saved(trained, many, tmp_path):
    save_weights("circularity", trained.model, trained.card, tmp_path)
    again = load_circularity(tmp_path)
    assert again.card["particle_sets"] == 100
    assert circularity(again, many[0][:6]).kappa == pytest.approx(circularity(trained, many[0][:6]).kappa, abs=0)


@pytest.mark.parametrize("architecture", ["direct", "dawson2020"])
def test_training_from_a_file_of_simulated_fields_leaves_weights_that_load(many, tmp_path, architecture):
    n = 24
    numbers = {name: np.ones(n) for name in ("kappa_corotating", "inclination_deg", "pa_deg", "beam", "peak_snr")}
    sets = np.arange(n) // 2
    simulated = SimulatedFields(field=many[0][:n], kappa=many[1][:n], particle_set=sets, particles=sets, kind=np.full(n, "bar"), **numbers)
    write_simulated(simulated, tmp_path / "fields.fits")
    settings = parse_settings({"network": {"circularity": {"galaxies": 20, "views": 2, "architecture": architecture}}, "seed": 5})
    train(tmp_path / "fields.fits", settings, tmp_path / "out")
    network = load_circularity(tmp_path / "out")
    assert (network.architecture, network.card["seed"], network.card["particle_sets"]) == (architecture, 5, 12)
    assert "12 simulated galaxies" in network.card["summary"]
    assert network.card["figures"]["held out"]["fields"] == 2
    assert np.isfinite(circularity(network, many[0][:3]).kappa).all()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: (folder / "model.json").unlink(), "no such file"),
        (lambda folder: (folder / "model.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "model.json").write_text('{"format": "tullyflow usability 1"}'), "not the card"),
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"0" * 900), "digests differ"),
        (lambda folder: _rewrite(folder, architecture="dawson2020"), "not weights of dawson2020"),
        (lambda folder: _rewrite(folder, architecture="resnet"), "'resnet'"),
    ],
)
def test_weights_that_cannot_be_used_are_named_in_a_sentence(trained, tmp_path, harm, says):
    save_weights("circularity", trained.model, trained.card, tmp_path)
    harm(tmp_path)
    with pytest.raises(ModelError, match=says):
        load_circularity(tmp_path)


def _rewrite(folder, **changes):
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, **changes}))


def test_shipped_weights_are_small_and_say_what_they_are(shipped):
    from importlib.resources import files

    weights = files("tullyflow.network.judges") / "weights" / "circularity.safetensors"
    assert len(weights.read_bytes()) < 1_000_000
    assert {"summary", "seed", "command", "particle_sets", "figures", "data", "citation"} <= set(shipped.card)


@pytest.mark.parametrize("angle", [0.0, 37.0, 90.0, 200.0, 305.0])
def test_velocity_rises_to_the_right_once_aligned(angle):
    fields, _ = fields_of(disc_field(angle, 0.05, np.random.default_rng(2))[None])
    cosine, sine, strength = dipole(fields)
    assert np.degrees(np.arctan2(float(sine), float(cosine))) % 360 == pytest.approx(angle, abs=4)
    velocity, valid, same = aligned(fields)
    assert velocity[0, 20:28, 32:40].mean() > 0.3 > -0.3 > velocity[0, 20:28, 8:16].mean()
    assert strength == same
    assert valid[0, 24, 24]
    assert not valid[0, 0, 0]


def test_jitter_turns_by_its_angle():
    fields, _ = fields_of(disc_field(0, 0.0, np.random.default_rng(2))[None])
    jitter = draw_jitter(1, torch.Generator().manual_seed(0), degrees=0, pixels=0, zoom=0)
    plain, same = aligned(fields)[0], aligned(fields, jitter)[0]
    assert torch.equal(plain, same)
    quarter = aligned(fields, type(jitter)(torch.tensor([torch.pi / 2]), jitter.shift, jitter.zoom))[0]
    assert quarter[0, 8:16, 20:28].mean().abs() > 0.3  # along y now
    assert quarter[0, 20:28, 8:16].mean().abs() < 0.15


def test_folding_keeps_a_discs_symmetry_and_parts_what_differs():
    velocity = torch.from_numpy(np.linspace(-1, 1, 48)[None].repeat(48, 0)).float()[None]  # odd in x, even in y
    valid = torch.ones(1, 48, 48, dtype=torch.bool)
    folded = fold_field(velocity, valid)
    assert folded[0, 0] == pytest.approx(velocity[0, 24:, 24:], abs=1e-6)
    assert folded[0, [1, 3, 4, 5]].abs().max() < 1e-6
    velocity[0, 30, 40] += 0.8  # in one quadrant only
    folded = fold_field(velocity, valid)
    assert folded[0, 3:, 6, 16] == pytest.approx(np.full(3, 0.2), abs=1e-6)
    assert folded[0, 1, 6, 16] > 0.3


def test_quantiles_of_bins_are_those_of_their_distribution():
    probability = torch.tensor([[0.0, 0.5, 0.5, 0.0], [1.0, 0.0, 0.0, 0.0]])
    found = quantiles(probability, (0.25, 0.5, 0.75))
    assert found[0] == pytest.approx([0.375, 0.5, 0.625], abs=1e-6)
    assert found[1] == pytest.approx([0.0625, 0.125, 0.1875], abs=1e-6)


def test_targets_share_a_value_between_neighbouring_bins():
    values = torch.tensor([0.0, 0.3, 0.5, 1.0])
    targets = bin_targets(values, 20)
    assert targets.sum(dim=1) == pytest.approx(np.ones(4), abs=1e-6)
    middles = (torch.arange(20) + 0.5) / 20
    assert targets[1:3] @ middles == pytest.approx(values[1:3], abs=1e-6)
    assert targets[0, 0] == targets[3, 19] == 1


def test_interpolation_is_constant_beyond_its_knots():
    found = interpolate(torch.tensor([-1.0, 0.5, 9.0]), torch.tensor([0.0, 1.0, 2.0]), torch.tensor([3.0, 5.0, 6.0]))
    assert found.tolist() == pytest.approx([3.0, 4.0, 6.0])


def test_calibrated_errors_hold_68_percent_and_rise():
    rng = np.random.default_rng(0)
    claimed = rng.uniform(0.02, 0.2, 20_000)
    residual = np.abs(rng.standard_normal(20_000)) * 2 * claimed  # errors claimed are half the true ones
    found, true = calibrated_errors(claimed, residual, 16)
    assert (np.diff(found) > 0).all()
    assert (np.diff(true) >= 0).all()
    assert (residual < np.interp(claimed, found, true)).mean() == pytest.approx(0.6827, abs=0.02)


def test_tenths_of_kappa_weigh_the_same():
    kappa = torch.tensor([0.05] * 10 + [0.95] * 40)
    weights = balance(kappa)
    assert weights[:10].sum() == pytest.approx(float(weights[10:].sum()))


def test_particle_sets_are_never_on_both_sides(many):
    sets = np.arange(240) // 4
    data = simulated_set(many[0], many[1], np.zeros(240), sets)
    train, calibrate, test = (set(sets[part]) for part in data.held_out(seed=9))
    assert not (train & calibrate or train & test or calibrate & test)
    assert train | calibrate | test == set(range(60))
    assert (len(calibrate), len(test)) == (3, 3)


def test_figures_say_how_many_are_right_and_how_far_the_others_are_off():
    kappa, found = np.array([0.1, 0.45, 0.55, 0.9, 0.95, 0.7]), np.array([0.2, 0.6, 0.65, 0.8, 0.95, np.nan])
    figures = figures_of(kappa, found, np.full(6, 0.12))
    assert figures["fields"] == 5
    assert (figures["recall of kappa >= 0.5"], figures["recall of kappa < 0.5"], figures["mean recall"]) == (1.0, 0.5, 0.75)
    assert figures["mean recall, kappa farther than 0.1 from 0.5"] == 1.0
    assert figures["rms"] == pytest.approx(np.sqrt((0.01 + 0.0225 + 0.01 + 0.01) / 5), abs=1e-3)
    assert figures["within 1 err"] == 0.8
    assert figures["by kappa"]["0.8-1.0"]["bias"] == pytest.approx(-0.05)
    assert figures["by kappa"]["0.2-0.4"]["rms"] is None
    assert "75 %" in summary_of(50, 5, figures)
    assert "Too few" in summary_of(4, 2, figures_of(kappa[:1], found[:1], np.ones(1)))
