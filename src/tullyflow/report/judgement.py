"""Where usability, circularity, the reconstruction and the eye agree about a galaxy, and where they do not.

Each is a test that would take a galaxy out: the reconstruction at the run's own threshold, usability and circularity at the run's cuts or,
where these are switched off, at a half, and the eye where it classed a field as not to be used.
"""

import logging
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tullyflow.errors import ModelError
from tullyflow.flags import GALAXY
from tullyflow.network.judges.usability_labels import read_labels
from tullyflow.report.judged_words import probability_words
from tullyflow.report.words import plus_minus

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = [
    "TESTS", "combinations", "cut_at", "disagreement_words", "eye_classes", "judgement_table", "known_tests", "overlaps", "strongest",
]  # fmt: skip

_LOG = logging.getLogger("tullyflow")

TESTS = ("usability", "circularity", "reconstruction", "eye")
_HALF = 0.5
_KEPT = (
    "galaxy", "survey", "release", "used", "usable_prob", "usable_stellar_prob", "kappa", "kappa_err", "chi2_velocity", "reconstruction",
    "reconstruction_threshold",
)  # fmt: skip
_EYE_FIRMNESS = {0: -1.0, 1: 0.5, 2: 1.0}  # not to be used, messy, clean
_EYE_WORDS = {0: "not to be used", 1: "messy", 2: "clean"}


def cut_at(settings: "Settings", test: str) -> tuple[float, bool]:
    """Return where the cut on ``usability`` or ``circularity`` stands (a half where it is switched off), and whether it is on."""
    value = {"usability": settings.relation.usable_prob_min, "circularity": settings.relation.kappa_min}[test]
    return (_HALF, False) if value is None else (float(value), True)


def eye_classes(sample: pd.DataFrame, settings: "Settings") -> pd.Series:
    """Return the class by eye of each galaxy's velocity field: 0 not to be used, 1 messy, 2 clean; NaN where no eye looked.

    The tables are those that ``network.usability.labels`` names, survey by survey; one that cannot be read is logged and left out.
    """
    eye = pd.Series(np.nan, sample.index)
    for survey, rows in sample.groupby("survey", sort=False):
        path = settings.for_survey(survey).network.usability.labels if hasattr(settings, survey) else None
        if path is None:
            continue
        try:
            eye[rows.index] = rows["galaxy"].map(_classes_of_gas(Path(path)))
        except ModelError as err:
            _LOG.warning("report: %s No classes by eye of %s.", err, survey)
    return eye


def _classes_of_gas(path: Path) -> pd.Series:
    """Read the classes as the training does; what is only called usable counts as messy."""
    table = read_labels(path).set_index("galaxy")
    return table["usable_0"] + table["clean_0"].fillna(0)


def judgement_table(sample: pd.DataFrame, settings: "Settings") -> pd.DataFrame:
    """Return what each test says of every galaxy whose velocity field was judged; another observation that counts is not counted twice.

    Columns: those of the sample that the tests look at; ``unlike_simulated``; ``eye``, the class; ``out_{test}``, True where it would take
    the galaxy out, NA where it does not say; ``disagreement``, the summed firmness of those that keep it times that of those that do not,
    from 0, where none contradicts another, to 4. The index is the sample's. A kappa of a field unlike the simulated ones says nothing.

    Firmness runs from -1, out, to 1: of usability linearly, from the cut; of circularity twice the probability, by its error, of lying
    above the cut, less one; of the reconstruction a half at a factor of 2 from its threshold and 4/5 at one of 4; of the eye -1, 1/2
    (messy) and 1.
    """
    judged = sample[["usable_prob", "kappa"]].notna().any(axis=1) & ((sample["flags"] & GALAXY.DUPLICATE) == 0)
    rows = sample[judged]
    table = rows[list(_KEPT)].copy()
    table["unlike_simulated"] = (rows["flags"] & GALAXY.UNLIKE_SIMULATED) != 0
    table["eye"] = eye_classes(rows, settings)
    misfit = table["reconstruction"].where(table["reconstruction"] > 0) / table["reconstruction_threshold"]
    firm = pd.DataFrame({
        "usability": _linear(table["usable_prob"], cut_at(settings, "usability")[0]),
        "circularity": _above(table, cut_at(settings, "circularity")[0]),
        "reconstruction": np.tanh(-0.8 * np.log(misfit)),
        "eye": table["eye"].map(_EYE_FIRMNESS),
    }, index=table.index)  # fmt: skip
    for test in TESTS:
        table[f"out_{test}"] = (firm[test] < 0).astype("boolean").where(firm[test].notna())
    return table.assign(disagreement=firm.clip(lower=0).sum(axis=1) * -firm.clip(upper=0).sum(axis=1))


def _linear(value: pd.Series, cut: float) -> pd.Series:
    above = (value - cut) / max(1 - cut, 1e-9)
    return above.where(value >= cut, (value - cut) / max(cut, 1e-9))


def _above(table: pd.DataFrame, cut: float) -> pd.Series:
    """Twice the probability, by its error, that kappa lies above the cut, less one; its sign alone where no error is known."""
    from scipy.special import erf

    above = table["kappa"].where(~table["unlike_simulated"]) - cut
    err = table["kappa_err"].where(table["kappa_err"] > 0)
    sign = pd.Series(np.where(above >= 0, 1.0, -1.0), table.index).where(above.notna())
    return erf(above / (np.sqrt(2) * err)).where(err.notna(), sign)


def known_tests(table: pd.DataFrame) -> list[str]:
    """Return the tests that say something of anybody."""
    return [test for test in TESTS if table[f"out_{test}"].notna().any()]


def combinations(table: pd.DataFrame) -> pd.DataFrame:
    """Count, of the galaxies that all tests but the eye's say something of, those that exactly these tests would take out.

    Columns: ``tests``, comma-separated, "" for the galaxies all keep; ``n``; and what the eye says of them: ``eye_out``, ``eye_kept``,
    ``eye_unknown``. Every combination has a row, in the order of how many tests it has; no rows with fewer than two tests.
    """
    made = [test for test in known_tests(table) if test != "eye"]
    columns = ["tests", "n", "eye_out", "eye_kept", "eye_unknown"]
    if len(made) < 2:
        return pd.DataFrame(columns=columns)
    out = table[[f"out_{test}" for test in made]]
    known = table[out.notna().all(axis=1)]
    rows = []
    for chosen in sorted(product((True, False), repeat=len(made)), key=sum):
        here = known[np.logical_and.reduce([known[f"out_{t}"].eq(c).to_numpy(bool) for t, c in zip(made, chosen, strict=True)])]
        eye = here["out_eye"]
        words = ",".join(test for test, c in zip(made, chosen, strict=True) if c)
        rows.append((words, len(here), int(eye.eq(True).sum()), int(eye.eq(False).sum()), int(eye.isna().sum())))
    return pd.DataFrame(rows, columns=columns)


def overlaps(table: pd.DataFrame) -> pd.DataFrame:
    """Compare the tests two by two, each pair on the galaxies that both say something of.

    One row for each ordered pair: ``test``, ``other``, ``both`` (galaxies), ``out`` (of these the first takes out), ``out_too`` (of those
    the other takes out as well), ``agree`` (same verdict, a share); a test with itself has what it takes out of all it says something of.
    """
    made, rows = known_tests(table), []
    for test, other in product(made, made):
        first, second = table[f"out_{test}"], table[f"out_{other}"]
        both = (first.notna() & second.notna()).to_numpy(bool)
        a, b = first[both].to_numpy(bool), second[both].to_numpy(bool)
        rows.append((test, other, int(both.sum()), int(a.sum()), int((a & b).sum()), float((a == b).mean()) if both.any() else np.nan))
    return pd.DataFrame(rows, columns=["test", "other", "both", "out", "out_too", "agree"])


def strongest(table: pd.DataFrame, number: int = 10) -> pd.DataFrame:
    """Return the galaxies whose tests contradict each other most firmly, at most ``number``; ties in the sample's order."""
    apart = table[table["disagreement"] > 0]
    return apart.sort_values("disagreement", ascending=False, kind="stable").head(number)


def disagreement_words(row: pd.Series) -> tuple[str, str]:
    """Return who would keep a galaxy of `judgement_table` and who would take it out, with what each found."""
    found = {
        "usability": f"usability {probability_words(row['usable_prob'])}",
        "circularity": f"κ {plus_minus(row['kappa'], row['kappa_err'], 2)}",
        "reconstruction": f"misfit {row['reconstruction']:.3g} (limit {row['reconstruction_threshold']:.3g})",
        "eye": f"the eye: {_EYE_WORDS.get(row['eye'], '')}",
    }
    keeps, takes = ([found[t] for t in TESTS if pd.notna(out := row[f"out_{t}"]) and bool(out) == side] for side in (False, True))
    return ", ".join(keeps), ", ".join(takes)
