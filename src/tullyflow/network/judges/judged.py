"""What networks say of velocity fields: would an eye use them, and how much of the motion is ordered rotation."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tullyflow.flags import GALAXY
from tullyflow.network.judges.circularity import CircularityNetwork, circularity_of, load_circularity
from tullyflow.network.judges.fields import fields_of
from tullyflow.network.judges.usability import UsabilityNetwork, load_usability, usable_of

__all__ = ["Judged", "Judges", "load_judges"]


@dataclass(frozen=True)
class Judged:
    """``columns`` of ``tables.JUDGED``, each (galaxy,), NaN where there is no field to judge; ``flags`` (galaxy,) of ``flags.GALAXY``."""

    columns: dict[str, NDArray[np.float64]]
    flags: NDArray[np.int64]


@dataclass(frozen=True)
class Judges:
    """The two networks that judge velocity fields."""

    usability: UsabilityNetwork
    circularity: CircularityNetwork

    def judge(self, gas: NDArray, stars: NDArray) -> Judged:
        """Judge velocity fields (galaxy, 64, 64; km/s, NaN = none) of gas and stars; raise `ModelError` for another size."""
        (fields, judged), (stellar, stellar_judged) = fields_of(gas), fields_of(stars)
        usable, usable_stellar = usable_of(self.usability, fields, judged, stellar, stellar_judged)
        found = circularity_of(self.circularity, fields, judged)
        columns = {"usable_prob": usable, "usable_stellar_prob": usable_stellar, "kappa": found.kappa, "kappa_err": found.err}
        return Judged(columns, np.where(found.unlike, GALAXY.UNLIKE_SIMULATED, 0))


def load_judges(usability_dir: str | Path | None = None, circularity_dir: str | Path | None = None) -> Judges:
    """Load both networks from folders of weights, None: those that ship; raise `ModelError` for weights that cannot be read."""
    return Judges(load_usability(usability_dir), load_circularity(circularity_dir))
