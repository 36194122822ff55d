"""How well a disc's parameters can be known at all: the Cramer-Rao bound of its two maps.

For independent normal errors s_I and s_v of the pixels the Fisher matrix of parameters p is

    F_jk = sum over valid pixels (dI/dp_j dI/dp_k / s_I^2 + dv/dp_j dv/dp_k / s_v^2),

and no unbiased estimator has a covariance below F^-1 (Rao 1945; Cramer 1946; for maps Kendall & Stuart vol. 2, ch. 17). Parameters
that are not asked for but not known either (position angle, centre, systemic velocity, brightness) belong into F: its inverse is
then marginalised over them.

The bound is a lower one. Estimators that know a range or a prior are biased towards it and may scatter less than the bound where
the data say little: at low S/N a figure below 1 bound is the prior's doing. Noise correlated between pixels (resampled stamps) holds
less than F says. A model that does not fit the galaxy is in neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.func import jvp

from tullyflow.conventions import STAMP
from tullyflow.disc.beam import Beam
from tullyflow.disc.observation import Accuracy, observe_disc
from tullyflow.disc.profiles import Radial, exponential_intensity, rotation_velocity
from tullyflow.disc.projection import project_disc
from tullyflow.errors import ModelError

__all__ = ["DISC", "NUISANCES", "CramerRao", "MapDerivatives", "Nuisance", "cramer_rao", "map_derivatives"]

Nuisance = Literal["axis_deg", "centre_x", "centre_y", "v_sys", "brightness"]
DISC = ("inclination_deg", "r_scale", "r_turn", "v_max_sini")
NUISANCES: tuple[str, ...] = get_args(Nuisance)
_GEOMETRY = ("axis_deg", "centre_x", "centre_y")
_SINGULAR = 1e-10  # smallest eigenvalue of F scaled to a unit diagonal: below, its inverse has no digit left that can be trusted


@dataclass(frozen=True)
class MapDerivatives:
    """Derivatives of both maps by the parameters ``names``: (galaxy, parameter, y, x), float64.

    Units: the intensity's peak is 1; inclination and axis in deg, r_scale and r_turn in half-widths, centre in pixels, velocities in
    the unit of ``v_max_sini``, brightness as a factor.
    """

    names: tuple[str, ...]
    intensity: Tensor
    velocity: Tensor


@dataclass(frozen=True)
class CramerRao:
    """Bounds ``sigma`` (galaxy, parameter) and ``covariance`` (galaxy, parameter, parameter) of ``names``, the disc's four first.

    Units as in `MapDerivatives`. inf where the maps do not fix every free parameter.
    """

    names: tuple[str, ...]
    sigma: Tensor
    covariance: Tensor


def map_derivatives(
    inclination_deg: Tensor,
    r_scale: Tensor,
    r_turn: Tensor,
    v_max_sini: Tensor,
    *,
    free: Sequence[Nuisance] = (),
    beam_fwhm: Tensor | None = None,
    nodes: int = 8,
    size: int = STAMP,
    central_cells: int = 1,
) -> MapDerivatives:
    """Return how the maps of `project_disc` change with each parameter of a disc, by forward-mode derivatives.

    Parameters
    ----------
    inclination_deg, r_scale, r_turn, v_max_sini, beam_fwhm, nodes, size, central_cells
        As in `project_disc`, (galaxy,) each; they are taken to float64.
    free : names of `NUISANCES`
        What is not known beside the four: the direction of the major axis and the centre (about +x and the map's middle), a
        velocity added to the whole map, the brightness.

    The derivatives by axis and centre are those of `observe_disc`. Raises `ModelError` for an unknown nuisance. NaN parameters give
    NaN derivatives of that galaxy alone.
    """
    if unknown := set(free) - set(NUISANCES):
        raise ModelError(f"map_derivatives: {', '.join(sorted(unknown))} is no nuisance; known: {', '.join(NUISANCES)}.")
    disc = tuple(p.detach().double() for p in (inclination_deg, r_scale, r_turn, v_max_sini))
    fwhm = None if beam_fwhm is None else beam_fwhm.detach().double()

    def decoded(*parameters: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(project_disc(*parameters, nodes=nodes, size=size, beam_fwhm=fwhm, central_cells=central_cells))

    def placed(axis_deg: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        light = Radial(exponential_intensity, (disc[1] * size / 2,))
        curve = Radial(rotation_velocity, (disc[3] / torch.sin(torch.deg2rad(disc[0])).clamp(min=1e-6), disc[2] * size / 2))
        beam = None if fwhm is None else Beam.round(fwhm)
        seen = observe_disc(disc[0], light, curve, axis_deg=axis_deg, centre=(x, y), beam=beam, accuracy=Accuracy(nodes), size=size)
        return seen.intensity, seen.velocity

    def derivatives(function, at: tuple[Tensor, ...], which: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        towards = tuple(torch.full_like(p, float(k == which)) for k, p in enumerate(at))
        return jvp(function, at, towards)

    columns = [derivatives(decoded, disc, k)[1] for k in range(len(DISC))]
    zero, intensity = torch.zeros_like(disc[0]), decoded(*disc)[0]
    for name in free:
        if name in _GEOMETRY:
            maps, change = derivatives(placed, (zero, zero, zero), _GEOMETRY.index(name))
            columns.append((change[0] / maps[0].amax((1, 2), keepdim=True), change[1]))
        else:
            still = torch.zeros_like(intensity)
            columns.append((still, torch.ones_like(intensity)) if name == "v_sys" else (intensity, still))
    return MapDerivatives((*DISC, *free), *(torch.stack(maps, dim=1) for maps in zip(*columns, strict=True)))


def cramer_rao(derivatives: MapDerivatives, intensity_err: Tensor, velocity_err: Tensor, valid: Tensor | None = None) -> CramerRao:
    """Return the Cramer-Rao bounds of discs seen with these errors.

    Parameters
    ----------
    derivatives : MapDerivatives
        They do not depend on the noise: one set serves every S/N and every mask.
    intensity_err, velocity_err : Tensor, (galaxy, y, x) or broadcast to it
        1 sigma of each pixel, of the peak and in the unit of ``v_max_sini``; a map that was not observed has errors of inf.
    valid : Tensor, (galaxy, y, x), optional
        The pixels that count; what the errors are elsewhere does not matter.

    A singular Fisher matrix (a face-on disc, no valid pixel, parameters that the maps cannot tell apart) gives inf for all parameters
    of that galaxy. NaN parameters, and NaN errors of valid pixels, give NaN.
    """
    names, shape = derivatives.names, derivatives.intensity[:, 0].shape
    fisher = torch.zeros((shape[0], len(names), len(names)), dtype=torch.float64, device=derivatives.intensity.device)
    for by, error in ((derivatives.intensity, intensity_err), (derivatives.velocity, velocity_err)):
        weight = error.double().square().reciprocal().expand(shape)
        if valid is not None:
            weight = torch.where(valid, weight, 0)
        fisher += (by * weight.unsqueeze(1)).flatten(2) @ by.flatten(2).mT
    defined = fisher.isfinite().all(-1).all(-1)
    diagonal = fisher.diagonal(dim1=1, dim2=2)
    usable = defined & (diagonal > 0).all(-1)
    unit = torch.eye(len(names), dtype=fisher.dtype, device=fisher.device)
    root = torch.where(usable.unsqueeze(-1), diagonal, 1).sqrt()
    scaled = torch.where(usable.view(-1, 1, 1), fisher / (root.unsqueeze(1) * root.unsqueeze(2)), unit)
    usable = usable & (torch.linalg.eigvalsh(scaled)[:, 0] > _SINGULAR)
    inverse = torch.linalg.inv(torch.where(usable.view(-1, 1, 1), scaled, unit))
    covariance = inverse / (root.unsqueeze(1) * root.unsqueeze(2))
    covariance = torch.where(usable.view(-1, 1, 1), covariance, torch.where(defined.view(-1, 1, 1), torch.inf, torch.nan))
    return CramerRao(names, covariance.diagonal(dim1=1, dim2=2).sqrt(), covariance)
