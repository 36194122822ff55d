"""Which observation of HI-MaNGA a galaxy's gas mass and line width are taken from."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["HI_COLUMNS", "HiDetections", "choose_detections"]

log = logging.getLogger("tullyflow")

_WIDTHS = ("wm50", "wp50", "wf50")  # all at half the height: of the peaks' mean, of the peak, of lines fitted to the edges
_PROBABILITIES = ("conf_prob", "confprob")  # of the file v2_0_1, and of the table in the archive's database
_CONFUSED = 0.1  # likelier than this that another galaxy in the beam contributes
HI_COLUMNS = ("plateifu", "logmhi", "snr", *_WIDTHS, "ev", *_PROBABILITIES, "conflag")


@dataclass(frozen=True)
class HiDetections:
    """What is known of each galaxy (galaxy,), NaN where nothing: log10 HI mass (Msun, as listed), width and its error (km/s).

    ``width_name`` is the column the width is from, "" where there is none.
    """

    log_mhi: NDArray[np.float64]
    width_kms: NDArray[np.float64]
    width_err_kms: NDArray[np.float64]
    width_name: NDArray[np.str_]


def choose_detections(rows: pd.DataFrame, galaxies: Sequence[str], where: str) -> HiDetections:
    """Choose among the observations of each galaxy the mass, and apart from it the width, of the highest peak S/N.

    ``rows`` holds the columns `HI_COLUMNS` that the catalogue has; ``where`` names it in the log. An observation that
    another galaxy in the beam may share is left out: probability > 0.1, or, where none is stated, ``conflag`` 1. WM50 is taken
    where an observation has it, else WP50, else WF50. The error of the width is twice that of the line's centroid (``ev``): both come
    from the same two edges.
    """
    confused = _confused(rows, where)
    clean = rows[~confused]
    if "snr" in clean:
        clean = clean.sort_values("snr", ascending=False, kind="stable")

    def best(kept: pd.DataFrame, column: str) -> np.ndarray:
        first = kept.drop_duplicates("plateifu").set_index("plateifu").reindex(galaxies)
        return first[column].to_numpy(dtype=float) if column in first else np.full(len(galaxies), np.nan)

    log_mhi = best(clean[(clean["logmhi"] > 4) & (clean["logmhi"] < 13)], "logmhi")
    n, left_out = int(np.isfinite(log_mhi).sum()), int(np.sum(confused & (rows["logmhi"] > 4)))
    log.info("%s: %d of %d galaxies detected; %d confused observations left out", where, n, len(galaxies), left_out)
    width, error = (np.full(len(galaxies), np.nan) for _ in range(2))
    name = np.full(len(galaxies), "", dtype="U8")
    for column in (column for column in _WIDTHS if column in clean):
        measured = clean[clean[column] > 0]
        values, centroid_err = best(measured, column), best(measured, "ev")
        new = ~np.isfinite(width) & np.isfinite(values)
        width[new], name[new] = values[new], column
        error[new] = np.where(centroid_err > 0, 2 * centroid_err, np.nan)[new]
    if not any(column in rows for column in _WIDTHS):
        log.warning("%s: no column %s: line widths are left empty", where, " or ".join(_WIDTHS).upper())
    other = int(((name != "") & (name != _WIDTHS[0])).sum())
    if other:
        log.info("%s: %d widths are not WM50 but %s", where, other, " or ".join(_WIDTHS[1:]).upper())
    return HiDetections(log_mhi, width, error, name)


def _confused(rows: pd.DataFrame, where: str) -> np.ndarray:
    probability = next((rows[name].to_numpy(dtype=float) for name in _PROBABILITIES if name in rows), np.full(len(rows), np.nan))
    flag = rows["conflag"].to_numpy(dtype=float) == 1 if "conflag" in rows else np.zeros(len(rows), dtype=bool)
    if "conflag" not in rows and not any(name in rows for name in _PROBABILITIES):
        log.warning("%s: no column %s or CONFLAG: galaxies that share the beam cannot be told", where, _PROBABILITIES[0].upper())
    return np.where((probability >= 0) & (probability <= 1), probability > _CONFUSED, flag)
