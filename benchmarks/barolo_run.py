"""3D-Barolo (Di Teodoro & Fraternali 2015) on a cube: its 3DFIT as its own program, timed, and the rings it writes."""

import os
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

__all__ = ["Rings", "plain_cube", "run_barolo", "version_of"]

# the program that comes with pyBBarolo, found without importing it; what PYTHON sets for its libraries holds for it too
_START = (
    "import importlib.util as u, os, sys; where = u.find_spec('pyBBarolo').submodule_search_locations[0]; "
    "os.execv(os.path.join(where, 'BBarolo'), ['BBarolo', '-p', sys.argv[1]])"
)
_VERSION = "import importlib.metadata as m; print(m.version('pyBBarolo'))"
_FINAL = ("rings_final2.txt", "rings_final1.txt")  # after regularising the angles, and before


@dataclass(frozen=True)
class Rings:
    """What 3DFIT found, one value per ring (arcsec, km/s, deg), and what it took (s); ``radius`` is empty where it failed."""

    radius: np.ndarray
    v_rot: np.ndarray
    dispersion: np.ndarray
    inclination: np.ndarray
    pa: np.ndarray
    v_sys: np.ndarray
    wall_s: float
    cpu_s: float

    @property
    def failed(self) -> bool:
        return not len(self.radius)


def version_of(python: Path) -> str:
    return subprocess.run([python, "-c", _VERSION], capture_output=True, text=True, check=True).stdout.strip()


def plain_cube(path: Path, out: Path) -> Path:
    """Write a cube with the cards 3D-Barolo reads and no others: three axes in deg and m/s, the beam, the unit."""
    with fits.open(path) as hdus:
        found = next(hdu for hdu in hdus if hdu.data is not None and hdu.data.ndim >= 3)
        data, old = np.squeeze(found.data), found.header
    header = fits.Header()
    for axis in range(1, 4):
        for card in ("CRPIX", "CRVAL", "CDELT", "CTYPE"):
            header[f"{card}{axis}"] = old[f"{card}{axis}"]
        header[f"CUNIT{axis}"] = "deg" if axis < 3 else "m/s"
    for card in ("BMAJ", "BMIN", "BPA"):
        header[card] = old[card]
    header["EPOCH"], header["BUNIT"], header["OBJECT"] = old.get("EPOCH", 2000.0), "JY/BEAM", path.stem
    header["RESTFRQ"] = old.get("RESTFRQ", 1.420405752e9)
    fits.writeto(out, data.astype("f4"), header, overwrite=True)
    return out


def run_barolo(python: Path, cube: Path, folder: Path, threads: int = 1, limit_s: float = 300.0, **given: float) -> Rings:
    """3DFIT with free VROT, VDISP, INC, PA, rings of one beam and its own estimates, but for those ``given`` (XPOS, VSYS, INC, ...).

    Everything else is its default. CPU and wall times are those of the whole program, reading and writing included.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = {"FITSFILE": cube, "OUTFOLDER": folder, "THREADS": threads, "PLOTS": "false", "SHOWBAR": "false", "3DFIT": "true",
             "FREE": "VROT VDISP INC PA", **given}  # fmt: skip
    parameters = folder / "barolo.par"
    parameters.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    for name in _FINAL:
        (folder / name).unlink(missing_ok=True)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with open(folder / "barolo.log", "w") as log:
        try:
            subprocess.run([python, "-c", _START, parameters], stdout=log, stderr=log, timeout=limit_s, check=False,
                           env={**os.environ, "OMP_NUM_THREADS": str(threads)})  # fmt: skip
        except subprocess.TimeoutExpired:
            log.write("stopped\n")
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rings = next((np.loadtxt(folder / name, ndmin=2) for name in _FINAL if (folder / name).exists()), np.empty((0, 13)))
    rings = rings.reshape(-1, 13) if rings.size else np.empty((0, 13))
    return Rings(*(rings[:, k] for k in (1, 2, 3, 4, 5, 11)), wall, cpu)
