"""What a stamp loses to resampling, how much of a disc its field holds, and how fast it is made.

    python benchmarks/stamps.py resampling                       mock discs without noise, the truth known
    python benchmarks/stamps.py fields GALAXIES.csv [--weights DIR]   fields of real galaxies (a table for the survey `local`)
    python benchmarks/stamps.py speed MAPS.fits.gz ...           MaNGA files to stamps, beside inflating them alone

Each is kept in ``stamps_{what}.json``.
Resampling: a thin exponential disc, arctan rotation, convolved with a round Gaussian beam on a fine grid (0.1 native pixels);
native pixels are its means over their areas, the truth at a stamp pixel is the convolved map at its centre (or its mean over the
pixel). Compared: bilinear means as the package makes them; bilinear at the centre only (the seeds); and exact area, every native
pixel a square of constant value (12 x 12 samples of a stamp pixel stand for the polygons).
Fields: R_e / 1.678 of the catalogue in half-widths, and with the weights of a network what it finds, at the bounds of its ranges.
Speed: two processes, files in the page cache; what is made of a file and its mere inflating take turns.
"""

import argparse
import gzip
import itertools
import statistics
import tempfile
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from record import keep
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter

from tullyflow.conventions import FWHM_PER_SIGMA, HALF_WIDTH, R_E_PER_SCALE_LENGTH, STAMP, STAMP_CENTRE
from tullyflow.flags import BAD_VELOCITY, GALAXY, PIXEL
from tullyflow.maps.galaxies import make_galaxy
from tullyflow.maps.shards import build_shard
from tullyflow.maps.stamps import make_stamp
from tullyflow.network.inference import infer
from tullyflow.settings import Settings, parse_settings
from tullyflow.surveys import GalaxyMaps, local, manga
from tullyflow.surveys.catalogue import list_targets
from tullyflow.tables import KINEMATICS, MANIFEST, PARAMETERS, TARGETS, conform, read_table, write_table

PITCH = 0.1  # native pixels
REACH = 42.0
SIZE = 61  # native pixels
EDGE = 24.0  # radius of the native field
V_SINI = 200.0
ANGLES = (0.0, 8.0, 23.0, 37.0, 45.0, 71.0, 118.0, 203.0, 291.0)
SCALES = (0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0)
EXACT = 12
BEAMS = (2.0, 3.5, 5.0)  # FWHM, native pixels; MaNGA's is 5
CENTRES = ((30.0, 30.0), (30.3, 29.6), (30.5, 30.5))
PAPER_R_SCALE = (0.1, 0.35)
CORES, ROUNDS, REPEATS = 2, 9, 4


@dataclass(frozen=True)
class Disc:
    """Spline coefficients of a disc seen through a beam, on a fine grid whose x is the major axis (native pixels from the centre)."""

    flux: np.ndarray
    first: np.ndarray

    def at(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Intensity and velocity at points (native pixels along and across the major axis)."""
        where = [(y + REACH) / PITCH, (x + REACH) / PITCH]
        flux, first = (map_coordinates(image, where, order=3, prefilter=False) for image in (self.flux, self.first))
        return flux, first / np.maximum(flux, 1e-12)

    def mean(self, x: np.ndarray, y: np.ndarray, angle_deg: float, side: float, n: int = 5) -> tuple[np.ndarray, np.ndarray]:
        """Mean intensity and intensity-weighted velocity of square pixels of ``side`` turned by ``angle_deg`` on the disc's axes."""
        c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
        flux, first = 0.0, 0.0
        for u in (np.arange(n) + 0.5) / n - 0.5:
            for w in (np.arange(n) + 0.5) / n - 0.5:
                here, velocity = self.at(x + side * (c * u - s * w), y + side * (s * u + c * w))
                flux, first = flux + here / n**2, first + here * velocity / n**2
        return flux, first / np.maximum(flux, 1e-12)


def seen_disc(beam_fwhm: float, inclination_deg: float = 60.0, r_scale: float = 7.0, r_turn: float = 2.0) -> Disc:
    axis = np.arange(-REACH, REACH + PITCH / 2, PITCH)
    radius = np.hypot(axis, axis[:, None] / np.cos(np.radians(inclination_deg)))
    light = np.exp(-radius / r_scale)
    velocity = V_SINI * 2 / np.pi * np.arctan(radius / r_turn) * axis / np.maximum(radius, 1e-9)
    return Disc(*(spline_filter(gaussian_filter(image, beam_fwhm / FWHM_PER_SIGMA / PITCH)) for image in (light, light * velocity)))


def native(disc: Disc, angle_deg: float, centre: tuple[float, float]) -> GalaxyMaps:
    y, x = np.indices((SIZE, SIZE), dtype=float)
    x, y = x - centre[0], y - centre[1]
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    flux, velocity = disc.mean(c * x + s * y, c * y - s * x, -angle_deg, 1.0)
    mask = np.where(np.hypot(x, y) < EDGE, 0, PIXEL.NO_COVERAGE).astype(np.int32)
    one = np.ones_like(flux)
    return GalaxyMaps("mock", velocity, one, mask, None, centre, 1.0, intensity=flux, intensity_err=one)


def subsample(maps: GalaxyMaps, angle_deg: float, scale: float, n: int, order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intensity, velocity and validity of stamp pixels as means of n x n samples, nearest (order 0) or bilinear (1)."""
    axis = ((np.arange(STAMP * n) + 0.5) / n - 0.5 - STAMP_CENTRE) * scale
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    where = [s * axis + c * axis[:, None] + maps.centre[1], c * axis - s * axis[:, None] + maps.centre[0]]

    def mean(image: np.ndarray) -> np.ndarray:
        return map_coordinates(image, where, order=order, cval=0.0).reshape(STAMP, n, STAMP, n).mean(axis=(1, 3))

    good = maps.mask == 0
    share = np.maximum(mean(good.astype(float)), 1e-9)
    return mean(np.where(good, maps.intensity, 0.0)) / share, mean(np.where(good, maps.velocity, 0.0)) / share, share > 0.999


def as_shipped(maps: GalaxyMaps, angle_deg: float, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    stamp = make_stamp(maps, maps.mask, angle_deg, 0.0, scale * HALF_WIDTH)
    return stamp.intensity * stamp.intensity_norm, stamp.velocity, (stamp.mask & BAD_VELOCITY) == 0


WAYS = {
    "as shipped": as_shipped,
    "bilinear at the centre": lambda *a: subsample(*a, n=1, order=1),
    "bilinear, 2 x 2 per native pixel": lambda *a: subsample(*a, n=max(1, int(np.ceil(2 * a[2] - 1e-9))), order=1),
    "exact area": lambda *a: subsample(*a, n=EXACT, order=0),
}


def compare(disc: Disc, angle_deg: float, scale: float, centre: tuple[float, float]) -> dict[str, tuple[float, ...]]:
    """Per way: rms and largest error of velocity (% of V sin i) and of intensity (% of the peak) from the truth at pixel centres,
    likewise from its mean over pixels; valid pixels."""
    maps = native(disc, angle_deg, centre)
    axis = (np.arange(STAMP) - STAMP_CENTRE) * scale
    x, y = (np.ascontiguousarray(a) for a in np.broadcast_arrays(axis, axis[:, None]))
    truths = disc.at(x, y), disc.mean(x, y, 0.0, scale)
    made = {name: way(maps, angle_deg, scale) for name, way in WAYS.items()}
    shared = np.logical_and.reduce([valid for _, _, valid in made.values()])
    found = {}
    for name, (intensity, velocity, valid) in made.items():
        figures = []
        for flux, v in truths:
            dv, di = 100 * (velocity - v)[shared] / V_SINI, 100 * (intensity - flux)[shared] / truths[0][0].max()
            figures += [np.sqrt(np.mean(dv**2)), np.abs(dv).max(), np.sqrt(np.mean(di**2)), np.abs(di).max()]
        found[name] = (*figures, int(valid.sum()))
    return found


def flux_error(beam: float, angle_deg: float, scale: float, centre: tuple[float, float]) -> dict[str, float]:
    """Per way: relative error of the flux (%) of an unmasked map whose light ends on the stamp and on the map."""
    disc = seen_disc(min(beam, 4 * scale), r_scale=min(3.0, scale * HALF_WIDTH / 12))
    maps = native(disc, angle_deg, centre)
    whole = replace(maps, mask=np.zeros_like(maps.mask))
    found = {}
    for name, way in WAYS.items():
        light, _, there = way(whole, angle_deg, scale)
        found[name] = 100 * (light[there].sum() * scale**2 / whole.intensity.sum() - 1)
    return found


FIGURES = ("velocity rms", "velocity largest", "intensity rms", "intensity largest")


def resampling() -> dict:
    found = {scale: {name: [] for name in WAYS} for scale in SCALES}
    flux = {scale: [flux_error(b, a, scale, CENTRES[1]) for b in BEAMS for a in ANGLES[1:4]] for scale in SCALES}
    for beam in BEAMS:
        disc = seen_disc(beam)
        for angle, scale, centre in itertools.product(ANGLES, SCALES, CENTRES):
            for name, figures in compare(disc, angle, scale, centre).items():
                found[scale][name].append(figures)

    def row(scale: float, name: str) -> dict:
        figures = found[scale][name]
        all_ = np.array(figures)
        out = {}
        for k, truth in enumerate(("centre", "area")):
            part = all_[:, 4 * k : 4 * k + 4]
            values = (np.sqrt((part[:, 0] ** 2).mean()), part[:, 1].max(), np.sqrt((part[:, 2] ** 2).mean()), part[:, 3].max())
            out[f"from the truth at the {truth}"] = dict(zip(FIGURES, (round(float(v), 4) for v in values), strict=True))
        out["valid pixels"] = round(float(all_[:, 8].mean()))
        out["flux, largest |error| %"] = round(max(abs(each[name]) for each in flux[scale]), 4)
        return out

    return {
        "units": "% of V sin i; % of the largest intensity", "discs per scale": len(BEAMS) * len(ANGLES) * len(CENTRES),
        "by stamp pixel / native pixel": {str(scale): {name: row(scale, name) for name in WAYS} for scale in SCALES},
    }  # fmt: skip


def fields(table: Path, weights: Path | None) -> dict:
    """Disc sizes in half-widths with the data's field and with the widened one, over all galaxies with a stamp and an R_e."""
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        places = {"surveys": ["local"], "catalogue": str(table), "resources": str(out)}
        entry = {"galaxy": ["user"], "product": ["catalogue"], "status": ["ok"], "path": [str(table)]}
        write_table(out / "catalogue.csv", conform(pd.DataFrame(entry), MANIFEST), MANIFEST)
        every = {"data alone": None, "widened": Settings().maps.field_r_scale_max}
        for name, share in every.items():
            settings = parse_settings({**places, "maps": {"field_r_scale_max": share}})
            shards = list_targets("local", "user", out / "catalogue.csv", settings, out / "targets", shard_size=1000)
            figures[name] = _field_figures([_made(path, settings, out, weights) for path in shards], settings)
    return {"galaxies.csv": len(pd.read_csv(table)), "weights": weights and weights.name, **figures}


def _made(targets: Path, settings: Settings, out: Path, weights: Path | None) -> pd.DataFrame:
    """Rows of the maps of one shard, with its targets' R_e and, where there are weights, what the network found."""
    rows = read_table(targets, TARGETS)
    listed = [p for target in rows.to_dict("records") for p in local.products(target, "user", settings)]
    files = [{"galaxy": p.galaxy, "product": p.product, "status": "ok", "path": p.urls[0].removeprefix("file://")} for p in listed]
    write_table(out / "manifest.csv", conform(pd.DataFrame(files), MANIFEST), MANIFEST)
    made = build_shard(out / "manifest.csv", targets, settings, out / "maps.fits", threads=CORES).galaxies
    made["r_e_arcsec"] = rows["r_e_arcsec"].to_numpy()
    if weights is not None:
        infer(out / "maps.fits", targets, weights, settings, out / "kinematics.parquet", out / "models.fits")
        found = read_table(out / "kinematics.parquet", KINEMATICS)
        made["inferred"] = (found["flags"].to_numpy() & GALAXY.NOT_INFERRED) == 0
        for name in PARAMETERS:
            made[f"{name}_at_bound"] = found[f"{name}_at_bound"].to_numpy()
    return made


def _field_figures(parts: list[pd.DataFrame], settings: Settings) -> dict:
    made = pd.concat(parts)
    known = made[np.isfinite(made["stamp_scale_arcsec"]) & (made["r_e_arcsec"] > 0)]
    size = known["r_e_stamp"] / R_E_PER_SCALE_LENGTH / HALF_WIDTH

    def outside(low: float, high: float) -> dict:
        below, above = int((size < low).sum()), int((size > high).sum())
        return {"range": [low, high], "below": below, "above": above, "outside %": round(100 * (below + above) / len(size), 2)}

    figures = {
        "with a stamp and an R_e": len(known), "field from": known["field_from"].value_counts().to_dict(),
        "R_e/1.678 in half-widths, percentiles 5 50 95": [round(float(q), 3) for q in np.percentile(size, [5, 50, 95])],
        "network.ranges.r_scale": outside(*settings.network.ranges.r_scale), "the paper's range": outside(*PAPER_R_SCALE),
    }  # fmt: skip
    if "inferred" in known:
        seen = known[known["inferred"] & ((known["flags"] & GALAXY.excluding & ~GALAXY.NOT_INFERRED) == 0)]
        figures["inferred, no excluding flag of the maps"] = len(seen)
        figures["at a bound"] = {name: int(seen[f"{name}_at_bound"].sum()) for name in PARAMETERS}
    return figures


def make(path: Path) -> float:
    name = "-".join(path.name.split("-")[1:3])
    row = {"galaxy": name, "survey": "manga", "release": "DR17", "shard": "s", "axis_ratio": 0.6, "r_e_arcsec": 5.0}
    target = conform(pd.DataFrame([row]), TARGETS).to_dict("records")[0]
    began = time.process_time()
    made = make_galaxy(target, {"maps": {"path": str(path), "status": "ok", "message": ""}}, Settings())
    if not made.row["n_spaxels"]:
        raise SystemExit(f"{path}: no valid spaxel was mapped; nothing to time.")
    return time.process_time() - began


def inflate(path: Path) -> float:
    began = time.process_time()
    gzip.decompress(path.read_bytes())
    return time.process_time() - began


def inflate_needed(path: Path) -> float:
    """Only up to the end of the last extension that is read."""
    began = time.process_time()
    zlib.decompressobj(31).decompress(path.read_bytes(), _LAST[path])
    return time.process_time() - began


_LAST: dict[Path, int] = {}


def speed(files: list[Path]) -> dict:
    for path in files:
        with fits.open(path) as hdus:
            _LAST[path] = max(hdus[name].fileinfo()["datLoc"] + hdus[name].fileinfo()["datSpan"] for name in manga.HDUS)
    works = {"MAPS file to stamp": make, "inflating the file": inflate, "inflating as far as needed": inflate_needed}
    rates, cpu = ({name: [] for name in works} for _ in range(2))
    with ProcessPoolExecutor(CORES) as pool:
        for run in range(ROUNDS + 1):
            for name, work in works.items():
                began = time.perf_counter()
                spent = list(pool.map(work, files * REPEATS))
                if run:  # the first fills the caches
                    rates[name].append(len(spent) / (time.perf_counter() - began))
                    cpu[name].append(1000 * sum(spent) / len(spent))
    return {
        "files": [path.name for path in files], "bytes": sum(path.stat().st_size for path in files), "processes": CORES,
        "galaxies per second, best of 9 rounds": {name: round(max(r), 1) for name, r in rates.items()},
        "galaxies per second, median": {name: round(statistics.median(r), 1) for name, r in rates.items()},
        "CPU milliseconds per galaxy, least": {name: round(min(c), 1) for name, c in cpu.items()},
        "CPU milliseconds per galaxy, median": {name: round(statistics.median(c), 1) for name, c in cpu.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("resampling")
    add = what.add_parser("fields")
    add.add_argument("table", type=Path)
    add.add_argument("--weights", type=Path, help="folder of a trained network")
    what.add_parser("speed").add_argument("files", type=Path, nargs="+")
    args = parser.parse_args()
    if args.what == "resampling":
        keep("stamps_resampling", resampling())
    elif args.what == "fields":
        keep("stamps_fields", fields(args.table.resolve(), args.weights))
    else:
        keep("stamps_speed", speed(args.files))


if __name__ == "__main__":
    main()
