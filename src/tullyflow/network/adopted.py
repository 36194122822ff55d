"""What the velocities are made of: the inclination of the map or of the photometry, the disc of the network or of the fit."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tullyflow.conventions import R_E_PER_SCALE_LENGTH
from tullyflow.flags import GALAXY
from tullyflow.network.fitted import Fitted
from tullyflow.tables import PARAMETERS, PLACING

__all__ = ["Used", "fit_columns", "use_inclination"]

_TWO_SIGMA = (2.275, 97.725)
_ONE_SIGMA = (15.865, 84.135)


@dataclass(frozen=True)
class Used:
    """``mean`` (galaxy, 4) in deg, arcsec and km/s, the error of its inclination and whether that is photometric, and ``samples`` of all.

    Where the inclination is photometric, the scale length is too, if R_e is known: it is then taken to be exact.
    """

    mean: np.ndarray
    err_deg: np.ndarray
    photometric: np.ndarray
    samples: np.ndarray

    def with_fit(self, fitted: Fitted, to_arcsec: np.ndarray, generator: np.random.Generator) -> "Used":
        """Return it with the disc of the fit where that stands; ``to_arcsec`` (galaxy, 4) is the unit of its lengths."""
        samples = fitted.samples(self.samples / to_arcsec, generator) * to_arcsec
        own = fitted.used[:, None] & ~(fitted.held[:, None] & (np.arange(4) < 2))
        mean = np.where(own, fitted.parameters * to_arcsec, self.mean)
        return replace(self, mean=mean, err_deg=np.where(fitted.used & ~fitted.held, fitted.sigma[:, 0], self.err_deg), samples=samples)


def use_inclination(
    galaxies: pd.DataFrame, r_e: np.ndarray, mean: np.ndarray, errors: np.ndarray, samples: np.ndarray, generator: np.random.Generator
) -> Used:
    """Put the photometric inclination and scale length (``r_e`` in arcsec) where the intensity stamp was only photometry.

    ``mean`` (galaxy, 4), ``errors`` (galaxy, 4) and calibrated ``samples`` (sample, galaxy, 4) are the network's, in deg, arcsec, km/s.
    """
    photometric = (galaxies["flags"].to_numpy() & GALAXY.INTENSITY_FROM_PHOTOMETRY) != 0
    phot, phot_err = (galaxies[c].to_numpy(float) for c in ("inclination_phot_deg", "inclination_phot_err_deg"))
    photometric &= np.isfinite(phot)
    phot_err = np.nan_to_num(phot_err)
    drawn = phot + phot_err * generator.standard_normal(samples.shape[:2])
    drawn = np.where(drawn > 90, 180 - drawn, drawn).clip(1, 90)
    mean, samples = mean.copy(), samples.copy()
    mean[:, 0] = np.where(photometric, phot, mean[:, 0])
    samples[..., 0] = np.where(photometric, drawn, samples[..., 0])
    sized = photometric & np.isfinite(r_e) & (r_e > 0)
    mean[:, 1] = np.where(sized, r_e / R_E_PER_SCALE_LENGTH, mean[:, 1])
    samples[..., 1] = np.where(sized, mean[:, 1], samples[..., 1])
    return Used(mean, np.where(photometric, phot_err, errors[:, 0]), photometric, samples)


def _half(samples: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    low, high = np.percentile(samples, ends, axis=0)
    return (high - low) / 2


def fit_columns(fitted: Fitted | None, used: Used, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns of the four parameters where least squares found them, with the network's own beside, and of where it put the disc.

    ``columns`` are the network's.
    """
    stands = np.zeros(len(used.mean), bool) if fitted is None else fitted.used
    found = {"curve_kind": np.where(stands, "fit", "network")}
    for k, name in enumerate(PARAMETERS):
        own = stands if k > 1 or fitted is None else stands & ~fitted.held
        stem, unit = name.rsplit("_", 1)
        found[f"{stem}_network_{unit}"] = columns[name]
        found[name] = np.where(own, used.mean[:, k], columns[name])
        found[f"{name}_err"] = np.where(own, _half(used.samples[..., k], _ONE_SIGMA), columns[f"{name}_err"])
        found[f"{name}_err95"] = np.where(own, _half(used.samples[..., k], _TWO_SIGMA), 2 * columns[f"{name}_err"])
        found[f"{name}_at_bound"] = columns[f"{name}_at_bound"] & ~own
    for k, name in enumerate(PLACING, start=len(PARAMETERS)):
        value, sigma, tail = (np.full(len(stands), np.nan),) * 3 if fitted is None else (fitted.values, fitted.sigma, fitted.tail)
        value, sigma, tail = (a if a.ndim == 1 else a[:, k] for a in (value, sigma, tail))
        found |= {name: np.where(stands, value, np.nan), f"{name}_err": np.where(stands, sigma, np.nan)}
        found[f"{name}_err95"] = 2 * np.where(stands, sigma * tail, np.nan)
    return found
