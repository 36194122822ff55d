"""How the errors were calibrated, as tables and a figure: what every network says, and dashes for what it does not."""

import json

import numpy as np
import pytest

from tullyflow.report.calibration import calibration_listing, coverage_table, fit_calibration_listing
from tullyflow.report.figures.coverage import plot_coverage
from tullyflow.report.pictures import coverage_pictures


def test_coverage_of_the_network_is_read_and_dashes_stand_for_none(network, tmp_path):
    (row,) = calibration_listing([network, tmp_path / "absent"]).rows
    assert row[:6] == ("SAMI DR3", "of every kind", 2000, "36 % → 68 %", "50 % → 69 %", "– → –")


def test_coverage_and_errors_of_the_fit_are_listed_before_and_after(network, tmp_path):
    listing = fit_calibration_listing([network, tmp_path / "absent"])
    assert listing.columns[3:6] == ("inclination (deg)", "scale length (%)", "turnover radius (%)")
    one, two, errors = listing.rows
    assert one[:3] == ("SAMI DR3", "1000 like the survey's galaxies", "within 68 %") and two[2] == "within 95 %"
    assert one[3:7] == ("– → –", "– → –", "55 % → 69 %", "40 % → 69 %") and two[6] == "80 % → 95 %"
    assert errors[2:] == (
        "median 1 σ", "– → –", "– → –", "20 → 30", "3.00 → 6.00", "1.10 → 1.80", "0.30 → 0.30", "0.40 → 0.40", "2.00 → 21",
    )  # fmt: skip


@pytest.mark.parametrize("card", [{}, {"fit_calibration": {"source": "none", "coverage": [], "width": [], "discs": 0}},
                                  {"fit_calibration": {"coverage": [[[0.5]]], "width": [[1.0]]}}, {"fit_calibration": None}])  # fmt: skip
def test_networks_without_it_are_left_out(network, card):
    (network / "model.json").write_text(json.dumps(card))
    assert fit_calibration_listing([network]).rows == [] and coverage_table(network).empty
    assert coverage_pictures([network], network) == []


def test_coverage_is_drawn_against_the_goal(network):
    table = coverage_table(network)
    assert table["within"].tolist() == [68] * 8 + [95] * 8 and np.isnan(table["before"][:2]).all()
    left, right = plot_coverage(table, "SAMI DR3").axes
    for axes, goal, share in ((left, (64, 72), 40), (right, (92, 97), 80)):
        before, after = (line.get_xdata() for line in axes.lines[:2])
        assert before[3] == share and after[2] == after[7] and np.isnan(after[0])
        assert tuple(axes.patches[0].get_extents().transformed(axes.transData.inverted()).intervalx) == pytest.approx(goal)
    assert left.get_xlim()[0] < 40  # the lowest share is seen


def test_the_figure_has_its_files_and_says_on_what(network):
    (shown,) = coverage_pictures([network], network)
    assert (network / "coverage-sami-DR3.csv").read_text().count("\n") == 17
    assert shown.name == "coverage-sami-DR3" and "deliberately not the model" in shown.caption
