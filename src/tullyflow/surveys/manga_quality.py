"""MaNGA's quality masks of whole galaxies in words (DRP3QUAL of the reduction, DAPQUAL of the analysis), and repeats.

A repeat is a second observation of a galaxy, under its MaNGA-ID or under another one at the same place of the sky.
"""

import numpy as np
import pandas as pd

from tullyflow.flags import GALAXY
from tullyflow.surveys.rows import add_flag

__all__ = ["flag_drp_quality", "flag_repeats", "judge_quality"]

_SAME_PLACE_ARCSEC = 2.0

_CRITICAL = {"DRP3QUAL": 1 << 30, "DAPQUAL": 1 << 28 | 1 << 29 | 1 << 30}
_NAMES = {
    "DRP3QUAL": (
        "RETIRED", "BADDEPTH", "SKYSUBBAD", "HIGHSCAT", "BADASTROM", "VARIABLELSF", "BADOMEGA", "BADSET", "BADFLUX", "BADPSF", "MANYDEAD",
        "RETIRED2", "BLOWTORCH", "SEVEREBT", "UNUSUAL",
    ),
    "DAPQUAL": ("FORESTAR", "BADZ", "LINELESS", "PPXFFAIL", "SINGLEBIN", "BADGEOM"),
}  # fmt: skip


def judge_quality(key: str, bits: int) -> tuple[int, str]:
    """Flag and sentence of a mask ``key`` (DRP3QUAL or DAPQUAL).

    QUALITY_BAD where critical, QUALITY_WARNING for any other bit, (0, "") for none and for a missing mask (-999, -9999).
    """
    if bits <= 0:
        return 0, ""
    names = ", ".join(name for bit, name in enumerate(_NAMES[key]) if bits >> bit & 1)
    if bits & _CRITICAL[key]:
        return GALAXY.QUALITY_BAD, f"{key} is critical ({bits}{': ' + names if names else ''})."
    return GALAXY.QUALITY_WARNING, f"{key} warns: {names or f'unknown bits {bits}'}."


def flag_drp_quality(frame: pd.DataFrame) -> None:
    """Flag the rows of a target table by their column drp3qual, in place."""
    judged = [judge_quality("DRP3QUAL", int(bits)) for bits in frame["drp3qual"]]
    for flag in (GALAXY.QUALITY_BAD, GALAXY.QUALITY_WARNING):
        add_flag(frame, [found == flag for found, _ in judged], flag, [sentence for _, sentence in judged])


def flag_repeats(frame: pd.DataFrame, mangaid: np.ndarray | None, counts: np.ndarray) -> None:
    """Flag all but one observation of a galaxy seen more than once (DUPLICATE), in place.

    The same galaxy: the same MaNGA-ID, or objects within 2 arcsec (a galaxy in two input catalogues has two MaNGA-IDs). The
    observation kept is not critical and has the largest bundle, then comes first in the list. Only those that ``counts`` (galaxy,)
    says are in this run are kept or flagged. ``mangaid`` (galaxy,) may be None; -9999, NA and an empty one are no identifier.
    """
    group = _groups(frame, mangaid)
    bad = (frame["flags"].to_numpy() & GALAXY.QUALITY_BAD != 0) | ~counts
    fibres = np.array([int(name.rpartition("-")[2]) // 100 if name.rpartition("-")[2].isdigit() else 0 for name in frame["galaxy"]])
    order = np.lexsort((np.arange(len(frame)), -fibres, bad))
    ranked = pd.Series(group[order], index=order)
    chosen = dict(zip(ranked.drop_duplicates().to_numpy(), ranked.drop_duplicates().index, strict=True))
    repeat = np.zeros(len(frame), dtype=bool)
    repeat[ranked.index[ranked.duplicated()]] = True
    names, ids = frame["galaxy"].to_numpy(), mangaid if mangaid is not None else np.full(len(frame), "unknown")
    said = [f"The same galaxy as {names[chosen[g]]} (MaNGA-ID {ids[chosen[g]]})." for g in group]
    add_flag(frame, repeat & counts, GALAXY.DUPLICATE, said)


def _groups(frame: pd.DataFrame, mangaid: np.ndarray | None) -> np.ndarray:
    """Number of the galaxy that each row observes."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    n = len(frame)
    ra, dec = np.radians(frame["ra_deg"].to_numpy()), np.radians(frame["dec_deg"].to_numpy())
    placed = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    xyz = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)[placed]
    pairs = cKDTree(xyz).query_pairs(np.radians(_SAME_PLACE_ARCSEC / 3600), output_type="ndarray") if placed.size else np.empty((0, 2), int)
    pairs = [placed[pairs]]
    if mangaid is not None:
        known = np.flatnonzero([text not in ("", "-9999", "NA") for text in mangaid])
        first = {text: row for row, text in reversed([(row, mangaid[row]) for row in known])}
        pairs.append(np.array([(first[mangaid[row]], row) for row in known], dtype=int).reshape(-1, 2))
    i, j = np.concatenate(pairs).T
    return connected_components(coo_matrix((np.ones(len(i)), (i, j)), shape=(n, n)), directed=False)[1]
