"""Every galaxy as the page holds it: columns of whole numbers in text, a tenth of what a JSON of rows would be.

A column is ``{digits, values}``: the numbers times 10^digits, comma-separated, nothing where there is none. Flags are the number of a
combination; the few combinations that occur are listed once.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from tullyflow.errors import RelationError
from tullyflow.flags import GALAXY
from tullyflow.relation import tully_fisher
from tullyflow.report.addresses import safe_name
from tullyflow.report.figures.style import survey_style
from tullyflow.report.sprites import ACROSS, SIDE, Sheets
from tullyflow.report.summary import survey_label
from tullyflow.tables import VELOCITIES

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["encode", "galaxy_columns", "relation_axes", "script_json"]

_SYMBOLS = {"v_max": "V_max", "v_22": "V_2.2", "v_re": "V_Re", "v_80": "V_80", "v_rmax": "V_rmax"}
# key, label, unit, digits after the point, title; "err" columns are found by their name
_COLUMNS = (
    ("inclination_used_deg", "i", "°", 0, "inclination the velocities use", "inclination_used_err_deg"),
    ("log_mstar", "log M★", "", 2, "log10 of the stellar mass (M☉)", "log_mstar_err"),
    ("usable_prob", "usable", "", 2, "probability that an eye would use the velocity field", None),
    ("kappa", "κ", "", 2, "circularity: share of the kinetic energy in ordered rotation", "kappa_err"),
    ("reconstruction", "misfit", "", 2, "the statistic of the reconstruction cut", None),
    ("abs_mag_r", "M_r", "mag", 2, "absolute r magnitude", None),
    ("r_e_arcsec", "R_e", "″", 1, "half-light radius", None),
    ("usable_stellar_prob", "usable, stars", "", 2, "probability that an eye would use the velocity field of the stars", None),
    ("reconstruction_velocity_kms", "residual", "km/s", 1, "root mean square residual velocity", None),
    ("pa_deg", "PA", "°", 0, "kinematic position angle, North through East to the receding side", "pa_err_deg"),
    ("r_turn_arcsec", "r_turn", "″", 2, "turnover radius", "r_turn_arcsec_err"),
    ("r_max_arcsec", "r_max", "″", 1, "radius of the outermost data", None),
    ("delta_pa_deg", "ΔPA", "°", 0, "misalignment of gas and stars", "delta_pa_err_deg"),
    ("sersic_n", "n", "", 1, "Sérsic index", None),
    ("z", "z", "", 4, "redshift", None),
    ("log_ssfr", "log sSFR", "/yr", 2, "log10 of the specific star formation rate", None),
    ("log_age_yr", "log age", "yr", 2, "log10 of the mean stellar age", None),
    ("log_ml", "log M/L", "", 2, "log10 of the stellar mass-to-light ratio", None),
    ("outer_dispersion_kms", "σ outer", "km/s", 0, "velocity dispersion of the gas in the outer disc", "outer_dispersion_err_kms"),
    ("ra_deg", "RA", "°", 5, "right ascension (ICRS)", None),
    ("dec_deg", "Dec", "°", 5, "declination (ICRS)", None),
)  # fmt: skip


def encode(values, digits: int) -> str:
    """Return numbers as whole multiples of 10^-digits, comma-separated; nothing for what is not finite."""
    scaled = np.round(np.asarray(values, dtype=float) * 10.0**digits)
    return ",".join([f"{value:.0f}" if known else "" for value, known in zip(scaled.tolist(), np.isfinite(scaled).tolist(), strict=True)])


def script_json(value: Any) -> Markup:
    """Return JSON that is safe inside a <script>: no character of it can end the element or start another."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _flag_columns(bits: np.ndarray) -> dict[str, Any]:
    combinations, which = np.unique(bits & ~GALAXY.MOCK, return_inverse=True)
    present = [flag for flag in GALAXY if any(int(c) & flag.mask for c in combinations)]
    return {
        "flags": [{"name": flag.name, "sentence": flag.sentence, "excludes": flag.excludes} for flag in present],
        "combinations": [[k for k, flag in enumerate(present) if int(c) & flag.mask] for c in combinations],
        "combination": encode(which, 0),
    }


def _measured(sample: pd.DataFrame, velocities: Sequence[str]) -> list[dict[str, Any]]:
    """The columns that anybody has a value of, the first velocity of the settings before all."""
    wanted = [
        (f"{v}{kind}_kms", _SYMBOLS[v] + word, "km/s", 0, title, f"{v}_kms_err" if not kind else None)
        for v in [*velocities, *(v for v in VELOCITIES if v not in velocities)]
        for kind, word, title in (("", "", "rotation velocity"), ("_circ", " drift", "the same, corrected for asymmetric drift"))
    ]
    columns = []
    for key, label, unit, digits, title, err in (*wanted[:1], *_COLUMNS, *wanted[1:]):
        values = sample[key].to_numpy(dtype=float)
        if not np.isfinite(values).any():
            continue
        if key.endswith("_circ_kms") and np.array_equal(values, sample[key.replace("_circ", "")].to_numpy(dtype=float), equal_nan=True):
            continue
        column = {"key": key, "label": label, "unit": unit, "digits": digits, "title": title, "values": encode(values, digits)}
        if err and np.isfinite(errors := sample[err].to_numpy(dtype=float)).any():
            column["errors"] = encode(errors, digits)
        columns.append(column)
    return columns


def galaxy_columns(sample: pd.DataFrame, settings: "Settings", sheets: Sheets, has_page: np.ndarray) -> dict[str, Any]:
    """Return what the page knows of every galaxy of the sample, in the sample's order.

    ``has_page`` (galaxy,) says whose page lies beside the report.
    """
    keys = sample["survey"].astype(str) + "\n" + sample["release"].astype(str)
    codes, sets = pd.factorize(keys)
    kinds = []
    for survey, _, release in (key.partition("\n") for key in sets):
        style = survey_style(survey)
        folder, label = safe_name(f"{survey}-{release}"), survey_label(survey, release)
        kinds.append({"survey": survey, "label": label, "colour": style.colour, "marker": style.marker, "folder": folder})
    names = [str(name) for name in sample["galaxy"]]
    return {
        "run": settings.run,
        "names": names,
        "files": {k: safe for k, name in enumerate(names) if (safe := safe_name(name)) != name},
        "sets": kinds,
        "set": encode(codes, 0),
        "used": "".join(np.where(sample["used"].to_numpy(dtype=bool), "1", "0")),
        "page": "".join(np.where(has_page, "1", "0")),
        "sheets": sheets.names,
        "side": SIDE,
        "across": ACROSS,
        "sheet": encode(np.where(sheets.sheet < 0, np.nan, sheets.sheet), 0),
        "slot": encode(np.where(sheets.slot < 0, np.nan, sheets.slot), 0),
        **_flag_columns(sample["flags"].to_numpy(dtype=np.int64)),
        "columns": _measured(sample, settings.relation.velocities),
    }


def relation_axes(sample: pd.DataFrame, fits: Sequence[Mapping], settings: "Settings") -> dict[str, dict[str, Any]]:
    """Return the axes the fits were made on, by their name in the fit's record: values and errors of every galaxy, excluded ones too."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    everybody = sample.reset_index(drop=True).assign(used=True)
    for relation, velocity in dict.fromkeys((fit.get("relation"), fit.get("velocity")) for fit in fits):
        try:
            points = tully_fisher.relation_points(everybody, relation, velocity, settings)
        except RelationError:
            continue
        for name, values, errors in ((points.x_name, points.x, points.x_err), (points.y_name, points.y, points.y_err)):
            if name not in found:
                found[name] = np.full(len(sample), np.nan), np.full(len(sample), np.nan)
            found[name][0][points.rows], found[name][1][points.rows] = values, errors
    return {name: {"digits": 3, "values": encode(v, 3), "errors": encode(e, 3)} for name, (v, e) in found.items()}
