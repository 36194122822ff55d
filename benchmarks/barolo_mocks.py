"""Cubes of known truth, made by KinMS with noise, to compare methods on: discs as THINGS would see them.

The rotation curve of every other galaxy is an arctan, which is our model's; the others have V_0 (1 - exp(-R/r)) (1 + a R/r) of
Giovanelli & Haynes 2002, some of them declining. Beams are elliptical, noise is as wide as the beam, the centre is not in the middle.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from cubes import beam_noise

__all__ = ["MockCube", "draw_mocks", "write_cube"]

_PIXELS, _MARGIN, _CHANNELS, _CLOUDLETS = 80, 10, 60, 1_000_000
_THICKNESS, _SIGMA = 0.1, 10.0  # scale heights in scale lengths; km/s of the gas
_RA, _DEC, _REST_HZ = 150.0, 30.0, 1.420405752e9


@dataclass(frozen=True)
class MockCube:
    """The truth of one galaxy: deg, km/s, and arcsec, which are pixels; ``centre`` is from the map's middle; beam: axes and angle."""

    name: str
    inclination: float
    pa: float
    v_max: float
    r_scale: float
    r_turn: float
    rise: float | None
    v_sys: float
    centre: tuple[float, float]
    beam: tuple[float, float, float]
    peak_snr: float
    seed: int

    def rotation(self, radius: np.ndarray) -> np.ndarray:
        """V(R) in km/s, R in arcsec; without ``rise`` an arctan of asymptote v_max."""
        x = np.asarray(radius) / self.r_turn
        if self.rise is None:
            return 2 / np.pi * self.v_max * np.arctan(x)
        return self.v_max * (1 - np.exp(-x)) * (1 + self.rise * x)


def draw_mocks(count: int, seed: int) -> Iterator[MockCube]:
    """Draw galaxies; inclinations of 30 to 80 deg, 4 to 9 beams from the centre to where the disc ends."""
    for k in range(count):
        rng = np.random.default_rng((seed, k))
        r_scale, major = rng.uniform(5.0, 9.0), rng.uniform(3.5, 4.5)
        yield MockCube(
            name=f"mock_{k:02d}", inclination=float(np.degrees(np.arccos(rng.uniform(np.cos(np.radians(80)), np.cos(np.radians(30)))))),
            pa=rng.uniform(0, 360), v_max=rng.uniform(80, 280), r_scale=r_scale, r_turn=r_scale * rng.uniform(0.1, 0.6),
            rise=None if k % 2 == 0 else rng.uniform(-0.02, 0.02), v_sys=rng.uniform(-15, 15),
            centre=(rng.uniform(-1.5, 1.5), rng.uniform(-1.5, 1.5)), beam=(major, major * rng.uniform(0.8, 1.0), rng.uniform(0, 180)),
            peak_snr=float(np.exp(rng.uniform(np.log(8), np.log(40)))), seed=1000 * seed + k,
        )  # fmt: skip


def write_cube(galaxy: MockCube, folder: Path) -> Path:
    """Simulate the galaxy and write it as a cube of 80 x 80 x 60; peak_snr is of its brightest voxel."""
    with warnings.catch_warnings():  # importing kinms silences every later warning of the process
        from kinms import KinMS

    size, middle = _PIXELS + 2 * _MARGIN, _PIXELS // 2
    half = galaxy.rotation(np.linspace(0.1, 8, 80) * galaxy.r_scale).max() * np.sin(np.radians(galaxy.inclination)) + 5 * _SIGMA
    step = 2 * half / _CHANNELS
    radius = np.linspace(0.0, 10 * galaxy.r_scale, 2000)
    model = KinMS(size, size, _CHANNELS * step, 1.0, step, list(galaxy.beam), nSamps=_CLOUDLETS, seed=galaxy.seed)
    cube = model.model_cube(
        galaxy.inclination, galaxy.pa, gasSigma=_SIGMA, diskThick=_THICKNESS * galaxy.r_scale, sbProf=np.exp(-radius / galaxy.r_scale),
        sbRad=radius, velRad=radius, velProf=galaxy.rotation(radius), phaseCent=list(galaxy.centre),
    )  # fmt: skip
    cube = cube.transpose(2, 1, 0)[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    cube = cube + cube.max() / galaxy.peak_snr * beam_noise(cube.shape, np.random.default_rng(galaxy.seed), galaxy.beam)
    header = fits.Header()
    header.update({
        "CTYPE1": "RA---SIN", "CRVAL1": _RA, "CDELT1": -1 / 3600, "CRPIX1": middle + 1.0, "CUNIT1": "deg",
        "CTYPE2": "DEC--SIN", "CRVAL2": _DEC, "CDELT2": 1 / 3600, "CRPIX2": middle + 1.0, "CUNIT2": "deg",
        "CTYPE3": "VRAD", "CRVAL3": 1e3 * galaxy.v_sys, "CDELT3": 1e3 * step, "CRPIX3": _CHANNELS / 2 + 1.0, "CUNIT3": "m/s",
        "RESTFRQ": _REST_HZ, "SPECSYS": "BARYCENT", "BUNIT": "JY/BEAM", "EQUINOX": 2000.0, "OBJECT": galaxy.name,
        "BMAJ": galaxy.beam[0] / 3600, "BMIN": galaxy.beam[1] / 3600, "BPA": galaxy.beam[2],
    })  # fmt: skip
    path = folder / f"{galaxy.name}.fits"
    fits.writeto(path, (cube / cube.max()).astype("f4"), header, overwrite=True)
    return path
