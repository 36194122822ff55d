"""How long `tullyflow galaxy` takes, from the command to the page: a MaNGA-like field, a network's weights on disk, nothing in memory.

`python benchmarks/galaxy.py [--repeats 5]`. The weights made here were never trained, which costs the same time. Wall seconds
depend on what else runs; those of the processor less.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import record
from astropy.io import fits

from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.calibration import identity
from tullyflow.network.checkpoint import Checkpoint, save_checkpoint
from tullyflow.settings import parse_settings

SIZE, SCALE = 74, 0.5  # of a 127-fibre bundle: pixels, arcsec


def write_field(path: Path) -> None:
    """A disc of 60 deg on a MaNGA-like grid, with noise, in three extensions."""
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    radius = np.hypot(x, 2 * y)
    rng = np.random.default_rng(1)
    velocity = 130 * np.arctan(radius / 6) * x / np.maximum(radius, 1e-9) + rng.normal(0, 4, x.shape)
    intensity = np.exp(-radius / 12) + rng.normal(0, 0.01, x.shape)
    header = fits.Header({
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 30.0, "CRPIX1": (SIZE + 1) / 2, "CRPIX2": (SIZE + 1) / 2,
        "CDELT1": -SCALE / 3600, "CDELT2": SCALE / 3600, "BUNIT": "km/s",
    })  # fmt: skip
    velocity[np.hypot(x, y) > 34] = np.nan
    images = {"VELOCITY": velocity, "ERROR": np.full_like(velocity, 4.0), "FLUX": intensity}
    fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(v.astype("f4"), header, name=k) for k, v in images.items())]).writeto(path)


def write_weights(folder: Path) -> None:
    model = DiscAutoencoder(parse_settings({}).network)
    save_checkpoint(Checkpoint(model, identity(), (), "random"), folder, 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_field(folder / "field.fits")
        write_weights(folder / "weights")
        maps = ["--hdu", "VELOCITY", "--error-hdu", "ERROR", "--intensity-hdu", "FLUX", "--psf", "2.5"]
        command = [sys.executable, "-m", "tullyflow.cli", "galaxy", "field.fits", "--weights", "weights", *maps]
        walls, busy = [], []
        for _ in range(repeats):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, cwd=folder)
            walls.append(time.perf_counter() - start)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            busy.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        record.keep("galaxy", {
            "wall_s": {"best": round(min(walls), 2), "median": round(float(np.median(walls)), 2)},
            "processor_s": {"best": round(min(busy), 2), "median": round(float(np.median(busy)), 2)},
            "repeats": repeats, "load": round(os.getloadavg()[0], 2),
        })  # fmt: skip


if __name__ == "__main__":
    main()
