"""Widths of the HI line against rotation velocities: two measurements of one velocity that share nothing but the inclination."""

import numpy as np
import pandas as pd

from tullyflow.report.words import number

__all__ = ["width_sentence"]

_FEWEST = 5


def width_sentence(sample: pd.DataFrame, velocity: str) -> str:
    """Say how the HI widths W of the galaxies of the relation compare with 2 V sin i; "" where fewer than five have both.

    ``velocity`` is a name of ``tables.VELOCITIES``. Median and scatter (half of what the middle 68 % span) are of
    log10 W / (2 V sin i), dex; W is as observed: 1 + z and turbulence, which widen it, are not taken off.
    """
    rows = sample[sample["used"]]
    expected = 2 * rows[f"{velocity}_kms"] * np.sin(np.radians(rows["inclination_used_deg"]))
    ratio = (rows["hi_width_kms"] / expected).to_numpy(dtype=float)
    ratio = np.log10(ratio[np.isfinite(ratio) & (ratio > 0)])
    if ratio.size < _FEWEST:
        return ""
    low, middle, high = np.percentile(ratio, (16, 50, 84))
    return (f"HI line widths, an independent velocity: log W / (2 {velocity} sin i) has a median of {number(middle, sign=True)} dex and "
            f"a scatter of {number((high - low) / 2)} dex in {ratio.size} galaxies of the relation (W as observed).")  # fmt: skip
