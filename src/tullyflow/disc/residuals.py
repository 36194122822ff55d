"""What a disc's rotation leaves of a velocity map: motion coherent over a beam, told from noise.

The beam makes all that is real alike over its own width; noise is alike over a survey's pixels and its resampling. So no noise level is
estimated and none taken off: the mean product of residuals half a beam to a beam apart,

    C = sum w_p w_q r_p r_q / sum w_p w_q,   pairs of pixels p, q with 0.5 <= |p - q| / beam <= 1,

has no noise of a shorter range in it, whatever the errors given say. Of noise as correlated as MaNGA's (a Gaussian of 0.38 beams,
Westfall+2019 section 9.3.1) a third of the rms is left. sqrt(C) is a lower bound of the rms of what is not in the model: structure
narrower than a beam counts for less, and motions that look like a disc's (a bar along the axis, an inclination that is wrong) are
in the fit. It knows of no cause: streaming, warps, lopsidedness, outflows, companions and a curve of a fourth shape all count.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Blocks", "NonCircular", "measure_residuals"]

_NEAR, _FAR, _BLOCK = 0.5, 1.0, 1.5  # beams
_SHORTEST = 2.0  # pixels: of a beam that is not resolved


class Blocks:
    """Sums over square blocks at least ``width`` (galaxy,) pixels wide; ``used`` (galaxy,) counts those with any ``valid`` pixel."""

    def __init__(self, width: Tensor, valid: Tensor):
        size = valid.shape[-1]
        across = (size / width.clamp(min=1.0)).nan_to_num(nan=1.0).floor().clamp(min=1).long()
        at = torch.arange(size, device=valid.device).unsqueeze(0) * across.unsqueeze(1) // size
        self._stripes = torch.nn.functional.one_hot(at, int(across.max()) if len(across) else 1).float()
        self.used = (self.sums(valid.unsqueeze(1).float()) > 0).sum((1, 2)).double()

    def sums(self, maps: Tensor) -> Tensor:
        """Sum maps (galaxy, map, y, x): (galaxy, map, block)."""
        stripes = self._stripes.to(maps.dtype)
        return (stripes.mT.unsqueeze(1) @ (maps @ stripes.unsqueeze(1))).flatten(2).double()


@dataclass(frozen=True)
class NonCircular:
    """All (galaxy,): ``rms`` with its 1 sigma in the velocity's unit, 0 where noise explains all; its share of V sin i; rotation's share.

    ``share_of_rotation`` is <m^2> / (<m^2> + C) with the model's rotation m: how much of the ordered line-of-sight motion is the
    disc's. 1 = all of it. It is like the kappa of Sales+2012 in that only: seen from one side, without dispersion, and a rotation
    that is no disc's counts as none.
    """

    rms: Tensor
    rms_err: Tensor
    share_of_v: Tensor
    share_of_rotation: Tensor


def measure_residuals(residual: Tensor, model: Tensor, weight: Tensor, beam: Tensor | None) -> NonCircular:
    """Measure what a fit leaves.

    Parameters
    ----------
    residual, model : Tensor, (galaxy, y, x)
        Data less model, and the model's rotation without v_sys, in one unit.
    weight : Tensor, (galaxy, y, x)
        Of each pixel, 0 where it does not count: 1 / error^2.
    beam : Tensor, (galaxy,), or None
        FWHM in pixels; at least 2 pixels are taken for it.

    A galaxy without two pixels so far apart gives NaN, as NaN parameters do.
    """
    if not len(residual):
        return NonCircular(*(residual.new_empty(0, dtype=torch.float64) for _ in range(4)))
    size = residual.shape[-1]
    fwhm = torch.full_like(residual[:, 0, 0], _SHORTEST) if beam is None else beam.to(residual).clamp(min=_SHORTEST)
    step = torch.fft.fftfreq(2 * size, 1 / (2 * size), device=residual.device).to(residual)
    apart = torch.hypot(step.unsqueeze(0), step.unsqueeze(1)) / fwhm.view(-1, 1, 1)
    ring = ((apart >= _NEAR) & (apart <= _FAR)).to(residual)
    weight = weight / weight.amax((1, 2), keepdim=True).clamp(min=1e-30)
    pulled = weight * residual
    around = torch.fft.rfft2(torch.stack([pulled, weight], dim=1), s=(2 * size, 2 * size)) * torch.fft.rfft2(ring).unsqueeze(1)
    sums, pairs = torch.fft.irfft2(around, s=(2 * size, 2 * size))[..., :size, :size].unbind(1)
    products, pairs = Blocks(_BLOCK * fwhm, weight > 0).sums(torch.stack([pulled * sums, weight * pairs.clamp(min=0)], dim=1)).unbind(1)
    total = pairs.sum(1)
    total = torch.where(total > 1e-3, total, torch.nan)
    mean = products.sum(1) / total
    error = (products - mean.unsqueeze(1) * pairs).square().sum(1).sqrt() / total
    rms = mean.clamp(min=0).sqrt()
    rotation = (weight * model.square()).double().sum((1, 2)) / weight.double().sum((1, 2))
    largest = torch.where(weight > 0, model.abs(), 0).amax((1, 2)).double()
    err = error / (2 * torch.maximum(rms, error.sqrt() / 2)).clamp(min=1e-30)
    return NonCircular(rms, err, rms / largest, rotation / (rotation + mean.clamp(min=0)))
