"""Every cut on one galaxy: passed, failed or not tested, with the value found, the limit, and what would let the galaxy pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tullyflow.flags import GALAXY, Flag
from tullyflow.relation.limits import LIMITS, Limit
from tullyflow.report.words import number
from tullyflow.tables import SAMPLE

__all__ = ["Check", "check_galaxy", "remedies", "setting_of", "value_words"]

_UNITS = {c.name: c.unit for c in SAMPLE}
_UNIT_WORDS = {"dex(Msun)": "", "dex(1/yr)": "", "dex(yr)": "", "dex(Msun/yr)": "", "pix": "pixels"}
_NAMES = {
    "n_spaxels": "valid spaxels", "fill_factor": "valid share of the field of view", "pa_err_deg": "error of the position angle",
    "v_abs_max_kms": "largest |velocity|", "log_mstar": "log M*", "abs_mag_r": "M_r", "sersic_n": "Sersic index",
    "delta_pa_deg": "angle between the axes of gas and stars", "inclination_used_deg": "inclination",
    "r_turn_arcsec": "turnover radius", "reconstruction": "reconstruction", "log_v_max_err": "error of log V_max",
    "psf_fwhm_arcsec": "FWHM of the beam", "r_max_arcsec": "radius of the outermost data",
}  # fmt: skip
_MISSING = object()  # no settings, or none of this name


@dataclass(frozen=True)
class Check:
    """One cut on one galaxy. ``verdict``: passed, failed, warned (failed, but excludes nobody), not tested, or off."""

    flag: str
    verdict: str
    found: str
    limit: str
    setting: str
    excludes: bool


def value_words(column: str, value: Any) -> str:
    """Return a number of the sample with its unit, four digits at most; a dash where it is missing."""
    unit = _UNIT_WORDS.get(_UNITS.get(column, ""), _UNITS.get(column, ""))
    if not isinstance(value, int | float | np.number) or not np.isfinite(value):
        return "–"
    shown = f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"
    return f"{shown.replace('-', '−')} {unit}".strip()


def setting_of(settings: Mapping | None, name: str, survey: str = "") -> Any:
    """Look "section.key" up in dumped settings, a survey's overrides of maps and network first; `None` is a limit switched off.

    Raises `KeyError` where there are no settings, or none of this name (a run of another version).
    """
    section, *keys = name.split(".")
    sources = ((settings or {}).get(survey) or {}).get(section) or {}, (settings or {}).get(section) or {}
    for source in sources if section in ("maps", "network") else sources[1:]:
        value: Any = source
        for key in keys:
            value = value.get(key, _MISSING) if isinstance(value, Mapping) else _MISSING
        if value is not _MISSING:
            return value
    raise KeyError(name)


def _number(row: Mapping, column: str) -> float:
    value = row.get(column)
    known = isinstance(value, int | float | np.number | np.bool_)
    if column in ("n_spaxels", "fill_factor") and not row.get("n_spaxels"):
        known = False  # nothing was measured
    return float(value) if known else float("nan")


def check_galaxy(row: Mapping, settings: Mapping | None) -> list[Check]:
    """Return every cut on a galaxy, in the order it walks.

    ``row`` is a row of ``tables.SAMPLE`` (absent columns are not tested); ``settings`` are those of the run, dumped
    (``Settings.model_dump(mode="json")``, the ``settings`` of provenance.json), or None where they are not known: what failed is known from
    the flags, the limits then are not.
    """
    flags = {flag.mask: flag for flag in GALAXY}
    return [_check(limit, flags[limit.flag], row, settings) for limit in LIMITS]


def _check(limit: Limit, flag: Flag, row: Mapping, settings: Mapping | None) -> Check:
    failed = bool(int(row["flags"]) & limit.flag)
    found, tested = _found(limit, row, failed)
    bound, words, off = _bound(limit, row, settings)
    if failed:
        verdict = "failed" if flag.excludes else "warned"
    elif off:
        verdict = "off"
    else:
        verdict = "passed" if tested and (bound is None or np.isfinite(bound)) else "not tested"
    return Check(flag.name, verdict, found, words, limit.setting, flag.excludes)


def _found(limit: Limit, row: Mapping, failed: bool) -> tuple[str, bool]:
    """What was found, in words, and whether the cut could be tested at all."""
    inferred = not int(row["flags"]) & GALAXY.NOT_INFERRED
    if limit.flag == GALAXY.DUPLICATE:
        return (f"counted as {row.get('same_as')}" if failed else "no other observation counts in its place"), True
    if limit.flag == GALAXY.SURVEY_LEFT_OUT:
        return f"survey {row.get('survey')}", True
    if limit.flag == GALAXY.OUTSIDE_TRAINING:
        beam = _number(row, "psf_fwhm_arcsec") / _number(row, "stamp_scale_arcsec")
        return f"beam {number(beam, 1)} stamp pixels; noise at the peak", inferred and np.isfinite(beam)
    if limit.flag == GALAXY.QUALITY_BAD:
        bits = _number(row, "drp3qual")
        manga = row.get("survey") == "manga" and bits >= 0
        return (f"quality bits {int(bits):#x}" if manga else "no quality bits of this survey are cut on"), manga or failed
    if limit.side == "true":  # a parameter at its bound
        column = limit.column.removesuffix("_at_bound")
        at = "at the end of the range" if row.get(limit.column) is True or _number(row, limit.column) == 1 else "inside the range"
        photometric = row.get("inclination_kind") == "photometric" and column in ("inclination_deg", "r_scale_arcsec")
        note = "; the photometric value is used" if photometric else ""
        return f"{value_words(column, row.get(column))}, {at}{note}" if inferred else "–", inferred and not photometric
    value = _number(row, limit.column)
    said = f"{_NAMES[limit.column]} {value_words(limit.column, value)}"
    return said, bool(np.isfinite(value)) or limit.side == "missing"


def _bound(limit: Limit, row: Mapping, settings: Mapping | None) -> tuple[float | None, str, bool]:
    """The limit as a number (None where it is none), in words, and whether the cut is switched off."""
    side = {"below": "at least", "above": "at most"}.get(limit.side, "")
    if limit.against:
        value = limit.factor * _number(row, limit.against)
        words = value_words(limit.column, value)
        times = f"{limit.factor:g} times the {_NAMES[limit.against]}" if limit.factor != 1 else "the frozen threshold"
        return value, f"{side} {words}, {times}" if np.isfinite(value) else f"{times} is not known", False
    try:
        value = setting_of(settings, limit.setting, str(row.get("survey", ""))) if limit.setting else None
    except KeyError:
        known = "the run knows no such cut" if settings else "not known: the run's settings are not here"
        return (float("nan") if settings else None), known, False
    if limit.side in ("true", "missing"):
        return None, _range_words(limit, value), False
    if value is None:
        return None, "none", True
    value = limit.factor * float(value)
    return value, f"{side} {value_words(limit.column, value)}", False


def _range_words(limit: Limit, value: Any) -> str:
    """What is allowed, in words, where it is not one number."""
    if limit.flag == GALAXY.SURVEY_LEFT_OUT:
        return "all surveys" if value is None else f"one of {', '.join(value)}"
    if limit.flag == GALAXY.OUTSIDE_TRAINING:
        return f"beam at most {value['beam'][1]:g} stamp pixels"
    if not limit.setting:
        return "a finite value" if limit.side == "missing" else ""
    unit = {GALAXY.AT_BOUND_V_MAX: "of the map's norm", GALAXY.AT_BOUND_INCLINATION: "deg"}.get(limit.flag, "of the stamp's half-width")
    return f"within {value[0]:g} to {value[1]:g} {unit}"


_FILES = "the archive would have to hold the file, or the fetch to succeed (fetch.retry_failed tries again)"
_WORDS = {  # what would have to change, where it is no number against a setting
    "MISSING_FILE": _FILES, "FETCH_FAILED": _FILES,
    "UNREADABLE_FILE": "the file would have to be whole: delete it and fetch it again",
    "MISSING_HDU": "the file would have to hold the extension or line that is read (settings of the survey)",
    "NO_VALID_PIXEL": "some spaxels would have to survive the masks (maps.snr_min, maps.velocity_err_max)",
    "NO_WCS": "the map would have to say how it lies on the sky",
    "PA_FAILED": "the velocity field would have to show an axis (maps.pa_err_max)",
    "QUALITY_BAD": "the survey would have to withdraw its quality bit",
    "MISSING_MASS": "a stellar mass is needed: column log_mstar of the table `overrides`",
    "NO_PHOTOMETRY": "axis ratio and R_e, or an intensity map, are needed (table `overrides`)",
    "NOT_INFERRED": "the network needs a usable stamp: see what failed before",
    "POOR_RECONSTRUCTION": "a laxer reconstruction cut is needed (a larger relation.reconstruction_sigma, or relation.reconstruction: off)",
    "AT_BOUND_V_MAX": "network.ranges.v_max would have to be wider",
    "DUPLICATE": "the other observation, which counts, would have to be taken out",
    "SURVEY_LEFT_OUT": "its survey would have to be among relation.surveys",
    "OUTSIDE_TRAINING": "the network would have to be trained on such beams and noise (network.stream)",
}  # fmt: skip


def remedies(row: Mapping, settings: Mapping | None) -> list[str]:
    """Say, for every flag that keeps the galaxy out, what would have to change; empty where nothing does."""
    limits = {limit.flag: limit for limit in LIMITS}
    said = []
    for flag in GALAXY.set_in(int(row["flags"]) & GALAXY.excluding):
        limit = limits.get(flag.mask)
        value = _number(row, limit.column) if limit else float("nan")
        if flag.name in _WORDS or limit is None or not np.isfinite(value):
            said.append(f"{flag.name}: {_WORDS.get(flag.name, 'a finite velocity with an error is needed')}.")
            continue
        side = "at most" if limit.side == "below" else "at least"
        now = _bound(limit, row, settings)[0]
        known = f" (it is {value_words(limit.column, now)})" if now is not None and np.isfinite(now) else ""
        step = 10.0 ** (np.floor(np.log10(abs(value))) - 3) if value else 1.0
        enough = (np.floor if limit.side == "below" else np.ceil)(value / step) * step  # rounded to where it passes
        said.append(f"{flag.name}: {limit.setting} would have to be {side} {value_words(limit.column, enough)}{known}.")
    return said
