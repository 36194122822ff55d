"""Velocity fields turned onto their kinematic axis and folded by a disc's symmetries: what is left is blind to turns, mirrors and sign."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from tullyflow.conventions import STAMP
from tullyflow.network.judges.fields import Fields

__all__ = ["CHANNELS", "FOLDED", "Jitter", "aligned", "dipole", "draw_jitter", "fold_field"]

CHANNELS = 6  # of a folded field
FOLDED = 24  # its pixels along a side
_ALIGNED = 2 * FOLDED
_HALF = STAMP // 2
_SHARE_MIN = 0.499  # of a pixel that is valid; below one half, so that ties fall alike in every orientation
_NO_DIPOLE = 1e-4  # of the field's half width


@dataclass(frozen=True)
class Jitter:
    """Errors (field,) of the axis (radians), the centre (x, y; half widths) and the scale that training adds."""

    angle: Tensor
    shift: Tensor
    zoom: Tensor


def draw_jitter(n: int, generator: torch.Generator, degrees: float = 5.0, pixels: float = 1.0, zoom: float = 0.1) -> Jitter:
    """Draw jitters of n fields: Gaussian angles and shifts, and scales that are larger or smaller by up to ``zoom``."""
    return Jitter(
        torch.randn(n, generator=generator) * torch.pi / 180 * degrees,
        torch.randn(n, 2, generator=generator) * pixels / _HALF,
        (torch.rand(n, generator=generator) * 2 - 1) * zoom + 1,
    )


def dipole(fields: Fields) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cosine and sine (field,) of the direction, from +x to +y, to which velocity rises, and its strength.

    It is the direction of sum (v - mean) (x, y) over the valid pixels. A field without one points to +x, with strength 0.
    """
    across = (torch.arange(STAMP) - (STAMP - 1) / 2) / _HALF
    valid = fields.valid
    some = valid.flatten(1).sum(dim=1).clamp(min=1)
    mean = fields.velocity.flatten(1).sum(dim=1) / some
    relative = torch.addcmul(fields.velocity, valid.float(), mean.view(-1, 1, 1), value=-1)
    x, y = relative.sum(dim=1) @ across / some, relative.sum(dim=2) @ across / some
    strength = torch.hypot(x, y)
    there = strength > _NO_DIPOLE
    safe = torch.where(there, strength, 1)
    return torch.where(there, x / safe, 1), torch.where(there, y / safe, 0), torch.where(there, strength, 0)


def aligned(fields: Fields, jitter: Jitter | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Turn fields about their middle until velocity rises to +x: velocity (field, 48, 48), validity, and the dipole's strength (field,).

    A field's beam is wider than the coarser pixels, and the network twice as fast.
    """
    cosine, sine, strength = dipole(fields)
    if jitter is not None:
        turn, lean = jitter.angle.cos(), jitter.angle.sin()
        cosine, sine = (cosine * turn - sine * lean) * jitter.zoom, (sine * turn + cosine * lean) * jitter.zoom
    shift = torch.zeros(len(fields), 2) if jitter is None else jitter.shift
    turns = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], dim=1).view(-1, 2, 3)
    grid = affine_grid(turns, [len(fields), 1, _ALIGNED, _ALIGNED], align_corners=False)
    velocity, share = grid_sample(torch.stack([fields.velocity, fields.valid.float()], dim=1), grid, align_corners=False).unbind(1)
    valid = share > _SHARE_MIN
    return torch.where(valid, velocity / share.clamp(min=_SHARE_MIN), 0), valid, strength


def fold_field(velocity: Tensor, valid: Tensor) -> Tensor:
    """Lay the four quadrants of aligned fields upon each other: (field, 6, 24, 24), first pixel at the centre.

    A disc's velocity is odd in x and even in y, and so are the quadrants taken. Channels: their mean, their rms about it, the share of
    valid quadrants, and the absolute values of what differs between left and right, top and bottom, and both. None changes where the
    field is mirrored about its axis, or turned by 180 deg with its velocities' sign changed.
    """

    def quadrants(image: Tensor, odd: bool) -> Tensor:
        right, left = image[:, :, FOLDED:], image[:, :, :FOLDED].flip(2)
        sides = right, -left if odd else left
        return torch.stack([part for side in sides for part in (side[:, FOLDED:], side[:, :FOLDED].flip(1))], dim=1)

    values, there = quadrants(velocity, odd=True), quadrants(valid.float(), odd=False)
    count = there.sum(dim=1)
    some = count.clamp(min=1)
    mean = values.sum(dim=1) / some
    rms = ((values - mean.unsqueeze(1)).square() * there).sum(dim=1).div(some).sqrt()
    a, b, c, d = values.unbind(1)
    differences = ((a + b - c - d) / 4).abs(), ((a - b + c - d) / 4).abs(), ((a - b - c + d) / 4).abs()
    return torch.stack([mean, rms, count / 4, *differences], dim=1)
