"""Ask each galaxy whether its rotation curve is the arctan's, and how much of its motion no rotation explains."""

import logging
from dataclasses import dataclass

import numpy as np
import torch

from tullyflow.conventions import EXTRAPOLATION_FACTOR
from tullyflow.disc.curve_choice import choose_curve
from tullyflow.disc.curve_shapes import CURVES
from tullyflow.disc.fit import DiscData
from tullyflow.disc.residuals import measure_residuals
from tullyflow.network.batch import Stamps, velocity_variance
from tullyflow.settings import Network

__all__ = ["ChosenCurves", "choose_curves", "disturbed", "shape_columns", "velocity_factors"]

log = logging.getLogger("tullyflow")

_BLOCK_BEAMS, _NARROWEST_BLOCK = 1.5, 4.0  # side of the area of one measurement: in beams, and at least so many stamp pixels
_STILL_RISING = EXTRAPOLATION_FACTOR / ((1 + EXTRAPOLATION_FACTOR**2) * np.arctan(EXTRAPOLATION_FACTOR))  # an arctan's, at its limit
_SLOPE_SIGMAS = 2.0
_KEPLER = -0.5  # d ln V / d ln R: what falls more steeply is no rotation curve
_CERTAIN = 6.0  # delta BIC: strong evidence (Kass & Raftery 1995), before velocities are changed
_ROTATING, _NON_CIRCULAR_SIGMAS = 0.95, 2.0  # least share of rotation; how sure the rest must be


@dataclass(frozen=True)
class ChosenCurves:
    """What the map says of the curve's shape; all (galaxy,) unless said, NaN where it says nothing.

    ``curve_shape`` is the preferred of arctan, tanh and slope (`disc.curve_shapes`); ``delta_bic`` (the better alternative's) and its two
    parts are positive where they speak against the arctan: above 2 the other is preferred, above 6 the evidence is strong.
    ``outer_slope`` with its 1 sigma is that of the curve with one, preferred or not. ``measurements`` is how many independent ones the map
    is worth. ``v_sini_kms``, ``ln_v_err`` (galaxy, radius) are the preferred curve's at held inclination and scale length, the error what
    its residuals say of the curve alone; ``v_sini_arctan_kms`` (galaxy, radius) the arctan's. ``slope_at_r_max`` is d ln V/d ln R there;
    ``rising`` where it is not less than that of an arctan with r_turn = r_max / 2, or where the preferred curve rises without end
    (2 sigma): V_max is then an extrapolation. The last four are of `disc.residuals`.
    """

    curve_shape: np.ndarray
    delta_bic: np.ndarray
    delta_bic_tanh: np.ndarray
    delta_bic_slope: np.ndarray
    outer_slope: np.ndarray
    outer_slope_err: np.ndarray
    measurements: np.ndarray
    v_sini_kms: np.ndarray
    ln_v_err: np.ndarray
    v_sini_arctan_kms: np.ndarray
    slope_at_r_max: np.ndarray
    rising: np.ndarray
    non_circular_kms: np.ndarray
    non_circular_err_kms: np.ndarray
    non_circular_share: np.ndarray
    rotation_share: np.ndarray


def choose_curves(
    stamps: Stamps,
    parameters: np.ndarray,
    placing: np.ndarray,
    network: Network,
    device: torch.device,
    radii: np.ndarray,
    r_max: np.ndarray,
) -> ChosenCurves:
    """Compare the curves of each galaxy, from an arctan's ``parameters`` (galaxy, 4) in deg, half-widths and km/s.

    ``placing`` (galaxy, 4) is where the disc lies: axis (deg), centre x and y (stamp pixels), v_sys (km/s). ``radii`` (galaxy, radius)
    and ``r_max`` (galaxy,), half-widths, are where velocities are wanted and how far the data reach; inf is the asymptote, which
    a curve with an outer slope does not have. Errors of the velocity as in `network.refinement`. NaN stays in its galaxy.
    """
    stamps, at = stamps.to(device), torch.as_tensor(parameters, dtype=torch.float64, device=device)
    placed = torch.cat([at, torch.as_tensor(placing, dtype=torch.float64, device=device), torch.ones_like(at[:, :1])], dim=1)
    error = velocity_variance(stamps, at[:, 3], network).sqrt().to(stamps.velocity)
    beam = stamps.beam if network.beam else None
    data = DiscData(stamps.intensity, stamps.intensity_err, stamps.velocity, error, stamps.valid, beam)
    found = choose_curve(data, placed, (_BLOCK_BEAMS * stamps.beam).clamp(min=_NARROWEST_BLOCK), network.quadrature_nodes)
    wanted = torch.as_tensor(np.column_stack([radii, r_max]), dtype=torch.float64, device=device)
    speed, error_of_v, steep = found.velocity(wanted, at[:, 1])
    arctan = found.velocity(wanted, at[:, 1], "arctan")[0][:, :-1]
    slope = found.fits["slope"]
    beta, beta_err = slope.parameters[:, 2], slope.covariance[:, 2, 2].sqrt()
    endless = (found.preferred == CURVES.index("slope")) & (beta > _SLOPE_SIGMAS * beta_err)
    left = measure_residuals(found.residual, found.model, torch.where(stamps.valid, error.square().reciprocal(), 0), beam)
    against = [found.fits[c].delta_bic for c in CURVES[1:]]
    columns = (
        torch.fmax(*against), *against, beta, beta_err, found.measurements, speed[:, :-1], error_of_v[:, :-1], arctan, steep[:, -1],
        (steep[:, -1] >= _STILL_RISING) | endless, left.rms, left.rms_err, left.share_of_v, left.share_of_rotation,
    )  # fmt: skip
    shape = np.array(CURVES)[found.preferred.cpu().numpy()]
    log.info("network: curves of %d galaxies: %s", len(shape), ", ".join(f"{np.sum(shape == c)} {c}" for c in CURVES))
    return ChosenCurves(shape, *(column.cpu().numpy() for column in columns))


_COLUMNS = (
    "delta_bic", "outer_slope", "outer_slope_err", "non_circular_kms", "non_circular_err_kms", "non_circular_share", "rotation_share",
)  # fmt: skip


def shape_columns(chosen: ChosenCurves | None, stands: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of the curve's shape and of what is no rotation, for galaxies whose fit ``stands`` (galaxy,); NaN for the others."""
    if chosen is None:
        return {"curve_shape": np.full(len(stands), "")} | {name: np.full(len(stands), np.nan) for name in _COLUMNS}
    columns = {name: np.where(stands, getattr(chosen, name), np.nan) for name in _COLUMNS}
    return {"curve_shape": np.where(stands, chosen.curve_shape, "")} | columns


def disturbed(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Return whether rotation explains less than 95 % of the coherent motion of galaxies (galaxy,), and the rest is sure to 2 sigma.

    Of the MaNGA fields that were judged by eye that flags some 80 % of those not to be used and 7 % of the clean ones.
    """
    with np.errstate(invalid="ignore"):
        sure = columns["non_circular_kms"] > _NON_CIRCULAR_SIGMAS * columns["non_circular_err_kms"]
        return sure & (columns["rotation_share"] < _ROTATING)


def velocity_factors(
    chosen: ChosenCurves | None, stands: np.ndarray, radii: np.ndarray, r_max: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what an arctan's velocities at ``radii`` (galaxy, radius) are multiplied by where the evidence for another curve is strong.

    And the 1 sigma in ln that comes with it. 1 and 0 where that curve would fall more steeply than Kepler's at the data's edge ``r_max``
    (galaxy,), and beyond it: asymptotes (radii of inf) stay the arctan's.
    """
    if chosen is None:
        return np.ones(radii.shape), np.zeros(radii.shape)
    factor = chosen.v_sini_kms / chosen.v_sini_arctan_kms
    with np.errstate(invalid="ignore"):
        other = stands & (chosen.curve_shape != "arctan") & (chosen.delta_bic > _CERTAIN) & (chosen.slope_at_r_max >= _KEPLER)
        other = other[:, None] & np.isfinite(factor) & (radii <= 1.001 * r_max[:, None])
    return np.where(other, factor, 1.0), np.where(other, chosen.ln_v_err, 0.0)
