"""One galaxy from its files to its row and stamp; whatever is wrong with its data becomes flags and sentences."""

import struct
import traceback
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tullyflow import flags
from tullyflow.conventions import (
    inclination_error_from_axis_ratio,
    inclination_from_axis_ratio,
    rest_frame_factor,
    sky_to_image_angle,
    wrap_degrees,
)
from tullyflow.errors import DataError
from tullyflow.flags import GALAXY
from tullyflow.maps.fields import empty_field, stellar_valid, velocity_fields
from tullyflow.maps.geometry import fill_factor, measure_geometry
from tullyflow.maps.kinematic_centre import move_centre
from tullyflow.maps.masks import count_mask, mask_maps
from tullyflow.maps.orientation import image_axes, image_to_sky_angle
from tullyflow.maps.position_angle import PositionAngle, fit_position_angle
from tullyflow.maps.stamps import Stamp, empty_stamp, field_half_width, half_width, make_stamp, photometric_intensity
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps, get_survey
from tullyflow.tables import GALAXIES

__all__ = ["MadeGalaxy", "cut_galaxy", "make_galaxy"]

_CORRUPTED = (  # what astropy and zlib raise on broken bytes
    ValueError, OSError, EOFError, KeyError, IndexError, TypeError, AttributeError, ArithmeticError, zlib.error, struct.error,
    np.linalg.LinAlgError,
)  # fmt: skip
_BEAM = ("beam_major_arcsec", "beam_minor_arcsec", "beam_angle_deg")
_LARGEST_SQUARE = 1e8  # km^2/s^2: what lies beyond is no dispersion but a mark for no value
_AXIS_RATIO_ERR = 0.06  # as a measure of the inclination: arms, bars and discs that are not round; one's own table has a setting


@dataclass(frozen=True)
class MadeGalaxy:
    """A galaxy's row (``tables.GALAXIES``), its stamp, the line for the log, and the traceback of an unexpected error.

    ``velocity_field`` and ``stellar_velocity_field`` (64, 64) are the gas and the stars as they lie on the image (`make_field`).
    ``history`` is the reader's (`GalaxyMaps.history`), empty where nothing could be read.
    """

    row: dict
    stamp: Stamp
    velocity_field: NDArray[np.float32]
    stellar_velocity_field: NDArray[np.float32]
    log: str
    trouble: str = ""
    history: Mapping[str, str] = field(default_factory=dict)


class _Row:
    """A row being filled: values, flags and sentences, and the velocity fields of gas and stars."""

    def __init__(self, target: Mapping, axis_ratio_err: float):
        self.values = {c.name: {"f": float("nan"), "i": 0, "s": "", "b": False}[c.kind] for c in GALAXIES}
        self.values |= {name: target[name] for name in ("galaxy", "survey", "release", "shard")}
        self.flags = int(target["flags"])
        self.messages = [str(target["messages"])] if target["messages"] else []
        self.fields = (empty_field(), empty_field())
        axis_ratio = float(target["axis_ratio"])
        self.values |= {
            "psf_fwhm_arcsec": float(target["psf_fwhm_arcsec"]),
            "inclination_phot_deg": float(inclination_from_axis_ratio(axis_ratio)),
            "inclination_phot_err_deg": float(inclination_error_from_axis_ratio(axis_ratio, axis_ratio_err)),
        }

    def flag(self, bit: int, sentence: str) -> None:
        self.flags |= bit
        if sentence and sentence not in self.messages:
            self.messages.append(sentence)

    def finished(self) -> dict:
        return {**self.values, "flags": self.flags, "messages": " ".join(self.messages)}


def make_galaxy(target: Mapping, manifest: Mapping[str, Mapping], settings: Settings) -> MadeGalaxy:
    """Read, mask, orient and cut one galaxy; never raises for what its files hold.

    Parameters
    ----------
    target
        Its row of ``tables.TARGETS``; its flags and sentences are carried on.
    manifest
        Its rows of ``tables.MANIFEST`` by product.
    settings
        With the survey's overrides already laid over (`Settings.for_survey`).
    """
    return _make_galaxy(lambda: _read(target, manifest, settings), target, settings)


def cut_galaxy(maps: GalaxyMaps, target: Mapping, settings: Settings) -> MadeGalaxy:
    """Mask, orient and cut one galaxy whose maps were read already: `make_galaxy` without its files."""
    return _make_galaxy(lambda: _checked(maps), target, settings)


def _make_galaxy(read: Callable[[], GalaxyMaps], target: Mapping, settings: Settings) -> MadeGalaxy:
    row = _Row(target, settings.local.axis_ratio_err if target["survey"] == "local" else _AXIS_RATIO_ERR)
    name = f"{target['survey']} {target['galaxy']}"
    try:
        maps = read()
        row.flag(maps.flags, " ".join(maps.messages))
        stamp, line = _make(maps, target, settings, row)
    except DataError as err:
        row.flag(err.flag, str(err))
        return MadeGalaxy(row.finished(), empty_stamp(), *row.fields, f"{name}: no stamp: {GALAXY.names(err.flag)}: {err}")
    except _CORRUPTED as err:
        sentence = f"{type(err).__name__}: {' '.join(str(err).split())[:200]}."
        row.flag(GALAXY.UNREADABLE_FILE, sentence)
        said = f"{name}: no stamp: UNREADABLE_FILE: {sentence}"
        return MadeGalaxy(row.finished(), empty_stamp(), *row.fields, said, traceback.format_exc())
    return MadeGalaxy(row.finished(), stamp, *row.fields, f"{name}: {line}", history=maps.history)


def _read(target: Mapping, manifest: Mapping[str, Mapping], settings: Settings) -> GalaxyMaps:
    """Maps of the galaxy. A product that did not come matters only if the reader cannot do without it."""
    there = {product: _path(entry["path"], settings) for product, entry in manifest.items() if entry["status"] == "ok"}
    failed = [product for product, entry in manifest.items() if entry["status"] == "failed"]
    if not there:
        flag = GALAXY.FETCH_FAILED if failed else GALAXY.MISSING_FILE
        said = "; ".join(f"{product}: {entry['message'] or entry['status']}" for product, entry in manifest.items())
        raise DataError(flag, said or f"{target['galaxy']}: not in the manifest.")
    try:
        maps = get_survey(target["survey"]).read(there, target, settings)
    except DataError as err:
        if err.flag & GALAXY.MISSING_FILE and failed:
            raise DataError(GALAXY.FETCH_FAILED, f"{err} Not fetched: {', '.join(failed)}.") from err
        raise
    return _checked(maps)


def _checked(maps: GalaxyMaps) -> GalaxyMaps:
    """Maps of one size, without marks for no value among the dispersions."""
    for image in (maps.velocity_err, maps.mask, maps.intensity, maps.intensity_err, maps.dispersion_sq, maps.dispersion_sq_err):
        if image is not None and image.shape != maps.velocity.shape:
            raise DataError(GALAXY.UNREADABLE_FILE, f"maps of different size: {image.shape} and {maps.velocity.shape} pixels.")
    if maps.dispersion_sq is not None:
        maps = replace(maps, dispersion_sq=np.where(np.abs(maps.dispersion_sq) < _LARGEST_SQUARE, maps.dispersion_sq, np.nan))
    return maps


def _path(path: str, settings: Settings) -> Path:
    return Path(path) if Path(path).is_absolute() or Path(path).exists() else Path(settings.resources) / path


def _make(maps: GalaxyMaps, target: Mapping, settings: Settings, row: _Row) -> tuple[Stamp, str]:
    limits = settings.maps
    mask = mask_maps(maps, limits)
    valid = (mask & flags.BAD_VELOCITY) == 0
    row.fields = velocity_fields(maps, mask)
    counts = count_mask(mask)
    axis_ratio, r_e = float(target["axis_ratio"]), float(target["r_e_arcsec"])
    fill = fill_factor(maps, mask)
    row.values |= {
        "n_spaxels": counts.kept, "fill_factor": fill, "pixel_scale_arcsec": maps.pixel_scale_arcsec,
        "x_centre": maps.centre[0], "y_centre": maps.centre[1], "intensity_unit": maps.intensity_unit,
        "intensity_kind": "data" if maps.intensity is not None else "",
    }  # fmt: skip
    if np.isfinite(maps.psf_fwhm_arcsec):
        row.values["psf_fwhm_arcsec"] = float(maps.psf_fwhm_arcsec)
    said = ", ".join(f"{n} {reason}" for reason, n in counts.reasons.items())
    line = f"{counts.looked_at} spaxels, {counts.kept} kept" + (f" ({said})" if said else "")
    if counts.kept == 0:
        row.flag(GALAXY.NO_VALID_PIXEL, f"None of {counts.looked_at} pixels is valid ({said}).")
        return empty_stamp(), f"{line}; {GALAXY.names(row.flags)}"
    if counts.kept < limits.min_pixels:
        row.flag(GALAXY.TOO_FEW_PIXELS, f"{counts.kept} valid pixels, needed {limits.min_pixels}.")
    if fill < limits.fill_factor_min:
        row.flag(GALAXY.LOW_FILL_FACTOR, f"Fill factor {fill:.3f}, needed {limits.fill_factor_min:g}.")

    if limits.centre == "kinematic":
        maps, said = move_centre(maps, valid)
        row.messages.append(said)
        row.values |= {"x_centre": maps.centre[0], "y_centre": maps.centre[1]}
    axis = fit_position_angle(
        maps.velocity, maps.velocity_err, valid, maps.centre, step_deg=limits.pa_step, err_max_deg=limits.pa_err_max
    )
    if axis.flags:
        row.flag(axis.flags, f"Position angle: {axis.message}.")
    line += _orient(maps, axis, row, limits.velocity_err_default, stellar_valid(maps, mask))
    if not np.isfinite(axis.image_angle_deg):
        return empty_stamp(), f"{line}; {GALAXY.names(row.flags)}"

    if maps.absolute:
        maps = _in_rest_frame(maps, axis.v_sys_kms)
    geometry = measure_geometry(
        maps, mask, axis.image_angle_deg, axis.v_sys_kms, axis_ratio=axis_ratio, r_e_arcsec=r_e,
        psf_fwhm_arcsec=row.values["psf_fwhm_arcsec"],
    )  # fmt: skip
    row.values |= {
        "v_abs_max_kms": geometry.v_abs_max_kms, "r_max_arcsec": geometry.r_max_arcsec,
        "outer_dispersion_kms": geometry.outer.dispersion_kms, "outer_dispersion_err_kms": geometry.outer.err_kms,
    }  # fmt: skip
    if geometry.v_abs_max_kms < limits.v_abs_min:
        row.flag(GALAXY.NO_ROTATION, f"Largest |velocity| {geometry.v_abs_max_kms:.1f} km/s, needed {limits.v_abs_min:g}.")

    extent = half_width(valid, maps.centre, axis.image_angle_deg, maps.pixel_scale_arcsec)
    width, row.values["field_from"] = field_half_width(extent, r_e, limits.field_r_scale_max)
    stamp = make_stamp(maps, mask, axis.image_angle_deg, axis.v_sys_kms, width)
    if maps.intensity is None:
        stamp = _with_photometry(stamp, row, r_e, axis_ratio)
    if not ((stamp.mask & flags.BAD_VELOCITY) == 0).any():
        row.flag(GALAXY.NO_VALID_PIXEL, "No stamp pixel has only valid neighbours.")
    row.values |= {"stamp_scale_arcsec": stamp.scale_arcsec, "intensity_norm": stamp.intensity_norm, "r_e_stamp": r_e / stamp.scale_arcsec}
    names = GALAXY.names(row.flags)
    return stamp, line + (f"; {names}" if names else "")


def _in_rest_frame(maps: GalaxyMaps, v_sys_kms: float) -> GalaxyMaps:
    """Maps whose velocities about v_sys, errors and dispersions are the galaxy's own; v_sys stays as observed."""
    z1 = rest_frame_factor(v_sys_kms)
    squares = {name: getattr(maps, name) for name in ("dispersion_sq", "dispersion_sq_err")}
    return replace(
        maps, velocity=v_sys_kms + (maps.velocity - v_sys_kms) / z1, velocity_err=maps.velocity_err / z1, absolute=False,
        **{name: square / z1**2 for name, square in squares.items() if square is not None},
    )  # fmt: skip


def _orient(maps: GalaxyMaps, axis: PositionAngle, row: _Row, stellar_err_kms: float, stellar: NDArray | None) -> str:
    """Fill in the position angles on the sky, gas and stars, and v_sys; return what the log says of them."""
    row.values |= {"pa_err_deg": axis.err_deg, "v_sys_kms": axis.v_sys_kms, "v_sys_err_kms": axis.v_sys_err_kms}
    try:
        north, east = image_axes(maps.wcs, maps.centre)
    except DataError as err:
        row.flag(err.flag, f"{err}.")
        return ""
    if np.isfinite(axis.image_angle_deg):
        row.values["pa_deg"] = image_to_sky_angle(axis.image_angle_deg, north, east)
        if maps.beam is not None:
            angle = sky_to_image_angle(maps.beam[2], north, east) - axis.image_angle_deg
            row.values |= zip(_BEAM, (*maps.beam[:2], float(wrap_degrees(angle, 180.0))), strict=True)
    if stellar is not None:
        err = stellar_err_kms if maps.stellar_velocity_err is None else maps.stellar_velocity_err
        stars = fit_position_angle(maps.stellar_velocity, err, stellar, maps.centre)
        if stars.flags:
            row.flag(GALAXY.NO_STELLAR_AXIS, "")
        else:
            row.values["pa_stellar_deg"] = image_to_sky_angle(stars.image_angle_deg, north, east)
            row.values["pa_stellar_err_deg"] = stars.err_deg
            row.values["delta_pa_deg"] = abs((row.values["pa_deg"] - row.values["pa_stellar_deg"] + 180) % 360 - 180)
            row.values["delta_pa_err_deg"] = float(np.hypot(axis.err_deg, stars.err_deg))
    return f"; PA {row.values['pa_deg']:.1f} +- {axis.err_deg:.1f} deg; v_sys {axis.v_sys_kms:.1f} km/s"


def _with_photometry(stamp: Stamp, row: _Row, r_e: float, axis_ratio: float) -> Stamp:
    """The stamp with the intensity of the catalogue's disc, where R_e and axis ratio describe one."""
    if not (r_e > 0 and 0 < axis_ratio <= 1):
        row.flag(GALAXY.NO_PHOTOMETRY, "Neither an intensity map nor R_e and axis ratio.")
        return stamp
    row.flag(GALAXY.INTENSITY_FROM_PHOTOMETRY, "")
    row.values["intensity_kind"] = "photometry"
    disc, err = photometric_intensity(r_e, axis_ratio, stamp.scale_arcsec, row.values["psf_fwhm_arcsec"])
    valid = (stamp.mask & flags.BAD_VELOCITY) == 0
    peak = float(disc[valid].max(initial=0)) or float("nan")
    images = (np.where(valid, image, np.nan).astype(np.float32) for image in (disc / peak, err))
    return replace(stamp, **dict(zip(("intensity", "intensity_err"), images, strict=True)), intensity_norm=peak)
