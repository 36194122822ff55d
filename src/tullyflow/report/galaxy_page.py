"""The page of one galaxy: its picture, its parameters, and every sentence about it, in one HTML file that needs nothing else."""

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from PIL import Image

import tullyflow
from tullyflow.flags import GALAXY
from tullyflow.report.disc_words import disc_sentences
from tullyflow.report.figures.axis import plot_axes
from tullyflow.report.figures.galaxy import plot_galaxy
from tullyflow.report.figures.style import save_picture
from tullyflow.report.judged_words import judged_sentences
from tullyflow.report.sections import Listing
from tullyflow.report.words import number, plus_minus, render
from tullyflow.tables import whole_file

if TYPE_CHECKING:
    from tullyflow.tools.galaxy import FoundGalaxy
    from tullyflow.tools.galaxy_files import Files

__all__ = ["galaxy_picture", "write_page"]

_AXES = {
    "inclination_deg": "i (deg)", "r_scale_arcsec": "r_scale (″)", "r_turn_arcsec": "r_turn (″)", "v_max_sini_kms": "V sin i (km/s)"
}  # fmt: skip
_ORIGIN = {
    "none": "not calibrated", "synthetic": "calibrated on simulated galaxies", "survey": "calibrated on simulated galaxies like a survey's",
}  # fmt: skip


def galaxy_picture(found: "FoundGalaxy", path: Path) -> None:
    """Draw the galaxy's maps, model, curve and posterior; where nothing was inferred, the map as it came."""
    if found.axes is not None:
        save_picture(plot_axes(found.axes), path)
        return
    sky = None if found.sky is None else (found.sky.north, found.sky.east)
    samples = {_AXES[name]: values for name, values in found.samples.items()}
    save_picture(plot_galaxy(found.view, samples, sky, found.beam), path)


def write_page(found: "FoundGalaxy", parameters: pd.DataFrame, files: "Files") -> None:
    """Write the page beside its files; ``parameters`` as `tullyflow.tools.galaxy_files.parameters` makes them."""
    with Image.open(files.picture) as image:
        width, height = image.size
    bits = int(found.row["flags"])
    refined = found.inferred and found.row["curve_kind"] == "fit"
    calibration = found.network["fit_calibration" if refined else "calibration"]
    page = render(
        "galaxy.html",
        {
            "name": found.name,
            "lead": _lead(found),
            "made": f"{datetime.now(UTC):%d %B %Y, %H:%M} UTC".lstrip("0"),
            "version": tullyflow.__version__,
            "mock": bool(bits & GALAXY.MOCK),
            "file": found.source.name,
            "image": "data:image/png;base64," + base64.b64encode(files.picture.read_bytes()).decode(),
            "width": width,
            "height": height,
            "stamp": found.view is not None,
            "inferred": found.inferred,
            "refined": refined,
            "photometric": found.inferred and found.row["inclination_kind"] == "photometric",
            "calibration": _ORIGIN.get(calibration, calibration),
            "disc": disc_sentences(found.row) if found.inferred else [],
            "judged": judged_sentences(found.row),
            "origin": found.network["origin"],
            "flags": [(flag.sentence, flag.excludes) for flag in GALAXY.set_in(bits & ~GALAXY.MOCK)],
            "messages": found.row["messages"].strip(),
            "parameters": _listing(parameters),
            "files": {"picture": files.picture.name, "table": files.table.name, "record": files.record.name, "maps": files.maps.name},
        },
    )
    with whole_file(files.page) as part:
        part.write_text(page, encoding="utf-8")


def _lead(found: "FoundGalaxy") -> str:
    row = found.row
    if not found.inferred:
        return "No disc could be inferred for this galaxy; what stands in the way is said below."
    beyond = ", an extrapolation beyond the data" if row["flags"] & GALAXY.EXTRAPOLATED else ""
    return (
        f"It rotates at V_max = {plus_minus(row['v_max_kms'], row['v_max_kms_err'], 0)} km/s{beyond}, seen at an inclination of "
        f"{plus_minus(row['inclination_used_deg'], row['inclination_used_err_deg'], 0)} deg; the disc model leaves "
        f"{number(row['reconstruction_velocity_kms'], 1)} km/s of the velocity field unexplained."
    )


def _listing(parameters: pd.DataFrame) -> Listing:
    rows = [
        (r.description[:1].upper() + r.description[1:], plus_minus(r.value, r.err, r.decimals), r.unit)
        for r in parameters.itertuples(index=False)
    ]
    return Listing("Parameters, with 1 sigma", ("parameter", "value", "unit"), rows, frozenset({0, 2}))
