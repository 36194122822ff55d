"""The selection made again on the merged sample with other settings: what the cuts decided is taken back, and decided anew.

What earlier stages found (no map, no rotation, outside the training) stays. Nothing is measured again but the drift correction and the
threshold of the reconstruction, where these are what changes.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tullyflow.flags import GALAXY
from tullyflow.relation.cuts import CUTS, apply_cuts
from tullyflow.relation.drift import correct_velocities
from tullyflow.relation.duplicates import group_observations, rank_observations
from tullyflow.relation.quality import RECONSTRUCTION_COLUMNS, measure_threshold
from tullyflow.settings import Relation, Settings

__all__ = ["Undecided", "select_again", "undecided"]

_FROM_EARLIER = GALAXY.QUALITY_BAD  # set by the cut, and by readers for reasons of their own
_OF_CUTS = sum(flag for flag, _ in CUTS if flag != _FROM_EARLIER)
_RECONSTRUCTION = ("reconstruction", "reconstruction_from", "reconstruction_sigma")
_DRIFT = ("drift", "drift_at")


@dataclass(frozen=True)
class Undecided:
    """A sample before its cuts.

    ``sample``: rows of ``tables.SAMPLE`` with the flags of earlier stages only; ``group`` (row,): which rows are one galaxy;
    ``elsewhere`` (row,): repeats an observation that is not in the sample; ``made_with``: the settings of ``relation`` it came with;
    ``training``: per survey the release whose galaxies froze its threshold (the others' are not asked), None = all.
    """

    sample: pd.DataFrame
    group: np.ndarray
    elsewhere: np.ndarray
    made_with: Relation
    training: dict[str, str | None]


def undecided(sample: pd.DataFrame, settings: Settings) -> Undecided:
    """Take the cuts of a merged sample back."""
    names = (sample["survey"] + "/" + sample["galaxy"]).to_numpy(dtype=str)
    group = group_observations(names, *(sample[column] for column in ("ra_deg", "dec_deg", "z", "distance_mpc")))
    flags = sample["flags"].to_numpy(dtype=np.int64)
    marked = pd.Series((flags & GALAXY.DUPLICATE) != 0)
    cleared = sample.assign(flags=flags & ~(_OF_CUTS | GALAXY.DUPLICATE))
    training = {survey: getattr(settings, survey).train_release for survey in sample["survey"].unique()}
    return Undecided(cleared, group, marked.groupby(group).transform("all").to_numpy(dtype=bool), settings.relation, training)


def select_again(before: Undecided, relation: Relation) -> pd.DataFrame:
    """Return the sample with ``flags``, ``used`` and, where they are concerned, thresholds and ``_circ`` columns of other settings.

    Of several observations of a galaxy one counts, as in the merged sample. A threshold of another statistic, number of sigmas or
    zero point is measured on the sample's galaxies of the release the network was trained on.
    """
    sample = before.sample.copy()
    if any(getattr(relation, key) != getattr(before.made_with, key) for key in _RECONSTRUCTION):
        _set_thresholds(sample, relation, before.training)
    if any(getattr(relation, key) != getattr(before.made_with, key) for key in _DRIFT):
        correct_velocities(sample, relation)
    flags = apply_cuts(sample, relation)
    passes = ((flags & GALAXY.excluding) == 0) & np.isfinite(sample["v_max_kms"].to_numpy(dtype=float)) & ~before.elsewhere
    label = (sample["survey"] + "-" + sample["release"] + "/" + sample["galaxy"]).to_numpy(dtype=str)
    ranked = rank_observations(before.group, passes, sample["survey"], sample["release"], sample["log_v_max_err"], label)
    repeats = (ranked.rank > 0) | before.elsewhere
    sample["flags"] = np.where(repeats, flags | GALAXY.DUPLICATE, flags)
    sample["used"] = passes & ~repeats
    return sample


def _set_thresholds(sample: pd.DataFrame, relation: Relation, training: dict[str, str | None]) -> None:
    sample["reconstruction_threshold"] = np.nan
    if relation.reconstruction == "off":
        return
    sample["reconstruction"] = sample[RECONSTRUCTION_COLUMNS[relation.reconstruction]]
    for survey, rows in sample.groupby("survey", sort=False):
        trained = rows["release"] == training[survey] if training[survey] in set(rows["release"]) else np.ones(len(rows), dtype=bool)
        sample.loc[rows.index, "reconstruction_threshold"] = measure_threshold(rows[trained], relation)["threshold"]
