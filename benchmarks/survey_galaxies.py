"""Mock surveys whose galaxies are not the network's model: bulges, breaks, clumps, tanh and two-power curves, misplaced axes.

`observe_disc` draws them. Known of each galaxy, and comparable with what an exponential disc with an arctan curve says of it: the
inclination, the scale length of its disc (inside a break, without the bulge), V at 2.2 of these times sin i, and the asymptote
times sin i. An arctan is at 90 % of its asymptote only at 6 r_turn, so an asymptote of 0 per cent error is not to be expected even of
a perfect fit; V_2.2 is the fair test. Turnover radii of different curves are different things and are not compared.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from mock_stamps import grid, mock_stamps, uniform
from torch import Tensor

from tullyflow.conventions import HALF_WIDTH, STAMP
from tullyflow.disc.beam import Beam
from tullyflow.disc.observation import Accuracy, observe_disc
from tullyflow.disc.profiles import Radial, broken_exponential_intensity, sersic_intensity, tanh_velocity, universal_velocity
from tullyflow.network.batch import Stamps
from tullyflow.settings import Network

__all__ = ["COMPARED", "KINDS", "Kind", "Survey", "compare", "draw_survey"]

COMPARED = ("inclination_deg", "r_scale", "v_22_sini", "v_asymptote_sini")
RADIUS_22 = 2.2
BULGE_N = 2.0
_B = 3.672  # b_n of n = 2 (Ciotti & Bertin 1999)
_BULGE_LIGHT = 2 * math.pi * BULGE_N * math.exp(_B) * _B ** (-2 * BULGE_N) * math.gamma(2 * BULGE_N)  # with I = 1 at r_e = 1
CHUNK = 50


@dataclass(frozen=True)
class Kind:
    """A survey: ranges of the beam (FWHM, stamp pixels), peak S/N and r_scale (half-widths), errors of axis (deg) and centre (pixels,
    each axis), rms of ln intensity from clumps, and whether a hexagon bounds its field."""

    name: str
    beam: tuple[float, float]
    snr: tuple[float, float]
    r_scale: tuple[float, float]
    axis_err: float
    centre_err: float
    clumps: float
    hexagon: bool


KINDS = {
    "fibres": Kind("fibres", (5.0, 14.0), (12.0, 35.0), (0.2, 0.5), 2.0, 0.5, 0.1, True),
    "interferometer": Kind("interferometer", (1.0, 2.5), (10.0, 25.0), (0.25, 0.45), 3.0, 1.0, 0.4, False),
}


@dataclass(frozen=True)
class Survey:
    """Stamps and the truth (galaxy, 4): inclination (deg), r_scale (half-widths), V_2.2 sin i and V_asymptote sin i (km/s)."""

    stamps: Stamps
    truth: np.ndarray

    @classmethod
    def joined(cls, parts: "list[Survey]") -> "Survey":
        return cls(Stamps.joined([p.stamps for p in parts]), np.concatenate([p.truth for p in parts]))

    def select(self, index: slice) -> "Survey":
        return Survey(self.stamps.select(index), self.truth[index])


def bulge_and_disc(radius: Tensor, r_scale: Tensor, bulge_to_disc: Tensor, r_e: Tensor) -> Tensor:
    """An exponential disc and a Sersic bulge of n = 2, as flat as the disc, with this share of its light."""
    height = bulge_to_disc * 2 * math.pi * r_scale.square() / (_BULGE_LIGHT * r_e.square())
    return torch.exp(-radius / r_scale) + height * sersic_intensity(radius, r_e, torch.full_like(r_e, BULGE_N))


def _chunk(kind: Kind, n: int, generator: torch.Generator, network: Network) -> Survey:
    def draw(low: float, high: float) -> Tensor:
        return uniform(generator, n, low, high)

    def normal(*shape: int) -> Tensor:
        return torch.randn((n, *shape), generator=generator)

    cos = draw(math.cos(math.radians(80)), math.cos(math.radians(25)))
    inclination, r_scale = torch.rad2deg(torch.acos(cos)), draw(*kind.r_scale) * HALF_WIDTH
    v_sini, r_turn = draw(math.log(60), math.log(250)).exp(), r_scale * draw(math.log(0.2), math.log(1.2)).exp()
    v_max = v_sini / torch.sqrt(1 - cos.square())
    if kind.hexagon:
        light = Radial(bulge_and_disc, (r_scale, draw(0, 0.3), r_scale * draw(0.2, 0.5)))
        curve = Radial(tanh_velocity, (v_max, r_turn))
    else:
        light = Radial(broken_exponential_intensity, (r_scale, r_scale * draw(1.5, 2.5), r_scale * draw(0.4, 0.8)))
        curve = Radial(universal_velocity, (v_max, r_turn, draw(1.5, 3.0), draw(-0.1, 0.2)))
    beam = draw(*kind.beam)
    maps = observe_disc(
        inclination, light, curve, axis_deg=kind.axis_err * normal(), centre=(kind.centre_err * normal(), kind.centre_err * normal()),
        beam=Beam.round(beam), accuracy=Accuracy(4, 3), decay_length=r_scale,
    )  # fmt: skip
    coarse = torch.nn.functional.interpolate(normal(1, STAMP // 4, STAMP // 4), size=(STAMP, STAMP), mode="bilinear").squeeze(1)
    clumpy = maps.intensity * torch.exp(kind.clumps * coarse)
    x, y = grid()
    radius, angle = torch.hypot(x, y), torch.remainder(torch.atan2(y, x) - draw(0, math.pi / 3).view(-1, 1, 1), math.pi / 3) - math.pi / 6
    inside = radius * angle.cos() <= 0.98 * HALF_WIDTH * math.cos(math.pi / 6) if kind.hexagon else torch.ones((n, STAMP, STAMP)) > 0
    snr, noise = draw(*np.log(kind.snr)).exp(), (normal(STAMP, STAMP), normal(STAMP, STAMP))
    stamps = mock_stamps(clumpy, maps.velocity, snr, inside, noise, beam, network)
    v_22 = curve((RADIUS_22 * r_scale).unsqueeze(1)).squeeze(1) * v_sini / v_max
    return Survey(stamps, torch.stack([inclination, r_scale / HALF_WIDTH, v_22, v_sini], dim=1).double().numpy())


def draw_survey(kind: Kind, n: int, generator: torch.Generator, network: Network) -> Survey:
    """``n`` galaxies; the first ones of a longer survey from the same seed are those of a shorter one, in steps of 50."""
    parts = [_chunk(kind, CHUNK, generator, network) for _ in range(-(-n // CHUNK))]
    return Survey.joined(parts).select(slice(0, n))


def compare(found: np.ndarray, truth: np.ndarray) -> dict:
    """Median, 68th percentile of |found - true| and median bias: inclination in deg, the others in per cent (of ln)."""
    i, r_scale, r_turn, v = found.T
    v_22 = v * 2 / np.pi * np.arctan(RADIUS_22 * r_scale / r_turn)
    off = np.stack([i - truth[:, 0], *(100 * np.log(a / b) for a, b in zip((r_scale, v_22, v), truth[:, 1:].T, strict=True))])
    return {
        name: {
            "median |d|": round(float(np.median(np.abs(d))), 2), "68 % within": round(float(np.quantile(np.abs(d), 0.6827)), 2),
            "bias": round(float(np.median(d)), 2),
        }
        for name, d in zip(COMPARED, off, strict=True)
    }  # fmt: skip
