"""What is said of a velocity field as networks judge it: would an eye use it, and how much of the motion is ordered rotation."""

from collections.abc import Mapping

import numpy as np

from tullyflow.flags import GALAXY
from tullyflow.report.words import number, plus_minus
from tullyflow.tables import JUDGED

__all__ = ["judged_sentences", "probability_words"]

_HALF = 0.5


def judged_sentences(row: Mapping) -> list[str]:
    """Say how usable and how circular a galaxy's velocity field was judged to be; where it was not, or may mean nothing, that.

    ``row`` is one of ``tables.SAMPLE``; columns that are absent (a table of another version) were not judged.
    """
    if not any(column.name in row for column in JUDGED):
        return ["Usability and circularity were not judged in this run."]
    return [_usability(row), *_circularity(row)]


def _value(row: Mapping, name: str) -> float:
    value = row.get(name)
    return float(value) if isinstance(value, int | float | np.number) else float("nan")


def probability_words(value: float) -> str:
    """Return a probability in two digits, never as a certainty."""
    return "below 0.01" if value < 0.005 else "above 0.99" if value >= 0.995 else number(value, 2)


def _usability(row: Mapping) -> str:
    gas, stars = _value(row, "usable_prob"), _value(row, "usable_stellar_prob")
    if np.isnan(gas):
        said = "Usability: there is no velocity field to judge, or too little of one"
        return f"{said}; the stars' an eye would use with probability {probability_words(stars)}." if np.isfinite(stars) else f"{said}."
    of_stars = f", that of its stars with {probability_words(stars)}" if np.isfinite(stars) else ""
    return f"An eye would use this velocity field with probability {probability_words(gas)}{of_stars}."


def _circularity(row: Mapping) -> list[str]:
    kappa, err = _value(row, "kappa"), _value(row, "kappa_err")
    unlike = bool(int(row["flags"]) & GALAXY.UNLIKE_SIMULATED)
    if np.isnan(kappa):
        return ["Circularity: there is no velocity field to judge, or too little of one."]
    share = plus_minus(kappa, err, 2)
    if unlike:
        return [
            f"Its field is unlike all the simulated ones that circularity was learned on: the kappa of {share} found may mean nothing, "
            "and no cut is made on it."
        ]
    said = [
        f"Circularity: kappa = {share} of the kinetic energy is in ordered rotation, as the field shows it (1: all of it, as in a cold "
        "disc; 0: none)."
    ]
    if not np.isfinite(err):
        said.append("How uncertain that is, is not known.")
    elif abs(kappa - _HALF) < err:
        said.append("Within its error that is on neither side of a half.")
    return said
