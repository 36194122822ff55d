"""The same fits for parts of the sample: per survey, for star-forming and quiescent galaxies, per morphological class."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.relation.fit_tables import FIT_COLUMNS, columns_of, write_rows
from tullyflow.relation.record import write_record
from tullyflow.relation.tully_fisher import fit_record, relation_points
from tullyflow.settings import Settings
from tullyflow.tables import SAMPLE, read_table

__all__ = ["CLASSES", "Group", "fit_groups", "list_groups", "morphology_class"]

_LOG = logging.getLogger("tullyflow")
CLASSES = ("E and S0", "early spirals", "late spirals")
_SAMI = {"0": CLASSES[0], "0.5": CLASSES[0], "1": CLASSES[0], "2": CLASSES[1], "3": CLASSES[2]}  # 1.5 and 2.5 stand between two
_SPIRAL = re.compile(r"S[ABX]{0,2}(?:\((?:[^()]*)\))?(0/a|0|ab|bc|cd|dm|a|b|c|d|m)(?![a-z0-9])")
_LATE = ("bc", "c", "cd", "d", "dm", "m")
_COLUMNS = (
    *columns_of("""
relation|s||which relation
velocity|s||which velocity
method|s||which fit
drift|s||asymmetric drift of at least half the velocities: evans, isotropic or off
n_corrected|i||galaxies whose velocity was corrected for drift
kind|s||all, survey, ssfr or morphology
group|s||name of the group
words|s||what it is
n_sample|i||galaxies of the group, used or not
"""),
    *FIT_COLUMNS,
    *columns_of("""
slope_offset|f||slope less that of all galaxies
slope_offset_sigmas|f||the same in sigmas, the group being a part of all; approximate: as if the scatter were the same in all groups
intercept_offset|f||intercept less that of all galaxies, y's unit
intercept_offset_sigmas|f||the same in sigmas; approximate: as if the scatter were the same in all groups
error|s||why there is no line
"""),
)
_KEPT = ("relation", "velocity", "method", "drift", "n_corrected", "n_missing", "error", *(c.name for c in FIT_COLUMNS))


@dataclass(frozen=True)
class Group:
    """A part of the sample: ``rows`` (row,) True where a galaxy belongs; ``note`` says why there is nobody."""

    kind: str
    name: str
    words: str
    rows: np.ndarray
    note: str | None = None


def morphology_class(text: str, survey: str) -> str:
    """Return the class of a morphological type as a survey gives it, one of `CLASSES`; "" where it cannot be told.

    SAMI's visual types: 0 to 1 are E and S0, 2 early and 3 late spirals, 1.5 and 2.5 stand between two classes. Elsewhere a
    number is a T-type (E and S0 up to 0, early spirals up to 3 = Sb, late spirals and irregulars to 11), a text a Hubble type with
    or without bar and rings (SAB(rs)bc). What follows a question mark or names two types is not taken. MaNGA's catalogues used
    here give none.
    """
    text = text.strip()
    if survey == "sami":
        return _SAMI.get(text, "")
    try:
        number = float(text)
    except ValueError:
        return _hubble_class(text)
    if not -6 <= number <= 11:
        return ""
    return CLASSES[0] if number <= 0 else CLASSES[1] if number <= 3 else CLASSES[2]


def _hubble_class(text: str) -> str:
    if "?" in text:
        return ""
    if re.match(r"(c?E|cD|d?E)(?![a-z])|(S[ABX]{0,2}(\([^()]*\))?|L)0(?!/a)", text):
        return CLASSES[0]
    if re.match(r"(d?Irr|I[ABX]{0,2}(\([^()]*\))?m?\b|Im\b|BCD)", text):
        return CLASSES[2]
    found = _SPIRAL.match(text)
    return "" if not found else CLASSES[2] if found[1] in _LATE else CLASSES[1]


def list_groups(sample: pd.DataFrame, ssfr_split: float) -> list[Group]:
    """Return the groups of a sample in the order of the table: all, surveys, sSFR, morphology; empty ones with a note."""
    everybody = np.ones(len(sample), dtype=bool)
    groups = [Group("all", "all", "all galaxies", everybody)]
    surveys = sample["survey"].to_numpy(dtype=str)
    groups += [Group("survey", name, f"galaxies of {name}", surveys == name) for name in dict.fromkeys(surveys)]
    ssfr = sample["log_ssfr"].to_numpy(dtype=float)
    none = None if np.isfinite(ssfr).any() else "No galaxy has a specific star formation rate (log_ssfr)."
    limit = f"10^{ssfr_split:g} / yr"
    groups.append(Group("ssfr", "star-forming", f"specific star formation rate of {limit} or more", ssfr >= ssfr_split, none))
    groups.append(Group("ssfr", "quiescent", f"specific star formation rate below {limit}", ssfr < ssfr_split, none))
    classes = _classes(sample)
    none = None if (classes != "").any() else "No galaxy has a morphological type that can be told."
    groups += [Group("morphology", name, f"morphological type: {name}", classes == name, none) for name in CLASSES]
    return groups


def _classes(sample: pd.DataFrame) -> np.ndarray:
    pairs = list(zip(sample["morphology"], sample["survey"], strict=True))
    of = {pair: morphology_class(*pair) for pair in set(pairs)}
    return np.array([of[pair] for pair in pairs], dtype=str)


def _add_offsets(row: dict, everybody: Mapping) -> None:
    """How far a group's line is from that of all, of which it is a part: the variance of the difference is the difference of the two.

    Approximate: that holds where every group scatters alike about its line; a group of smaller scatter looks further in sigmas than it
    is, or has none.
    """
    for name in ("slope", "intercept"):
        if row.get(name) is None or everybody.get(name) is None:
            continue
        row[f"{name}_offset"] = row[name] - everybody[name]
        variance = row[f"{name}_err"] ** 2 - everybody[f"{name}_err"] ** 2
        row[f"{name}_offset_sigmas"] = row[f"{name}_offset"] / np.sqrt(variance) if variance > 0 else None


def _rows(sample: pd.DataFrame, groups: list[Group], relation: str, velocity: str, method: str, settings: Settings) -> list[dict]:
    """One relation, velocity and method for every group, all at one pivot; a group of the same galaxies as another is not fitted again."""
    pivot = relation_points(sample, relation, velocity, settings).pivot
    used = sample["used"].to_numpy(dtype=bool)
    rows, made = [], {}
    for group in groups:
        which = {"kind": group.kind, "group": group.name, "words": group.words, "n_sample": int(group.rows.sum())}
        same = (group.rows & used).tobytes()
        if group.note:
            fit = {"relation": relation, "velocity": velocity, "method": method, "pivot": pivot, "n_used": 0, "error": group.note}
        elif same in made and "error" not in made[same]:
            fit = made[same]
        else:
            fit = made[same] = fit_record(sample[group.rows], relation, velocity, method, settings, pivot)
        row = {key: fit.get(key) for key in _KEPT}
        _add_offsets(row, rows[0] if rows else row)
        rows.append(row | which)
    return rows


def fit_groups(sample_path: str | Path, settings: Settings, out_path: str | Path) -> dict:
    """Fit every relation, velocity and method of the settings to every group of the merged sample; write JSON and ECSV.

    ``groups``: kind, name, words, galaxies in it and used; ``not_classified``: used galaxies without sSFR, and without a
    morphological class; ``rows``: the fits, those of one relation and velocity at one pivot, with the offset from all galaxies. A
    group without a line carries ``error``: nobody has what defines it, or fewer than 10 galaxies and which cuts took them.

    Raises `CatalogueError` for an unreadable sample.
    """
    sample = read_table(sample_path, SAMPLE)
    groups, used = list_groups(sample, settings.relation.ssfr_split), sample["used"].to_numpy(dtype=bool)
    wanted = settings.relation
    rows = [
        row
        for relation in wanted.relations
        for velocity in wanted.velocities
        for method in wanted.methods
        for row in _rows(sample, groups, relation, velocity, method, settings)
    ]
    nobody = {kind: used & ~np.any([g.rows for g in groups if g.kind == kind], axis=0) for kind in ("ssfr", "morphology")}
    record = {
        "ssfr_split": wanted.ssfr_split,
        "groups": [
            {"kind": g.kind, "group": g.name, "words": g.words, "note": g.note} | _count(g.rows, used) for g in groups
        ],
        "not_classified": {kind: int(mask.sum()) for kind, mask in nobody.items()},
        "rows": rows,
    }  # fmt: skip
    write_record(out_path, record)
    write_rows(Path(out_path).with_suffix(".ecsv"), rows, _COLUMNS)
    for group in record["groups"]:
        _LOG.info("group %s: %s", group["group"], group["note"] or f"{group['n_sample']} galaxies, {group['n_used']} used")
    return record


def _count(rows: np.ndarray, used: np.ndarray) -> dict[str, int]:
    return {"n_sample": int(rows.sum()), "n_used": int((rows & used).sum())}
