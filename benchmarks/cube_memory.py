"""Memory and time of the moments of a cube of 1024 x 1024 x 100, beside other ways to them.

    python benchmarks/cube_memory.py
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.io import fits
from record import keep
from scipy import ndimage

from tullyflow.conventions import FWHM_PER_SIGMA

WAYS = {  # what a child process does with the file CUBE; each prints nothing
    "tullyflow, by channels": "import cube_memory; cube_memory.by_tullyflow(CUBE)",
    "numpy, whole cube": "import cube_memory; cube_memory.whole_cube(CUBE)",
    "spectral-cube, whole cube, mask of 3 sigma": "import cube_memory; cube_memory.by_spectral_cube(CUBE)",
    "reading the file by channels, nothing else": "import cube_memory; cube_memory.by_reading(CUBE)",
}  # fmt: skip
CHILD = """import json, resource, sys, time, warnings
warnings.simplefilter("ignore")
CUBE = sys.argv[1]
start, before = time.perf_counter(), time.process_time()
{way}
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
print(json.dumps([time.perf_counter() - start, time.process_time() - before, used]))
"""


def by_tullyflow(path: str) -> None:
    from tullyflow.maps.moments import moments_from_cube
    from tullyflow.settings import Maps

    moments_from_cube(path, Maps())


def by_reading(path: str) -> None:
    from tullyflow.maps.cube_file import CubeFile

    with CubeFile(path) as cube:
        for k in range(len(cube)):
            cube[k]


def whole_cube(path: str) -> None:
    """The same steps with the whole cube in memory, one noise for all of it: smooth, clip in two levels, keep regions, sum."""
    with fits.open(path, memmap=False) as hdus:
        cube, header = hdus[0].data, hdus[0].header
    width = header["BMAJ"] / header["CDELT2"] / FWHM_PER_SIGMA
    smooth = ndimage.convolve1d(ndimage.gaussian_filter(cube, (0, width, width), mode="constant"), [0.25, 0.5, 0.25], axis=0)
    smooth /= 1.4826 * np.median(np.abs(smooth))
    regions, n = ndimage.label(smooth > 3)
    kept = np.zeros(n + 1, dtype=bool)
    kept[np.unique(regions[smooth > 5])] = True
    kept[0] = False
    signal = ndimage.binary_dilation(kept[regions], structure=np.ones((3, 1, 1)))
    velocity = (header["CRVAL3"] + (np.arange(len(cube)) + 1 - header["CRPIX3"]) * header["CDELT3"]) / 1e3
    line = np.where(signal, cube, 0)
    total = line.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (line * velocity[:, None, None]).sum(axis=0) / total
        (line * (velocity[:, None, None] - mean) ** 2).sum(axis=0) / total


def by_spectral_cube(path: str) -> None:
    from spectral_cube import SpectralCube

    cube = SpectralCube.read(path).with_spectral_unit(u.km / u.s, velocity_convention="optical")
    cube.allow_huge_operations = True
    line = cube.with_mask(cube > 3 * cube.mad_std())
    for order in (0, 1, 2):
        line.moment(order=order).to_value()


def write_large(path: Path, shape: tuple[int, int, int]) -> None:
    """A disc in beam-correlated noise, float32, written a channel at a time."""
    header = fits.Header()
    header["SIMPLE"], header["BITPIX"], header["NAXIS"] = True, -32, 3
    for k, n in enumerate(reversed(shape), start=1):
        header[f"NAXIS{k}"] = n
    header.update({
        "CTYPE1": "RA---SIN", "CRVAL1": 150.0, "CDELT1": -4e-4, "CRPIX1": shape[2] / 2, "CUNIT1": "deg",
        "CTYPE2": "DEC--SIN", "CRVAL2": 30.0, "CDELT2": 4e-4, "CRPIX2": shape[1] / 2, "CUNIT2": "deg",
        "CTYPE3": "VOPT", "CRVAL3": 1e6, "CDELT3": 5e3, "CRPIX3": shape[0] / 2, "CUNIT3": "m/s",
        "RESTFRQ": 1.420405752e9, "SPECSYS": "BARYCENT", "BUNIT": "Jy/beam", "BMAJ": 2.4e-3, "BMIN": 2.4e-3, "BPA": 0.0,
    })  # fmt: skip
    y, x = np.indices(shape[1:], dtype=np.float32)
    radius = np.hypot(x - shape[2] / 2, (y - shape[1] / 2) / 0.6)
    centre = 180 * (x - shape[2] / 2) / (radius + 20)
    rng, out = np.random.default_rng(3), fits.StreamingHDU(path, header)
    for k in range(shape[0]):
        noise = ndimage.gaussian_filter(rng.standard_normal(shape[1:], dtype=np.float32), 6 / FWHM_PER_SIGMA)
        line = 8 * np.exp(-radius / 90) * np.exp(-0.5 * (((k + 1 - shape[0] / 2) * 5 - centre) / 10) ** 2)
        out.write((line + noise / noise.std()).astype(np.float32))
    out.close()


def main() -> None:
    shape, repeats, figures = (100, 1024, 1024), 3, {}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "large.fits"
        write_large(path, shape)
        taken: dict = {way: [] for way in WAYS}
        for _ in range(repeats):
            for way, code in WAYS.items():
                child = [sys.executable, "-c", CHILD.format(way=code), str(path)]
                done = subprocess.run(child, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
                taken[way].append(json.loads(done.stdout.splitlines()[-1]))
        for way, rows in taken.items():
            wall, cpu, peak = np.array(rows).T
            figures[way] = {"seconds": round(wall.min(), 1), "cpu seconds": round(cpu.min(), 1), "peak memory, GiB": round(peak.max(), 2)}
        size = path.stat().st_size / 1024**3
    keep("cube_memory", {
        "cube": f"{shape[2]} x {shape[1]} x {shape[0]} float32, {size:.2f} GiB, in the page cache",
        "how": f"each in its own process, imports and reading included, in turn, {repeats} times: fastest time, largest memory",
        **figures,
    })  # fmt: skip


if __name__ == "__main__":
    main()
