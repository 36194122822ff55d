"""One galaxy from its file to its kinematics: what `tullyflow galaxy FILE` finds."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tullyflow.conventions import sky_to_image_angle
from tullyflow.errors import DataError, ModelError, SettingsError
from tullyflow.flags import GALAXY
from tullyflow.maps.galaxies import MadeGalaxy, cut_galaxy
from tullyflow.maps.orientation import image_axes
from tullyflow.maps.shards import gather_shard
from tullyflow.relation.cuts import KINEMATIC_CUTS, apply_cuts, extrapolated
from tullyflow.report.galaxy import GalaxyView, RotationCurve
from tullyflow.settings import Network, Settings
from tullyflow.surveys import GalaxyMaps
from tullyflow.surveys.cubes import read_cube
from tullyflow.surveys.fits_images import image_hdu, is_cube, open_fits, sky_wcs
from tullyflow.tables import PARAMETERS, TARGETS, conform
from tullyflow.tools.axis import CENTRE_MATTERS, KinematicAxes, MapFile, find_axes, read_map_file

if TYPE_CHECKING:
    from tullyflow.network.checkpoint import Checkpoint

__all__ = ["FoundGalaxy", "ReadGalaxy", "Stamped", "find_galaxy", "galaxy_name", "read_galaxy", "read_weights"]

log = logging.getLogger("tullyflow")

_MAKE_WEIGHTS = (
    "`tullyflow pretrain --survey local --settings config/local.yaml --out DIR` makes one in some minutes; the networks of a run are "
    "results/RUN/network/SURVEY-RELEASE"
)
_OF_MAPS = ("error", "error_hdu", "mask", "mask_hdu", "intensity", "intensity_hdu", "stars_hdu")


@dataclass(frozen=True)
class Stamped:
    """How the stamp lies on the sky: unit vectors (x, y) of north and east on it; ``position`` of its centre (ra, dec, deg) or None."""

    north: tuple[float, float]
    east: tuple[float, float]
    position: tuple[float, float] | None


@dataclass(frozen=True)
class FoundGalaxy:
    """One galaxy: ``row`` with the columns of ``tables.GALAXIES`` and ``KINEMATICS``, its stamp, model and posterior.

    ``samples`` (sample,) are those of the calibrated errors, by column; empty where nothing was inferred: ``axes`` then shows the native
    map. ``view`` is None where there is no stamp. ``sky`` is None where north and east are not known. ``network`` says which
    weights these are.
    """

    name: str
    source: Path
    row: dict
    made: MadeGalaxy
    view: GalaxyView | None
    model_intensity: NDArray[np.float32]
    samples: dict[str, NDArray[np.float64]]
    sky: Stamped | None
    beam: tuple[float, float, float] | None
    axes: KinematicAxes | None
    network: dict[str, str]

    @property
    def inferred(self) -> bool:
        return bool(self.samples)


def galaxy_name(path: Path) -> str:
    """The name a file gives its galaxy."""
    return path.name.split(".fit")[0]


def read_weights(weights_dir: Path | None, settings: Settings) -> "tuple[Checkpoint, Settings]":
    """Read a trained network, and the settings with its own section ``network``; raise `ModelError` that says how one is made."""
    from pydantic import ValidationError

    from tullyflow.network.batch import resolve_device
    from tullyflow.network.checkpoint import load_checkpoint, read_card

    if weights_dir is None:
        raise ModelError(f"galaxy: --weights DIR, the folder of a trained network, is needed; {_MAKE_WEIGHTS}.")
    device = resolve_device(settings.device)
    try:
        card = read_card(weights_dir / "model.json").get("network", {})
        own = Network.model_validate({key: value for key, value in card.items() if key in Network.model_fields})
        settings = settings.model_copy(update={"network": own})
        return load_checkpoint(weights_dir, own, device), settings
    except (ModelError, ValidationError, AttributeError) as err:
        said = str(err).rstrip(".") if isinstance(err, ModelError) else f"{weights_dir}: model.json is of another version"
        raise ModelError(f"{said}; {_MAKE_WEIGHTS}.") from err


@dataclass(frozen=True)
class ReadGalaxy:
    """Maps of a galaxy, and whether their sky axes say where it is, not only how it lies."""

    maps: GalaxyMaps
    positioned: bool = True


def read_galaxy(file: MapFile, settings: Settings, known: dict[str, float], *, north_up: bool = False) -> ReadGalaxy:
    """Read the velocity map, or make it from the cube, that a person points at.

    ``known`` are columns of ``tables.TARGETS``. A map without sky axes whose pixel size is given has north up and east left if
    ``north_up``. Raises `SettingsError` and `DataError` (`tullyflow.tools.axis.read_map_file`).
    """
    if not file.path.is_file():
        raise SettingsError(f"{file.path}: no such file.")
    with open_fits(file.path, [file.hdu]) as hdus:
        cube = not file.plane and is_cube(image_hdu(hdus, file.hdu, file.path).header)
    if cube:
        unused = [name for name in _OF_MAPS if getattr(file, name)]
        if unused:
            option = unused[0].replace("stars_hdu", "stars").replace("_", "-")
            raise SettingsError(f"--{option}: this is for maps, and {file.path.name} is a cube.")
        maps = read_cube(file.path, {"galaxy": galaxy_name(file.path), **known}, settings, hdu=file.hdu)
        return ReadGalaxy(maps if file.centre is None else replace(maps, centre=file.centre, centre_guessed=False))
    maps = read_map_file(file, settings, **known)
    if maps.wcs is None:
        if not np.isfinite(maps.pixel_scale_arcsec):
            said = "Without a pixel size there is no length: give --pixel-scale ARCSEC, and --north-up if that is so."
            return ReadGalaxy(replace(maps, messages=(*maps.messages, said)))
        if north_up:
            wcs = sky_wcs(np.nan, np.nan, maps.pixel_scale_arcsec, maps.centre)
            maps = replace(maps, wcs=wcs, messages=(*maps.messages, "North up and east left, as told (--north-up)."))
            return ReadGalaxy(maps, positioned=False)
    return ReadGalaxy(maps)


def find_galaxy(
    maps: GalaxyMaps, source: Path, checkpoint: "Checkpoint", settings: Settings, known: dict[str, float], *, positioned: bool = True
) -> FoundGalaxy:
    """Cut the stamp of a galaxy and infer its kinematics; whatever is wrong with its maps is a flag and a sentence.

    ``settings`` carry the network's own section (`read_weights`); ``known`` as for `read_galaxy`. Without ``positioned`` the maps' sky
    axes have directions and no place. Flags of the cuts that need nothing but the kinematics are set as for a sample.
    """
    from tullyflow.network.inference import infer_shard

    name = galaxy_name(source)
    identity = {"galaxy": name, "survey": "local", "release": "user", "shard": "local-user-000"}
    target = conform(pd.DataFrame([{**identity, **known}]), TARGETS)
    made = cut_galaxy(maps, target.iloc[0].to_dict(), settings)
    log.info(made.log)
    if made.trouble:
        log.debug(made.trouble)
    shard = gather_shard([made])
    found = infer_shard(shard, target, checkpoint, settings)
    row = {**known, **shard.galaxies.iloc[0].to_dict(), **found.table.iloc[0].to_dict()}
    inferred = not row["flags"] & GALAXY.NOT_INFERRED
    if inferred:
        row["flags"] = int(apply_cuts(pd.DataFrame([row]), settings.relation, (*KINEMATIC_CUTS, (GALAXY.EXTRAPOLATED, extrapolated)))[0])
    guessed = maps.centre_guessed and settings.maps.centre != "kinematic"
    axes = find_axes(maps, settings) if guessed or not inferred else None
    if guessed:
        row["messages"] = " ".join([row["messages"], *(said for said in axes.messages if said.startswith(CENTRE_MATTERS))])
    stamp, view = made.stamp, None
    if np.isfinite(stamp.velocity).any():
        low, middle, high = found.curves_kms[:, 0]
        curve = RotationCurve(found.radius_arcsec[0], middle, low, high) if inferred else None
        view = GalaxyView(
            row, stamp.scale_arcsec, row["psf_fwhm_arcsec"], stamp.intensity, stamp.velocity, stamp.velocity_err, found.velocity[0], curve
        )
    samples = {}
    if inferred:
        photometric = row["inclination_kind"] == "photometric"
        kept = [column for column in PARAMETERS if not (photometric and column == "r_scale_arcsec")]
        samples = {column: found.samples[:, 0, PARAMETERS.index(column)].astype(float) for column in kept}
    width = row["psf_fwhm_arcsec"]
    beam = maps.beam or ((width, width, 0.0) if np.isfinite(width) else None)
    sources = {"calibration": checkpoint.calibration.source, "fit_calibration": checkpoint.fit_calibration.source}
    network = {"origin": checkpoint.origin, **sources}
    return FoundGalaxy(
        name, source, row, made, view, found.intensity[0], samples, _on_sky(maps, row, positioned), beam,
        None if inferred else axes, network,
    )


def _on_sky(maps: GalaxyMaps, row: dict, positioned: bool) -> Stamped | None:
    """Directions and place of the stamp on the sky; None where the map has none, or no axis was found."""
    centre = (row["x_centre"], row["y_centre"])
    if maps.wcs is None or not np.isfinite([row["pa_deg"], *centre]).all():
        return None
    try:
        north, east = image_axes(maps.wcs, centre)
    except DataError:  # its flag and sentence are in the row
        return None
    turn = -np.radians(sky_to_image_angle(row["pa_deg"], north, east))
    c, s = np.cos(turn), np.sin(turn)
    turned = [(float(c * x - s * y), float(s * x + c * y)) for x, y in (north, east)]
    place = tuple(float(angle) for angle in maps.wcs.celestial.wcs_pix2world([centre], 0)[0]) if positioned else None
    return Stamped(*turned, place)
