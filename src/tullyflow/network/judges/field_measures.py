"""What a velocity field looks like in numbers that no turn by a quarter, mirror or change of sign alters.

How much of it a smooth odd field explains, everywhere and ring by ring, how rough it is, how large, and how like the galaxy's other field.
Only valid pixels enter; fields are halved to 32x32 first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from tullyflow.conventions import STAMP
from tullyflow.network.judges.fields import Fields

__all__ = ["COMPARED", "MEASURED", "SIDE", "Measured", "compare", "halved", "measure"]

SIDE = STAMP // 2
_RINGS = ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.5))  # half-widths of the field
_STEPS = (0.003, 0.03, 0.1, 0.3, 1.0)  # between neighbours, in the field's scale
_RIDGE = 1e-3  # of a pixel's weight: what keeps a fit to few pixels finite
_SMALL = 1e-3
_DEGREE = 5


@dataclass(frozen=True)
class _Basis:
    """Polynomials (pixel, term), their products (pixel, term * term) and which terms each fit takes."""

    terms: Tensor
    products: Tensor
    fits: dict[str, Tensor]
    ring_products: Tensor
    rings: Tensor  # (ring, pixel)


@dataclass(frozen=True)
class Measured:
    """``values`` (field, len(MEASURED)), and for `compare`: slope (field, 2) of the best plane, halved field (field, pixel), its scale."""

    values: Tensor
    slope: Tensor
    velocity: Tensor
    valid: Tensor
    scale_kms: Tensor

    def select(self, index) -> "Measured":
        """Return the fields of an index, a slice or a mask."""
        return Measured(self.values[index], self.slope[index], self.velocity[index], self.valid[index], self.scale_kms[index])

    @classmethod
    def joined(cls, parts: "list[Measured]") -> "Measured":
        """Return the fields of all parts, in order."""
        names = ("values", "slope", "velocity", "valid", "scale_kms")
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


_FITS = ("plane", "odd_3", "all_3", "odd_5", "all_5")
MEASURED = (
    "filled", "log_scale", "mean_abs", "std", "abs_mean",
    *(f"{what}_{fit}" for fit in _FITS for what in ("unexplained", "residual")), "log_residual_odd_5", "log_residual_all_5",
    *(f"{what}_ring_{k}" for k in range(len(_RINGS)) for what in ("unexplained", "log_variance", "filled")),
    "even", "overlap_turned", "step", "rms_step", "log_step", *(f"steps_{limit:g}" for limit in _STEPS),
)  # fmt: skip
COMPARED = ("correlation", "cos_slopes", "overlap", "log_scales", "log_difference")


@cache
def _basis() -> _Basis:
    across = (torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) / 2) / (SIDE / 2)
    legendre = [torch.ones_like(across), across]
    for k in range(2, _DEGREE + 1):
        legendre.append(((2 * k - 1) * across * legendre[-1] - (k - 1) * legendre[-2]) / k)
    powers = [(i, degree - i) for degree in range(_DEGREE + 1) for i in range(degree + 1)]
    terms = torch.stack([(legendre[i] * legendre[j][:, None]).flatten() for i, j in powers], dim=1).float()
    degree = torch.tensor([i + j for i, j in powers])
    odd = (degree == 0) | (degree % 2 == 1)
    wanted = {"plane": degree <= 1, "odd_3": odd & (degree <= 3), "all_3": degree <= 3, "odd_5": odd, "all_5": degree <= _DEGREE}
    fits = {name: kept.nonzero().squeeze(1) for name, kept in wanted.items()}
    radius = torch.hypot(across, across[:, None]).flatten()
    rings = torch.stack([((radius >= low) & (radius < high)).float() for low, high in _RINGS])

    def products(columns: Tensor) -> Tensor:
        return (columns[:, :, None] * columns[:, None, :]).flatten(1)

    return _Basis(terms, products(terms), fits, products(terms[:, fits["odd_3"]]), rings)


def halved(fields: Fields) -> tuple[Tensor, Tensor]:
    """Return velocity (field, 32, 32), the mean of the valid pixels of each block of four, 0 where there is none, and which have one."""
    velocity, share = (avg_pool2d(image.unsqueeze(1), 2).squeeze(1) for image in (fields.velocity, fields.valid.float()))
    return velocity / share.clamp(min=0.25), share > 0


def _solve(gram: Tensor, projected: Tensor, pixels: Tensor) -> Tensor:
    """Return the coefficients (field, term) of least squares with a small ridge."""
    ridge = (_RIDGE * pixels).view(-1, 1, 1) * torch.eye(gram.shape[-1])
    factor = torch.linalg.cholesky_ex(gram + ridge)[0]
    return torch.cholesky_solve(projected.unsqueeze(-1), factor).squeeze(-1)


def _of_fits(velocity: Tensor, valid: Tensor, pixels: Tensor, scale: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return what each polynomial leaves of the variance and of the mean deviation, and the slope (field, 2) of the plane."""
    basis, n = _basis(), velocity.shape[0]
    mean = velocity.sum(1) / pixels
    variance = (velocity.square().sum(1) / pixels - mean.square()).clamp(min=1e-6)
    deviation = (velocity - mean.view(-1, 1) * valid).abs().sum(1) / pixels + 1e-6
    gram = (valid @ basis.products).view(n, basis.terms.shape[1], -1)
    projected = velocity @ basis.terms
    found, logs, slope = [], [], None
    for name, kept in basis.fits.items():
        coefficients = _solve(gram[:, kept][:, :, kept], projected[:, kept], pixels)
        residual = torch.addmm(velocity, coefficients, basis.terms[:, kept].T, alpha=-1) * valid
        left = residual.abs().sum(1) / pixels
        found += [residual.square().sum(1) / pixels / variance, left / deviation]
        if name == "plane":
            slope = coefficients[:, 1:]
        elif name in ("odd_5", "all_5"):
            logs.append((left * scale + 0.5).log10())
    return [*found, *logs], slope


def _of_rings(velocity: Tensor, valid: Tensor) -> Iterator[Tensor]:
    """Yield of each ring: the share of its variance that an odd cubic leaves, the log of that variance, how much of the ring is valid."""
    basis = _basis()
    terms = basis.terms[:, basis.fits["odd_3"]]
    for ring in basis.rings:
        inside = valid * ring
        pixels = inside.sum(1)
        some = pixels.clamp(min=1)
        here = velocity * inside
        variance = ((velocity - (here.sum(1) / some).view(-1, 1)).square() * inside).sum(1) / some + _SMALL
        gram = (inside @ basis.ring_products).view(-1, terms.shape[1], terms.shape[1])
        coefficients = _solve(gram, here @ terms, some)
        residual = torch.addmm(velocity, coefficients, terms.T, alpha=-1) * inside
        yield from (residual.square().sum(1) / some / variance, variance.log10(), pixels / ring.sum())


def _of_steps(velocity: Tensor, valid: Tensor, scale: Tensor) -> Iterator[Tensor]:
    """Yield how neighbouring pixels differ: mean and rms, log of the mean in km/s, and how many differ by more than some steps, softly."""
    steps, counted = [], 0
    for dim in (1, 2):
        both = valid.narrow(dim, 1, SIDE - 1) & valid.narrow(dim, 0, SIDE - 1)
        step = (velocity.narrow(dim, 1, SIDE - 1) - velocity.narrow(dim, 0, SIDE - 1)).abs() * both
        steps.append(step.flatten(1))
        counted = counted + both.sum((1, 2))
    steps, some = torch.cat(steps, dim=1), counted.clamp(min=1)
    mean = steps.sum(1) / some
    yield from (mean, (steps.square().sum(1) / some).sqrt(), (mean * scale + 0.5).log10())
    for limit in _STEPS:
        yield (steps / limit).clamp(max=1).sum(1) / some


def measure(fields: Fields) -> Measured:
    """Measure fields; one without a valid pixel has numbers that mean nothing, and are finite."""
    image, there = halved(fields)
    velocity, valid, scale = image.flatten(1), there.flatten(1).float(), fields.scale_kms
    pixels = valid.sum(1).clamp(min=1)
    mean = velocity.sum(1) / pixels
    size = [
        pixels / SIDE**2, (scale + 1).log10(), velocity.abs().sum(1) / pixels,
        (velocity.square().sum(1) / pixels - mean.square()).clamp(min=1e-6).sqrt(), mean.abs(),
    ]  # fmt: skip
    fits, slope = _of_fits(velocity, valid, pixels, scale)
    turned = valid * valid.flip(1)  # a map turned by half a circle is its pixels in the opposite order
    here = velocity * turned
    even = (here * here.flip(1)).sum(1) / (here.square().sum(1) + _SMALL)
    rest = [*_of_rings(velocity, valid), even, turned.sum(1) / pixels, *_of_steps(image, there, scale)]
    return Measured(torch.stack([*size, *fits, *rest], dim=1), slope, velocity, valid, scale)


def compare(first: Measured, second: Measured) -> Tensor:
    """Return what tells two fields of the same galaxies apart, (galaxy, len(COMPARED))."""
    both = first.valid * second.valid
    pixels = both.sum(1)
    some = pixels.clamp(min=1)
    a, b = ((m.velocity - ((m.velocity * both).sum(1) / some).view(-1, 1)) * both for m in (first, second))
    correlation = (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1) + 1e-6).sqrt()
    lengths = first.slope.norm(dim=1) * second.slope.norm(dim=1)
    in_kms = [m.velocity * m.scale_kms.view(-1, 1) for m in (first, second)]
    difference = ((in_kms[0] - in_kms[1]) * both).abs().sum(1) / some
    either = first.valid.sum(1) + second.valid.sum(1) - pixels
    return torch.stack([
        correlation, (first.slope * second.slope).sum(1) / (lengths + 1e-4), pixels / either.clamp(min=1),
        (first.scale_kms + 1).log10() - (second.scale_kms + 1).log10(), (difference + 1).log10(),
    ], dim=1)  # fmt: skip
