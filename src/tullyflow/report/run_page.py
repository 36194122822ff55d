"""The page of one galaxy of a run: its maps, its rotation curve, its story and its numbers; no script, and nothing from elsewhere.

Drawn from the stamps without a plotting library: a page costs some milliseconds, so that a whole survey can have its pages.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import tullyflow
from tullyflow.flags import GALAXY
from tullyflow.report.addresses import page_address
from tullyflow.report.curve import curve_svg
from tullyflow.report.figures.strip import RESIDUAL_LIMIT_KMS, scale_bar_arcsec
from tullyflow.report.galaxy import GalaxyView, read_views
from tullyflow.report.panels import colour_index, png, velocity_limits
from tullyflow.report.sections import Listing
from tullyflow.report.standing import place_galaxies
from tullyflow.report.story import Section, story
from tullyflow.report.summary import survey_label
from tullyflow.report.words import number, plus_minus, render
from tullyflow.tables import VELOCITIES, whole_file

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["has_stamp", "page_of", "remove_pages", "write_pages"]

_GROUPS = (
    ("Velocities", tuple((f"{v}{kind}_kms", f"{v}_kms_err", 0, "km/s") for v in VELOCITIES for kind in ("", "_circ"))),
    ("Disc", (
        ("inclination_used_deg", "inclination_used_err_deg", 1, "°"), ("pa_deg", "pa_err_deg", 1, "°"), ("r_scale_used_arcsec", "", 2, "″"),
        ("r_turn_arcsec", "r_turn_arcsec_err", 2, "″"), ("v_max_sini_kms", "v_max_sini_kms_err", 1, "km/s"), ("r_max_arcsec", "", 1, "″"),
        ("outer_dispersion_kms", "outer_dispersion_err_kms", 0, "km/s"), ("delta_pa_deg", "delta_pa_err_deg", 1, "°"),
        ("v_sys_kms", "v_sys_err_kms", 1, "km/s"),
    )),
    ("Catalogue", (
        ("log_mstar", "log_mstar_err", 2, "dex"), ("abs_mag_r", "", 2, "mag"), ("r_e_arcsec", "", 2, "″"), ("sersic_n", "", 2, ""),
        ("axis_ratio", "", 2, ""), ("log_ssfr", "", 2, "dex"), ("log_age_yr", "", 2, "dex"), ("log_ml", "", 2, "dex"), ("z", "", 4, ""),
        ("distance_mpc", "", 1, "Mpc"), ("ra_deg", "", 5, "°"), ("dec_deg", "", 5, "°"),
    )),
    ("Quality", (
        ("reconstruction", "", 2, ""), ("reconstruction_threshold", "", 2, ""), ("reconstruction_velocity_kms", "", 1, "km/s"),
        ("chi2_velocity", "", 2, ""), ("n_spaxels", "", 0, ""), ("psf_fwhm_arcsec", "", 1, "″"),
    )),
)  # fmt: skip
_WORDS = {
    "v_max_kms": "V_max, the asymptote", "v_22_kms": "V_22, at 2.2 scale lengths", "v_re_kms": "V_Re, at the half-light radius",
    "v_80_kms": "V_80, at 80 % of the light", "v_rmax_kms": "V_rmax, at the outermost data", "inclination_used_deg": "inclination",
    "pa_deg": "position angle, receding side", "r_scale_used_arcsec": "scale length", "r_turn_arcsec": "turnover radius",
    "v_max_sini_kms": "V_max sin i", "r_max_arcsec": "outermost data", "outer_dispersion_kms": "dispersion of the outer disc",
    "delta_pa_deg": "misalignment of gas and stars", "v_sys_kms": "systemic velocity on the map's zero point",
    "log_mstar": "log stellar mass (M☉)", "abs_mag_r": "absolute magnitude M_r", "r_e_arcsec": "half-light radius",
    "sersic_n": "Sérsic index", "axis_ratio": "axis ratio", "log_ssfr": "log specific star formation rate (per year)",
    "log_age_yr": "log stellar age (years)",
    "log_ml": "log stellar mass-to-light ratio", "z": "redshift", "distance_mpc": "luminosity distance", "ra_deg": "right ascension",
    "dec_deg": "declination", "reconstruction": "statistic of the reconstruction cut", "reconstruction_threshold": "its threshold",
    "reconstruction_velocity_kms": "root mean square residual", "chi2_velocity": "reduced chi-squared of the velocities",
    "n_spaxels": "valid spaxels", "psf_fwhm_arcsec": "beam (FWHM)",
}  # fmt: skip


def has_stamp(sample: pd.DataFrame) -> pd.Series:
    """Say which rows of the sample have a stamp to show (galaxy,)."""
    return (sample["n_spaxels"] > 0) & sample["v_sys_kms"].notna()


def _address(index: np.ndarray, kind: str) -> str:
    return "data:image/png;base64," + base64.b64encode(png(index[::-1], kind)).decode()


def _panels(view: GalaxyView) -> list[dict]:
    """The four maps, each with its colour bar's ends: title, image, alt, low, high, unit."""
    limit, name = float(velocity_limits(view.velocity[None])[0]), view.row["galaxy"]
    model = np.where(np.isfinite(view.velocity), view.model_velocity, np.nan)
    panels = [
        ("Intensity", np.sqrt(np.clip(view.intensity, 0, None)), 0.0, 1.0, "intensity"),
        ("Velocity", view.velocity, -limit, limit, "velocity"),
        ("Model", model, -limit, limit, "velocity"), ("Residual", view.residual, -RESIDUAL_LIMIT_KMS, RESIDUAL_LIMIT_KMS, "velocity"),
    ]  # fmt: skip
    return [
        {
            "title": title, "image": _address(colour_index(values, low, high), kind), "alt": f"{title} of {name}", "kind": kind,
            "low": number(low, 0), "high": number(high, 0), "empty": not np.isfinite(values).any(),
        }
        for title, values, low, high, kind in panels
    ]  # fmt: skip


def _listings(row: Mapping) -> list[Listing]:
    listings = []
    for title, group in _GROUPS:
        rows = []
        for key, err, digits, unit in group:
            value = float(row[key])
            word = _WORDS.get(key) or f"{_WORDS[key.replace('_circ', '')].partition(',')[0]} corrected for drift"
            same = key.endswith("_circ_kms") and value == float(row[key.replace("_circ", "")])
            if np.isfinite(value) and not same:
                error = float(row[err]) if err and "_circ" not in key else float("nan")
                rows.append((word, plus_minus(value, error, digits), unit))
        if rows:
            listings.append(Listing(title, ("", "value", "unit"), rows, frozenset({2})))
    return listings


def _story_table(chapter: Section) -> Listing | None:
    if not chapter.rows:
        return None
    return Listing(chapter.title, chapter.columns, list(chapter.rows), frozenset(range(1, len(chapter.columns))))


def _lead(row: Mapping, velocity: str) -> str:
    speed, angle = f"{velocity}_kms", "inclination_used_deg"
    if not np.isfinite(row[speed]):
        return "No disc could be inferred for this galaxy; what stands in the way is said below."
    place = "in the relation" if row["used"] else "not in the relation"
    return (
        f"It rotates at {velocity} = {plus_minus(row[speed], row[f'{speed}_err'], 0)} km/s, seen at an inclination of "
        f"{plus_minus(row[angle], row['inclination_used_err_deg'], 0)}°, and is {place}."
    )


def page_of(view: GalaxyView, run: str, velocity: str, chapters: Sequence[Section] = ()) -> str:
    """Return the HTML of a galaxy's page; ``chapters`` are its story in plain words, ``velocity`` the one its first sentence quotes."""
    row = view.row
    bits = int(row["flags"])
    half = view.half_width_arcsec
    beam = view.beam_arcsec / (2 * half) if np.isfinite(view.beam_arcsec) and 0 < view.beam_arcsec < half else 0.0
    length = scale_bar_arcsec(half) if half > 0 else 0.0
    return render(
        "run_galaxy.html",
        {
            "name": str(row["galaxy"]), "survey": survey_label(str(row["survey"]), str(row["release"])), "run": run,
            "version": tullyflow.__version__, "mock": bool(bits & GALAXY.MOCK), "lead": _lead(row, velocity), "panels": _panels(view),
            "beam": beam, "bar": length / (2 * half) if half > 0 else 0.0, "bar_words": f"{length:g}″", "curve": curve_svg(view),
            "chapters": [(c.title, c.sentences, _story_table(c)) for c in chapters], "listings": _listings(row),
        },
    )  # fmt: skip


def write_pages(
    rows: pd.DataFrame, fits: Sequence[Mapping], settings: "Settings", maps_paths: Sequence[str | Path],
    models_paths: Sequence[str | Path], folder: Path,
) -> list:  # fmt: skip
    """Write the page of every galaxy of ``rows`` (``tables.SAMPLE``) that has a stamp, below the report's ``folder``.

    ``fits`` are the records of the relations: where the galaxy lies in each is part of its story. One shard of stamps is in memory at
    a time. Returns the index labels of the rows written.
    """
    rows, dumped, velocity, written = rows[has_stamp(rows)], settings.model_dump(mode="json"), settings.relation.velocities[0], []
    standings = dict(zip(rows.index, place_galaxies(rows, fits, settings), strict=True))
    for _, group in rows.groupby("shard", sort=False):
        for view in read_views(group, maps_paths, models_paths):
            row = view.row
            page = page_of(view, settings.run, velocity, story(row, dumped, None, standings[view.label]))
            with whole_file(folder / page_address(str(row["survey"]), str(row["release"]), str(row["galaxy"]))) as part:
                part.write_text(page, encoding="utf-8")
            written.append(view.label)
    return written


def remove_pages(folder: Path) -> None:
    """Remove the pages of galaxies that a run before left below the report's ``folder``, and nothing else."""
    for page in (folder / "galaxies").glob("*/*.html"):
        page.unlink()
