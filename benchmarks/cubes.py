"""Moments of cubes of known truth, made by KinMS, with noise: bias and pulls.

    python benchmarks/cubes.py         (needs kinms, which shares nothing with this package)
"""

import tempfile
import warnings
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.io import fits
from record import keep
from scipy import ndimage

from tullyflow.conventions import C_KMS, FWHM_PER_SIGMA
from tullyflow.flags import BAD_VELOCITY
from tullyflow.maps.moments import CubeMoments, moments, moments_from_cube
from tullyflow.maps.orientation import image_axes, image_to_sky_angle
from tullyflow.maps.position_angle import fit_position_angle
from tullyflow.maps.spectral_axis import channel_velocities
from tullyflow.settings import Maps

FINE, WIDTH = 2.0, 5  # km/s of the truth's channels, and how many of them make one of the cube's
BEAM = (5.0, 4.0, 40.0)  # arcsec, arcsec, deg; pixels of 1 arcsec
V_SYS, PA, INCLINATION, SIGMA = 1500.0, 250.0, 55.0, 12.0
PEAK_SNR, DRAWS = (8, 20, 60), 30  # of the brightest voxel
CLASSES = ((1.5, 3.0), (3.0, 5.0), (5.0, 10.0), (10.0, 20.0), (20.0, 60.0))  # peak of the noise-free spectrum over the noise
QUANTITIES = ("intensity", "velocity", "dispersion_sq")


def kinms_cube(folder: Path) -> tuple[np.ndarray, fits.Header]:
    """A rotating exponential disc, noise-free and beam-smeared, by KinMS: (channel, y, x) and the header KinMS writes.

    KinMS 3.0 rounds a cloudlet to the nearest channel, but its header counts from their edges: half a channel is taken back.
    """
    from kinms import KinMS

    radius = np.arange(0, 60, 0.5)
    model = KinMS(80, 90, 640, 1.0, FINE, list(BEAM), nSamps=3_000_000, fixSeed=True)
    model.model_cube(
        INCLINATION, PA, gasSigma=SIGMA, sbProf=np.exp(-radius / 11), sbRad=radius, velRad=radius, intFlux=30.0, vSys=V_SYS,
        velProf=190 * 2 / np.pi * np.arctan(radius / 4), fileName=str(folder / "disc"), ra=150.0, dec=30.0, restFreq=1.420405752e9,
    )  # fmt: skip
    with fits.open(folder / "disc_simcube.fits") as hdus:
        header = hdus[0].header.copy()
        header["CRVAL3"] -= header["CDELT3"] / 2
        return hdus[0].data.astype(float), header


def true_moments(cube: np.ndarray, header: fits.Header) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums over the noise-free cube at its fine channels; their width of 1/12 taken out of the dispersion."""
    n = np.arange(cube.shape[0]) + 1 - header["CRPIX3"]
    radio = lambda at: (header["CRVAL3"] + at * header["CDELT3"]) * u.m / u.s  # noqa: E731
    rest = header["RESTFRQ"] * u.Hz

    def optical(velocity):
        return velocity.to(u.Hz, u.doppler_radio(rest)).to(u.km / u.s, u.doppler_optical(rest)).value

    velocity, step = optical(radio(n)), np.abs(optical(radio(n + 0.5)) - optical(radio(n - 0.5)))
    weight = cube * step[:, None, None]
    flux = weight.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (weight * velocity[:, None, None]).sum(axis=0) / flux
        square = (weight * (velocity[:, None, None] - mean) ** 2).sum(axis=0) / flux
    return flux, mean, square - np.median(step) ** 2 / 12


def beam_noise(shape: tuple[int, int, int], rng: np.random.Generator, beam: tuple[float, float, float] = BEAM) -> np.ndarray:
    """White along the spectrum, correlated by the elliptical beam (pixels, deg) on the sky, of unit standard deviation."""
    ky, kx = np.meshgrid(np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2]), indexing="ij")
    angle = np.radians(beam[2])
    along, across = -kx * np.sin(angle) + ky * np.cos(angle), kx * np.cos(angle) + ky * np.sin(angle)
    damp = np.exp(-2 * np.pi**2 * ((beam[0] / FWHM_PER_SIGMA * along) ** 2 + (beam[1] / FWHM_PER_SIGMA * across) ** 2))
    smooth = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * damp, s=shape[1:])
    return smooth / smooth.std()


def robust_width(values: np.ndarray) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def pulls(found: list, truth: tuple, peak: np.ndarray) -> dict:
    """By class of peak S/N: pixels with a value, and of each moment the median offset, median pull and robust width of the pulls."""
    figures = {}
    for low, high in CLASSES:
        inside = (peak >= low) & (peak < high)
        if not inside.any():
            continue
        line: dict = {"pixels, %": round(100 * float(np.mean([np.isfinite(m.velocity[inside]).mean() for m in found])), 1)}
        for name, true in zip(QUANTITIES, truth, strict=True):
            value, err = (np.concatenate([getattr(m, f"{name}{ending}")[inside] for m in found]) for ending in ("", "_err"))
            expected = np.tile(true[inside], len(found))
            good = np.isfinite(value) & (err > 0)
            if good.sum() < 300:
                continue
            off, pull = (value - expected)[good], ((value - expected) / err)[good]
            line[name] = {
                "bias": f"{100 * np.median(off / expected[good]):+.2f} %" if name == "intensity" else f"{np.median(off):+.2f}",
                "error": f"{100 * np.median(err[good] / expected[good]):.1f} %" if name == "intensity" else f"{np.median(err[good]):.2f}",
                "pull": round(float(np.median(pull)), 2),
                "width": round(robust_width(pull), 2),
                "within 3 sigma, %": round(100 * float(np.mean(np.abs(pull) < 3)), 1),
            }
        if len(line) > 1:
            figures[f"{low:g}-{high:g}"] = line
    return figures


def truth() -> None:
    rng, figures = np.random.default_rng(20), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fine, header = kinms_cube(folder)
        expected = true_moments(fine, header)
        channels = len(fine) // WIDTH
        wide = fine[: channels * WIDTH].reshape(channels, WIDTH, *fine.shape[1:]).mean(axis=1)
        header["CRPIX3"], header["CDELT3"], header["NAXIS3"] = (header["CRPIX3"] - 0.5) / WIDTH + 0.5, header["CDELT3"] * WIDTH, channels
        cases = [(f"peak S/N {snr}", snr, False) for snr in PEAK_SNR] + [("peak S/N 20, Hanning smoothed", 20, True)]
        for label, snr, hanning in cases:
            line = ndimage.convolve1d(wide, [0.25, 0.5, 0.25], axis=0, mode="constant") if hanning else wide
            rms, ours, known, axes = line.max() / snr, [], [], []
            signal = line > 0.01 * line.max(axis=0)
            for _ in range(DRAWS):
                noise = beam_noise(line.shape, rng)
                if hanning:
                    noise = ndimage.convolve1d(noise, [0.25, 0.5, 0.25], axis=0, mode="wrap") / np.sqrt(3 / 8)
                cube = (line + rms * noise).astype(np.float32)
                fits.writeto(folder / "cube.fits", cube, header, overwrite=True)
                found = moments_from_cube(folder / "cube.fits", Maps())
                ours.append(found)
                known.append(of_known_line(cube, found, signal, header))
                axes.append(axis_of(found, (40.0, 45.0), PA))
            peak, done = line.max(axis=0) / rms, [np.isfinite(m.intensity) for m in ours]
            offset, pa_err, v_sys, v_sys_err = np.array(axes).T
            figures[label] = {
                "noise found over true": round(float(np.median([m.noise.rms for m in ours]) / rms), 3),
                "correlation of channels 1 and 2 apart": correlation(ours),
                "flux found over true": round(float(np.mean([np.nansum(m.intensity) for m in ours]) / expected[0].sum()), 4),
                "of it in the pixels with a value": round(
                    float(np.mean([m.intensity[good].sum() / expected[0][good].sum() for m, good in zip(ours, done, strict=True)])), 4
                ),
                "position angle": f"{offset.mean():+.2f} deg off, scatter {offset.std():.2f}, error {np.median(pa_err):.2f}",
                "v_sys": f"{v_sys.mean() - optical_v_sys():+.2f} km/s off, scatter {v_sys.std():.2f}, error {np.median(v_sys_err):.2f}",
                "line known: by peak S/N": pulls(known, expected, peak),
                "line found: by peak S/N": pulls(ours, expected, peak),
            }  # fmt: skip
    keep("cubes", {
        "cubes": f"KinMS disc 80 x 90 x {channels}, channels {FINE * WIDTH:g} km/s, dispersion {SIGMA:g}, "
        f"beam {BEAM[0]:g} x {BEAM[1]:g} pixels, {DRAWS} draws of noise each",
        "units": "velocity km/s, dispersion_sq km2/s2; width = 1.4826 MAD of (found - true) / error",
        **figures,
    })  # fmt: skip


def correlation(found: list[CubeMoments]) -> list[float]:
    return [round(float(np.mean([m.noise.correlation[k] if len(m.noise.correlation) > k else 0.0 for m in found])), 2) for k in range(2)]


def optical_v_sys() -> float:
    return float(V_SYS / (1 - V_SYS / C_KMS))  # KinMS says VRAD


def of_known_line(cube: np.ndarray, found: CubeMoments, signal: np.ndarray, header: fits.Header):
    """Moments with the mask that only who knows the line can make, and the noise found: the propagation alone."""
    noise = found.noise
    result = moments(
        cube, channel_velocities(header, 3, "cube"), signal, noise.channel_rms, gain=noise.gain, correlation=noise.correlation,
        baseline=noise.baseline,
    )  # fmt: skip
    result.dispersion_sq[:] -= found.channel_dispersion_kms**2
    return result


def axis_of(found: CubeMoments, centre: tuple[float, float], true: float) -> tuple[float, float, float, float]:
    """Offset of the position angle from the true one and its error (deg), v_sys and its error (km/s)."""
    good = ((found.mask & BAD_VELOCITY) == 0) & (found.intensity > 3 * found.intensity_err)
    fit = fit_position_angle(found.velocity, found.velocity_err, good, centre)
    sky = image_to_sky_angle(fit.image_angle_deg, *image_axes(found.wcs, centre))
    return float((sky - true + 180) % 360 - 180), fit.err_deg, fit.v_sys_kms, fit.v_sys_err_kms


def main() -> None:
    warnings.simplefilter("ignore")
    truth()


if __name__ == "__main__":
    main()
