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
from tullyflow.report.figures.sky_marks import scale_bar_arcsec
from tullyflow.report.figures.style import RESIDUAL_LIMIT_KMS
from tullyflow.report.galaxy import GalaxyView, read_views
from tullyflow.report.panels import colour_index, png, velocity_limits
from tullyflow.report.sections import Listing
from tullyflow.report.standing import place_galaxies
from tullyflow.report.story import Section, story
from tullyflow.report.summary import survey_label
from tullyflow.report.words import number, plus_minus, render
from tullyflow.tables import whole_file

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["has_stamp", "page_of", "remove_pages", "write_pages"]

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


def _story_table(chapter: Section) -> Listing | None:
    if not chapter.rows:
        return None
    return Listing(chapter.title, chapter.columns, list(chapter.rows), frozenset(range(1, len(chapter.columns))))


def _lead(row: Mapping, velocity: str) -> str:
    speed, angle = f"{velocity}_kms", "inclination_used_deg"
    if not np.isfinite(row[speed]):
        return "No disc could be inferred for this galaxy; what stands in the way is said below."
    place = "in the relation" if row["used"] else "not in the relation"
    opening = "It rotates" if row["used"] else "Taken for a disc, it rotates"
    return (
        f"{opening} at {velocity} = {plus_minus(row[speed], row[f'{speed}_err'], 0)} km/s, seen at an inclination of "
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
            "chapters": [(c.title, c.sentences, _story_table(c)) for c in chapters],
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
