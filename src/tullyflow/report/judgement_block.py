"""The section of the report on what each test says of the galaxies, with those on whom they contradict each other most."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tullyflow.report.addresses import page_address
from tullyflow.report.judgement import combinations, cut_at, disagreement_words, known_tests, overlaps, strongest
from tullyflow.report.sections import Listing
from tullyflow.report.sprites import ACROSS, SIDE, Sheets
from tullyflow.report.summary import survey_label

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["Contested", "JudgementBlock", "judgement_block"]


@dataclass(frozen=True)
class Contested:
    """A galaxy of the section: its place in the gallery's data, its page and its thumbnail's style ("" where none), and who says what."""

    place: int
    name: str
    survey: str
    address: str
    thumbnail: str
    used: bool
    keeps: str
    takes: str


@dataclass(frozen=True)
class JudgementBlock:
    """What the section holds: a sentence, the table of tests, and the galaxies in strongest disagreement."""

    lead: str
    tests: Listing
    galaxies: Sequence[Contested]


def judgement_block(
    sample: pd.DataFrame, table: pd.DataFrame, sheets: Sheets, has_page: np.ndarray, settings: "Settings"
) -> JudgementBlock | None:
    """Make the section of a sample and its `judgement_table`; None where no field was judged.

    ``sheets`` and ``has_page`` (galaxy,) are in the sample's order.
    """
    if table.empty:
        return None
    return JudgementBlock(_lead(table, settings), _tests(table, settings), _contested(sample, table, sheets, has_page))


def _lead(table: pd.DataFrame, settings: "Settings") -> str:
    on = [f"{test} {value:g}" for test in ("usability", "circularity") for value, cuts in (cut_at(settings, test),) if cuts]
    cuts = f"The run cuts at {' and '.join(on)}" if on else "The run cuts on neither usability nor circularity"
    unlike = int(table["unlike_simulated"].sum())
    said = f"{len(table)} velocity fields were judged. {cuts}; where it does not, the tests are made at a half."
    return said + (f" The kappa of {unlike} fields unlike all simulated ones says nothing." if unlike else "")


def _limit(test: str, table: pd.DataFrame, settings: "Settings") -> str:
    if test in ("usability", "circularity"):
        value, on = cut_at(settings, test)
        return f"at least {value:g}{'' if on else ' (no cut in this run)'}"
    if test == "eye":
        return "class 1 or 2"
    limits = table["reconstruction_threshold"].dropna().unique()
    return f"misfit at most {', '.join(f'{limit:.3g}' for limit in limits[:4])}"


def _tests(table: pd.DataFrame, settings: "Settings") -> Listing:
    made, counts, pairs = known_tests(table), combinations(table), overlaps(table)
    cells = {(pair.test, pair.other): pair for pair in pairs.itertuples()}
    alone = dict(zip(counts["tests"], counts["n"], strict=True))
    rows = []
    for test in made:
        shares = ("" if other == test else _percent(cells[test, other].agree) for other in made)
        own = cells[test, test]
        rows.append((test, _limit(test, table, settings), own.both, own.out, alone.get(test, "–"), *shares))
    columns = ("test", "keeps", "judged", "takes out", "it alone", *(f"as {test}" for test in made))
    caption = "Tests, whom they would take out, and how often two of them say the same"
    return Listing(caption, columns, rows, frozenset({1}))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if np.isfinite(share) else "–"


def _contested(sample: pd.DataFrame, table: pd.DataFrame, sheets: Sheets, has_page: np.ndarray) -> list[Contested]:
    shown = []
    for label, row in strongest(table).iterrows():
        place = int(sample.index.get_loc(label))
        survey, release, name = (str(row[key]) for key in ("survey", "release", "galaxy"))
        address = page_address(survey, release, name) if has_page[place] else ""
        shown.append(Contested(
            place, name, survey_label(survey, release), address, _thumbnail(sheets, place), bool(row["used"]), *disagreement_words(row)
        ))  # fmt: skip
    return shown


def _thumbnail(sheets: Sheets, place: int) -> str:
    """The style that shows a galaxy's three panels out of its sheet; "" where it has none."""
    sheet, slot = int(sheets.sheet[place]), int(sheets.slot[place])
    if sheet < 0:
        return ""
    x, y = -3 * SIDE * (slot % ACROSS), -SIDE * (slot // ACROSS)
    return (
        f"width:{3 * SIDE}px;height:{SIDE}px;background-image:url('gallery/{sheets.names[sheet]}');"
        f"background-size:{3 * SIDE * ACROSS}px auto;background-position:{x}px {y}px"
    )
