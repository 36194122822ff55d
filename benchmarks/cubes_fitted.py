"""Maps of one galaxy through stamp, network, refinement and choice of the rotation curve, each timed: what several benchmarks share."""

import os
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from mock_stamps import half_width

from tullyflow.errors import DataError
from tullyflow.maps.galaxies import cut_galaxy
from tullyflow.maps.orientation import image_axes
from tullyflow.maps.shards import gather_shard
from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.batch import Stamps, stamps_of_shards
from tullyflow.network.checkpoint import Checkpoint
from tullyflow.network.model_choice import choose_curves
from tullyflow.network.refinement import refine_discs
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps
from tullyflow.tables import TARGETS, conform

__all__ = ["FittedDisc", "Stopwatch", "fit_maps", "fit_stamps"]

_HALF = 32  # stamp pixels of a half-width
_SAMPLES = 400


class Stopwatch:
    """Wall and processor seconds by name, each phase added to what it has."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    def time(self, name: str, call):
        """Return what ``call`` returns."""
        wall, busy = time.perf_counter(), sum(os.times()[:2])
        found = call()
        self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
        self.cpu[name] = self.cpu.get(name, 0.0) + sum(os.times()[:2]) - busy
        return found


@dataclass(frozen=True)
class FittedDisc:
    """One disc as found: deg, km/s, arcsec. ``network`` (4) are the network's own answers; V(R) at ``radius``, inclination corrected.

    ``v_rot`` is of the refined arctan with its 1 sigma ``v_rot_err``, ``v_chosen`` of the curve the map prefers (``curve``). ``refined``
    is False where the network's answer stands; what was not fitted has an error of NaN. ``r_max`` is that of the data.
    """

    network: np.ndarray
    refined: bool
    inclination: float
    inclination_err: float
    pa: float
    pa_err: float
    v_sys: float
    curve: str
    delta_bic: float
    outer_slope: float
    non_circular: float
    radius: np.ndarray
    v_rot: np.ndarray
    v_rot_err: np.ndarray
    v_chosen: np.ndarray
    r_max: float
    beam: float


def _network_answer(model: DiscAutoencoder, stamps: Stamps) -> np.ndarray:
    with torch.no_grad():
        return model.eval().parameters_of(model.encode(stamps), stamps.norm).stack().double().numpy()


def fit_stamps(
    stamps: Stamps, row: dict, turn: float, checkpoint: Checkpoint, radius: np.ndarray, watch: Stopwatch, hold: bool = False
) -> FittedDisc:
    """Fit one stamp whose columns of ``tables.GALAXIES`` are ``row``; ``turn`` is +1 where position angles run counter-clockwise on it.

    ``hold``: inclination and scale length stay the network's, as for an intensity that is only photometry.
    """
    model, scale, cpu = checkpoint.model, float(row["stamp_scale_arcsec"]), torch.device("cpu")
    network = watch.time("network", lambda: _network_answer(model, stamps))
    found = watch.time("refinement", lambda: refine_discs(stamps, network, np.array([hold]), model.network, cpu))
    refined = bool(found.converged[0])
    best, placing = (found.parameters, found.placing) if refined else (network, np.zeros((1, 4)))
    within, reach = (np.atleast_2d(r) / (_HALF * scale) for r in (radius, row["r_max_arcsec"]))
    curves = watch.time("choice of curve", lambda: choose_curves(stamps, best, placing, model.network, cpu, within, reach[0]))
    inclination, sini = best[0, 0], np.sin(np.radians(best[0, 0]))
    err, error = np.full(8, np.nan), np.full(len(radius), np.nan)
    if refined:
        err = np.sqrt(np.diag(found.covariance[0]))
        err = np.where(err > 0, err, np.nan)
        off = np.random.default_rng(1).multivariate_normal(np.zeros(4), found.covariance[0, :4, :4], _SAMPLES)
        i, r_turn, v = best[0, 0] + off[:, :1], best[0, 2] * np.exp(off[:, 2:3]), best[0, 3] * np.exp(off[:, 3:])
        error = half_width(2 / np.pi * v / np.abs(np.sin(np.radians(i))) * np.arctan(within / r_turn))
    return FittedDisc(
        network[0], refined, inclination, err[0], (row["pa_deg"] + turn * placing[0, 0]) % 360, err[4],
        row["v_sys_kms"] + placing[0, 3] * (1 + row["v_sys_kms"] / 299792.458), str(curves.curve_shape[0]), float(curves.delta_bic[0]),
        float(curves.outer_slope[0]), float(curves.non_circular_kms[0]), np.asarray(radius, float),
        2 / np.pi * best[0, 3] * np.arctan(within[0] / best[0, 2]) / sini, error, curves.v_sini_kms[0] / sini,
        float(row["r_max_arcsec"]), float(row["psf_fwhm_arcsec"]),
    )  # fmt: skip


def handedness(maps: GalaxyMaps) -> float:
    """+1 where angles from north through east run counter-clockwise on the map."""
    north, east = image_axes(maps.wcs, maps.centre)
    return float(np.sign(north[0] * east[1] - north[1] * east[0]))


def fit_maps(
    maps: GalaxyMaps, checkpoint: Checkpoint, settings: Settings, radius: np.ndarray, watch: Stopwatch | None = None, **known: float
) -> FittedDisc:
    """Cut the stamp and fit it; ``known`` are columns of ``tables.TARGETS``. Raises `DataError` where there is no usable stamp."""
    watch = watch or Stopwatch()
    identity = {"galaxy": maps.galaxy, "survey": "local", "release": "user", "shard": "local-user-000"}
    target = conform(pd.DataFrame([{**identity, **known}]), TARGETS).iloc[0].to_dict()
    made = watch.time("stamp", lambda: cut_galaxy(maps, target, settings))
    print(made.log, flush=True)
    shard = gather_shard([made])
    stamps, usable = stamps_of_shards([shard], checkpoint.model.network.velocity_norm, settings.maps.velocity_err_default)
    if not usable[0]:
        raise DataError(int(made.row["flags"]), f"{maps.galaxy}: no usable stamp: {made.row['messages']}")
    return fit_stamps(stamps, shard.galaxies.iloc[0].to_dict(), handedness(maps), checkpoint, radius, watch)
