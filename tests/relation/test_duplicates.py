"""One galaxy counts once, however often and by whomever it is observed; and no galaxy is lost by that."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from tullyflow.flags import GALAXY
from tullyflow.relation.duplicates import group_observations, link_observations, rank_observations
from tullyflow.relation.quality import cut_flow, merge_samples
from tullyflow.report.summary import count_galaxies
from tullyflow.tables import SAMPLE, conform, read_table, write_table

ARCSEC = 1 / 3600


def rows(*observations):
    """A sample of (label survey-release/name, changes); all at one place and good unless the changes say otherwise."""
    frame = []
    for label, changes in observations:
        place, galaxy = label.split("/")
        survey, release = place.split("-")
        frame.append({"galaxy": galaxy, "survey": survey, "release": release, "ra_deg": 150.0, "dec_deg": 2.0, "z": 0.03,
                      "distance_mpc": 130.0, "v_max_kms": 100.0, "log_v_max_err": 0.02, "log_mstar": 10.0, **changes})  # fmt: skip
    return conform(pd.DataFrame(frame), SAMPLE)


def counted(sample):
    """Names of the rows that count, and of what each other row says it is."""
    out = link_observations(sample)
    label = out["survey"] + "-" + out["release"] + "/" + out["galaxy"]
    return sorted(label[(out["flags"] & GALAXY.DUPLICATE) == 0]), dict(zip(label, out["same_as"], strict=True))


def test_a_galaxy_in_two_surveys_counts_once_by_the_smaller_error():
    sample = rows(("manga-DR17/8485-1901", {"log_v_max_err": 0.03}), ("sami-DR3/123", {"ra_deg": 150.0 + 1.5 * ARCSEC, "z": 0.0312}))
    used, same_as = counted(sample)
    assert used == ["sami-DR3/123"]
    assert same_as == {"manga-DR17/8485-1901": "sami-DR3/123", "sami-DR3/123": ""}


@pytest.mark.parametrize(("change", "linked"), [
    ({"dec_deg": 2.0 + 2.9 * ARCSEC}, True), ({"dec_deg": 2.0 + 3.1 * ARCSEC}, False),
    ({"z": 0.03 + 990 / 299_792.458}, True), ({"z": 0.03 + 1010 / 299_792.458}, False), ({"z": np.nan}, True),
    ({"ra_deg": np.nan}, False), ({"dec_deg": np.nan}, False),
])  # fmt: skip
def test_one_place_and_one_redshift_make_one_galaxy(change, linked):
    used, _ = counted(rows(("manga-DR17/a", {}), ("sami-DR3/b", change)))
    assert len(used) == (1 if linked else 2)


@pytest.mark.parametrize(("apart", "changes", "linked"), [
    (40, {}, True), (70, {}, False),  # 1 kpc at 3 Mpc is 69 arcsec; more than 60 is never one place
    (40, {"z": np.nan}, False), (40, {"distance_mpc": np.nan}, True), (40, {"z": 0.01}, False),
])  # fmt: skip
def test_the_centre_of_a_near_galaxy_may_lie_within_a_kiloparsec_where_both_redshifts_agree(apart, changes, linked):
    near = {"z": 0.0004, "distance_mpc": 3.0}
    used, _ = counted(rows(("things-NA/NGC_2403", near), ("local-user/mine", {**near, "dec_deg": 2.0 + apart * ARCSEC, **changes})))
    assert len(used) == (1 if linked else 2)


def test_positions_are_matched_across_the_origin_of_right_ascension_and_at_the_pole():
    place = {"ra_deg": [359.9999, 0.0001, 10.0, 190.0], "dec_deg": [5.0, 5.0, 89.9999, 89.9999]}
    group = group_observations(list("abcd"), place["ra_deg"], place["dec_deg"], np.full(4, 0.05), np.full(4, 200.0))
    assert group[0] == group[1] != group[2] == group[3]


def test_placeholders_for_a_position_link_nobody():
    group = group_observations(list("abcd"), [0.0, 0.0, np.nan, np.nan], [0.0, 0.0, 1.0, 1.0], np.full(4, np.nan), np.full(4, np.nan))
    assert len(set(group)) == 4


def test_the_observation_that_counts_passes_the_other_cuts():
    bad = {"flags": GALAXY.FACE_ON, "log_v_max_err": 0.001}
    used, same_as = counted(rows(("manga-DR17/a", bad), ("manga-DR15/a", {"log_v_max_err": 0.05}), ("sami-DR3/b", {"v_max_kms": np.nan})))
    assert used == ["manga-DR15/a"]
    assert set(same_as.values()) == {"", "manga-DR15/a"}


def test_the_newest_release_counts_within_a_survey_whatever_its_error():
    used, _ = counted(rows(("manga-DR9/a", {"log_v_max_err": 0.01}), ("manga-DR17/a", {"log_v_max_err": 0.09}), ("manga-DR15/a", {})))
    assert used == ["manga-DR17/a"]
    used, _ = counted(rows(("things-RO/a", {"log_v_max_err": 0.03}), ("things-NA/a", {})))  # neither weighting is the newer one
    assert used == ["things-NA/a"]


def test_a_readers_mark_is_taken_back_where_the_galaxy_would_be_lost_and_kept_where_its_twin_is_elsewhere():
    marked = {"flags": GALAXY.DUPLICATE, "messages": "The same galaxy as 8485-1901 (MaNGA-ID 1-1)."}
    used, _ = counted(rows(("manga-DR17/8485-1901", {"flags": GALAXY.POOR_RECONSTRUCTION}), ("manga-DR17/8486-1902", marked)))
    assert used == ["manga-DR17/8486-1902"]
    assert counted(rows(("manga-DR17/8486-1902", marked)))[0] == []
    assert counted(rows(("manga-DR15/8486-1902", marked), ("manga-DR17/8486-1902", marked)))[0] == []


def test_everybody_keeps_a_row_a_flag_and_a_sentence_in_the_merged_sample(tmp_path):
    sample = rows(("manga-DR17/a", {}), ("sami-DR3/b", {"log_v_max_err": 0.05}), ("sami-DR3/c", {"ra_deg": 40.0}))
    paths = [tmp_path / f"{name}.parquet" for name in "12"]
    write_table(paths[0], sample.iloc[[1]], SAMPLE)
    write_table(paths[1], sample.iloc[[2, 0]], SAMPLE)
    merged = merge_samples(paths, tmp_path / "sample.parquet")
    assert list(merged["galaxy"]) == ["b", "c", "a"]
    assert list(merged["used"]) == [False, True, True]
    assert list(merged["flag_names"]) == ["DUPLICATE", "", ""]
    assert merged["flag_sentences"][0] == "Another observation of this galaxy is used. The same galaxy as manga-DR17/a, which counts."
    assert list(read_table(tmp_path / "sample.parquet", SAMPLE)["same_as"]) == ["manga-DR17/a", "", ""]
    pd.testing.assert_frame_equal(merge_samples([tmp_path / "sample.parquet"], tmp_path / "again.parquet"), merged)
    flow = cut_flow(merged)
    assert flow.loc[flow["flag"] == "DUPLICATE", ["survey", "in_order"]].to_numpy().tolist() == [["sami", 1]]
    assert [(c.label, c.targets, c.used, c.linked) for c in count_galaxies(merged)] == [
        ("SAMI DR3", 2, 1, 1), ("MaNGA DR17", 1, 1, 0), ("all", 3, 2, 1),
    ]  # fmt: skip


def test_many_observations_at_one_place_are_warned_of(caplog):
    sample = rows(*((f"local-user/g{k:02d}", {}) for k in range(12)))
    assert counted(sample)[0] == ["local-user/g00"]
    assert "12 observations are taken for one galaxy, local-user/g00" in caplog.text


@st.composite
def samples(draw):
    """Observations of a few galaxies a little apart, some without redshift, position, velocity; some with a reader's mark."""
    names = draw(st.lists(st.tuples(st.sampled_from(("manga-DR15", "manga-DR17", "sami-DR3", "things-NA")), st.sampled_from("abcd")),
                          min_size=1, max_size=9, unique=True))  # fmt: skip
    maybe = st.sampled_from
    return rows(*((f"{place}/{name}", {
        "ra_deg": 150 + draw(maybe((0, 2, 4, 6, 3600, np.nan))) * ARCSEC, "z": draw(maybe((0.03, 0.032, 0.1, np.nan))),
        "distance_mpc": draw(maybe((130.0, 20.0, np.nan))), "v_max_kms": draw(maybe((100.0, np.nan))),
        "log_v_max_err": draw(maybe((0.01, 0.02, np.nan))), "flags": draw(maybe((0, 0, GALAXY.FACE_ON, GALAXY.DUPLICATE, GALAXY.MOCK))),
    }) for place, name in names))  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(samples(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter_and_linking_again_changes_nothing(sample, random):
    once = link_observations(sample)
    order = list(range(len(sample)))
    random.shuffle(order)
    shuffled = link_observations(sample.iloc[order].reset_index(drop=True))
    pd.testing.assert_frame_equal(shuffled, once.iloc[order].reset_index(drop=True))
    pd.testing.assert_frame_equal(link_observations(once), once)


@settings(max_examples=30, deadline=None)
@given(samples())
def test_no_galaxy_is_lost_and_every_twin_names_the_one_that_counts(sample):
    out = link_observations(sample)
    label = out["survey"] + "-" + out["release"] + "/" + out["galaxy"]
    duplicate = (out["flags"] & GALAXY.DUPLICATE) != 0
    of = {name: bool(flag) for name, flag in zip(label, duplicate, strict=True)}
    assert not any(of[name] for name in out["same_as"] if name)
    assert (out.loc[out["same_as"] != "", "flags"] & GALAXY.DUPLICATE).all()
    assert ((out["flags"] ^ sample["flags"]) & ~GALAXY.DUPLICATE == 0).all()
    group = group_observations(out["survey"] + out["galaxy"], *(out[c] for c in ("ra_deg", "dec_deg", "z", "distance_mpc")))
    passes = ((sample["flags"] & GALAXY.excluding & ~GALAXY.DUPLICATE) == 0) & np.isfinite(sample["v_max_kms"])
    unmarked = (sample["flags"] & GALAXY.DUPLICATE) == 0
    for number in set(group):
        here = group == number
        assert (~duplicate[here]).sum() == (1 if unmarked[here].any() else 0)
        if passes[here].any() and unmarked[here].any():
            assert passes[here & ~duplicate.to_numpy()].all()


def test_ranks_are_a_permutation_within_each_galaxy():
    releases, errors = ["DR1", "DR1", "DR2", "DR3"], [0.1, 0.1, 0.2, 0.05]
    links = rank_observations([0, 1, 0, 0], [True] * 4, ["m", "m", "m", "s"], releases, errors, list("abcd"))
    assert links.rank.tolist() == [2, 0, 1, 0]
    assert links.of.tolist() == [3, 1, 3, 3]


def test_real_repeats_of_manga_are_those_of_its_identifiers(shared):
    """The 4,589 rows of the DR15 drpall: no MaNGA-ID is split, and the six pairs with two identifiers are one object each."""
    path = shared / "mirror/data.sdss.org/sas/dr15/manga/spectro/redux/v2_4_3/drpall-v2_4_3.fits"
    with fits.open(path) as hdus:
        table = {name.lower(): np.array(hdus[1].data[name]) for name in hdus[1].columns.names}
    z = np.where(table["nsa_z"] > 0, table["nsa_z"], np.nan).astype(float)
    group = group_observations(table["plateifu"], table["objra"], table["objdec"], z, 4283 * z)
    frame = pd.DataFrame({"id": np.char.strip(table["mangaid"].astype(str)), "group": group})
    assert frame.groupby("id")["group"].nunique().max() == 1
    assert (frame.groupby("group")["id"].nunique() > 1).sum() == 6
