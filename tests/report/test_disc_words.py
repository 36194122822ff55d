"""What is said of a galaxy's disc: how it was fitted, which curve its map prefers, and what is no rotation."""

import numpy as np
import pytest

from tullyflow.flags import GALAXY
from tullyflow.report.disc_words import disc_kind, disc_sentences
from tullyflow.report.story import story


def row(**changes):
    """A disc fitted whole, an arctan, with little beside rotation."""
    known = {
        "galaxy": "8485-1901", "survey": "manga", "release": "DR17", "shard": "manga-DR17-000", "used": True, "flags": 0, "n_spaxels": 800,
        "mode": "blind", "curve_kind": "fit", "inclination_kind": "kinematic", "inclination_deg": 52.1, "inclination_deg_err": 2.04,
        "inclination_deg_err95": 4.9, "inclination_used_deg": 52.1, "inclination_used_err_deg": 2.04, "inclination_network_deg": 55.0,
        "r_scale_network_arcsec": 3.4, "r_turn_network_arcsec": 1.62, "v_max_sini_network_kms": 131.0, "v_max_sini_kms": 140.0,
        "axis_offset_deg": -2.04, "axis_offset_deg_err": 0.81, "centre_x_offset": 0.62, "centre_x_offset_err": 0.2,
        "centre_y_offset": -1.1, "centre_y_offset_err": 0.3, "v_sys_offset_kms": 3.3, "v_sys_offset_kms_err": 1.2,
        "curve_shape": "arctan", "delta_bic": -3.21, "outer_slope": -0.31, "outer_slope_err": 0.06, "non_circular_kms": 6.24,
        "non_circular_err_kms": 1.1, "non_circular_share": 0.041, "rotation_share": 0.985,
    }  # fmt: skip
    return known | changes


def said(**changes):
    return " ".join(disc_sentences(row(**changes)))


@pytest.mark.parametrize(("changes", "kind", "words"), [
    ({}, "whole", "The whole disc is fitted"),
    ({"flags": GALAXY.INCLINATION_NOT_FITTED}, "network", "No fit of the whole disc held"),
    ({"inclination_kind": "photometric", "inclination_deg": 55.0}, "photometry", "at the photometry's inclination"),
    ({"curve_kind": "network", "flags": GALAXY.FIT_FAILED}, "failed", "no disc it can vouch for: values and errors are the network's"),
])  # fmt: skip
def test_how_the_disc_was_found_is_said(changes, kind, words):
    assert disc_kind(row(**changes)) == kind and words in said(**changes)


def test_a_disc_fitted_whole_is_told_beside_the_networks_and_where_it_lies():
    text = said()
    assert "said 55.0 deg, 3.40 arcsec, 1.62 arcsec and 131.0 km/s" in text
    assert "axis is −2.0 ± 0.8 deg, its centre (0.6 ± 0.2, −1.1 ± 0.3) stamp pixels, its v_sys 3.3 ± 1.2 km/s" in text
    assert "55.0 deg" not in said(flags=GALAXY.INCLINATION_NOT_FITTED)  # held: it is the same number


@pytest.mark.parametrize(("changes", "words"), [
    ({}, "No other rotation curve is preferred to the arctan (delta BIC −3.2"),
    ({"curve_shape": "tanh", "delta_bic": 3.0}, "prefers a tanh to the arctan, but not strongly (delta BIC +3.0)"),
    ({"curve_shape": "slope", "delta_bic": 12.34}, "strongly prefers an arctan with an outer slope of −0.31 ± 0.06 to the arctan (delta"),
])  # fmt: skip
def test_the_preferred_curve_is_said(changes, words):
    assert words in said(**changes)


def test_what_is_no_rotation_is_said():
    assert "is 6.2 ± 1.1 km/s rms, 4.1 % of the model's largest velocity; rotation explains 98.5 % of the coherent motion" in said()


def test_nothing_is_said_of_what_is_not_known():
    assert "BIC" not in said(curve_shape="", delta_bic=np.nan) and "coherent" not in said(non_circular_kms=np.nan)
    assert said(curve_kind="network") == "" and disc_sentences({"flags": 0}) == []  # not asked for; a table of another version


@pytest.mark.parametrize(("changes", "words"), [
    ({}, "52.1 ± 2.0 deg (the fit's)"),
    ({"flags": GALAXY.INCLINATION_NOT_FITTED}, "(the network's own)"),
    ({"inclination_kind": "photometric"}, "(photometric, by the axis ratio)"),
])  # fmt: skip
def test_the_story_says_whose_inclination_it_is_with_both_intervals(changes, words):
    (disc,) = [chapter for chapter in story(row(**changes)) if chapter.title == "Its disc"]
    assert words in disc.sentences[1] and set(disc_sentences(row(**changes))) <= set(disc.sentences)
    assert disc.columns[2] == "95 %" and disc.rows[0][2] == "± 4.9" and disc.rows[2][2] == "–"
