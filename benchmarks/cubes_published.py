"""Real galaxies refined, beside published values: cubes, CO and ionised-gas maps; with a finished sample also MaNGA and SAMI.

    python benchmarks/cubes_published.py --weights DIR --mirror MIRROR [--sample results/real_sample]

DIR is a trained network, MIRROR a folder laid out like the archives, the sample a run of config/real_sample.yaml. Nothing of them is
shipped. Curves are compared at the published radii beyond two beams that the data reach.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from astropy.io import fits
from cubes_fitted import FittedDisc, Stopwatch, fit_maps, fit_stamps
from cubes_reference import NGC_2903_CURVE, NGC_4047_CURVE
from mock_stamps import load
from record import keep

from tullyflow.conventions import C_KMS, inclination_from_axis_ratio, wrap_degrees
from tullyflow.maps.shards import read_shard
from tullyflow.network.batch import stamps_of_shards
from tullyflow.settings import load_settings
from tullyflow.surveys.cubes import read_cube
from tullyflow.surveys.local_maps import read_maps

ROOT = Path(__file__).resolve().parents[1]
BEAMS = 2.0
RADII = np.linspace(0.5, 30, 60)  # arcsec, of galaxies without a published curve
WISDOM = {"NGC0383": (0.175, "PA 142.2, i 37.6 (North+2019)"), "NGC4697": (0.56, "PA 246.2, i 76.1 (Davis+2017)"), "FRL49": (0.22, "")}
POSITIONS = {"NGC_2903": (143.0421, 21.5008), "eso121-g6": (91.8740, -61.8075), "NGC4047": (180.7112, 48.6362)}
HALPHA_FWHM, HALPHA_LINE_KMS = 2.5, 60.0  # arcsec; km/s over the S/N of the flux: the velocity's error


def spread(off: np.ndarray) -> str:
    within = 100 * np.mean(np.abs(off) <= 5)
    return f"median {np.median(off):+.1f}, from {off.min():+.1f} to {off.max():+.1f}; {within:.0f} % of {len(off)} radii within 5 %"


def described(found: FittedDisc) -> dict:
    return {
        "inclination": f"{found.inclination:.1f} +- {found.inclination_err:.1f} (network {found.network[0]:.1f})",
        "PA": f"{found.pa:.1f} +- {found.pa_err:.1f}", "v_sys": round(found.v_sys, 1),
        "curve": f"{found.curve}, delta BIC {found.delta_bic:.0f}, outer slope {found.outer_slope:+.2f}",
        "non-circular km/s": round(found.non_circular, 1), "refined": found.refined, "r_max arcsec": round(found.r_max, 2),
    }  # fmt: skip


def against(found: FittedDisc, published: np.ndarray, sini: float = 1.0) -> dict:
    """V over the published one, %, and V sin i over V sin i: ``sini`` of the published inclination (1: it is V sin i already)."""
    good = (found.radius > BEAMS * found.beam) & (found.radius < found.r_max) & np.isfinite(published)
    own = np.sin(np.radians(found.inclination))
    lines = {}
    for label, speed in (("arctan", found.v_rot), ("curve preferred", found.v_chosen)):
        if sini != 1:
            lines[f"V, {label}, %"] = spread(100 * (speed / published - 1)[good])
        lines[f"V sin i, {label}, %"] = spread(100 * (speed * own / (published * sini) - 1)[good])
    known = np.isfinite(published)
    last = [float(np.interp(found.r_max, found.radius[known], v[known])) for v in (found.v_chosen * own, published * sini)]
    return lines | {"V sin i at r_max": f"{last[0]:.1f}, published {last[1]:.1f}: {100 * (last[0] / last[1] - 1):+.1f} %"}


def cubes(mirror: Path, checkpoint, settings) -> dict:
    figures = {}
    for name, radius in (("NGC_2903", NGC_2903_CURVE[0]), ("eso121-g6", 10 * RADII)):
        known = dict(zip(("ra_deg", "dec_deg"), POSITIONS[name], strict=True))
        maps = read_cube(mirror / "hi_cubes" / f"{name}.fits", {"galaxy": name, **known}, settings)
        found = fit_maps(maps, checkpoint, settings, radius, **known)
        figures[name] = described(found)
        if name == "NGC_2903":
            figures[name] |= {"published": "i 66, V_flat 184.6 +- 5.6 (SPARC); PA 204.3, v_sys 555.6 (de Blok+2008)"}
            figures[name] |= against(found, NGC_2903_CURVE[1], np.sin(np.radians(66.0)))
            flat = found.v_rot[(radius > 450) & (radius < found.r_max)]
            figures[name]["V beyond 450 arcsec, where SPARC is flat"] = f"{np.median(flat):.1f}"
    return figures


def ngc_4047(mirror: Path, checkpoint, settings, folder: Path) -> dict:
    """CO and ionised gas. The CO map is a radio velocity without a card that says so: it is handed over with one."""
    stem = mirror / "edge_ngc4047" / "NGC4047.co.smo7_dil"
    names = {"velocity": "mom1", "velocity_err": "emom1", "intensity": "mom0", "intensity_err": "emom0"}
    paths = {name: Path(f"{stem}.{ending}.fits.gz") for name, ending in names.items()}
    with fits.open(paths["velocity"]) as hdus:
        header = hdus[0].header.copy()
        header["VELREF"] = 257  # radio, LSRK
        header.pop("BLANK", None)
        paths["velocity"] = folder / "co.fits"
        fits.writeto(paths["velocity"], hdus[0].data, header)
    known = dict(zip(("ra_deg", "dec_deg"), POSITIONS["NGC4047"], strict=True))
    radius, published = NGC_4047_CURVE
    co = {"galaxy": "NGC4047", **known, "psf_fwhm_arcsec": 7.0}
    rows = {"CO": fit_maps(read_maps(paths, {k: str(p) for k, p in paths.items()}, co, settings), checkpoint, settings, radius, **known,
                           psf_fwhm_arcsec=7.0)}  # fmt: skip
    with fits.open(mirror / "edge_ngc4047" / "NGC4047.ELINES.cube.fits.gz") as hdus:
        planes = hdus[0].data
    velocity, flux, flux_err = planes[0], planes[6], planes[15]
    good = (np.abs(velocity - 3420) < 400) & (flux_err > 0) & (flux > 0)
    error = (HALPHA_LINE_KMS * flux_err / np.where(flux > 0, flux, np.nan)).clip(1, 50)
    images = {"VELOCITY": velocity, "ERROR": error, "FLUX": flux, "FLUX_ERR": flux_err}
    hdus = [fits.ImageHDU(np.where(good, image, np.nan).astype("f4"), name=name) for name, image in images.items()]
    hdus[0].header["BUNIT"] = hdus[1].header["BUNIT"] = "km/s"
    path = folder / "halpha.fits"
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    y, x = np.indices(flux.shape)
    light = np.where(good, flux, 0) / np.where(good, flux, 0).sum()
    row = {"velocity": str(path), "velocity_hdu": "VELOCITY", "velocity_err_hdu": "ERROR", "intensity_hdu": "FLUX",
           "intensity_err_hdu": "FLUX_ERR", "pixel_scale_arcsec": 1.0, "x_centre": float((light * x).sum()),
           "y_centre": float((light * y).sum())}  # fmt: skip
    target = {"galaxy": "NGC4047", "psf_fwhm_arcsec": HALPHA_FWHM}
    maps = read_maps({name: path for name in images_of(row)}, row, target, settings)
    rows["H-alpha"] = fit_maps(maps, checkpoint, settings, radius, psf_fwhm_arcsec=HALPHA_FWHM)
    figures = {}
    for tracer, found in rows.items():
        figures[f"NGC4047 {tracer}"] = described(found) | against(found, published, np.sin(np.radians(41.3)))
        far = (radius > 12) & (radius < found.r_max)
        figures[f"NGC4047 {tracer}"]["V, V sin i at 12 to 25 arcsec"] = (
            f"{np.median(found.v_rot[far]):.1f}, {np.median(found.v_rot[far]) * np.sin(np.radians(found.inclination)):.1f}"
        )
        figures[f"NGC4047 {tracer}"]["published"] = (
            "i 42.1 (isophotes), PA 284.0, V_rot 216.3 +- 2.2, so V sin i 145.0, v_sys 3419 relativistic heliocentric (Levy+2018, CO); "
            "3D-Barolo by EDGE on this cube: i 41.3, PA 284.0, v_sys 3403.2 radio LSRK, the curve compared with"
        )
    at = rows["CO"].v_sys + (-7.4)  # LSRK to the Sun, by the header's history
    figures["NGC4047 CO"]["v_sys relativistic, heliocentric"] = round(relativistic(at), 1)
    figures["NGC4047 H-alpha"]["v_sys relativistic, if the file's is optical"] = round(relativistic(rows["H-alpha"].v_sys), 1)
    return figures


def images_of(row: dict) -> list[str]:
    return ["velocity", *(key.removesuffix("_hdu") for key in row if key.endswith("_hdu") and key != "velocity_hdu")]


def relativistic(velocity_kms: float) -> float:
    """Of an optical velocity."""
    square = (1 + velocity_kms / C_KMS) ** 2
    return C_KMS * (square - 1) / (square + 1)


def wisdom(mirror: Path, checkpoint, settings) -> dict:
    """ALMA CO; the published V_circ sin i are 32 values from the centre to half the map (HDU 2)."""
    figures = {}
    for name, (beam, said) in WISDOM.items():
        paths = {"velocity": mirror / "wisdom" / f"{name}_mom1.fits", "intensity": mirror / "wisdom" / f"{name}_mom0.fits"}
        row = {"velocity": str(paths["velocity"]), "velocity_hdu": 0, "intensity": str(paths["intensity"]), "intensity_hdu": 0}
        target = {"galaxy": name, "psf_fwhm_arcsec": beam}
        radius, published = RADII / 5, None
        with fits.open(paths["intensity"]) as hdus:
            if len(hdus) > 2:
                published = np.asarray(hdus[2].data, float).ravel()
                radius = np.linspace(0, abs(hdus[0].header["CDELT1"]) * 3600 * hdus[0].header["NAXIS1"] / 2, len(published))
        found = fit_maps(read_maps(paths, row, target, settings), checkpoint, settings, radius, psf_fwhm_arcsec=beam)
        figures[name] = described(found) | {"published": said}
        if published is not None:
            figures[name] |= against(found, published)
    return figures


def sample(run: Path, mirror: Path, checkpoint, settings) -> dict:
    """MaNGA and SAMI beside their catalogues: photometric inclination, kinematic axis, redshift."""
    manga = pd.read_csv(mirror.parent / "truth" / "manga_kinematic_pa.csv").drop_duplicates("plateifu").set_index("plateifu").halpha_pa
    sami = pd.read_csv(mirror / "datacentral/sami/dr3/catalogues/sami_samiDR3gaskinPA.csv").set_index("cubeidpub").pa_gaskin
    figures = {}
    for path in sorted((run / "maps").glob("*.fits")):
        targets = pd.read_parquet(run / "targets" / path.stem.rpartition("-")[0] / f"{path.stem}.parquet")
        shard = read_shard(path)
        stamps, usable = stamps_of_shards([shard], checkpoint.model.network.velocity_norm, settings.maps.velocity_err_default)
        for k in np.flatnonzero(usable):
            row, target = shard.galaxies.iloc[k].to_dict(), targets.iloc[k]
            if not np.isfinite(row["pa_err_deg"]) or row["pa_err_deg"] > 45:
                continue
            one = stamps.select(torch.tensor([k]))
            found = fit_stamps(one, row, 1.0, checkpoint, np.array([target.r_e_arcsec]), Stopwatch())
            name = target.galaxy
            axis = manga.get(name, np.nan) if target.survey == "manga" else sami.get(f"{name}_A", np.nan) + 180
            off = float(wrap_degrees(found.pa - axis + 180) - 180) if np.isfinite(axis) else np.nan
            figures[name] = described(found) | {
                "photometric inclination": round(float(inclination_from_axis_ratio(target.axis_ratio)), 1),
                "kinematic PA of the catalogue": f"{axis % 360:.1f}, ours {off:+.1f}", "cz of the catalogue": round(C_KMS * target.z, 1),
                "V sin i at R_e": round(float(found.v_chosen[0] * np.sin(np.radians(found.inclination))), 1),
            }  # fmt: skip
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--mirror", type=Path, required=True)
    parser.add_argument("--sample", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    mirror, checkpoint = args.mirror.resolve(), load(args.weights)
    settings = load_settings(ROOT / "config" / "local.yaml")
    settings = settings.model_copy(update={"maps": settings.maps.model_copy(update={"snr_min": 3.0})})
    with tempfile.TemporaryDirectory() as name:
        figures = cubes(mirror, checkpoint, settings) | ngc_4047(mirror, checkpoint, settings, Path(name))
    figures |= wisdom(mirror, checkpoint, settings)
    if args.sample:
        figures["MaNGA and SAMI"] = sample(args.sample, mirror, checkpoint, settings)
    keep("cubes_published", figures)


if __name__ == "__main__":
    main()
