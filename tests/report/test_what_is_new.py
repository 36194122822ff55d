"""The page tells new galaxies from known ones, and what the network was trained on from what it never saw."""

import pandas as pd

from tullyflow.flags import GALAXY
from tullyflow.relation.cuts import survey_left_out
from tullyflow.report.releases import news_listing, news_sentences, published_listing, training_releases
from tullyflow.settings import Relation
from tullyflow.tables import SAMPLE, conform


def sample(*rows: tuple) -> pd.DataFrame:
    """Rows (survey, release, galaxy, flags); used where no flag excludes."""
    frame = pd.DataFrame(rows, columns=["survey", "release", "galaxy", "flags"])
    frame["used"] = (frame["flags"] & GALAXY.excluding) == 0
    return conform(frame, SAMPLE)


ROWS = sample(
    ("manga", "DR17", "1-1", GALAXY.DUPLICATE), ("manga", "DR17", "3-1", 0), ("manga", "DR17", "4-1", GALAXY.FACE_ON),
    ("manga", "DR15", "1-1", 0), ("manga", "DR15", "2-1", GALAXY.MISSING_FILE),
    ("things", "NA", "NGC_2403", GALAXY.SURVEY_LEFT_OUT),
)  # fmt: skip


def test_a_galaxy_is_new_in_the_oldest_release_that_has_it():
    trained = training_releases(["results/x/network/manga-DR15", "resources/network/synthetic-123456789abc"])
    assert trained == {"manga": "DR15"}
    assert news_listing(ROWS, trained).rows == [
        ("MaNGA DR15", 2, 2, 0, 1, "trained it"),
        ("MaNGA DR17", 3, 2, 1, 1, "never seen by it (DR15)"),
        ("THINGS NA", 1, 1, 0, 0, "–"),
    ]


def test_releases_beside_the_training_are_said_to_be_newer_or_older():
    newer, older = (news_sentences(ROWS, {"manga": release, "things": "NA"}) for release in ("DR15", "DR17"))
    assert len(newer) == len(older) == 1
    assert newer[0].startswith("MaNGA DR17 is newer than the network, which DR15 trained")
    assert older[0].startswith("MaNGA DR15 is older than the network, which DR17 trained")


def test_published_counts_stand_beside_those_found_before_and_after_the_network():
    listing = published_listing(ROWS, {"manga": {"before": 2645, "used": 1137}, "sami": {"used": 697}})
    assert listing.rows == [("MaNGA", 5, 3, 2645, 2, 1137), ("SAMI", 0, 0, "–", 0, 697)]


def test_a_survey_can_be_left_out_of_the_relation_and_is_shown():
    assert survey_left_out(ROWS, Relation(surveys=["manga", "sami"])).tolist() == [False] * 5 + [True]
    assert not survey_left_out(ROWS, Relation()).any()
