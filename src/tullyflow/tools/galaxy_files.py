"""The files of one galaxy: its parameters as CSV and JSON, its maps and model as FITS on the stamp's grid, its picture and page."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

import tullyflow
from tullyflow.conventions import STAMP_CENTRE
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.report.disc_words import disc_kind
from tullyflow.tables import whole_file
from tullyflow.tools.galaxy import FoundGalaxy, Stamped

__all__ = ["Files", "parameters", "record", "stamp_header", "words", "write_galaxy"]

_DIRECT = (  # column, unit, decimals, what a person calls it
    ("pa_deg", "deg", 1, "position angle, N through E to the receding side"),
    ("v_sys_kms", "km/s", 1, "systemic velocity, on the map's own zero point"),
    ("inclination_used_deg", "deg", 1, "inclination"),
    ("r_scale_arcsec", "arcsec", 2, "scale length of the light"),
    ("r_turn_arcsec", "arcsec", 2, "turnover radius of the rotation curve"),
    ("v_max_sini_kms", "km/s", 1, "V_max sin i"),
    ("v_max_kms", "km/s", 1, "V_max, asymptotic rotation velocity"),
    ("v_22_kms", "km/s", 1, "rotation velocity at 2.2 scale lengths"),
    ("v_80_kms", "km/s", 1, "rotation velocity at the radius of 80 % of the disc's light"),
    ("v_re_kms", "km/s", 1, "rotation velocity at R_e"),
    ("v_rmax_kms", "km/s", 1, "rotation velocity at the outermost data"),
    ("r_max_arcsec", "arcsec", 1, "radius of the outermost data, in the disc"),
    ("outer_dispersion_kms", "km/s", 1, "velocity dispersion of the outer disc"),
    ("reconstruction_velocity_kms", "km/s", 1, "root mean square residual of the velocity"),
    ("non_circular_kms", "km/s", 1, "motion that is coherent over a beam and no rotation of the disc"),
    ("chi2_velocity", "", 2, "reduced chi-squared of the velocity"),
    ("usable_prob", "", 2, "probability that an eye would use the velocity field"),
    ("kappa", "", 2, "circularity: share of the kinetic energy in ordered rotation, as the velocity field shows it"),
    ("n_spaxels", "", 0, "valid spaxels"),
    ("stamp_scale_arcsec", "arcsec", 3, "pixel of the stamp"),
)
_ERR = {"inclination_used_deg": "inclination_used_err_deg", "pa_deg": "pa_err_deg", "v_sys_kms": "v_sys_err_kms",
        "outer_dispersion_kms": "outer_dispersion_err_kms", "non_circular_kms": "non_circular_err_kms"}  # fmt: skip
_DISC = {
    "whole": "fitted whole, by least squares", "photometry": "curve fitted at the photometry's inclination and scale length",
    "network": "curve fitted at the network's inclination and scale length", "failed": "the network's: no fit can be vouched for",
    "": "the network's",
}  # fmt: skip
_SAID = ("pa_deg", "v_sys_kms", "inclination_used_deg", "v_max_kms", "r_turn_arcsec", "usable_prob", "kappa")  # on the terminal


@dataclass(frozen=True)
class Files:
    """Where the files of one galaxy are: all of them in ``folder``."""

    folder: Path

    @property
    def page(self) -> Path:
        return self.folder / "index.html"

    @property
    def picture(self) -> Path:
        return self.folder / "figure.png"

    @property
    def table(self) -> Path:
        return self.folder / "parameters.csv"

    @property
    def record(self) -> Path:
        return self.folder / "parameters.json"

    @property
    def maps(self) -> Path:
        return self.folder / "model.fits"


def parameters(found: FoundGalaxy) -> pd.DataFrame:
    """The galaxy's parameters, one row each: ``parameter``, ``value``, ``err`` (1 sigma), ``unit``, ``decimals``, ``description``.

    What could not be found is left out; an error that is not known is NaN. A photometric inclination says so, and the scale length is
    the one the velocities use.
    """
    row = found.row | ({"r_scale_arcsec": found.row["r_scale_used_arcsec"]} if found.inferred else {})
    photometric = found.inferred and row["inclination_kind"] == "photometric"
    rows = []
    for name, unit, decimals, description in _DIRECT:
        value, err = float(row.get(name, math.nan)), float(row.get(_ERR.get(name, f"{name}_err"), math.nan))
        given = photometric and name in ("inclination_used_deg", "r_scale_arcsec")
        if np.isfinite(value):
            err = math.nan if given and name == "r_scale_arcsec" else err
            rows.append((name, value, err, unit, decimals, description + (", from the photometry" if given else "")))
    return pd.DataFrame(rows, columns=["parameter", "value", "err", "unit", "decimals", "description"])


def record(found: FoundGalaxy) -> dict:
    """Everything that is known of the galaxy, for a program: all columns (NaN is None), the names and sentences of its flags."""
    row = {name: _plain(value) for name, value in found.row.items() if name not in ("survey", "release", "shard")}
    row |= {"flags": GALAXY.names(found.row["flags"]), "sentences": GALAXY.sentences(found.row["flags"])}
    row["messages"] = found.row["messages"].strip()
    return {**row, "file": str(found.source), "network": found.network, "tullyflow": tullyflow.__version__}


def _plain(value):
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def words(found: FoundGalaxy, files: Files) -> str:
    """Lines for a person: what was found, the flags, and where the page is."""
    table = parameters(found).set_index("parameter")
    lines = [found.name]
    for name in _SAID:
        if name in table.index:
            value, err, unit, decimals, said = table.loc[name, ["value", "err", "unit", "decimals", "description"]]
            error = f" +- {err:.{decimals}f}" if np.isfinite(err) else ""
            lines.append(f"  {value:.{decimals}f}{error}{' ' if unit else ''}{unit}, {said.partition(',')[0].partition(':')[0]}")
    if found.inferred:
        lines.append(f"  disc     {_DISC[disc_kind(found.row)]}")
    lines.append(f"  flags    {GALAXY.names(found.row['flags']) or 'none'}")
    lines += [f"    {flag.sentence}" for flag in GALAXY.set_in(found.row["flags"]) if flag.excludes]
    return "\n".join([*lines, f"  page     {files.page}"])


def stamp_header(sky: Stamped | None, scale_arcsec: float) -> fits.Header:
    """World axes of the stamp: the sky (TAN) about the galaxy's centre; offsets in arcsec where its place or north is not known.

    Offsets run east and north where those are known, else along the major axis (the receding side is positive) and across it.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.crpix = [STAMP_CENTRE + 1] * 2
    matrix = np.array([sky.east, sky.north]) if sky is not None else np.eye(2)
    if sky is not None and sky.position is not None:
        wcs.wcs.ctype, wcs.wcs.cunit, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], ["deg", "deg"], sky.position
        wcs.wcs.cd = matrix * scale_arcsec / 3600
    else:
        wcs.wcs.ctype = ["EAST", "NORTH"] if sky is not None else ["MAJOR", "MINOR"]
        wcs.wcs.cunit, wcs.wcs.crval, wcs.wcs.cd = ["arcsec", "arcsec"], [0.0, 0.0], matrix * scale_arcsec
    return wcs.to_header()


def _write_maps(path: Path, found: FoundGalaxy) -> None:
    """Data, model and residual of both maps; velocities about v_sys, the intensity in its own unit where it was measured."""
    stamp, row, view = found.made.stamp, found.row, found.view
    measured = row["intensity_kind"] == "data"
    norm, unit = (stamp.intensity_norm, row["intensity_unit"]) if measured else (1.0, "")
    model = np.where(np.isfinite(view.model_velocity), view.model_velocity, np.nan)
    images: list[tuple[str, NDArray, str]] = [
        ("VELOCITY", stamp.velocity, "km/s"), ("VELOCITY_ERR", stamp.velocity_err, "km/s"),
        ("MODEL_VELOCITY", model, "km/s"), ("RESIDUAL_VELOCITY", view.residual, "km/s"),
        ("INTENSITY", stamp.intensity * norm, unit), ("INTENSITY_ERR", stamp.intensity_err * norm, unit),
        ("MODEL_INTENSITY", found.model_intensity * norm, unit),
        ("RESIDUAL_INTENSITY", (stamp.intensity - found.model_intensity) * norm, unit),
    ]  # fmt: skip
    sky = stamp_header(found.sky, stamp.scale_arcsec)
    first = fits.PrimaryHDU()
    first.header.extend([
        ("CREATOR", f"tullyflow {tullyflow.__version__}", "what wrote this file"),
        ("OBJECT", found.name.encode("ascii", "replace").decode()[:60]),
        ("FILE", found.source.name.encode("ascii", "replace").decode()[:60]),
        ("FLAGS", int(row["flags"]), "bits, galaxy"),
    ])  # fmt: skip
    for key, name, said in (("VSYS", "v_sys_kms", "km/s, taken off VELOCITY"), ("PA", "pa_deg", "deg, of the receding side, +x here")):
        if np.isfinite(row[name]):
            first.header[key] = (round(row[name], 4), said)
    hdus = [first]
    for name, pixels, bunit in images:
        hdus.append(fits.ImageHDU(np.asarray(pixels, dtype=np.float32), sky, name=name))
        hdus[-1].header["BUNIT"] = bunit.encode("ascii", "replace").decode()
    hdus.append(fits.ImageHDU(stamp.mask, sky, name="MASK"))
    for flag in PIXEL:
        hdus[-1].header[f"BIT{flag.bit:02d}"] = (flag.name, "mask bit")
    if view.curve is not None:
        curve = view.curve
        velocities = {"v_rot_p16": curve.low_kms, "v_rot_p50": curve.velocity_kms, "v_rot_p84": curve.high_kms}
        columns = [fits.Column("radius", "E", unit="arcsec", array=curve.radius_arcsec)]
        columns += [fits.Column(name, "E", unit="km/s", array=values) for name, values in velocities.items()]
        hdus.append(fits.BinTableHDU.from_columns(columns, name="CURVE"))
    for hdu in hdus:
        hdu.add_datasum(when="no date")
        hdu.add_checksum(when="no date", override_datasum=False)
    with whole_file(path) as part:
        fits.HDUList(hdus).writeto(part, output_verify="fix")


def write_galaxy(found: FoundGalaxy, folder: Path) -> Files:
    """Write everything about one galaxy into a folder of its own; no FITS file where there is no stamp."""
    from tullyflow.report.galaxy_page import galaxy_picture, write_page

    files = Files(folder)
    table = parameters(found)
    with whole_file(files.table) as part:
        table.drop(columns="decimals").to_csv(part, index=False)
    with whole_file(files.record) as part:
        part.write_text(json.dumps(record(found), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    files.maps.unlink(missing_ok=True)
    if found.view is not None:
        _write_maps(files.maps, found)
    galaxy_picture(found, files.picture)
    write_page(found, table, files)
    return files
