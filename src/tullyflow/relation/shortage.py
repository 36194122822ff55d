"""Why there are so few galaxies: the cuts that took the most, in a sentence."""

import numpy as np
import pandas as pd

from tullyflow.flags import GALAXY

__all__ = ["say_shortage"]

_NAMED = 3


def say_shortage(sample: pd.DataFrame, n_missing: int, relation: str) -> str:
    """Return which flags keep most of ``sample`` (rows of ``tables.SAMPLE``) out, whatever else a galaxy carries.

    ``n_missing`` of the used galaxies lack what the ``relation`` needs.
    """
    if not len(sample):
        return "There is no galaxy at all."
    flags, out = sample["flags"].to_numpy(dtype=np.int64), ~sample["used"].to_numpy(dtype=bool)
    carried = {flag.name: int(((flags & flag.mask) != 0).sum()) for flag in GALAXY if flag.excludes}
    carried["a missing velocity"] = int((out & ((flags & GALAXY.excluding) == 0)).sum())
    needed = {"baryonic": "a gas mass, mass", "r_band": "a magnitude"}.get(relation, "a mass")
    rows = [(count, f"{name} takes {count}") for name, count in carried.items() if count]
    rows += [(n_missing, f"{n_missing} that no cut takes lack {needed} or velocity")] if n_missing else []
    takers = ", ".join(said for _, said in sorted(rows, key=lambda row: -row[0])[:_NAMED])
    return f"Of {len(sample)} galaxies {takers or 'none is taken by a cut'}."
