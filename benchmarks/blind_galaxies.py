"""The galaxies of the blind test of Dawson+2021 section 3.1: exponential discs with an arctan curve, drawn by KinMS (Davis+2013).

    python benchmarks/blind_galaxies.py --shard 0 --out FILE.npz        one shard of 100: about a minute and a half

KinMS samples the cloudlets from the radial profile, gives them height and velocity, and projects them. Its cube is not used: what a
beam of KinMS makes of the flux and of the flux times velocity per pixel are the moments of a cube with channels without width
(KinMS puts each cloudlet at the edge of its channel). Pixels are KinMS's own: a cloudlet at x belongs to pixel round(x), so that a
beam of FWHM f is hypot(f, 0.68) pixels wide in effect. The maps are kept before the beam, which `observe` applies.

``lattice`` replaces KinMS's uniform random numbers for radius and azimuth by a shifted rank-1 lattice (the R2 sequence); heights stay
random. It samples the same disc with less noise: blind_floor.py has the figures.
"""

import argparse
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

with warnings.catch_warnings():  # importing kinms silences every later warning of the process
    from kinms import KinMS

__all__ = [
    "PARAMETERS", "Clouds", "Galaxy", "Observed", "draw_clouds", "draw_truth", "effective_beam", "observe", "read_population", "read_shard",
]  # fmt: skip

HERE = Path(__file__).parent
PARAMETERS = ("inclination_deg", "r_scale", "r_turn", "v_max_sini")
STAMP, HALF = 64, 32
MARGIN = 16  # pixels beyond every edge, so that the beam finds light there
SIZE = STAMP + 2 * MARGIN
PIXEL_FWHM = 2.3548 / np.sqrt(12)  # a pixel's own width
_REACH = 12.0  # scale lengths
_PROFILE = 2400  # radii
_PLASTIC = 1.32471795724474602596  # root of x^3 = x + 1: the R2 sequence


@dataclass(frozen=True)
class Clouds:
    """Cloudlets per pixel and their summed velocities (km/s), (galaxy, y, x), 96 x 96 pixels without a beam; truth (galaxy, 4)."""

    flux: np.ndarray
    momentum: np.ndarray
    truth: np.ndarray
    seed: np.ndarray


@dataclass(frozen=True)
class Observed:
    """Maps (galaxy, 64, 64): ``intensity`` with its peak at 1, ``velocity`` (km/s), ``valid``; truth (galaxy, 4).

    ``v_largest`` (galaxy,) is the largest |velocity| of the valid pixels, ``beam`` the FWHM in effect, pixels.
    """

    intensity: np.ndarray
    velocity: np.ndarray
    valid: np.ndarray
    v_largest: np.ndarray
    truth: np.ndarray
    beam: float


class Galaxy(KinMS):
    """KinMS up to its projected cloudlets: summed per pixel, with their own velocities and, if given, each its ``brightness``."""

    brightness: np.ndarray | None = None

    def create_warp(self, array, r_flat):
        return float(array[0])  # no warps: spares an array of equal angles and its sines

    def find_clouds_in_cube(self, los_vel, cent, x2, y2):
        x, y = (np.round(at + c).astype(np.int64) for at, c in zip((x2, y2), cent, strict=False))  # as KinMS does
        inside = (x >= 0) & (x < SIZE) & (y >= 0) & (y < SIZE)
        pixel = (y * SIZE + x)[inside]
        light, velocity = None, los_vel[inside]
        if self.brightness is not None:
            light = self.brightness[inside]
            velocity = light * velocity
        self.flux = np.bincount(pixel, weights=light, minlength=SIZE**2).reshape(SIZE, SIZE)
        self.momentum = np.bincount(pixel, weights=velocity, minlength=SIZE**2).reshape(SIZE, SIZE)
        return np.zeros((0, 3)), inside

    def add_fluxes(self, clouds2do, subs):
        return np.ones((1, 1, 1))

    def use_lattice(self, shift: np.ndarray) -> None:
        """Replace the uniform random numbers of radius and azimuth."""
        steps = np.arange(self.nSamps)
        self.randompick_r = (shift[0] + steps / _PLASTIC) % 1
        self.randompick_phi = 2 * np.pi * ((shift[1] + steps / _PLASTIC**2) % 1)


def _kinms(beam: float, cloudlets: int, seed: int) -> Galaxy:
    return Galaxy(SIZE, SIZE, 2, 1.0, 1.0, [beam, beam, 0], nSamps=cloudlets, seed=seed)


def read_population(path: Path = HERE / "blind_test" / "population.yaml") -> dict:
    return yaml.safe_load(path.read_text())


def draw_truth(population: dict) -> np.ndarray:
    """Return the parameters (galaxy, 4) of all galaxies, uniform in their ranges."""
    rng = np.random.default_rng(population["seed"])
    low, high = np.array([population["ranges"][name] for name in PARAMETERS], float).T
    return rng.uniform(low, high, (population["galaxies"], 4))


def draw_clouds(truth: np.ndarray, seeds: np.ndarray, *, cloudlets: int, sampling: str, thickness: float) -> Clouds:
    """Let KinMS draw discs of parameters (galaxy, 4), their receding side at +x, centre (31.5, 31.5) of the inner 64 x 64 pixels."""
    maps = []
    for (inclination, r_scale, r_turn, v_max_sini), seed in zip(truth, seeds, strict=True):
        model = _kinms(1.0, cloudlets, int(seed))
        model.cleanOut = True
        if sampling == "lattice":
            model.use_lattice(np.random.default_rng(int(seed)).random(2))
        radius = np.linspace(0.0, _REACH * r_scale * HALF, _PROFILE)
        v_max = v_max_sini / np.sin(np.radians(inclination))
        model.model_cube(
            inclination,
            270.0,  # counter-clockwise from +y to the receding side
            gasSigma=0.0,
            diskThick=thickness,
            sbProf=np.exp(-radius / (r_scale * HALF)),
            sbRad=radius,
            velRad=radius,
            velProf=2 / np.pi * v_max * np.arctan(radius / (r_turn * HALF)),
            phaseCent=[-0.5, -0.5],  # KinMS's own centre is pixel SIZE / 2
        )
        maps.append((model.flux, model.momentum))
    flux, momentum = (np.array(m, dtype=np.float32) for m in zip(*maps, strict=True))
    return Clouds(flux, momentum, truth, seeds)


def effective_beam(fwhm: float) -> float:
    """Return the FWHM in effect of a beam told to KinMS: the pixel's own width in quadrature."""
    return float(np.hypot(fwhm, PIXEL_FWHM))


def observe(clouds: Clouds, beam: float, faintest: float) -> Observed:
    """Apply KinMS's beam of FWHM ``beam`` pixels and mask what is fainter than ``faintest`` of the peak."""
    from astropy.convolution import convolve

    psf = _kinms(beam, 1, 1).psf
    inner = (slice(None), slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    flux, momentum = (np.array([convolve(m, psf) for m in maps])[inner] for maps in (clouds.flux, clouds.momentum))
    intensity = flux / flux.max(axis=(1, 2), keepdims=True)
    valid = intensity > faintest
    velocity = np.where(valid, momentum / np.where(valid, flux, 1), 0)
    intensity = np.where(valid, intensity, 0)
    return Observed(intensity, velocity, valid, np.abs(velocity).max(axis=(1, 2)), clouds.truth, effective_beam(beam))


def read_shard(path: Path) -> Clouds:
    with np.load(path, allow_pickle=False) as kept:
        return Clouds(kept["flux"], kept["momentum"], kept["truth"], kept["seed"])


def _draw_shard(shard: str, out: Path, population: dict) -> None:
    truth = draw_truth(population)
    seeds = np.arange(len(truth)) + 1
    how = population
    if shard == "control":
        how = population | population["control"]
        chosen, seeds = np.arange(how["galaxies"]), seeds + len(truth)
    else:
        chosen = np.array_split(np.arange(len(truth)), population["shards"])[int(shard)]
    began = time.monotonic()
    keys = ("cloudlets", "sampling", "thickness")
    clouds = draw_clouds(truth[chosen], seeds[chosen], **{key: how[key] for key in keys})
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part.npz")
    np.savez_compressed(part, flux=clouds.flux, momentum=clouds.momentum, truth=clouds.truth, seed=clouds.seed)
    part.rename(out)
    print(f"shard {shard}: {len(chosen)} galaxies of {how['cloudlets']} cloudlets ({how['sampling']}), {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shard", required=True, help="a number, or control")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--population", type=Path, default=HERE / "blind_test" / "population.yaml")
    asked = parser.parse_args()
    _draw_shard(asked.shard, asked.out, read_population(asked.population))
