"""Galaxies drawn by KinMS (Davis+2013) that no disc model of this project describes: what calibrated errors are tested on.

    python benchmarks/kinms_galaxies.py [--galaxies 600] [--seed 2024] [--out results/kinms_galaxies.npz]     about 0.5 s of a core each

Curves are polyex (Giovanelli & Haynes 1985) or the sum of a bulge, a Freeman disc and a pseudo-isothermal halo; discs are thick and
flare; axis and inclination warp; bars stream (KinMS's bisymmetric flow after Spekkens & Sellwood 2007), gas streams at two arms that
wind, flows in or out, and clumps of cloudlets move on their own. The light is an exponential disc with bulge, ring or break, and
with bar, arms and clumps. KinMS projects the cloudlets, as in blind_galaxies.py, whose pixels and margins these are.

`draw_survey` observes them: beams, fields of view, lost pixels, noise of mock_stamps.py that may be correlated from pixel to pixel.
True are inclination, axis, centre and scale length of the main disc, v_sys and V(R) without streaming. Nothing here is shared with the
families that the network is trained and calibrated on (`network.synthetic`, `network.mismatch`), but for the amplitudes of real discs.
"""

import argparse
import math
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from blind_galaxies import HALF, MARGIN, SIZE, STAMP, Galaxy, effective_beam
from kinms.radial_motion import radial_motion
from mock_stamps import grid, mock_stamps, uniform
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve
from scipy.special import iv, kv

from tullyflow.conventions import FWHM_PER_SIGMA, SCALE_LENGTHS_OF_V_22
from tullyflow.disc.profiles import nearest_arctan
from tullyflow.network.autoencoder import DiscParameters
from tullyflow.network.drawing import reach_of
from tullyflow.network.mismatch import CURVE_RADII, MismatchedDiscs
from tullyflow.settings import Network

__all__ = ["KINDS", "KinmsGalaxies", "draw_galaxies", "draw_survey", "read_galaxies"]

HERE = Path(__file__).parent
KINDS = {  # the share of the galaxies that has it
    "polyex": 0.5, "bar": 0.3, "warp": 0.3, "radial": 0.2, "bulge": 0.3, "ring": 0.2, "break": 0.3, "arms": 0.5, "clumps": 0.6,
    "streams": 0.8, "flare": 0.5, "misplaced_light": 0.2,
}  # fmt: skip
CLOUDLETS, MOST_CLUMPS, IN_A_CLUMP = 500_000, 40, 1000
AXIS_ERR, CENTRE_ERR, V_SYS_ERR = 3.0, 0.7, 3.0  # deg, pixels (each axis), km/s
_RADIUS = np.linspace(0, 400, 4000)  # pixels, of all profiles


@dataclass(frozen=True)
class KinmsGalaxies:
    """Light and its summed velocities (km/s) per pixel, (galaxy, 96, 96) before the beam, and the truth (galaxy, ...).

    ``truth`` (4): inclination (deg), r_scale (half-widths), axis (deg) is in ``placing`` (axis, x, y, v_sys), V_2.2 sin i and the largest
    V_2t over V_2.2; ``curve`` V(R) sin i at ``radius`` (radius,), pixels; ``kinds`` of `KINDS`.
    """

    flux: np.ndarray
    momentum: np.ndarray
    truth: np.ndarray
    placing: np.ndarray
    curve: np.ndarray
    radius: np.ndarray
    kinds: np.ndarray

    def __len__(self) -> int:
        return len(self.truth)


class _Warped(Galaxy):
    """KinMS with its warps."""

    def create_warp(self, array, r_flat):
        return np.interp(r_flat, self.velRad, array)


def _polyex(radius: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """V0 (1 - exp(-R/r_pe)) (1 + alpha R/r_pe): Giovanelli & Haynes 1985; shapes as of Catinella+2006."""
    r_pe, alpha = scale * np.exp(rng.uniform(math.log(0.15), math.log(1.0))), rng.uniform(-0.01, 0.06)
    return -np.expm1(-radius / r_pe) * (1 + alpha * np.minimum(radius, 6 * scale) / r_pe)


def _components(radius: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A Plummer bulge, an exponential disc (Freeman 1970) and a pseudo-isothermal halo, in quadrature."""
    r_bulge, r_core = scale * rng.uniform(0.05, 0.25), scale * rng.uniform(0.3, 2.5)
    s = np.maximum(radius, 1e-3) / r_bulge
    bulge = s**2 / (1 + s**2) ** 1.5 / 0.385
    y = np.minimum(np.maximum(radius, 1e-3) / (2 * scale), 50)
    disc = y**2 * (iv(0, y) * kv(0, y) - iv(1, y) * kv(1, y)) / 0.194
    t = np.maximum(radius, 1e-3) / r_core
    halo = 1 - np.arctan(t) / t
    share = rng.uniform(0, 0.35), rng.uniform(0.3, 1.0), rng.uniform(0.2, 1.0)
    return np.sqrt(share[0] * bulge + share[1] * disc + share[2] * halo)


def _profile(radius: np.ndarray, scale: float, has: dict, rng: np.random.Generator) -> np.ndarray:
    light = np.exp(-radius / scale)
    if has["break"]:
        edge, beyond = scale * rng.uniform(2.0, 3.5), scale * rng.choice([rng.uniform(0.3, 0.6), rng.uniform(1.3, 1.8)], p=[0.65, 0.35])
        light = np.where(radius < edge, light, np.exp(-edge / scale - (radius - edge) / beyond))
    if has["bulge"]:
        r_bulge = scale * rng.uniform(0.08, 0.3)
        light = light + rng.uniform(0.3, 2.5) * np.exp(-radius / r_bulge)
    if has["ring"]:
        at, width = scale * rng.uniform(0.6, 2.0), scale * rng.uniform(0.15, 0.4)
        light = light + rng.uniform(0.2, 0.8) * np.exp(-at / scale) * np.exp(-(((radius - at) / width) ** 2) / 2)
    return light


def _clumps(scale: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cloudlets (n, 3) of clumps in the plane, and the share of the disc's light each clump adds, by cloudlet."""
    count, each = rng.integers(5, MOST_CLUMPS), IN_A_CLUMP
    share = rng.uniform(0.03, 0.3) * rng.dirichlet(np.full(count, 0.6))
    radius, angle = scale * np.minimum(rng.gamma(2.0, 1.0, count), 4), rng.uniform(0, 2 * np.pi, count)
    size = scale * rng.uniform(0.05, 0.25, count)
    at = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(count)], axis=1)
    clouds = at[:, None] + size[:, None, None] * rng.standard_normal((count, each, 3)) * [1, 1, 0.3]
    return clouds.reshape(-1, 3), np.repeat(share / each, each)


@dataclass(frozen=True)
class _Arms:
    """Two arms that wind with ln R, on the light and (fractions of V_2.2) on the motions in and along the circles."""

    scale: float
    winding: float
    phase: float
    contrast: float
    radial: float
    tangential: float

    def wave(self, radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
        return 2 * (angle - self.winding * np.log(np.maximum(radius, 0.05 * self.scale) / self.scale)) - self.phase

    def light(self, radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
        return 1 + self.contrast * np.minimum(radius / self.scale, 1) * np.cos(self.wave(radius, angle))

    def velocity(self, radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
        """Along the line of sight, in units of V_2.2 sin i."""
        wave, rise = self.wave(radius, angle), np.minimum(radius / self.scale, 1)
        return rise * (self.radial * np.cos(wave) * np.sin(angle) - self.tangential * np.sin(wave) * np.cos(angle))


def _arms(scale: float, has: dict, rng: np.random.Generator) -> _Arms:
    winding = rng.choice([-1, 1]) / np.tan(np.radians(rng.uniform(10, 30)))
    contrast, motion = rng.uniform(0.2, 0.8) * has["arms"], rng.uniform(0.03, 0.12) * has["streams"]
    return _Arms(scale, winding, rng.uniform(0, 2 * np.pi), contrast, motion, motion * rng.uniform(0.3, 1.0))


def _bar_light(x: np.ndarray, y: np.ndarray, length: float, angle: float, rng: np.random.Generator) -> np.ndarray:
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return rng.uniform(0.3, 1.5) * ((np.abs(along) < length) & (np.abs(across) < 0.3 * length))


def _draw_one(seed: int, cloudlets: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    has = {kind: bool(rng.random() < share) for kind, share in KINDS.items()}
    inclination = np.degrees(np.arccos(rng.uniform(math.cos(math.radians(82)), math.cos(math.radians(25)))))
    scale = HALF * rng.uniform(0.15, 0.5)
    shape = (_polyex if has["polyex"] else _components)(_RADIUS, scale, rng)
    v_sini = np.exp(rng.uniform(math.log(40), math.log(250)))
    sini = np.sin(np.radians(inclination))
    curve = shape * v_sini / np.interp(SCALE_LENGTHS_OF_V_22 * scale, _RADIUS, shape)
    axis, (x0, y0), v_sys = AXIS_ERR * rng.standard_normal(), CENTRE_ERR * rng.standard_normal(2), V_SYS_ERR * rng.standard_normal()

    length, angle = scale * rng.uniform(0.5, 1.6), rng.uniform(0, np.pi)
    streaming = rng.uniform(0.05, 0.2) if has["bar"] else rng.uniform(0, 0.03)
    rise = (2 * _RADIUS / length) * np.exp((1 - (2 * _RADIUS / length) ** 2) / 2) * v_sini / sini  # KinMS projects it
    bar = radial_motion.bisymmetric_flow(_RADIUS, streaming * rise, streaming * rng.uniform(0.5, 1.3) * rise, np.degrees(angle))
    inflow = radial_motion.pure_radial(_RADIUS, rng.uniform(-0.06, 0.06) * curve / sini * has["radial"])

    beyond = np.maximum(_RADIUS / scale - rng.uniform(2.0, 4.0), 0) * has["warp"]
    turn, tilt = 6 * rng.standard_normal() * beyond, 3 * rng.standard_normal() * beyond
    thickness = scale * rng.uniform(0.03, 0.2) * (np.exp(np.minimum(_RADIUS / scale, 5) / rng.uniform(4, 8)) if has["flare"] else 1)

    model = _Warped(SIZE, SIZE, 2, 1.0, 1.0, [1.0, 1.0, 0], nSamps=cloudlets + MOST_CLUMPS * IN_A_CLUMP, seed=int(rng.integers(2**20)))
    model.cleanOut, model.nSamps = True, cloudlets
    model.use_lattice(rng.random(2))
    light = _profile(_RADIUS, scale, has, rng) * (12 * scale > _RADIUS)
    clouds = model.kinms_sampleFromArbDist_oneSided(_RADIUS, light, cloudlets, np.broadcast_to(thickness, _RADIUS.shape))
    arms, drift = _arms(scale, has, rng), np.zeros(cloudlets)
    at = np.hypot(clouds[:, 0], clouds[:, 1]), np.arctan2(clouds[:, 1], clouds[:, 0])
    brightness = (arms.light(*at) + has["bar"] * _bar_light(clouds[:, 0], clouds[:, 1], length, angle, rng)) / cloudlets
    if has["misplaced_light"]:
        off = rng.uniform(0.05, 0.3)  # one side of the disc is brighter
        brightness *= 1 + off * np.cos(at[1] - rng.uniform(0, 2 * np.pi))
    if has["clumps"]:
        more, share = _clumps(scale, rng)
        clouds, brightness = np.concatenate([clouds, more]), np.concatenate([brightness, share * brightness.sum()])
        peculiar = rng.uniform(0, 0.1) * v_sini * rng.standard_normal(len(share) // IN_A_CLUMP)
        drift = np.concatenate([drift, np.repeat(peculiar, IN_A_CLUMP)])
    model.brightness = brightness
    model.model_cube(
        np.clip(inclination + tilt, 1, 89),
        270.0 + axis + turn,  # counter-clockwise from +y to the receding side
        gasSigma=0.0,
        inClouds=clouds,
        sbRad=_RADIUS,
        velRad=_RADIUS,
        velProf=curve / sini,
        radial_motion_func=lambda r, theta, inc: bar(r, theta, inc) + inflow(r, theta, inc) + v_sini * arms.velocity(r, theta) + drift,
        phaseCent=[x0 - 0.5, y0 - 0.5],  # KinMS's own centre is pixel SIZE / 2
    )
    momentum = model.momentum + v_sys * model.flux
    truth = np.array([inclination, scale / HALF, v_sini, streaming])
    return model.flux, momentum, truth, np.array([axis, x0, y0, v_sys]), curve, np.array([has[kind] for kind in KINDS])


def draw_galaxies(count: int, seed: int, cloudlets: int = CLOUDLETS) -> KinmsGalaxies:
    """Let KinMS draw ``count`` galaxies; those of a smaller count are the first of a larger one."""
    flux, momentum, truth, placing, curve, kinds = (
        np.array(part) for part in zip(*(_draw_one(seed * 100_000 + k, cloudlets) for k in range(count)), strict=True)
    )
    some = np.r_[0:400:2, 400:4000:20]  # of the radii: fine where curves rise
    return KinmsGalaxies(flux.astype(np.float32), momentum.astype(np.float32), truth, placing, curve[:, some], _RADIUS[some], kinds)


def read_galaxies(path: Path) -> KinmsGalaxies:
    with np.load(path, allow_pickle=False) as kept:
        return KinmsGalaxies(**{f.name: kept[f.name] for f in fields(KinmsGalaxies)})


def _looked_at(n: int, generator: torch.Generator) -> torch.Tensor:
    """Half of the fields are hexagons; all lose up to a tenth of their pixels and have up to two round holes."""
    x, y = grid()
    reach = torch.where(torch.rand(n, generator=generator) < 0.5, uniform(generator, n, 0.7, 1.0), 2.0).view(-1, 1, 1) * HALF
    turn = uniform(generator, n, 0, math.pi / 3).view(-1, 1, 1)
    sector = torch.remainder(torch.atan2(y, x) - turn, math.pi / 3) - math.pi / 6
    inside = torch.hypot(x, y) * sector.cos() <= reach * math.cos(math.pi / 6)
    for _ in range(2):
        at, size = (uniform(generator, n, -28, 28).view(-1, 1, 1) for _ in range(2)), uniform(generator, n, -5, 5).clamp(min=0)
        at_x, at_y = at
        inside = inside & (torch.hypot(x - at_x, y - at_y) >= size.view(-1, 1, 1))
    return inside & (torch.rand((n, STAMP, STAMP), generator=generator) >= uniform(generator, n, -0.1, 0.1).view(-1, 1, 1))


def _deviates(width: np.ndarray, generator: torch.Generator) -> torch.Tensor:
    """Normal deviates (galaxy, y, x), correlated as if smoothed by Gaussians of FWHM ``width`` (galaxy,), pixels."""
    white = torch.randn((len(width), STAMP, STAMP), generator=generator).numpy()
    smooth = np.array([gaussian_filter(w, f / FWHM_PER_SIGMA, mode="wrap") for w, f in zip(white, width, strict=True)])
    return torch.from_numpy(smooth / smooth.std(axis=(1, 2), keepdims=True))


def draw_survey(
    galaxies: KinmsGalaxies,
    network: Network,
    seed: int,
    beams: tuple[float, float] = (2.0, 12.0),
    snr: tuple[float, float] = (10.0, 100.0),
    correlated: float = 0.5,
    gaps: bool = True,
) -> MismatchedDiscs:
    """Observe all galaxies: beams (FWHM told to KinMS, pixels) and peak S/N log-uniform in their ranges, a share with noise ``correlated``.

    ``kinds`` of what is returned are this module's `KINDS`.
    """
    n, generator = len(galaxies), torch.Generator().manual_seed(seed)
    told = uniform(generator, n, *np.log(beams)).exp().numpy()
    peak_snr = uniform(generator, n, *np.log(snr)).exp()
    inner = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    flux, momentum = (
        torch.from_numpy(np.array([
            fftconvolve(m, Galaxy(SIZE, SIZE, 2, 1.0, 1.0, [b, b, 0], nSamps=1, seed=1).psf, mode="same")[inner]
            for m, b in zip(maps, told, strict=True)
        ]).astype(np.float32))
        for maps in (galaxies.flux, galaxies.momentum)
    )  # fmt: skip
    beam = torch.tensor([effective_beam(b) for b in told], dtype=torch.float32)
    width = uniform(generator, n, 0.3, 0.8) * beam * (torch.rand(n, generator=generator) < correlated)
    deviates = _deviates(width.numpy(), generator), _deviates(width.numpy(), generator)
    looked_at = _looked_at(n, generator) if gaps else torch.ones((n, STAMP, STAMP), dtype=torch.bool)
    faintest = 1e-4 * flux.amax((1, 2), keepdim=True)
    velocity = torch.where(flux > faintest, momentum / flux.clamp(min=faintest), 0)
    stamps = mock_stamps(flux.clamp(min=0), velocity, peak_snr, looked_at, deviates, beam, network)

    def curve(radius: torch.Tensor) -> torch.Tensor:
        at = radius.expand(n, -1).double().numpy()
        return torch.from_numpy(np.array([np.interp(r, galaxies.radius, v) for r, v in zip(at, galaxies.curve, strict=True)])).float()

    inclination, r_scale, v_22, streaming = torch.from_numpy(galaxies.truth).float().unbind(1)
    v_max, r_turn = nearest_arctan(curve, reach_of(stamps.valid), *(bound * HALF for bound in network.ranges.r_turn))
    kinds, placing = torch.from_numpy(galaxies.kinds), torch.from_numpy(galaxies.placing).float()
    true_curve = curve(r_scale.unsqueeze(1) * HALF * torch.tensor(CURVE_RADII))
    return MismatchedDiscs(stamps, DiscParameters(inclination, r_scale, r_turn / HALF, v_max), placing, v_22, true_curve, kinds, streaming)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--galaxies", type=int, default=600)
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "kinms_galaxies.npz")
    asked = parser.parse_args()
    began = time.monotonic()
    drawn = draw_galaxies(asked.galaxies, asked.seed)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    part = asked.out.with_suffix(".part.npz")
    np.savez_compressed(part, **{f.name: getattr(drawn, f.name) for f in fields(KinmsGalaxies)})
    part.rename(asked.out)
    print(f"{len(drawn)} galaxies of {CLOUDLETS} cloudlets, {time.monotonic() - began:.0f} s: {asked.out}")
