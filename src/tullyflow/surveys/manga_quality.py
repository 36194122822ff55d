"""MaNGA's quality masks of whole galaxies in words: DRP3QUAL of the reduction, DAPQUAL of the analysis."""

import pandas as pd

from tullyflow.flags import GALAXY
from tullyflow.surveys.rows import add_flag

__all__ = ["flag_drp_quality", "judge_quality"]

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

    QUALITY_BAD where critical, QUALITY_WARNING for any other bit, (0, "") for none.
    """
    names = ", ".join(name for bit, name in enumerate(_NAMES[key]) if bits >> bit & 1)
    if bits & _CRITICAL[key]:
        return GALAXY.QUALITY_BAD, f"{key} is critical ({bits}{': ' + names if names else ''})."
    return (GALAXY.QUALITY_WARNING, f"{key} warns: {names or f'unknown bits {bits}'}.") if bits > 0 else (0, "")


def flag_drp_quality(frame: pd.DataFrame) -> None:
    """Flag the rows of a target table by their column drp3qual, in place."""
    judged = [judge_quality("DRP3QUAL", int(bits)) for bits in frame["drp3qual"]]
    for flag in (GALAXY.QUALITY_BAD, GALAXY.QUALITY_WARNING):
        add_flag(frame, [found == flag for found, _ in judged], flag, [sentence for _, sentence in judged])
