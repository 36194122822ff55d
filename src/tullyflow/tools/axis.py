"""The kinematic position angle of one map, from its file to a row: what `tullyflow position-angle FILE` prints."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tullyflow import flags
from tullyflow.errors import DataError, SettingsError
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.maps.antisymmetry import middle_of, systemic_velocity
from tullyflow.maps.kinematic_centre import move_centre
from tullyflow.maps.masks import count_mask, mask_maps
from tullyflow.maps.orientation import image_axes, image_to_sky_angle
from tullyflow.maps.position_angle import PositionAngle, fit_position_angle
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps
from tullyflow.surveys.cubes import TAKEN_AS_CENTRE
from tullyflow.surveys.fits_images import image, image_hdu, open_fits, plane_of
from tullyflow.surveys.local_maps import ABSOLUTE, read_maps

__all__ = ["CENTRE_MATTERS", "Axis", "KinematicAxes", "MapFile", "find_axes", "misalignment", "read_map_file", "words"]

_NOT_OF_AN_AXIS = GALAXY.INTENSITY_FROM_PHOTOMETRY | GALAXY.NO_PHOTOMETRY  # flags of the reader that concern the disc model
CENTRE_MATTERS = "The centre is a guess and matters"  # how that sentence begins
_CLEARLY_LESS = 0.7  # of chi-squared, or of the pixels that have a partner across the centre
_FEWEST_PARTNERS = 10  # about a guessed centre: with fewer there is no axis
_DECIMALS = 4  # of angles and velocities in a row
_NORTH_UP = ((0.0, 1.0), (-1.0, 0.0))  # north along +y, east along -x


@dataclass(frozen=True)
class MapFile:
    """A velocity map in a FITS file, and where what belongs to it is.

    An extension is a name or number, empty for the first image of its file; a file that is None is the velocity's own.
    ``plane``, a number from 1 or a line's name, is taken of every extension that has three axes.
    ``stars_hdu`` holds the stars' velocities. ``centre`` is (x, y), 0-based pixels; None: the reference pixel where that
    lies in the inner half of the map, else the middle.
    """

    path: Path
    hdu: str = ""
    error: Path | None = None
    error_hdu: str = ""
    mask: Path | None = None
    mask_hdu: str = ""
    intensity: Path | None = None
    intensity_hdu: str = ""
    stars_hdu: str = ""
    centre: tuple[float, float] | None = None
    pixel_scale_arcsec: float = float("nan")
    plane: str = ""


@dataclass(frozen=True)
class Axis:
    """One map and its axis: ``velocity`` (y, x) in km/s, ``valid`` the pixels used, ``fit`` what was found, ``pa_deg`` on the sky."""

    velocity: NDArray[np.float64]
    valid: NDArray[np.bool_]
    centre: tuple[float, float]
    fit: PositionAngle
    pa_deg: float


@dataclass(frozen=True)
class KinematicAxes:
    """Axis of the gas, and of the stars where there is a map of theirs (else None).

    ``sky`` holds the unit pixel vectors (x, y) of north and east, None where they are not known. ``flags`` are bits of
    ``flags.GALAXY``. Angles that could not be found are NaN. ``beam``: FWHM of both axes (arcsec) and position angle (deg).
    """

    galaxy: str
    gas: Axis
    stars: Axis | None
    sky: tuple[tuple[float, float], tuple[float, float]] | None
    pixel_scale_arcsec: float
    flags: int
    messages: tuple[str, ...]
    beam: tuple[float, float, float] | None = None

    def row(self) -> dict:
        """Columns of ``tables.AXES``, ``STELLAR_AXES`` and ``AXES_LAST``."""
        gas, fit = self.gas, self.gas.fit
        row = {
            "galaxy": self.galaxy, "pa_deg": gas.pa_deg, "pa_err_deg": fit.err_deg, "v_sys_kms": fit.v_sys_kms,
            "v_sys_err_kms": fit.v_sys_err_kms, "n_spaxels": int(gas.valid.sum()), "flags": GALAXY.names(self.flags),
            "image_angle_deg": fit.image_angle_deg,
        }  # fmt: skip
        if self.stars is not None and not self.stars.fit.flags:
            row |= {"pa_stellar_deg": self.stars.pa_deg, "pa_stellar_err_deg": self.stars.fit.err_deg}
            if not fit.flags:
                row["delta_pa_deg"], row["delta_pa_err_deg"] = misalignment(
                    gas.pa_deg, fit.err_deg, self.stars.pa_deg, self.stars.fit.err_deg
                )
        row = {name: round(value, _DECIMALS) if isinstance(value, float) else value for name, value in row.items()}
        return {**row, "messages": " ".join(self.messages)}


def misalignment(pa_deg: float, err_deg: float, other_deg: float, other_err_deg: float) -> tuple[float, float]:
    """Angle (deg, 0-180) between two position angles and its 1 sigma. NaN where either is."""
    return abs((pa_deg - other_deg + 180) % 360 - 180), float(np.hypot(err_deg, other_err_deg))


def read_map_file(file: MapFile, settings: Settings, **known: float) -> GalaxyMaps:
    """Read the map a person points at, with all that belongs to it; ``known`` are columns of ``tables.TARGETS`` (r_e_arcsec, ...).

    Raises `DataError` where a file, an extension or the shape of one is wrong, and `SettingsError` for what cannot be asked.
    """
    for path in (file.path, file.error, file.mask, file.intensity):
        if path is not None and not path.is_file():
            raise SettingsError(f"{path}: no such file.")
    if file.error is not None and not file.error_hdu and file.error.resolve() == file.path.resolve():
        raise SettingsError(f"--error: {file.error.name} is the map's own file; say with --error-hdu which extension holds the errors.")
    row = {"velocity": str(file.path), "velocity_hdu": file.hdu, "velocity_err_hdu": file.error_hdu, "intensity_hdu": file.intensity_hdu}
    row |= {"stellar_velocity_hdu": file.stars_hdu, "plane": file.plane}
    paths = {"velocity": file.path}
    for name, path in (("velocity_err", file.error), ("intensity", file.intensity)):
        if path is not None:
            row[name], paths[name] = str(path), path
    if file.centre is not None:
        row["x_centre"], row["y_centre"] = file.centre
    maps = read_maps(paths, row, {"galaxy": file.path.name.split(".fit")[0], **known}, settings, sky_needed=False)
    ny, nx = maps.velocity.shape
    if file.centre is not None and not (-0.5 <= file.centre[0] <= nx - 0.5 and -0.5 <= file.centre[1] <= ny - 0.5):
        x, y = file.centre
        raise SettingsError(f"--centre: ({x:g}, {y:g}) is outside the map of {nx} x {ny} pixels, which are counted from 0.")
    if file.mask is not None or file.mask_hdu:
        maps = replace(maps, mask=maps.mask | np.where(_bad_pixels(file, maps.velocity.shape), PIXEL.DO_NOT_USE, 0).astype(np.int32))
    if not np.isfinite(maps.pixel_scale_arcsec):
        maps = replace(maps, pixel_scale_arcsec=file.pixel_scale_arcsec)
    unused = "" if maps.flags & GALAXY.NO_ERROR_MAP == 0 else _unused_error(file)
    return replace(maps, messages=(_chosen(file), *maps.messages, unused))


def _bad_pixels(file: MapFile, shape: tuple[int, int]) -> NDArray[np.bool_]:
    path = file.mask or file.path
    with open_fits(path, [file.mask_hdu]) as hdus:
        hdu = image_hdu(hdus, file.mask_hdu, path)
        bad = image(hdu, path, plane_of(hdu.header, file.plane, path))
    if bad.shape != shape:
        raise DataError(GALAXY.MISSING_HDU, f"{path.name}: the mask has {bad.shape} pixels, the velocity {shape}.")
    return ~(bad == 0)  # NaN is bad


def _chosen(file: MapFile) -> str:
    """A sentence where nobody said which of several images is the velocity; empty where it is clear."""
    if file.hdu:
        return ""
    with open_fits(file.path) as hdus:
        images = [hdu.name or str(k) for k, hdu in enumerate(hdus) if hdu.is_image and hdu.header.get("NAXIS", 0) >= 2]
    return f"The velocities are taken from {images[0]}; other images: {', '.join(images[1:])[:200]}." if len(images) > 1 else ""


def _unused_error(file: MapFile) -> str:
    """A sentence where no errors are used though the map's file has an image of its size that looks like them; else empty."""
    with open_fits(file.path) as hdus:
        velocity = image_hdu(hdus, file.hdu, file.path)
        alike = [
            hdu.name for hdu in hdus
            if ("ERR" in hdu.name.upper() or "IVAR" in hdu.name.upper()) and hdu is not velocity and hdu.is_image
            and hdu.shape[-2:] == velocity.shape[-2:]
        ]  # fmt: skip
    own = [name for name in alike if velocity.name and name.upper().startswith(velocity.name.upper())]
    found = own[:1] or (alike if len(alike) == 1 else [])
    return f"{file.path.name} has errors, it seems: --error-hdu {found[0]}?" if found else ""


def find_axes(maps: GalaxyMaps, settings: Settings, *, north_up: bool = False, fit_centre: bool = False) -> KinematicAxes:
    """Mask the maps by ``settings.maps`` and find the axis of the gas, and of the stars where there are any.

    Without usable sky axes (wcs None, degenerate, pixels that are not square) the position angle is NaN and the galaxy
    carries NO_WCS; ``north_up`` says that such a map has north up and east left. No valid pixel or an axis that is not
    defined is a flag with its sentence as well: this function raises nothing for what a map holds.
    """
    limits = settings.maps
    bits, messages = maps.flags & ~_NOT_OF_AN_AXIS, [said for said in maps.messages if said and said != ABSOLUTE]
    sky, bit, said = _sky(maps, north_up)
    bits |= bit
    messages += [said] if said else []
    mask = mask_maps(maps, limits)
    valid = (mask & flags.BAD_VELOCITY) == 0
    counts = count_mask(mask)
    if not counts.kept:
        bits |= GALAXY.NO_VALID_PIXEL
        said = ", ".join(f"{n} {reason}" for reason, n in counts.reasons.items())
        messages.append(f"None of {mask.size} pixels is valid{f' ({said})' if said else ''}.")
    elif fit_centre or maps.centre_guessed:
        maps, said = move_centre(maps, valid) if fit_centre else _paired_centre(maps, valid)
        if said:
            messages = [*(m for m in messages if not m.endswith(TAKEN_AS_CENTRE)), said]

    def axis(velocity: NDArray, err: NDArray | float, good: NDArray) -> Axis:
        fit = fit_position_angle(velocity, err, good, maps.centre, step_deg=limits.pa_step, err_max_deg=limits.pa_err_max)
        pa = image_to_sky_angle(fit.image_angle_deg, *sky) if sky is not None and np.isfinite(fit.image_angle_deg) else float("nan")
        return Axis(velocity, good, maps.centre, fit, pa)

    gas = axis(maps.velocity, maps.velocity_err, valid)
    if gas.fit.flags:
        bits |= gas.fit.flags
        messages.append(f"Position angle: {gas.fit.message}.")
    if maps.centre_guessed and counts.kept and not fit_centre:
        messages += _centre_matters(gas, maps)
    stars = None
    if maps.stellar_velocity is not None:
        err = limits.velocity_err_default if maps.stellar_velocity_err is None else maps.stellar_velocity_err
        good = np.isfinite(maps.stellar_velocity) & (np.broadcast_to(err, mask.shape) > 0)
        stars = axis(maps.stellar_velocity, err, good & ((mask & (PIXEL.NO_COVERAGE | PIXEL.FOREGROUND | PIXEL.DO_NOT_USE)) == 0))
        if stars.fit.flags:
            messages.append(f"Position angle of the stars: {stars.fit.message}.")
    width = maps.psf_fwhm_arcsec
    beam = maps.beam or ((width, width, 0.0) if np.isfinite(width) else None)
    return KinematicAxes(maps.galaxy, gas, stars, sky, maps.pixel_scale_arcsec, bits, tuple(messages), beam)


def _paired_centre(maps: GalaxyMaps, valid: NDArray) -> tuple[GalaxyMaps, str]:
    """Maps about the middle of their valid pixels, and a sentence, where too few pixels have a partner across the guess to find an axis."""
    middle = middle_of(valid)
    paired, paired_there = (systemic_velocity(maps.velocity, valid, centre)[1] for centre in (maps.centre, middle))
    if paired >= _FEWEST_PARTNERS or paired_there < _FEWEST_PARTNERS:
        return maps, ""
    return replace(maps, centre=middle), (
        f"No centre is given, and {paired} pixels have a partner across ({maps.centre[0]:.1f}, {maps.centre[1]:.1f}): the middle of the "
        f"valid pixels ({middle[0]:.1f}, {middle[1]:.1f}) is used; give --centre, or try --fit-centre."
    )


def _centre_matters(axis: Axis, maps: GalaxyMaps) -> list[str]:
    """A sentence where the middle of the valid pixels is the better guess of the centre, and changes the result by more than 3 sigma.

    Better: the map is clearly closer to antisymmetric about it, or has far more pixels with a partner across it.
    """
    middle = middle_of(axis.valid)
    fit, other = axis.fit, fit_position_angle(axis.velocity, maps.velocity_err, axis.valid, middle)
    paired, paired_there = (systemic_velocity(axis.velocity, axis.valid, centre)[1] for centre in (axis.centre, middle))
    closer = fit.chi2.size > 0 and other.chi2.size > 0 and other.chi2.min() < _CLEARLY_LESS * fit.chi2.min()
    if not (closer or paired < _CLEARLY_LESS * paired_there):
        return []
    turn, _ = misalignment(fit.image_angle_deg, 0.0, other.image_angle_deg, 0.0)
    shift = other.v_sys_kms - fit.v_sys_kms
    if turn > 3 * fit.err_deg or abs(shift) > 3 * fit.v_sys_err_kms:
        found = f"the axis turns by {turn:.1f} deg and v_sys changes by {shift:+.1f} km/s"
    elif np.isfinite(other.image_angle_deg) and not np.isfinite(fit.image_angle_deg):
        found = "there is an axis"
    else:
        return []
    return [
        f"{CENTRE_MATTERS}: about the middle of the valid pixels ({middle[0]:.1f}, {middle[1]:.1f}) {found}; give "
        "--centre (a table: x_centre and y_centre, or ra_deg and dec_deg)."
    ]


def _sky(maps: GalaxyMaps, north_up: bool):
    """North and east on the map, the flag and the sentence where they are not known; ``north_up`` is for maps without sky axes alone."""
    if maps.wcs is None:
        if north_up:
            return _NORTH_UP, 0, "North up and east left, as told (--north-up)."
        return None, GALAXY.NO_WCS, "If north is up and east is left, say --north-up."
    try:
        return image_axes(maps.wcs, maps.centre), 0, "The header's sky axes are used, not --north-up." if north_up else ""
    except DataError as err:
        return None, err.flag, _sentence(str(err))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def words(axes: KinematicAxes) -> str:
    """Lines for a person: position angle, systemic velocity, pixels, flags, and every sentence."""
    row = axes.row()
    lines = [
        axes.galaxy,
        f"  PA       {_value(row['pa_deg'], row['pa_err_deg'], 'deg, N through E to the receding side')}",
        f"  v_sys    {_value(row['v_sys_kms'], row['v_sys_err_kms'], 'km/s')}",
        f"  spaxels  {row['n_spaxels']}",
    ]
    if axes.sky is None:
        lines[1] = f"  axis     {_value(row['image_angle_deg'], row['pa_err_deg'], 'deg, from +x towards +y to the receding side')}"
    if axes.stars is not None:
        lines.insert(2, f"  stars    {_value(row.get('pa_stellar_deg'), row.get('pa_stellar_err_deg'), 'deg')}")
        lines.insert(3, f"  delta    {_value(row.get('delta_pa_deg'), row.get('delta_pa_err_deg'), 'deg, between gas and stars')}")
    lines.append(f"  flags    {row['flags'] or 'none'}")
    sentences = [flag.sentence for flag in GALAXY.set_in(axes.flags & ~GALAXY.NO_ERROR_MAP)]  # a message says which error was used
    return "\n".join([*lines, *(f"    {said}" for said in (*sentences, *axes.messages))])


def _value(value: float | None, err: float | None, unit: str) -> str:
    """A value with its error, both to the error's second digit."""
    if value is None or not np.isfinite(value):
        return "not defined"
    if err is None or not (np.isfinite(err) and err > 0):
        return f"{value:.1f} {unit}; error not defined"
    digits = int(np.clip(1 - np.floor(np.log10(err)), 0, 3))
    return f"{value:.{digits}f} +- {err:.{digits}f} {unit}"
