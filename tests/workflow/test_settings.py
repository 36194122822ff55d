"""A mistake in the configuration is one sentence; a value with a unit is a plain float after."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tullyflow.errors import SettingsError
from tullyflow.settings import Settings, load_settings, parse_settings, select_sections


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"maps": {"snr_mim": 3}}, ["maps.snr_mim", "unknown key", "Did you mean 'snr_min'?"]),
        ({"maps": {"v_abs_min": "3 kg"}}, ["maps.v_abs_min", "km/s", "3 kg"]),
        ({"maps": {"snr_min": "high"}}, ["maps.snr_min", "high"]),
        ({"maps": 3}, ["maps", "found 3"]),
        ({"run": "../x"}, ["run", "../x"]),
        ({"manga": {"releases": []}}, ["manga.releases", "at least 1"]),
        ({"surveys": ["califa"]}, ["surveys", "califa", "manga"]),
        ({"device": "tpu"}, ["device", "tpu"]),
        ({"wokflow": 1}, ["wokflow", "unknown key"]),
    ],
)
def test_mistake_is_one_sentence_that_names_key_and_value(data, words):
    with pytest.raises(SettingsError) as info:
        parse_settings(data, source="my.yaml")
    message = str(info.value)
    assert "\n" not in message
    assert message.startswith("my.yaml: ")
    for word in words:
        assert word in message


def test_units_are_converted_at_the_border():
    assert parse_settings({"maps": {"v_abs_min": "20000 m/s"}}).maps.v_abs_min == pytest.approx(20.0)
    assert parse_settings({"maps": {"pa_step": "30 arcmin"}}).maps.pa_step == pytest.approx(0.5)


def test_text_and_number_make_the_same_params():
    text = parse_settings({"maps": {"snr_min": "5"}, "limit": "20"})
    number = parse_settings({"maps": {"snr_min": 5}, "limit": 20})
    assert select_sections(text, "maps", "limit") == select_sections(number, "maps", "limit")


def test_a_new_release_changes_no_shard_params():
    one = parse_settings({"manga": {"releases": ["DR15"]}})
    daptype = {**one.manga.daptype, "DR18": "SPX-MILESHC-MASTARSSP"}
    two = parse_settings({"manga": {"releases": ["DR15", "DR18"], "train_release": "DR15", "daptype": daptype}})
    assert select_sections(one, "maps", "manga", release="DR15") == select_sections(two, "maps", "manga", release="DR15")
    assert select_sections(two, "manga", release="DR15") != select_sections(two, "manga", release="DR18")


def test_a_survey_lays_its_own_settings_over():
    settings = parse_settings({"maps": {"snr_min": 7}, "sami": {"maps": {"min_pixels": 150}}})
    assert settings.for_survey("sami").maps.min_pixels == 150
    assert settings.for_survey("sami").maps.snr_min == 7
    assert settings.for_survey("manga").maps.min_pixels == Settings().maps.min_pixels
    with pytest.raises(SettingsError, match=r"maps\.snr_mim"):
        parse_settings({"sami": {"maps": {"snr_mim": 1}}}).for_survey("sami")


def test_a_stage_gets_only_what_it_uses():
    assert json.loads(select_sections(Settings(), "relation.clip", "seed")) == {"relation": {"clip": 2.6}, "seed": 42}


@given(st.text(max_size=60))
def test_no_text_escapes_as_a_traceback(text):
    try:
        load_settings("{" + text)
    except SettingsError as err:
        assert "\n" not in str(err)
