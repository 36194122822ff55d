"""Speed of reading and mapping a MaNGA MAPS file, as a ratio to astropy; start-up time of the command.

    python benchmarks/speed.py MAPS.fits.gz

Baseline: astropy opens the same file and reads only the HDUs the reader uses (`lazy_load_hdus`, no memory map of gzip).
Both in one process, in turns, best and median of several runs. The command's start-up is a fresh process each time.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from astropy.io import fits
from record import keep

from tullyflow.maps.galaxies import make_galaxy
from tullyflow.settings import Settings
from tullyflow.surveys import manga


def baseline(path: Path) -> None:
    with fits.open(path) as hdus:
        for name in manga.HDUS:
            _ = hdus[name].data.shape


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=int, default=9)
    args = parser.parse_args()
    release = "DR15" if "VOR10-GAU" in args.file.name or "HYB10-GAU" in args.file.name else "DR17"
    name = "-".join(args.file.name.split("-")[1:3])
    target = {"galaxy": name, "survey": "manga", "release": release, "shard": "", "flags": 0, "messages": "", "observation": "",
              "ra_deg": float("nan"), "dec_deg": float("nan"), "axis_ratio": 0.6, "r_e_arcsec": 5.0, "pa_phot_deg": 0.0,
              "psf_fwhm_arcsec": 2.5, "drp3qual": 0}  # fmt: skip
    settings = Settings()
    manifest = {"maps": {"product": "maps", "status": "ok", "path": str(args.file), "message": ""}}
    works = {
        "astropy": lambda: baseline(args.file),
        "read": lambda: manga.read({"maps": args.file}, target, settings),
        "read and map": lambda: make_galaxy(target, manifest, settings),
    }
    if not make_galaxy(target, manifest, settings).row["n_spaxels"]:
        raise SystemExit(f"{args.file}: no valid spaxel was mapped; nothing to time.")
    seconds = {key: [] for key in works}
    for run in range(args.runs + 1):
        for key, work in works.items():
            began = time.perf_counter()
            work()
            if run:
                seconds[key].append(time.perf_counter() - began)
    command = [str(Path(sys.executable).with_name("tullyflow")), "--help"]
    starts = []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        starts.append(time.perf_counter() - began)
    median = {key: statistics.median(values) for key, values in seconds.items()}
    keep("speed", {
        "file": args.file.name,
        "seconds (median)": {key: round(value, 4) for key, value in median.items()},
        "read / astropy": round(median["read"] / median["astropy"], 2),
        "read and map / astropy": round(median["read and map"] / median["astropy"], 2),
        "tullyflow --help, seconds (median)": round(statistics.median(starts), 3),
        "peak memory, MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    })  # fmt: skip


if __name__ == "__main__":
    main()
