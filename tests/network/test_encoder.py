"""The encoder of Table 1."""

import pytest
import torch

from tullyflow.network.encoder import Encoder


def test_encoder_has_the_papers_parameters():
    assert sum(p.numel() for p in Encoder().parameters()) == 622_210


def test_one_more_input_costs_one_weight_per_hidden_unit():
    encoder = Encoder(extra=1)
    assert sum(p.numel() for p in encoder.parameters()) == 622_210 + 256
    assert encoder(torch.rand(3, 64, 64), torch.rand(3, 1)).shape == (3, 2)


def test_features_are_deterministic_and_only_the_head_is_random():
    encoder, maps = Encoder(dropout=0.5).train(), torch.rand(2, 64, 64)
    features = encoder.features(maps)
    assert torch.equal(features, encoder.features(maps))
    assert not torch.equal(encoder.head(features), encoder.head(features))


def test_sampling_the_head_equals_full_dropout_passes():
    """Mean within 5 standard errors, scatter within 5 % of thousands of whole passes."""
    torch.manual_seed(0)
    encoder, maps, n = Encoder(dropout=0.3).train(), torch.rand(2, 64, 64), 4000
    with torch.no_grad():
        features = encoder.features(maps)
        whole = torch.stack([encoder.head(features) for _ in range(n - 50)] + [encoder(maps) for _ in range(50)])
        sampled = encoder.sample(features, n, torch.Generator().manual_seed(1))
    assert sampled.shape == whole.shape == (n, 2, 2)
    error = whole.std(dim=0) / n**0.5
    assert ((sampled.mean(dim=0) - whole.mean(dim=0)).abs() < 5 * 1.5 * error).all()
    assert (sampled.std(dim=0) / whole.std(dim=0)).flatten().tolist() == pytest.approx([1] * 4, rel=0.05)


def test_sampling_is_the_generators_alone():
    encoder, features = Encoder(), torch.rand(3, 256)
    one, two = (encoder.sample(features, 5, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, encoder.sample(features, 5, torch.Generator().manual_seed(8)))
