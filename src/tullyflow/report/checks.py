"""Every cut on one galaxy: passed, failed or not tested, with the value found, the limit, and what would let the galaxy pass."""

from collections.abc import Callable, Mapping
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
    "usable_prob": "probability that an eye would use the field", "kappa": "circularity",
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
    found, tested = _SPECIAL[flag.name](row, failed) if flag.name in _SPECIAL else _found(limit, row, failed)
    bound, words, off = _bound(limit, flag.name, row, settings)
    if failed:
        verdict = "failed" if flag.excludes else "warned"
    elif off:
        verdict = "off"
    else:
        verdict = "passed" if tested and (bound is None or np.isfinite(bound)) else "not tested"
    return Check(flag.name, verdict, found, words, limit.setting, flag.excludes)


def _found(limit: Limit, row: Mapping, failed: bool) -> tuple[str, bool]:
    """What was found, in words, and whether the cut could be tested at all."""
    if limit.side != "true":
        value = _number(row, limit.column)
        said = f"{_NAMES.get(limit.column, limit.column)} {value_words(limit.column, value)}"
        return said, bool(np.isfinite(value)) or limit.side == "missing"
    if not limit.column.endswith("_at_bound"):
        return "flagged" if failed else "not flagged", True
    inferred = not int(row["flags"]) & GALAXY.NOT_INFERRED
    column = limit.column.removesuffix("_at_bound")
    at = "at the end of the range" if _number(row, limit.column) == 1 else "inside the range"
    photometric = row.get("inclination_kind") == "photometric" and column in ("inclination_deg", "r_scale_arcsec")
    note = "; the photometric value is used" if photometric else ""
    return f"{value_words(column, row.get(column))}, {at}{note}" if inferred else "–", inferred and not photometric


def _duplicate(row: Mapping, failed: bool) -> tuple[str, bool]:
    return (f"counted as {row.get('same_as')}" if failed else "no other observation counts in its place"), True


def _survey(row: Mapping, failed: bool) -> tuple[str, bool]:
    return f"survey {row.get('survey')}", True


def _training(row: Mapping, failed: bool) -> tuple[str, bool]:
    beam = _number(row, "psf_fwhm_arcsec") / _number(row, "stamp_scale_arcsec")
    inferred = not int(row["flags"]) & GALAXY.NOT_INFERRED
    return f"beam {number(beam, 1)} stamp pixels; noise at the peak", bool(inferred and np.isfinite(beam))


def _quality(row: Mapping, failed: bool) -> tuple[str, bool]:
    bits = _number(row, "drp3qual")
    manga = row.get("survey") == "manga" and bits >= 0
    return (f"quality bits {int(bits):#x}" if manga else "no quality bits of this survey are cut on"), manga or failed


def _stellar_axis(row: Mapping, failed: bool) -> tuple[str, bool]:
    if failed:
        return "the stars were mapped and show no axis", True
    known = np.isfinite(_number(row, "delta_pa_deg"))
    return ("the axes of gas and stars are both known" if known else "no axis of the stars"), bool(known)


def _photometric_axis(row: Mapping, failed: bool) -> tuple[str, bool]:
    apart = abs((_number(row, "pa_deg") - _number(row, "pa_phot_deg") + 90) % 180 - 90)
    used = row.get("inclination_kind") == "photometric"
    note = "" if used else "; the inclination is not photometric"
    return f"photometric and kinematic axis {value_words('pa_deg', apart)} apart{note}", bool(used and np.isfinite(apart))


def _circularity(row: Mapping, failed: bool) -> tuple[str, bool]:
    kappa, unlike = _number(row, "kappa"), bool(int(row["flags"]) & GALAXY.UNLIKE_SIMULATED)
    note = ", of a field unlike all it was learned on" if unlike and np.isfinite(kappa) else ""
    return f"circularity {value_words('kappa', kappa)}{note}", bool(np.isfinite(kappa)) and not unlike


_SPECIAL: dict[str, Callable[[Mapping, bool], tuple[str, bool]]] = {  # cuts on more than one number
    "DUPLICATE": _duplicate, "SURVEY_LEFT_OUT": _survey, "OUTSIDE_TRAINING": _training, "QUALITY_BAD": _quality,
    "ALIGNMENT_UNKNOWN": _stellar_axis, "PHOTOMETRY_OFF_AXIS": _photometric_axis, "NOT_CIRCULAR": _circularity,
}  # fmt: skip
_OFF = {"ALIGNMENT_UNKNOWN": "keep"}  # the value that switches a cut off, where it is not null
_SIDES = {"below": "at least", "above": "at most"}


def _bound(limit: Limit, name: str, row: Mapping, settings: Mapping | None) -> tuple[float | None, str, bool]:
    """The limit as a number (None where it is none), in words, and whether the cut is switched off."""
    if limit.against:
        return *_column_bound(limit, row), False
    if not limit.setting:
        return None, "a finite value" if limit.side == "missing" else "", False
    try:
        value = setting_of(settings, limit.setting, str(row.get("survey", "")))
    except KeyError:
        known = "the run knows no such cut" if settings else "not known: the run's settings are not here"
        return (float("nan") if settings else None), known, False
    if value == _OFF.get(name) and name != "SURVEY_LEFT_OUT":
        return None, "none", True
    if limit.side == "true":
        return None, _allowed_words(name, value), False
    value = limit.factor * float(value)
    return value, f"{_SIDES[limit.side]} {value_words(limit.column, value)}", False


def _column_bound(limit: Limit, row: Mapping) -> tuple[float, str]:
    value = limit.factor * _number(row, limit.against)
    times = f"{limit.factor:g} times the {_NAMES[limit.against]}" if limit.factor != 1 else "the frozen threshold"
    return value, f"{_SIDES[limit.side]} {value_words(limit.column, value)}, {times}" if np.isfinite(value) else f"{times} is not known"


def _allowed_words(name: str, value: Any) -> str:
    """What is allowed, in words, where it is not one number on one side."""
    if name == "OUTSIDE_TRAINING":
        return f"beam at most {value['beam'][1]:g} stamp pixels"
    if name == "SURVEY_LEFT_OUT":
        return f"one of {', '.join(value)}" if value else "all surveys"
    if name.startswith("AT_BOUND"):
        unit = {"AT_BOUND_V_MAX": "of the map's norm", "AT_BOUND_INCLINATION": "deg"}.get(name, "of the stamp's half-width")
        return f"within {value[0]:g} to {value[1]:g} {unit}"
    return f"at most {value:g} deg" if isinstance(value, int | float) else str(value).replace("_", " ")


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
    "ALIGNMENT_UNKNOWN": "relation.delta_pa_unknown: keep would let it in, or a map of the stars that shows their axis",
    "PHOTOMETRY_OFF_AXIS": "relation.delta_pa_phot_max would have to be larger (or null), or an intensity map be given",
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
        now = _bound(limit, flag.name, row, settings)[0]
        known = f" (it is {value_words(limit.column, now)})" if now is not None and np.isfinite(now) else ""
        step = 10.0 ** (np.floor(np.log10(abs(value))) - 3) if value else 1.0
        enough = (np.floor if limit.side == "below" else np.ceil)(value / step) * step  # rounded to where it passes
        said.append(f"{flag.name}: {limit.setting} would have to be {side} {value_words(limit.column, enough)}{known}.")
    return said
