"""What the report says of the fits is what the simulations kept in benchmarks/ found."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tullyflow.relation.methods import METHODS
from tullyflow.relation.recommended import recommended_methods

VALUES = ("slope", "intercept", "scatter")


@pytest.fixture(scope="module")
def figures():
    return json.loads((Path(__file__).parents[2] / "benchmarks/line_simulations.json").read_text())["figures"]


def rows(figures, method, relation, *, outliers=(0.0, 0.05), selection=(True, False), part="cells"):
    return [
        r for r in figures[part]
        if (r["method"], r["relation"]) == (method, relation) and r["outliers"] in outliers and r["selection"] in selection
    ]  # fmt: skip


def test_every_relation_has_all_methods_in_an_order():
    for relation in ("reverse", "forward", "r_band", "baryonic", "other"):
        assert sorted(recommended_methods(relation).methods) == sorted(METHODS)


def test_the_reverse_relation_is_recommended_by_what_was_measured(figures):
    assert figures["relations"] >= 500
    why = recommended_methods("reverse").why
    best = rows(figures, recommended_methods("reverse").methods[0], "reverse")
    assert len(best) == 8
    covered = [100 * r[f"{name}_coverage"] for r in best for name in VALUES]
    assert f"{min(covered):.0f}-{max(covered):.0f} %" in why
    noise = 100 * np.sqrt(0.683 * 0.317 / figures["relations"])
    assert 64 - noise < min(covered) and max(covered) < 72 + noise  # 64-72 %, known to 2 %
    biases = [(name == "slope" and r["selection"] and r["n"] == 1137, abs(r[f"{name}_bias_sigma"])) for r in best for name in VALUES]
    assert max(bias for large_and_cut, bias in biases if not large_and_cut) < float(re.search(r"bias below (\S+) sigma", why)[1]) < 0.3
    assert f"{max(bias for large_and_cut, bias in biases if large_and_cut):.1f} sigma steep" in why
    told = rows(figures, "mnr_selection", "reverse", part="told_of_selection")
    assert len(told) == 2 and all(abs(r[f"{name}_bias_sigma"]) < 0.3 for r in told for name in VALUES)
    lts = rows(figures, "lts", "reverse")
    scatters = [-r["scatter_bias_sigma"] for r in lts]
    assert f"{min(scatters):.1f}-{max(scatters):.1f} sigma too small" in why
    assert f"up to {max(r['slope_bias_sigma'] for r in lts):.1f} sigma steep" in why


def test_the_forward_relation_is_recommended_by_what_was_measured(figures):
    why = recommended_methods("forward").why
    best, other = (rows(figures, method, "forward", outliers=(0.05,), selection=(False,)) for method in ("lts", "mnr"))
    assert len(best) == len(other) == 2
    assert max(abs(r["slope_bias_sigma"]) for r in best) < float(re.search(r"within (\S+) sigma", why)[1])
    assert {f"{-r['slope_bias_sigma']:.1f}" for r in other} == {re.search(r"(\S+) sigma shallow", why)[1]}
    assert all(abs(r["slope_bias_sigma"]) < 0.1 for r in rows(figures, "mnr", "forward", outliers=(0.0,), selection=(False,)))
    covered = [100 * r["slope_coverage"] for r in best]
    assert f"{min(covered):.0f}-{max(covered):.0f} %" in why
    assert {f"{-r['scatter_bias_sigma']:.1f}" for r in best} == {re.search(r"scatter is (\S+) sigma", why)[1]}


def test_errors_of_x_like_its_spread_bias_lts_and_not_mnr(figures):
    worst = {r["method"]: r for r in figures["large_errors"] if r["mass_err"] == 0.4}
    assert worst["lts"]["slope_bias_sigma"] > 0.8 and abs(worst["mnr"]["slope_bias_sigma"]) < 0.2
    assert worst["ols"]["slope_bias_sigma"] < -5
