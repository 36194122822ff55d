"""The published network of circularity: an autoencoder (thesis Table A.1), its latent space folded, cut in two and read as an angle."""

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

from tullyflow.network.judges import circularity_training
from tullyflow.network.judges.circularity import CircularityNetwork, circularity, load_circularity, train_circularity
from tullyflow.network.judges.circularity_training import simulated_set
from tullyflow.network.judges.fields import fields_of
from tullyflow.network.judges.judge_weights import save_weights
from tullyflow.network.judges.latent_circularity import LatentCircularity
from tullyflow.network.judges.latent_space import boundary_of, fit_latent_space

Y, X = (np.mgrid[:64, :64] - 31.5) / 32


def rising_field(pa_deg: float, disorder: float, rng: np.random.Generator) -> np.ndarray:
    """A plane that rises towards a position angle (from +y over -x), less so with disorder."""
    rise = -np.sin(np.radians(pa_deg)) * X + np.cos(np.radians(pa_deg)) * Y
    mixed = (1 - disorder) * rise + disorder * 0.5 * rng.standard_normal(X.shape)
    return np.where(np.hypot(X, Y) < 0.9, 100 * mixed, np.nan).astype(np.float32)


@pytest.fixture(scope="module")
def simulated() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    angles, disorder = rng.uniform(0, 360, 300), rng.uniform(0, 1, 300)
    return np.array([rising_field(a, d, rng) for a, d in zip(angles, disorder, strict=True)]), 1 - disorder, angles


def dipole_encoder() -> LatentCircularity:
    """An encoder made by hand: positive and negative velocities pass apart, and two latent numbers are a field's dipole, turned."""
    model = LatentCircularity()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for k, layer in enumerate(model.down):
            layer.weight[0, 0, 1, 1] = 1
            layer.weight[1, 0 if k == 0 else 1, 1, 1] = -1 if k == 0 else 1
        places = torch.stack(torch.meshgrid([(torch.arange(16) - 7.5) / 8] * 2, indexing="ij"))  # y, x
        rise = model.encode_last.weight.view(3, 16, 16, 16)
        rise[0, 0], rise[1, 0] = (places[1] - places[0]) / 50, (places[1] + places[0]) / 50
        rise[:, 1] = -rise[:, 0]
        rise[2, 0] = 0.001 * places[0].square()
        model.encode_last.bias.copy_(torch.tensor([3.0, -1.0, 0.5]))
    return model


@pytest.fixture(scope="module")
def trained(simulated):
    fields, kappa, angles = simulated
    data = simulated_set(fields, kappa, angles, np.arange(300) // 3)
    model = dipole_encoder().eval()
    fit_latent_space(model, data, *data.held_out(seed=1)[:2])
    return CircularityNetwork("dawson2020", model, {"architecture": "dawson2020"})


def test_training_lowers_the_error_of_what_is_decoded(simulated, monkeypatch):
    monkeypatch.setattr(circularity_training, "_PUBLISHED_EPOCH", 320)
    fields, kappa, angles = (part[:60] for part in simulated)
    network = train_circularity(fields, kappa, np.arange(60) // 3, pa_deg=angles, architecture="dawson2020", epochs=1, seed=1)
    maps = fields_of(simulated[0][60:80])[0].velocity.unsqueeze(1)
    torch.manual_seed(1)
    untrained = LatentCircularity()
    with torch.no_grad():
        assert mse_loss(network.model(maps), maps) < 0.98 * mse_loss(untrained(maps), maps)
    assert np.isfinite(circularity(network, fields[:10]).kappa).all()


def test_layers_are_those_of_table_a1():
    model = LatentCircularity()
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters() if name.endswith("weight")}
    assert list(shapes.values()) == [
        (8, 1, 3, 3), (8, 8, 3, 3), (16, 8, 3, 3), (16, 16, 3, 3), (3, 4096),
        (4096, 3), (16, 16, 3, 3), (16, 8, 3, 3), (8, 8, 3, 3), (8, 1, 3, 3),
    ]  # fmt: skip
    assert sum(p.numel() for p in model.parameters()) == 36_964
    latent, pooled = model.encode(torch.rand(2, 1, 64, 64))
    assert latent.shape == (2, 3)
    assert model.decode(latent, pooled).shape == (2, 1, 64, 64)


def test_the_decoder_puts_values_where_the_maxima_were():
    model = LatentCircularity()
    maps = torch.rand(1, 1, 64, 64)
    latent, pooled = model.encode(maps)
    other = [type(part)(part.at.roll(1, dims=3), part.size) for part in pooled]
    assert not torch.allclose(model.decode(latent, pooled), model.decode(latent, tuple(other)))


def test_ordered_fields_lie_outside_the_boundary(trained, simulated):
    fields, kappa, _ = simulated
    found = circularity(trained, fields)
    radius = trained.model.components(fields_of(fields)[0])[:, :2].norm(dim=1)
    assert ((found.kappa >= 0.5) == (radius >= trained.model.boundary).numpy()).all()
    ordered = kappa >= 0.5
    recall = (found.kappa >= 0.5) == ordered
    assert recall[ordered].mean() == pytest.approx(recall[~ordered].mean(), abs=0.1)  # the boundary is where they cross
    assert recall.mean() > 0.85
    assert (found.err > 0).all()


def test_the_latent_angle_is_the_position_angle(trained, simulated):
    fields, kappa, angles = simulated
    found = trained.model.position_angle(fields_of(fields)[0]).detach().numpy()
    away = (found - angles + 180) % 360 - 180
    assert np.median(np.abs(away[kappa > 0.6])) < 15


def test_principal_components_fall_in_variance_and_are_not_correlated(trained, simulated):
    components = trained.model.components(fields_of(simulated[0])[0]).detach().double()
    covariance = torch.cov(components.T)
    assert covariance[2, 2] < 0.01 * covariance[:2, :2].diagonal().min()  # z is the least
    correlation = torch.corrcoef(components.T)
    assert correlation[~torch.eye(3, dtype=torch.bool)].abs().max() < 0.15
    assert trained.model.axes @ trained.model.axes.T == pytest.approx(np.eye(3), abs=1e-5)


def test_the_boundary_is_where_true_positives_are_as_many_as_true_negatives():
    rng = np.random.default_rng(0)
    radius = np.concatenate([rng.normal(3, 0.5, 4000), rng.normal(1, 1.0, 500)])
    ordered = np.arange(4500) < 4000
    boundary = boundary_of(radius, ordered)
    assert (radius[ordered] >= boundary).mean() == pytest.approx((radius[~ordered] < boundary).mean(), abs=0.01)
    assert 2.0 < boundary < 2.6


def test_weights_come_back_as_they_were_saved(trained, simulated, tmp_path):
    save_weights("circularity", trained.model, trained.card, tmp_path)
    again = load_circularity(tmp_path)
    assert again.architecture == "dawson2020"
    assert circularity(again, simulated[0][:5]).kappa == pytest.approx(circularity(trained, simulated[0][:5]).kappa, abs=0)
