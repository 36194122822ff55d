"""Real cubes and moment maps beside published values: NGC 4047 (CARMA CO maps of EDGE) and NGC 2903 (WSRT HI cube).

    python benchmarks/cube_galaxies.py --mirror MIRROR [--pictures DIR]

MIRROR is a folder laid out like the archives. Nothing of it is shipped.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from record import keep

from tullyflow.conventions import C_KMS, optical_from_radio
from tullyflow.flags import BAD_VELOCITY
from tullyflow.maps.moments import moments_from_cube
from tullyflow.maps.orientation import image_axes, image_to_sky_angle
from tullyflow.maps.position_angle import fit_position_angle
from tullyflow.maps.spectral_axis import read_spectral_axis, sky_axes
from tullyflow.settings import Maps

INCLINATION_4047 = 42.1  # deg, Levy+2018


def relativistic(velocity_kms: float) -> float:
    """Of an optical velocity."""
    square = (1 + velocity_kms / C_KMS) ** 2
    return C_KMS * (square - 1) / (square + 1)


def ngc_4047(mirror: Path) -> tuple[dict, tuple]:
    """CARMA CO maps of EDGE (Miriad: radio velocities, LSRK) through the position angle, and v_sys in every convention.

    Published: Levy+2018 (edge_rfpars: "relativistic heliocentric", V(helio) = V(LSRK) - 3.39; PA of the receding side) and the fit
    by BBarolo to the same 7 arcsec cube (edge_bbpars_smo7: "radio-LSR").
    """
    stem = mirror / "edge_ngc4047" / "NGC4047.co.smo7_dil"
    planes = {}
    for name in ("mom0", "emom0", "mom1", "emom1", "mom2"):
        with fits.open(f"{stem}.{name}.fits.gz") as hdus:
            planes[name], header = hdus[0].data.astype(float), hdus[0].header
    wcs, _ = sky_axes(header, "NGC4047")
    position = 180.7112, 48.6362  # the centre BBarolo was given
    centre = tuple(float(a) for a in wcs.wcs_world2pix([position], 0)[0])
    good = np.isfinite(planes["mom1"]) & (planes["emom1"] > 0) & (planes["mom0"] > 3 * planes["emom0"])
    fit = fit_position_angle(planes["mom1"], planes["emom1"], good, centre)
    optical = float(optical_from_radio(fit.v_sys_kms))
    cards = {"NAXIS3": 2, "CTYPE3": "VRAD", "CRVAL3": fit.v_sys_kms, "CDELT3": 20.0, "CRPIX3": 1.0, "CUNIT3": "km/s", "SPECSYS": "LSRK"}
    frame = fits.Header()
    frame["NAXIS"] = 3
    frame.update(cards)
    helio = float(read_spectral_axis(frame, 3, "NGC4047", position).velocity_kms[0])
    sky = image_to_sky_angle(fit.image_angle_deg, *image_axes(wcs, centre))
    curve = rotation(planes["mom1"], centre, fit.image_angle_deg, INCLINATION_4047, fit.v_sys_kms, good)
    slope = 1000 * (relativistic(float(optical_from_radio(fit.v_sys_kms + 1e-3))) - relativistic(optical))
    figure = {
        "PA": f"{sky:.1f} +- {fit.err_deg:.1f} deg; Levy+2018 284.0, BBarolo 282.6",
        "v_sys in the map (radio, LSRK)": f"{fit.v_sys_kms:.1f} +- {fit.v_sys_err_kms:.1f} km/s; BBarolo 3402.65 (radio, LSRK)",
        "v_sys optical, heliocentric": round(helio, 1),
        "v_sys relativistic, heliocentric": f"{relativistic(helio):.1f} km/s; LSRK to the Sun "
        f"{relativistic(optical) - relativistic(helio):.2f} km/s, the header's HISTORY has dvhel 7.41",
        "the same with Levy+2018's 3.39 km/s": f"{relativistic(optical) - 3.39:.1f} km/s; Levy+2018 3419",
        "v_rot at 12 to 25 arcsec": f"{curve:.1f} km/s (radio), {slope * curve:.1f} (relativistic); Levy+2018 216.3 +- 2.2, "
        f"or 212.8 +- 11.5 by Lelli+2016's rule (relativistic)",
        "pixels": fit.n_pixels,
    }
    velocity = np.where(good, planes["mom1"], np.nan)
    return figure, ("NGC 4047, CO(1-0)", planes["mom0"], velocity, planes["mom2"], fit.v_sys_kms, centre, fit.image_angle_deg)


def rotation(velocity: np.ndarray, centre: tuple, angle: float, inclination: float, v_sys: float, good: np.ndarray) -> float:
    """Median of (v - v_sys) / (sin i cos theta) within 30 deg of the major axis and 12 to 25 pixels (arcsec) from the centre."""
    y, x = np.indices(velocity.shape, dtype=float)
    turned = np.radians(angle)
    x, y = x - centre[0], y - centre[1]
    along, across = x * np.cos(turned) + y * np.sin(turned), (y * np.cos(turned) - x * np.sin(turned)) / np.cos(np.radians(inclination))
    radius = np.hypot(along, across)
    cosine = along / np.maximum(radius, 1e-9)
    ring = good & (radius > 12) & (radius < 25) & (np.abs(cosine) > np.cos(np.radians(30)))
    return float(np.median(((velocity - v_sys) / cosine)[ring]) / np.sin(np.radians(inclination)))


def ngc_2903(mirror: Path) -> tuple[dict, tuple]:
    """The HI cube through everything: mask, moments, position angle. Published: de Blok+2008."""
    path = mirror / "hi_cubes" / "NGC_2903.fits"
    found = moments_from_cube(path, Maps())
    centre = tuple(float(a) for a in found.wcs.wcs_world2pix([(143.0421, 21.5008)], 0)[0])
    good = ((found.mask & BAD_VELOCITY) == 0) & (found.intensity > 3 * found.intensity_err)
    fit = fit_position_angle(found.velocity, found.velocity_err, good, centre)
    sky = image_to_sky_angle(fit.image_angle_deg, *image_axes(found.wcs, centre))
    bright = good & (found.intensity > 10 * found.intensity_err)
    inner = fit_position_angle(found.velocity, found.velocity_err, bright, centre)
    beam = np.pi / (4 * np.log(2)) * (found.beam_fwhm_arcsec / found.pixel_scale_arcsec) ** 2
    return {
        "PA": f"{sky:.1f} +- {fit.err_deg:.1f} deg; de Blok+2008 204.3",
        "v_sys": f"{fit.v_sys_kms:.1f} +- {fit.v_sys_err_kms:.1f} km/s; de Blok+2008 555.6",
        "v_sys where S/N > 10": f"{inner.v_sys_kms:.1f} +- {inner.v_sys_err_kms:.1f} km/s, {int(bright.sum())} pixels",
        "flux": f"{np.nansum(found.intensity) / beam:.1f} {found.intensity_unit.replace('/beam', '').replace('/BEAM', '')}",
        "pixels": int(good.sum()),
        **dict(found.history),
        "messages": list(found.messages),
    }, ("NGC 2903, HI", found.intensity, np.where(good, found.velocity, np.nan), np.sqrt(np.maximum(found.dispersion_sq, 0)),
        fit.v_sys_kms, centre, fit.image_angle_deg)  # fmt: skip


def draw(path: Path, title: str, mom0, mom1, mom2, v_sys: float, centre: tuple, angle: float) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.8), layout="constrained")
    spread = float(np.nanpercentile(np.abs(mom1 - v_sys), 98))
    reach = np.nanmax(np.hypot(*(np.argwhere(np.isfinite(mom1)).T - np.array(centre[::-1])[:, None])))
    step = reach * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    for axes, image, name, how in zip(
        figure.subplots(1, 3), (mom0, mom1 - v_sys, mom2), ("mom0", f"mom1 - {v_sys:.1f} km/s", "dispersion km/s"),
        (
            {"cmap": "magma"},
            {"cmap": "RdBu_r", "vmin": -spread, "vmax": spread},
            {"cmap": "viridis", "vmin": 0, "vmax": np.nanpercentile(mom2, 97)},
        ),
        strict=True,
    ):  # fmt: skip
        figure.colorbar(axes.imshow(image, origin="lower", interpolation="nearest", **how), ax=axes)
        axes.plot([centre[0] - step[0], centre[0] + step[0]], [centre[1] - step[1], centre[1] + step[1]], "k--", lw=1)
        axes.set_title(f"{title}: {name}")
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    figures = {}
    for name, measure in (("NGC 4047", ngc_4047), ("NGC 2903", ngc_2903)):
        figures[name], picture = measure(args.mirror.resolve())
        if args.pictures:
            args.pictures.mkdir(parents=True, exist_ok=True)
            draw(args.pictures / f"{name.replace(' ', '_')}.png", *picture)
    keep("cube_galaxies", figures)


if __name__ == "__main__":
    main()
