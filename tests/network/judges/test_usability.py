"""Networks of usability: what they read, learn, keep and refuse."""

import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch

from tullyflow.errors import ModelError
from tullyflow.network.judges.fields import fields_of
from tullyflow.network.judges.usability import UsabilityNetwork, load_usability, save_usability, usable_of, usable_probability
from tullyflow.network.judges.usability_fitting import Training
from tullyflow.network.judges.usability_labels import LabelledFields, labelled_fields, read_labels
from tullyflow.network.judges.usability_training import draw_folds, figures_of, train, train_usability

Y, X = np.mgrid[:64, :64] - 31.5
QUICK = Training(seed=3, varied=1, epochs=4, published_epochs=12)


def disc(rng, order=1.0):
    """A rotating disc, or with ``order`` 0 noise in patches, in an uneven footprint."""
    angle = rng.uniform(0, 2 * np.pi)
    velocity = rng.uniform(60, 200) * np.tanh((np.cos(angle) * X + np.sin(angle) * Y) / rng.uniform(4, 15))
    noise = rng.normal(0, 90, (16, 16)).repeat(4, axis=0).repeat(4, axis=1)
    inside = np.hypot(X - rng.normal(0, 2), Y) < rng.uniform(22, 31)
    return np.where(inside, order * velocity + (1 - order) * noise + rng.normal(0, 8, X.shape), np.nan).astype(np.float32)


def blank(n):
    return np.full((n, 64, 64), np.nan, np.float32)


@pytest.fixture(scope="module")
def labelled():
    """120 galaxies of 30 plates: a third is disorder; some have stars, some classes are not said."""
    rng = np.random.default_rng(5)
    order = np.where(np.arange(120) % 3 == 0, 0.0, np.where(np.arange(120) % 3 == 1, 0.75, 1.0))
    gas, stars = (np.stack([disc(rng, o) for o in order]) for _ in range(2))
    stars[100:] = np.nan
    usable, clean = (np.repeat((order >= least).astype(float)[:, None], 2, axis=1) for least in (0.5, 1.0))
    usable[90:95, 1] = clean[90:95, 1] = np.nan
    names = np.array([f"{7000 + k // 4}-{k % 4 + 1}" for k in range(120)])
    return LabelledFields(names, np.array([n.split("-")[0] for n in names]), gas, stars, usable, clean)


@pytest.fixture(scope="module", params=["symmetric", "duckworth2019"])
def learnt(request, labelled):
    return train_usability(labelled, Training(**{**vars(QUICK), "architecture": request.param}))


def test_plates_never_seen_are_told_right(learnt, labelled):
    network, crossed = learnt
    figures = figures_of(crossed.probability, labelled.usable)
    least = 0.97 if network.architecture == "symmetric" else 0.75
    assert figures["gas"]["accuracy"] > least and figures["stars"]["accuracy"] > least - 0.02
    assert figures["gas"]["fields"] == 120 and figures["stars"]["fields"] == 95
    assert figures["all"]["calibration_error"] < 0.15
    assert np.isnan(crossed.probability[100:, 1]).all()


def test_the_same_seed_makes_the_same_network(labelled):
    first, second = (train_usability(labelled, Training(seed=3, varied=1, epochs=1))[0] for _ in range(2))
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_training_leaves_random_numbers_as_they_were(labelled):
    torch.manual_seed(7)
    train_usability(labelled, Training(seed=3, varied=0, epochs=1))
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(1))


def test_galaxies_of_a_plate_share_a_fold():
    group = np.array([f"{k // 3}" for k in range(90)])
    fold = draw_folds(group, 1)
    assert set(fold) == {0, 1, 2, 3, 4} and all(len(set(fold[group == g])) == 1 for g in set(group))
    assert not np.array_equal(fold, draw_folds(group, 2))
    assert np.ptp(np.bincount(fold)) <= 3


def test_weights_are_read_back_as_they_were_written(learnt, labelled, tmp_path):
    network, _ = learnt
    save_usability(network, {"data": "discs"}, tmp_path)
    again = load_usability(tmp_path)
    for a, b in zip(*(usable_probability(n, labelled.gas[90:], labelled.stars[90:]) for n in (network, again)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert json.loads((tmp_path / "model.json").read_text())["architecture"] == network.architecture


def test_weights_of_an_unknown_architecture_end_in_a_sentence(learnt, tmp_path):
    save_usability(learnt[0], {}, tmp_path)
    card = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(card | {"architecture": "guess"}))
    with pytest.raises(ModelError, match=r"guess.*allowed: symmetric, duckworth2019"):
        load_usability(tmp_path)
    other = "duckworth2019" if card["architecture"] == "symmetric" else "symmetric"
    (tmp_path / "model.json").write_text(json.dumps(card | {"architecture": other}))
    with pytest.raises(ModelError, match=f"not weights of the architecture {other}"):
        load_usability(tmp_path)


def test_a_probability_is_of_its_own_galaxy_alone(labelled):
    network = load_usability()
    gas, stars = labelled.gas[:7].copy(), labelled.stars[:7].copy()
    whole = usable_probability(network, gas, stars)
    alone = [usable_probability(network, gas[k : k + 1], stars[k : k + 1]) for k in range(7)]
    for field in (0, 1):
        np.testing.assert_allclose(whole[field], [one[field][0] for one in alone], atol=1e-6)


def test_fields_that_are_not_there_have_no_probability(labelled):
    network = load_usability()
    gas, stars = labelled.gas[:4].copy(), labelled.stars[:4].copy()
    gas[1], stars[2] = np.nan, np.nan
    gas[3] = np.nan
    gas[3, 30, 20:30] = np.arange(10)
    prob, prob_stars = usable_probability(network, gas, stars)
    np.testing.assert_array_equal(np.isnan(prob), [False, True, False, True])
    np.testing.assert_array_equal(np.isnan(prob_stars), [False, False, True, False])
    assert all(p.size == 0 for p in usable_probability(network, blank(0), blank(0)))


def test_the_other_field_counts_and_its_absence_too(labelled):
    network = load_usability()
    disorder, order = labelled.gas[:1], labelled.gas[2:3]
    with_order, with_disorder, alone = (usable_probability(network, order, other)[0][0] for other in (order, disorder, blank(1)))
    assert with_order > alone > 0.5 and with_order > with_disorder


def test_gas_and_stars_must_be_of_the_same_galaxies(labelled):
    fields, judged = fields_of(labelled.gas[:3])
    with pytest.raises(ModelError, match="3 galaxies and of stars of 2"):
        usable_of(UsabilityNetwork(), fields, judged, fields.select(slice(2)), judged[:2])
    with pytest.raises(ModelError, match="64, 64"):
        usable_probability(UsabilityNetwork(), np.zeros((1, 32, 32)), np.zeros((1, 32, 32)))


def test_the_default_does_not_see_how_a_galaxy_lies(labelled):
    network = load_usability()
    gas, stars = labelled.gas[:30], labelled.stars[:30]
    first = usable_probability(network, gas, stars)
    for turn in (lambda f: np.rot90(f, axes=(1, 2)), lambda f: f[:, ::-1], lambda f: f.transpose(0, 2, 1), np.negative):
        for a, b in zip(first, usable_probability(network, turn(gas), turn(stars)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3)


def table(tmp_path, text):
    path = tmp_path / "classes.csv"
    path.write_text(text)
    return path


def test_classes_become_usable_and_clean(tmp_path):
    found = read_labels(table(tmp_path, "galaxy,quality,usable_stellar\na,0,1\nb,1,\nc,2.0,0\nd,,\n")).set_index("galaxy")
    np.testing.assert_array_equal(found["usable_0"], [0, 1, 1, np.nan])
    np.testing.assert_array_equal(found["clean_0"], [0, 0, 1, np.nan])
    np.testing.assert_array_equal(found["usable_1"], [1, np.nan, 0, np.nan])
    assert found["clean_1"].isna().all()


@pytest.mark.parametrize("text, said", [
    ("galaxy,quality\na,0\nb,3\n", "'quality' of 'b' is '3'.*allowed: 0, 1, 2"),
    ("galaxy,quality\na,clean\n", "'quality' of 'a' is 'clean'"),
    ("galaxy,usable\na,2\n", "'usable' of 'a' is '2'.*allowed: 0, 1"),
    ("galaxy,quality\na,0\na,2\n", "'a' occurs more than once"),
    ("galaxy,quality\na,0\n,2\n", "row 3 has no galaxy"),
    ("name,quality\na,0\n", "needs 'galaxy'"),
    ("galaxy,class\na,0\n", "one or more of quality, quality_stellar"),
    ("", "no table of classes"),
])  # fmt: skip
def test_a_table_that_cannot_be_used_ends_in_a_sentence(tmp_path, text, said):
    with pytest.raises(ModelError, match=said):
        read_labels(table(tmp_path, text))


def test_names_without_a_field_are_counted_and_none_with_one_is_an_error(write_shard, tmp_path, caplog):
    maps, _, _ = write_shard(n=4)
    with caplog.at_level(logging.INFO, "tullyflow"):
        found = labelled_fields([maps, maps], table(tmp_path, "galaxy,quality\ngalaxy 2,1\nelsewhere,0\ngalaxy 0,2\n"))
    assert found.galaxy.tolist() == ["galaxy 0", "galaxy 2"] and "1 of 3 galaxies" in caplog.text and "elsewhere" in caplog.text
    np.testing.assert_array_equal(found.usable[:, 0], [1, 1])
    np.testing.assert_array_equal(found.clean[:, 0], [1, 0])
    with pytest.raises(ModelError, match="none of its 1 galaxies"):
        labelled_fields([maps], table(tmp_path, "galaxy,quality\nelsewhere,0\n"))


def test_a_rule_trains_on_a_table_and_what_it_wrote_is_read(write_shard, settings, tmp_path):
    maps, _, _ = write_shard(n=24)
    names = [f"galaxy {k}" for k in range(24)]
    pd.DataFrame({"galaxy": names, "quality": [k % 3 for k in range(24)]}).to_csv(tmp_path / "classes.csv", index=False)
    train([maps], tmp_path / "classes.csv", settings, tmp_path / "out")
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    assert card["trained_on"] == sorted(names) and card["training"]["seed"] == settings.seed and card["figures"]["gas"]["fields"] == 24
    assert np.isfinite(usable_probability(load_usability(tmp_path / "out"), np.ones((2, 64, 64)) * X, blank(2))[0]).all()


def test_too_few_classes_to_learn_from_are_said(write_shard, settings, tmp_path):
    maps, _, _ = write_shard(n=24)
    few = pd.DataFrame({"galaxy": [f"galaxy {k}" for k in range(24)], "quality": 2})
    few.to_csv(tmp_path / "classes.csv", index=False)
    with pytest.raises(ModelError, match=r"24 fields with a class \(24 usable\)"):
        train([maps], tmp_path / "classes.csv", settings, tmp_path / "out")
    few.iloc[:5].to_csv(tmp_path / "classes.csv", index=False)
    with pytest.raises(ModelError, match="5 fields with a class"):
        train([maps], tmp_path / "classes.csv", settings, tmp_path / "out")
