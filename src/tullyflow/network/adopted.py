"""What the velocities are made of: the inclination of the map or of the photometry, the curve of the network or of the fit."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tullyflow.flags import GALAXY
from tullyflow.network.refinement import Refined

__all__ = ["Used", "curve_columns", "use_inclination"]


@dataclass(frozen=True)
class Used:
    """Inclination the velocities use, its error and kind, and the sampled parameters that go with it."""

    inclination_deg: np.ndarray
    err_deg: np.ndarray
    photometric: np.ndarray
    mean: np.ndarray
    samples: np.ndarray

    def with_curve(
        self, refined: Refined, drawn_scale: np.ndarray, r_scale: np.ndarray, to_arcsec: np.ndarray, generator: np.random.Generator
    ) -> "Used":
        """Return it with r_turn and V sin i of the fit where that converged; each sample's curve follows its inclination and scale length.

        ``r_scale`` (galaxy,) and ``drawn_scale`` (sample, galaxy) are in arcsec, as ``to_arcsec`` (galaxy, 4) makes of the fit.
        """
        found, mean, samples = refined.converged[:, None], self.mean.copy(), self.samples.copy()
        drawn = np.stack([self.samples[..., 0], drawn_scale], axis=-1)
        held = np.column_stack([self.inclination_deg, r_scale])
        curves = refined.curve_samples(drawn, held, generator) * to_arcsec[:, 2:]
        samples[..., 2:] = np.where(found, curves, samples[..., 2:])
        mean[:, 2:] = np.where(found, (refined.parameters * to_arcsec)[:, 2:], mean[:, 2:])
        return replace(self, mean=mean, samples=samples)


def use_inclination(
    galaxies: pd.DataFrame, mean: np.ndarray, errors: np.ndarray, samples: np.ndarray, generator: np.random.Generator
) -> Used:
    """Put the photometric inclination and scale length where the intensity stamp was only photometry; samples are calibrated ones."""
    photometric = (galaxies["flags"].to_numpy() & GALAXY.INTENSITY_FROM_PHOTOMETRY) != 0
    phot, phot_err = (galaxies[c].to_numpy(float) for c in ("inclination_phot_deg", "inclination_phot_err_deg"))
    photometric &= np.isfinite(phot)
    phot_err = np.nan_to_num(phot_err)
    used, used_err = np.where(photometric, phot, mean[:, 0]), np.where(photometric, phot_err, errors[:, 0])
    drawn = phot + phot_err * generator.standard_normal(samples.shape[:2])
    drawn = np.where(drawn > 90, 180 - drawn, drawn).clip(1, 90)
    mean, samples = mean.copy(), samples.copy()
    mean[:, 0] = used
    samples[..., 0] = np.where(photometric, drawn, samples[..., 0])
    return Used(used, used_err, photometric, mean, samples)


def curve_columns(refined: Refined, used: Used, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns of r_turn and V_max sin i where least squares refined them, and where it put the disc."""
    found = dict(zip(("axis_offset_deg", "centre_x_offset", "centre_y_offset", "v_sys_offset_kms"), refined.placing.T, strict=True))
    found["curve_kind"] = np.where(refined.converged, "fit", "network")
    for k, name in ((2, "r_turn_arcsec"), (3, "v_max_sini_kms")):
        low, high = np.percentile(used.samples[..., k], (15.865, 84.135), axis=0)
        found[name] = np.where(refined.converged, used.mean[:, k], columns[name])
        found[f"{name}_err"] = np.where(refined.converged, (high - low) / 2, columns[f"{name}_err"])
        found[f"{name}_at_bound"] = columns[f"{name}_at_bound"] & ~refined.converged
    return found
