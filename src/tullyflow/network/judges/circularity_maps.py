"""Velocity fields of galaxies whose circularity is known, because they are made of particles: what a network of circularity learns from.

EAGLE's galaxies, which the published network learned from, cannot be had; these are drawn (`particle_kinds`) and seen (`particle_views`).
"""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

import tullyflow
from tullyflow.conventions import STAMP
from tullyflow.errors import ModelError
from tullyflow.network.judges.particle_kinds import KINDS, draw_galaxy
from tullyflow.network.judges.particle_views import draw_view, observe, plain
from tullyflow.settings import Settings
from tullyflow.tables import SIMULATED_FIELDS, whole_file

__all__ = ["SimulatedFields", "read_simulated", "simulate", "simulate_fields", "write_simulated"]

log = logging.getLogger("tullyflow")

_BINS = 10  # of kappa, equally filled
_FORMAT = {"f": "D", "i": "K"}


@dataclass(frozen=True)
class SimulatedFields:
    """Velocity fields (field, 64, 64), km/s, NaN where none, and by field (field,): circularity as published and of the particles that turn
    with the galaxy, inclination and position angle (deg), beam (field pixels), peak S/N of the cube (inf: no noise; NaN: no cube),
    particle set, number of its particles and kind.

    Views of one particle set have its number: sets, not fields, are what to split by.
    """

    field: NDArray[np.float32]
    kappa: NDArray[np.float64]
    kappa_corotating: NDArray[np.float64]
    inclination_deg: NDArray[np.float64]
    pa_deg: NDArray[np.float64]
    beam: NDArray[np.float64]
    peak_snr: NDArray[np.float64]
    particle_set: NDArray[np.int64]
    particles: NDArray[np.int64]
    kind: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.kappa)


def _see_one(index: int, views: int, seed: int, peak_snr: float | None) -> SimulatedFields:
    """All views of one particle set; each has a generator of its own, so that another ``peak_snr`` changes nothing else."""
    sets, looks = (np.random.default_rng([seed, index, k]) for k in range(2))
    low = index % _BINS / _BINS
    galaxy = draw_galaxy(sets, (low, low + 1 / _BINS))
    seen = [draw_view(looks) for _ in range(views)]
    if peak_snr is not None:
        seen = [plain(view, peak_snr) for view in seen]
    made = np.array([observe(galaxy.particles, view, np.random.default_rng([seed, index, 2, k])) for k, view in enumerate(seen)])
    return SimulatedFields(
        field=made,
        kappa=np.full(views, galaxy.circularity.kappa),
        kappa_corotating=np.full(views, galaxy.circularity.kappa_corotating),
        inclination_deg=np.array([view.inclination_deg for view in seen]),
        pa_deg=np.array([view.pa_deg for view in seen]),
        beam=np.array([view.beam * STAMP for view in seen]),
        peak_snr=np.array([np.nan if view.binned else view.peak_snr for view in seen]),
        particle_set=np.full(views, index),
        particles=np.full(views, len(galaxy.particles)),
        kind=np.full(views, galaxy.kind, dtype=f"U{max(map(len, KINDS))}"),
    )


def simulate_fields(
    galaxies: int, views: int, seed: int, *, first: int = 0, peak_snr: float | None = None, workers: int = 1
) -> SimulatedFields:
    """Draw particle sets ``first`` to ``first + galaxies`` of a seed and see each ``views`` times.

    Set k has its circularity in the tenth k modulo 10, so that these are equally filled. The same sets and views are seen again with
    another ``peak_snr``: None as surveys do, a number as plain cubes of that S/N (inf: no noise), with no field of view and no gaps.
    """
    see = partial(_see_one, views=views, seed=seed, peak_snr=peak_snr)
    began, n = time.monotonic(), galaxies * views
    together: dict[str, NDArray] = {}
    with _mapper(workers) as run:
        for k, part in enumerate(run(see, range(first, first + galaxies))):
            for f in fields(SimulatedFields):
                values = getattr(part, f.name)
                if k == 0:
                    together[f.name] = np.empty((n, *values.shape[1:]), dtype=values.dtype)
                together[f.name][k * views : (k + 1) * views] = values
            if k + 1 in (galaxies // 4, galaxies // 2, 3 * galaxies // 4, galaxies):
                log.info("%d of %d galaxies of particles seen, %.0f s", k + 1, galaxies, time.monotonic() - began)
    return SimulatedFields(**together)


@contextmanager
def _mapper(workers: int) -> Iterator:
    if workers <= 1:
        yield map
        return
    with ProcessPoolExecutor(workers) as pool:
        yield partial(pool.map, chunksize=4)


def simulate(settings: Settings, out_path: str | Path, threads: int = 1) -> SimulatedFields:
    """Simulate the fields that the settings ask for (``network.circularity.galaxies``, ``views``; ``seed``) and write them."""
    asked = settings.network.circularity
    simulated = simulate_fields(asked.galaxies, asked.views, settings.seed, workers=threads)
    write_simulated(simulated, out_path)
    few = int((np.isfinite(simulated.field).sum(axis=(1, 2)) < 16).sum())
    log.info("%s: %d fields of %d galaxies of particles, %d with fewer than 16 pixels", out_path, len(simulated), asked.galaxies, few)
    return simulated


def write_simulated(simulated: SimulatedFields, path: str | Path) -> None:
    """Write fields as one FITS file: image VELOCITY_FIELD (field, y, x), km/s, and table FIELDS of ``tables.SIMULATED_FIELDS``."""
    image = fits.ImageHDU(simulated.field, name="VELOCITY_FIELD")
    image.header["BUNIT"] = "km/s"
    columns = []
    for column in SIMULATED_FIELDS:
        values = getattr(simulated, column.name)
        if column.kind == "s":
            values = values.astype("S")
        form = f"{values.dtype.itemsize}A" if column.kind == "s" else _FORMAT[column.kind]
        columns.append(fits.Column(column.name, form, unit=column.unit or None, array=values))
    hdus = [fits.PrimaryHDU(), image, fits.BinTableHDU.from_columns(columns, name="FIELDS")]
    for hdu in hdus:
        hdu.header["CREATOR"] = (f"tullyflow {tullyflow.__version__}", "what wrote this file")
    with whole_file(path) as part:
        fits.HDUList(hdus).writeto(part, output_verify="exception")


def read_simulated(path: str | Path) -> SimulatedFields:
    """Read what `write_simulated` wrote; raise `ModelError` where the file is broken or something else."""
    try:
        with fits.open(path, memmap=False) as hdus:
            field = np.ascontiguousarray(hdus["VELOCITY_FIELD"].data, dtype=np.float32)
            table = hdus["FIELDS"].data
            columns = {
                column.name: np.asarray(table[column.name]).astype({"f": float, "i": np.int64, "s": str}[column.kind])
                for column in SIMULATED_FIELDS
            }
    except (OSError, KeyError, ValueError, TypeError, IndexError) as err:
        said = " ".join(str(err).split())[:200]
        raise ModelError(f"{path}: not a readable file of simulated velocity fields ({said}); simulate them again.") from err
    if field.shape != (len(table), STAMP, STAMP):
        raise ModelError(f"{path}: fields of shape {field.shape} for {len(table)} rows of its table; simulate them again.")
    return SimulatedFields(field, **columns)
