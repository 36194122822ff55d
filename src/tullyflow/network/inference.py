"""Infer the kinematics of a shard: parameters with errors, reconstruction, velocities, model maps and rotation curves."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from astropy.io import fits

from tullyflow import __version__
from tullyflow.conventions import HALF_WIDTH, PA_ERRS_MAX, UNRESOLVED_BEAMS, velocity_radii
from tullyflow.errors import ModelError
from tullyflow.flags import GALAXY
from tullyflow.maps.shards import Shard, read_shard
from tullyflow.network.adopted import fit_columns, use_inclination
from tullyflow.network.autoencoder import DiscAutoencoder, DiscParameters
from tullyflow.network.batch import Stamps, median_of_valid, resolve_device, seeded_generator, stamps_of_shards
from tullyflow.network.calibration import Calibration, mean_and_scatter
from tullyflow.network.checkpoint import Checkpoint, load_checkpoint
from tullyflow.network.judges.judged import Judges, load_judges
from tullyflow.network.memory import galaxies_at_a_time
from tullyflow.network.model_choice import choose_curves, disturbed, shape_columns, velocity_factors
from tullyflow.network.reconstruction import reconstruct
from tullyflow.network.refinement import refine_discs
from tullyflow.network.velocities import calibrated_samples, extrapolations, rotation_curve, velocity_at
from tullyflow.settings import Settings
from tullyflow.tables import KINEMATICS, PARAMETERS, TARGETS, VELOCITIES, conform, read_table, whole_file, write_table

__all__ = ["Inferred", "Posterior", "infer", "infer_shard", "sample_posterior"]

log = logging.getLogger("tullyflow")

_AT_BOUND = 0.005  # of the range, as the network scales it
_CURVE_POINTS = 32
_ERROR_SAMPLES = 400  # of the calibrated errors, for those of derived velocities
_MARGIN = 1.02  # of the trained range
_BOUND_FLAGS = (GALAXY.AT_BOUND_INCLINATION, GALAXY.AT_BOUND_R_SCALE, GALAXY.AT_BOUND_R_TURN, GALAXY.AT_BOUND_V_MAX)


@dataclass(frozen=True)
class Posterior:
    """Dropout samples (sample, galaxy, 4) in deg, fractions of the half-width and km/s, offsets removed, with calibrated errors.

    ``at_bound`` (galaxy, 4) is that of the mean before the offset was removed. ``errors`` (galaxy, 4) are deg, then ln;
    ``correlation`` (galaxy,) is that of the errors of r_turn and V.
    """

    samples: np.ndarray
    errors: np.ndarray
    correlation: np.ndarray
    at_bound: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean of the samples (galaxy, 4), Dawson+2021 eq. 6."""
        return self.samples.mean(axis=0)


def sample_posterior(
    model: DiscAutoencoder, stamps: Stamps, calibration: Calibration, samples: int, generator: torch.Generator
) -> Posterior:
    """Draw Monte-Carlo dropout samples (Dawson+2021 section 2.7): the features once, only the heads ``samples`` times.

    The calibration's offsets are taken off, within the ranges of the parameters.
    """
    empty = np.empty((0, 4))
    drawn, errors, correlations, bounds = [np.empty((samples, 0, 4))], [empty], [np.empty(0)], [empty.astype(bool)]
    chunk = galaxies_at_a_time(model.device, samples)
    for start in range(0, len(stamps), chunk):
        part = stamps.select(slice(start, start + chunk)).to(model.device)
        sampled = model.sample(part, samples, generator)
        parameters = sampled.parameters.stack().double()
        outputs = model.outputs_of(DiscParameters(*parameters.mean(dim=0).unbind(-1)), part.norm)
        bounds.append((outputs.abs() >= 1 - 2 * _AT_BOUND).cpu().numpy())
        mean, scatter = mean_and_scatter(sampled)
        errors.append(calibration.errors(mean, scatter))
        correlations.append(calibration.correlations(mean))
        offset = torch.as_tensor(calibration.offsets(mean)).to(parameters)
        moved = torch.cat([parameters[..., :1] - offset[:, :1], parameters[..., 1:] * (-offset[:, 1:]).exp()], dim=-1)
        within = model.outputs_of(DiscParameters(*moved.unbind(-1)), part.norm)
        drawn.append(model.parameters_of(within, part.norm).stack().cpu().numpy())
    return Posterior(np.concatenate(drawn, axis=1), *(np.concatenate(parts) for parts in (errors, correlations, bounds)))


def _parameter_columns(samples: np.ndarray, errors: np.ndarray, at_bound: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of the four parameters from samples (sample, galaxy, 4) in arcsec; ``errors`` are deg and relative."""
    mean, deviation = samples.mean(axis=0), samples - samples.mean(axis=0)
    low, middle, high = np.percentile(samples, (16, 50, 84), axis=0)
    columns = {}
    for k, name in enumerate(PARAMETERS):
        columns[name] = mean[:, k]
        columns[f"{name}_std"] = samples[..., k].std(axis=0, ddof=1)
        columns[f"{name}_mad"] = np.abs(deviation[..., k]).mean(axis=0)
        columns |= {f"{name}_p16": low[:, k], f"{name}_p50": middle[:, k], f"{name}_p84": high[:, k]}
        columns[f"{name}_err"] = errors[:, k] * (mean[:, k] if k else 1.0)
        columns[f"{name}_at_bound"] = at_bound[:, k]
        for j in range(k + 1, len(PARAMETERS)):
            columns[f"cov_{name}_{PARAMETERS[j]}"] = (deviation[..., k] * deviation[..., j]).sum(axis=0) / (len(samples) - 1)
    return columns


def _write_models(path: Path, galaxies: pd.Series, maps: tuple[np.ndarray, np.ndarray], radii: np.ndarray, curves: np.ndarray) -> None:
    primary = fits.PrimaryHDU()
    primary.header["CREATOR"] = f"tullyflow {__version__}"
    intensity, velocity = fits.ImageHDU(maps[0], name="MODEL_INTENSITY"), fits.ImageHDU(maps[1], name="MODEL_VELOCITY")
    velocity.header["BUNIT"] = "km/s"
    size = f"{_CURVE_POINTS}E"
    names = galaxies.to_numpy().astype("U")
    columns = [
        fits.Column("galaxy", f"{max(1, names.dtype.itemsize // 4)}A", array=names),
        fits.Column("radius_arcsec", size, unit="arcsec", array=radii),
        *(fits.Column(f"v_rot_{p}", size, unit="km/s", array=c) for p, c in zip(("p16", "p50", "p84"), curves, strict=True)),
    ]
    hdus = fits.HDUList([primary, intensity, velocity, fits.BinTableHDU.from_columns(columns, name="CURVES")])
    primary.header["EXTEND"] = True
    for hdu in hdus:
        hdu.add_checksum(when="no date, so that equal contents are equal files")
    with whole_file(path) as part:
        hdus.writeto(part)


@dataclass(frozen=True)
class Inferred:
    """What was inferred of a shard: ``table`` (``tables.KINEMATICS``), and arrays, float32, NaN for galaxies without a usable stamp.

    Model ``intensity`` and ``velocity`` (galaxy, y, x); ``radius_arcsec`` (galaxy, radius) with the 16th, 50th and 84th percentile of
    the rotation curve, ``curves_kms`` (3, galaxy, radius); ``samples`` (sample, galaxy, 4) of the calibrated errors (deg, arcsec, km/s).
    """

    table: pd.DataFrame
    intensity: np.ndarray
    velocity: np.ndarray
    radius_arcsec: np.ndarray
    curves_kms: np.ndarray
    samples: np.ndarray


def _tabulate(
    galaxies: pd.DataFrame, targets: pd.DataFrame, stamps: Stamps, checkpoint: Checkpoint, samples: int, seed: int
) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, ...]]:
    """Return the columns of usable galaxies, and the arrays of `Inferred`."""
    model = checkpoint.model.eval()
    posterior = sample_posterior(model, stamps, checkpoint.calibration, samples, seeded_generator(seed, model.device))
    generator = np.random.default_rng(seed)
    to_arcsec = np.ones((len(stamps), 4))
    to_arcsec[:, 1:3] = (HALF_WIDTH * galaxies["stamp_scale_arcsec"].to_numpy(float))[:, None]
    columns = _parameter_columns(posterior.samples * to_arcsec, posterior.errors, posterior.at_bound)
    physical = posterior.mean * to_arcsec
    drawn = calibrated_samples(physical, posterior.errors, posterior.correlation, _ERROR_SAMPLES, generator)
    r_e = targets["r_e_arcsec"].to_numpy(float)
    used, fitted, placing = use_inclination(galaxies, r_e, physical, posterior.errors, drawn, generator), None, np.zeros_like(physical)
    if model.network.refine:
        refined = refine_discs(stamps, used.mean / to_arcsec, used.photometric, model.network, model.device)
        fitted = checkpoint.fit_calibration.apply(refined)
        if model.network.inclination_prior == "photometry":
            fitted = fitted.knowing(*(galaxies[c].to_numpy(float) for c in ("inclination_phot_deg", "inclination_phot_err_deg")))
        placing = np.where(fitted.used[:, None], fitted.values[:, 4:], 0)
        used = used.with_fit(fitted, to_arcsec, generator)
    columns |= fit_columns(fitted, used, columns)
    columns["inclination_not_fitted"] = np.zeros(len(stamps), bool) if fitted is None else fitted.used & fitted.held & ~used.photometric
    decoded, r_scale, drawn_scale = used.mean / to_arcsec, used.mean[:, 1], used.samples[..., 1]
    fit = reconstruct(model, stamps, decoded, placing)
    columns |= {
        "inclination_kind": np.where(used.photometric, "photometric", "kinematic"),
        "inclination_used_deg": used.mean[:, 0],
        "inclination_used_err_deg": used.err_deg,
        "r_scale_used_arcsec": r_scale,
        "reconstruction_intensity": fit.mse_intensity,
        "reconstruction_velocity_kms": fit.rms_velocity_kms,
        "chi2_velocity": fit.chi2_velocity,
        "mse_over_v": fit.mse_over_v,
        "n_pixels": stamps.valid.sum((1, 2)).cpu().numpy(),
    }
    r_max = galaxies["r_max_arcsec"].to_numpy(float)
    radii = velocity_radii(r_scale, r_e, r_max)
    drawn_radii = velocity_radii(drawn_scale, r_e, r_max)
    stands, chosen = columns["curve_kind"] == "fit", None
    wanted = np.stack([radii[name] for name in VELOCITIES], axis=1) / to_arcsec[:, 1:2]
    if model.network.compare_curves and fitted is not None:
        chosen = choose_curves(stamps, decoded, placing, model.network, model.device, wanted, r_max / to_arcsec[:, 1])
    columns |= shape_columns(chosen, stands)
    factor, shape_err = velocity_factors(chosen, stands, wanted, r_max / to_arcsec[:, 1])
    for k, name in enumerate(VELOCITIES):
        velocity = velocity_at(radii[name], used.mean, used.samples, drawn_radii[name]).times(factor[:, k], shape_err[:, k])
        columns |= {f"{name}_kms": velocity.value_kms, f"{name}_kms_err": velocity.err_kms, f"log_{name}_err": velocity.log_err}
    columns |= extrapolations(radii, used.mean[:, 2], r_max)
    columns["v_max_extrapolated"] |= stands & (False if chosen is None else chosen.rising)
    outermost = np.where(np.isfinite(r_max), r_max, to_arcsec[:, 1])
    along = outermost[:, None] * np.arange(1, _CURVE_POINTS + 1) / _CURVE_POINTS
    return columns, (fit.intensity, fit.velocity, along, rotation_curve(along, used.samples), used.samples)


def _flags_of_range(stamps: Stamps, pa_err_deg: np.ndarray, columns: dict[str, np.ndarray], checkpoint: Checkpoint) -> np.ndarray:
    """Return the flags (galaxy,) of beams, noise and axes that no synthetic disc had, of turnover radii within the beam, and of the fit.

    Noise is judged in the brightest valid pixel, and for the errors of the fit by the median of the velocity's errors.
    """
    network = checkpoint.model.network
    stream, flags = network.stream, np.zeros(len(stamps), np.int64)
    beam, stands = stamps.beam.cpu().numpy(), columns["curve_kind"] == "fit"
    median = median_of_valid(stamps.velocity_err, stamps.valid).cpu().numpy()
    flags |= np.where(stands & ~checkpoint.fit_calibration.covers(beam, median), GALAXY.OUTSIDE_TRAINING, 0)
    flags |= np.where(network.refine & ~stands, GALAXY.FIT_FAILED, 0)
    flags |= np.where(columns["inclination_not_fitted"], GALAXY.INCLINATION_NOT_FITTED, 0)
    flags |= np.where(disturbed(columns), GALAXY.DISTURBED, 0)
    if network.initial_weights == "synthetic":
        brightest = torch.where(stamps.valid, stamps.intensity, -torch.inf).flatten(1).argmax(dim=1, keepdim=True)
        errors = (stamps.intensity_err, stamps.velocity_err)
        intensity_err, velocity_err = (error.flatten(1).gather(1, brightest).squeeze(1).cpu().numpy() for error in errors)
        sharp = (beam < stream.beam[0] / _MARGIN) & ~((beam == 0) & (stream.no_beam > 0))
        noisy = (intensity_err * stream.snr[0] > _MARGIN) | (velocity_err > _MARGIN * stream.velocity_err[1])
        flags |= np.where((beam > _MARGIN * stream.beam[1]) | sharp | noisy, GALAXY.OUTSIDE_TRAINING, 0)
        flags |= np.where(pa_err_deg > PA_ERRS_MAX * stream.pa_err, GALAXY.UNCERTAIN_AXIS, 0)
    return flags | np.where(columns["r_turn_pixels"] < UNRESOLVED_BEAMS * beam, GALAXY.UNRESOLVED_TURNOVER, 0)


def infer_shard(
    shard: Shard, targets: pd.DataFrame, checkpoint: Checkpoint, settings: Settings, judges: Judges | None = None
) -> Inferred:
    """Infer every galaxy of a shard; ``targets`` are its rows of ``tables.TARGETS``, in order.

    Galaxies without a usable stamp keep a row of NaN with the flag NOT_INFERRED beside the flags the maps gave them; their velocity
    fields are judged like all others. Where the intensity stamp was made from photometry, the velocities use the photometric
    inclination and scale length. ``judges`` None: the networks that ship.
    """
    galaxies = shard.galaxies.reset_index(drop=True)
    stamps, usable = stamps_of_shards([shard], settings.network.velocity_norm, settings.maps.velocity_err_default)
    chosen = np.flatnonzero(usable)
    stamps = stamps.select(torch.from_numpy(chosen))
    rows = (frame.iloc[chosen].reset_index(drop=True) for frame in (galaxies, targets))
    columns, arrays = _tabulate(*rows, stamps, checkpoint, settings.network.samples, settings.seed)
    table = pd.DataFrame(columns, index=chosen).drop(columns="inclination_not_fitted").reindex(np.arange(len(galaxies)))
    for name in ("survey", "release", "shard", "galaxy"):
        table.insert(0, name, galaxies[name])
    table["mode"] = np.where(galaxies["galaxy"].isin(checkpoint.trained_on), "combined", "blind")
    flags, messages = galaxies["flags"].to_numpy(np.int64), galaxies["messages"].fillna("").to_numpy(object)
    judged = (load_judges() if judges is None else judges).judge(shard.velocity_field, shard.stellar_velocity_field)
    for name, values in judged.columns.items():
        table[name] = values
    flags = flags | judged.flags | np.where(usable, 0, GALAXY.NOT_INFERRED)
    for k, (name, flag) in enumerate(zip(PARAMETERS, _BOUND_FLAGS, strict=True)):
        photometric = (table["inclination_kind"] == "photometric").to_numpy() & (k < 2)
        flags = flags | np.where(table[f"{name}_at_bound"].eq(True).to_numpy() & ~photometric, flag, 0)
    columns["r_turn_pixels"] = columns["r_turn_arcsec"] / galaxies["stamp_scale_arcsec"].to_numpy(float)[chosen]
    flags[chosen] |= _flags_of_range(stamps, galaxies["pa_err_deg"].to_numpy(float)[chosen], columns, checkpoint)
    table["flags"], table["messages"] = flags, messages

    def among_all(values: np.ndarray, axis: int = 0) -> np.ndarray:
        whole = np.full((*values.shape[:axis], len(galaxies), *values.shape[axis + 1 :]), np.nan, np.float32)
        whole[(slice(None),) * axis + (chosen,)] = values
        return whole

    arrays = (among_all(values, axis) for values, axis in zip(arrays, (0, 0, 0, 1, 1), strict=True))
    return Inferred(conform(table, KINEMATICS, "kinematics"), *arrays)


def infer(
    maps_path: str | Path,
    targets_path: str | Path,
    weights_dir: str | Path,
    settings: Settings,
    out_path: str | Path,
    models_path: str | Path,
    usability_dir: str | Path | None = None,
    circularity_dir: str | Path | None = None,
) -> None:
    """Write ``tables.KINEMATICS`` for every target of a shard, and its model maps and rotation curves as FITS; see `infer_shard`.

    The networks that judge velocity fields are those in ``usability_dir`` and ``circularity_dir``; None: those that ship.
    Raises `ModelError` where weights, maps and targets do not belong together.
    """
    shard, targets = read_shard(maps_path), read_table(targets_path, TARGETS)
    galaxies = shard.galaxies["galaxy"]
    if list(galaxies) != list(targets["galaxy"]):
        raise ModelError(f"{maps_path}: its galaxies are not those of {targets_path}, in order; build the maps of this shard again.")
    checkpoint = load_checkpoint(weights_dir, settings.network, resolve_device(settings.device))
    found = infer_shard(shard, targets, checkpoint, settings, load_judges(usability_dir, circularity_dir))
    write_table(out_path, found.table, KINEMATICS)
    _write_models(Path(models_path), galaxies, (found.intensity, found.velocity), found.radius_arcsec, found.curves_kms)
    inferred = found.table[found.table["n_pixels"] > 0]  # 0 pixels: no usable stamp
    log.info(
        "%s: %d of %d galaxies inferred; median inclination error %.1f deg, median V error %.0f %%, %d at a bound of V_max",
        Path(maps_path).stem, len(inferred), len(galaxies), np.nanmedian(inferred["inclination_deg_err"]) if len(inferred) else np.nan,
        100 * np.nanmedian(inferred["v_max_kms_err"] / inferred["v_max_kms"]) if len(inferred) else np.nan,
        int((found.table["flags"] & GALAXY.AT_BOUND_V_MAX != 0).sum()),
    )  # fmt: skip
