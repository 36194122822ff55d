"""What the fit says in the end: calibrated errors, what was known beforehand, and samples of it.

The coordinates are those in which errors are calibrated: inclination (deg), ln r_scale, ln r_turn, ln V_2.2 sin i, axis (deg), centre
(pixels), v_sys (km/s). V_2.2 is what a map measures well; V_max follows from it and the turnover radius, exactly, so that the long
ridge of curves that have not turned over stays a ridge.
"""

from dataclasses import dataclass, replace

import numpy as np

from tullyflow.conventions import SCALE_LENGTHS_OF_V_22
from tullyflow.network.refinement import Refined

__all__ = ["CALIBRATED", "Fitted", "calibrated_coordinates", "v_22_matrix"]

CALIBRATED = ("inclination_deg", "r_scale", "r_turn", "v_22_sini", "axis_deg", "centre_x", "centre_y", "v_sys")
_FARTHEST = 2.0  # ln: how far a sample may be from the fit, whose errors are those of a straight line


def _turned(r_scale: np.ndarray, r_turn: np.ndarray) -> np.ndarray:
    """Return V_2.2 / V_max of arctan curves."""
    return 2 / np.pi * np.arctan(SCALE_LENGTHS_OF_V_22 * r_scale / r_turn)


def calibrated_coordinates(parameters: np.ndarray) -> np.ndarray:
    """Return parameters (..., 4) in deg, lengths and km/s as inclination (deg), ln r_scale, ln r_turn, ln V_2.2 sin i."""
    i, r_scale, r_turn, v_max = np.moveaxis(parameters, -1, 0)
    return np.stack([i, np.log(r_scale), np.log(r_turn), np.log(v_max * _turned(r_scale, r_turn))], axis=-1)


def v_22_matrix(parameters: np.ndarray) -> np.ndarray:
    """Return d(`CALIBRATED`)/d(`refinement.FITTED`), (galaxy, 8, 8), at parameters (galaxy, 4): ln V_2.2 sin i instead of ln V_max sin i.

    With x = 2.2 r_scale / r_turn and V_2.2 = (2/pi) V_max arctan x,  d ln V_2.2 = d ln V_max + w (d ln r_scale - d ln r_turn),
    w = x / ((1 + x^2) arctan x).
    """
    x = SCALE_LENGTHS_OF_V_22 * parameters[:, 1] / parameters[:, 2]
    weight = x / ((1 + x**2) * np.arctan(x))
    matrix = np.tile(np.eye(len(CALIBRATED)), (len(parameters), 1, 1))
    matrix[:, 3, 1], matrix[:, 3, 2] = weight, -weight
    return matrix


@dataclass(frozen=True)
class Fitted:
    """Values (galaxy, 8), ``covariance`` (galaxy, 8, 8) and ``tail`` (galaxy, 8) of `CALIBRATED`; NaN where the fit is not used.

    ``tail``: 95.45 % lie within 2 tail sigma. Galaxies ``held`` (galaxy,) have rows of 0 for inclination and scale length, and
    ``by_held`` (galaxy, 8, 2) says how all follow these. ``used`` (galaxy,): the fit stands.
    """

    values: np.ndarray
    covariance: np.ndarray
    tail: np.ndarray
    held: np.ndarray
    by_held: np.ndarray
    used: np.ndarray

    @classmethod
    def of(cls, refined: Refined, covariance: np.ndarray, tail: np.ndarray) -> "Fitted":
        """Join what was found with its calibrated ``covariance`` and ``tail``."""
        values = np.concatenate([calibrated_coordinates(refined.parameters), refined.placing], axis=1)
        return cls(values, covariance, tail, refined.held, v_22_matrix(refined.parameters) @ refined.by_held, refined.converged)

    @property
    def sigma(self) -> np.ndarray:
        """1 sigma (galaxy, 8)."""
        return np.sqrt(np.einsum("gii->gi", self.covariance))

    @property
    def parameters(self) -> np.ndarray:
        """Inclination (deg), r_scale, r_turn (half-widths), V_max sin i (km/s), (galaxy, 4)."""
        return self._physical(self.values[:, :4])

    @staticmethod
    def _physical(values: np.ndarray) -> np.ndarray:
        i, r_scale, r_turn, v_22 = values[..., 0], *np.moveaxis(np.exp(values[..., 1:4]), -1, 0)
        i = np.where(i > 90, 180 - i, i).clip(1, 90)
        return np.stack([i, r_scale, r_turn, v_22 / _turned(r_scale, r_turn)], axis=-1)

    def knowing(self, inclination_deg: np.ndarray, err_deg: np.ndarray) -> "Fitted":
        """Return it joined with an independent normal measurement of inclinations (galaxy,); NaN tells nothing, held galaxies stay."""
        told = self.used & ~self.held & np.isfinite(inclination_deg) & (err_deg > 0)
        with np.errstate(invalid="ignore"):
            gain = self.covariance[:, :, 0] / (self.covariance[:, 0, 0] + err_deg**2)[:, None]
        gain = np.where(told[:, None], gain, 0)
        off = np.where(told, inclination_deg - self.values[:, 0], 0)
        values = self.values + gain * off[:, None]
        return replace(self, values=values, covariance=self.covariance - gain[:, :, None] * self.covariance[:, None, 0, :])

    def samples(self, drawn: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw parameters (sample, galaxy, 4) in deg, half-widths and km/s where the fit stands; elsewhere they are ``drawn``.

        Of galaxies whose inclination and scale length are held, those of ``drawn`` (sample, galaxy, 4) are taken, and the curve follows.
        Beyond one sigma the deviates are stretched, so that two sigma become 2 tail sigma.
        """
        used = self.used[:, None]
        values, vectors = np.linalg.eigh(np.where(used[..., None], self.covariance[:, :4, :4], 0))
        root = vectors * np.sqrt(values.clip(0, None))[:, None, :]
        off = np.einsum("gij,sgj->sgi", root, generator.standard_normal(drawn.shape))
        sigma = np.sqrt(np.einsum("gij,gij->gi", root, root))
        beyond = (np.abs(off) / np.maximum(sigma, 1e-300) - 1).clip(0, 1)
        off = off * (1 + (np.where(used, self.tail[:, :4], 1) - 1) * beyond)
        held = np.where(used, self.values[:, :2], 0)
        moved = np.stack([drawn[..., 0], np.log(drawn[..., 1])], axis=-1) - held
        moved = np.where((self.held & self.used)[:, None], moved, 0)
        off = off + np.einsum("sgh,gfh->sgf", moved, np.where(used[..., None], self.by_held[:, :4], 0))
        off[..., :2] += moved
        off[..., 1:] = off[..., 1:].clip(-_FARTHEST, _FARTHEST)
        return np.where(used, self._physical(np.where(used, self.values[:, :4], 0) + off), drawn)
