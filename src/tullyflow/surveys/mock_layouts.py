"""Write mock galaxies as SAMI's maps, THINGS' cubes, and the surveys' catalogues lay them out."""

import io
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits
from astropy.table import Table

from tullyflow.conventions import FWHM_PER_SIGMA, inclination_from_axis_ratio, rest_frame_factor
from tullyflow.surveys.mock_disc import OpticalMaps
from tullyflow.surveys.mock_manga import DRP3QUAL_CRITICAL

if TYPE_CHECKING:
    import pandas as pd

    from tullyflow.surveys.mock_population import MockGalaxy

__all__ = ["SAMI_INSTRUMENT_KMS", "STATEMENT", "drpall", "fits_bytes", "sami_catalogues", "sami_files", "things_catalogue", "things_cube"]

STATEMENT = "Simulated galaxy (tullyflow mock, KinMS); not an observation."
SAMI_INSTRUMENT_KMS = 29.6  # red arm
_SAMI_FLUX = "10**(-16) erg/s/cm**2/angstrom/pixel"
_DRP_VERSIONS = {"DR15": "v2_4_3", "DR17": "v3_1_1"}
_HI_REST_HZ = 1.420405752e9
_WARNINGS = (
    "warnstar warnfill warnz warnmult warnakpc warnare warnamge warnsk2m warnsk4m warnsk4mhsn "
    "warnfcal warnfcbr warnskyb warnskyr warnsker warnwcs warnre warnskem warnemft"
)


def _marked(hdu: fits.PrimaryHDU) -> fits.PrimaryHDU:
    hdu.header["MOCK"] = True
    hdu.header["COMMENT"] = STATEMENT
    return hdu


def fits_bytes(hdus: fits.PrimaryHDU | fits.HDUList) -> bytes:
    """Return a FITS file as bytes."""
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    return buffer.getvalue()


def drpall(galaxies: "list[MockGalaxy]", release: str, h: float) -> fits.HDUList:
    """Return drpall with the columns a reader needs; NSA masses and magnitudes are for h = 1, -9999 where there is no photometry."""
    missing = np.array([g.hard_case == "missing_mass" for g in galaxies], dtype=bool)

    def column(values, kind="f8"):
        return np.asarray(list(values), dtype=kind)

    def nsa(values):
        return np.where(missing, -9999.0, column(values))

    ifus = [g.galaxy.split("-")[1] for g in galaxies]
    table = Table()
    table["plate"] = column((g.galaxy.split("-")[0] for g in galaxies), "i8")
    table["ifudsgn"] = np.asarray(ifus, dtype="S5") if release == "DR17" else column(ifus, "i8")
    table["plateifu"] = np.asarray([g.galaxy for g in galaxies], dtype="S11")
    table["mangaid"] = np.asarray([f"99-{g.galaxy.replace('-', '')}" for g in galaxies], dtype="S16")
    table["versdrp3"] = np.asarray([_DRP_VERSIONS[release]] * len(galaxies), dtype="S6")
    for name, attribute in (("objra", "ra_deg"), ("objdec", "dec_deg"), ("ifura", "ra_deg"), ("ifudec", "dec_deg")):
        table[name] = column(getattr(g, attribute) for g in galaxies)
    table["drp3qual"] = column((DRP3QUAL_CRITICAL * (g.hard_case == "quality_bad") for g in galaxies), "i8")
    table["mngtarg1"] = column((g.target_bits for g in galaxies), "i8")
    for name in ("mngtarg2", "mngtarg3"):
        table[name] = np.zeros(len(galaxies), dtype="i8")
    for band in "rgiz":
        table[f"{band}fwhm"] = column(g.psf_fwhm_arcsec for g in galaxies)
    table["ebvgal"] = np.full(len(galaxies), 0.02)
    table["z"] = column(g.z for g in galaxies)
    table["nsa_elpetro_phi"] = column(g.pa_phot_deg for g in galaxies)
    table["nsa_elpetro_ba"] = column(g.axis_ratio for g in galaxies)
    table["nsa_elpetro_th50_r"] = column(g.r_e_arcsec for g in galaxies)
    table["nsa_z"] = column(g.z for g in galaxies)
    for name in ("nsa_elpetro_mass", "nsa_sersic_mass"):
        table[name] = nsa(10**g.log_mstar * h**2 for g in galaxies)
    magnitude = nsa(g.abs_mag_r - 5 * np.log10(h) for g in galaxies)
    colours = np.array([3.6, 3.1, 1.9, 0.65, 0.0, -0.35, -0.6])  # F N u g r i z
    table["nsa_elpetro_absmag"] = np.where(missing[:, None], -9999.0, magnitude[:, None] + colours).astype("f4")
    table["nsa_zdist"] = nsa(g.z for g in galaxies)
    table["nsa_nsaid"] = np.where(missing, -9999, 9_000_000 + np.arange(len(galaxies)))
    primary = _marked(fits.PrimaryHDU())
    primary.header["VERSDRP3"] = _DRP_VERSIONS[release]
    return fits.HDUList([primary, fits.BinTableHDU(table, name="MANGA")])


def _sami_wcs(galaxy: "MockGalaxy") -> dict:
    step = galaxy.pixel_scale_arcsec / 3600
    centre = (galaxy.pixels + 1) / 2
    return {
        "CRPIX1": centre, "CRPIX2": centre, "CDELT1": -step, "CDELT2": step, "CRVAL1": galaxy.ra_deg, "CRVAL2": galaxy.dec_deg,
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg",
    }  # fmt: skip


def _pair(galaxy: "MockGalaxy", value: np.ndarray, error: np.ndarray, error_name: str, unit: str) -> fits.HDUList:
    hdus = fits.HDUList([_marked(fits.PrimaryHDU(value)), fits.ImageHDU(error, name=error_name)])
    for hdu in hdus:
        hdu.header.update(_sami_wcs(galaxy))
        if unit:
            hdu.header["BUNIT"] = unit
    return hdus


def sami_files(galaxy: "MockGalaxy", maps: OpticalMaps, stellar: np.ndarray, components: str) -> dict[str, fits.HDUList]:
    """Return {product: file} for Halpha, gas-velocity, gas-vdisp and stellar-velocity; NaN where nothing was fitted.

    The dispersion has the instrument removed already, as SAMI's has; where noise made it imaginary it is NaN.
    ``missing_hdu`` loses the velocity's error.
    """
    used = maps.field & maps.fitted & ~maps.star
    total = 1 if components == "1-comp" else 3

    def planes(value, lead):
        empty = [np.full(value.shape, np.nan)] * (total - 1)
        value = np.where(used, value, np.nan)
        return np.stack([value] * lead + [value, *empty]).astype("f4")

    variance = maps.dispersion**2 - SAMI_INSTRUMENT_KMS**2
    with np.errstate(invalid="ignore", divide="ignore"):
        dispersion = np.sqrt(np.where(variance > 0, variance, np.nan))
        dispersion_err = maps.dispersion_err * maps.dispersion / dispersion
    flux = _pair(galaxy, planes(maps.flux, 1), planes(maps.flux_err, 1), "HALPHA_ERR", _SAMI_FLUX)
    velocity = _pair(galaxy, planes(maps.velocity, 0), planes(maps.velocity_err, 0), "V_ERR", "km/s")
    vdisp = _pair(galaxy, planes(dispersion, 0), planes(dispersion_err, 0), "VDISP_ERR", "km/s")
    stars = np.where(used, stellar, np.nan)
    star_err = np.where(used, 8.0, np.nan)
    stellar_velocity = _pair(galaxy, stars, star_err, "VEL_ERR", "")
    stellar_velocity[0].header.update({"EQUINOX": 2000.0, "CATID": galaxy.galaxy, "Z_IN": galaxy.z, "UNIT": "km/s", "DP_NAME": "VEL"})
    for name, values in (("FLUX", maps.flux), ("FLUX_ERR", maps.flux_err), ("SNR", maps.flux / maps.flux_err)):
        stellar_velocity.append(fits.ImageHDU(np.where(used, values, np.nan), name=name))
    if galaxy.hard_case == "missing_hdu":
        del velocity["V_ERR"]
    return {"Halpha": flux, "gas-velocity": velocity, "gas-vdisp": vdisp, "stellar-velocity": stellar_velocity}


def sami_catalogues(galaxies: "list[MockGalaxy]") -> "dict[str, pd.DataFrame]":
    """Return {dataset: table} under the names of ``releases.csv``; mass NaN in the hard case ``missing_mass``."""
    import pandas as pd

    def inputs(chosen: "list[MockGalaxy]") -> dict:
        attributes = {"ra_obj": "ra_deg", "dec_obj": "dec_deg", "z_spec": "z", "m_r": "abs_mag_r", "r_e": "r_e_arcsec", "pa": "pa_phot_deg"}
        return {
            "catid": [int(g.galaxy) for g in chosen],
            **{column: [getattr(g, name) for g in chosen] for column, name in attributes.items()},
            "ellip": [1 - g.axis_ratio for g in chosen],
            "mstar": [np.nan if g.hard_case == "missing_mass" else g.log_mstar for g in chosen],
            **{column: [value] * len(chosen) for column, value in (("g_i", 0.8), ("surv_sami", 8), ("bad_class", 0))},
        }

    cluster = [g for g in galaxies if g.galaxy.startswith("9")]
    gama = [g for g in galaxies if not g.galaxy.startswith("9")]
    cubes = {
        "cubeidpub": [f"{g.galaxy}_A" for g in galaxies],
        "cubeid": [f"{g.galaxy}_mock" for g in galaxies],
        "catid": [int(g.galaxy) for g in galaxies],
        "cubefwhm": [g.psf_fwhm_arcsec for g in galaxies],
        "isbest": [True] * len(galaxies),
        "catsource": [2 if g in cluster else 1 for g in galaxies],
        **{name: [0] * len(galaxies) for name in _WARNINGS.split()},
    }
    return {
        "InputCatGAMADR3": pd.DataFrame({**inputs(gama), "z_tonry": [g.z for g in gama]}),
        "InputCatClustersDR3": pd.DataFrame({**inputs(cluster), "is_mem": [1] * len(cluster)}),
        "CubeObs": pd.DataFrame(cubes),
        "VisualMorphologyDR3": pd.DataFrame({"catid": cubes["catid"], "type": [3.0] * len(galaxies)}),
    }


def things_catalogue(galaxies: "list[MockGalaxy]") -> "pd.DataFrame":
    """Return the table that goes with the mock cubes (THINGS has no catalogue file of its own): what photometry knows, not the truth."""
    import pandas as pd

    names = ("galaxy", "distance_mpc", "ra_deg", "dec_deg", "log_mstar", "abs_mag_r", "r_e_arcsec", "axis_ratio", "pa_phot_deg")
    table = pd.DataFrame({name: [getattr(g, name) for g in galaxies] for name in names})
    table["inclination_deg"] = inclination_from_axis_ratio(table["axis_ratio"].to_numpy(dtype=float))
    table["pa_deg"] = table["pa_phot_deg"]
    table["z"] = [g.z for g in galaxies]
    table["psf_fwhm_arcsec"] = [g.psf_fwhm_arcsec for g in galaxies]
    table["reference"] = "tullyflow mock"
    return table


def things_cube(galaxy: "MockGalaxy", cube: np.ndarray, velocity_kms: np.ndarray, rng: np.random.Generator) -> fits.PrimaryHDU:
    """Return a noise-free KinMS cube (v, y, x) with noise as wide as the beam, as AIPS wrote THINGS: four axes, Jy/beam, beam in HISTORY.

    Channels run from high to low velocity, 1 + z wider than in the galaxy's rest frame; the noise makes the disc's edge
    ``snr_edge`` in one channel. Flux is scaled to an HI mass of 10^(9.5 + (log M* - 10)/2) Msun, M = 2.36e5 D^2 S.
    """
    from scipy.ndimage import gaussian_filter

    step = velocity_kms[1] - velocity_kms[0]
    fwhm = galaxy.psf_fwhm_arcsec / galaxy.pixel_scale_arcsec
    flux = 10 ** (9.5 + 0.5 * (galaxy.log_mstar - 10)) / 2.36e5 / galaxy.distance_mpc**2  # Jy km/s
    janskys = cube * flux * 1.133 * fwhm**2 / (cube.sum() * step)

    y, x = np.mgrid[: galaxy.pixels, : galaxy.pixels] - galaxy.pixels / 2
    ring = np.abs(np.hypot(x, y) - 0.7 * galaxy.pixels / 2) < 1
    noise = gaussian_filter(rng.standard_normal(cube.shape), (0, fwhm / FWHM_PER_SIGMA, fwhm / FWHM_PER_SIGMA), mode="wrap")
    noise *= janskys[:, ring].max() / galaxy.snr_edge / noise.std()
    pixels = (janskys + noise)[::-1, :, :]

    hdu = _marked(fits.PrimaryHDU(pixels[None].astype("f4")))
    beam, centre = galaxy.psf_fwhm_arcsec / 3600, galaxy.pixels / 2 + 1
    middle, observed = len(velocity_kms) // 2, 1e3 * rest_frame_factor(galaxy.v_sys_kms)  # m/s per km/s of the galaxy's own
    hdu.header.update({
        "OBJECT": galaxy.galaxy, "TELESCOP": "VLA", "INSTRUME": "VLA", "BUNIT": "JY/BEAM", "EPOCH": 2000.0, "VELREF": 2,
        "RESTFREQ": _HI_REST_HZ, "CTYPE1": "RA---SIN", "CRVAL1": galaxy.ra_deg, "CDELT1": -galaxy.pixel_scale_arcsec / 3600,
        "CRPIX1": centre, "CROTA1": 0.0, "CTYPE2": "DEC--SIN", "CRVAL2": galaxy.dec_deg, "CDELT2": galaxy.pixel_scale_arcsec / 3600,
        "CRPIX2": centre, "CROTA2": galaxy.rotation_deg, "CTYPE3": "VELO-HEL",
        "CRVAL3": 1e3 * galaxy.v_sys_kms + observed * velocity_kms[::-1][middle], "CDELT3": -observed * step,
        "CRPIX3": middle + 1.0, "CROTA3": 0.0, "CTYPE4": "STOKES", "CRVAL4": 1.0, "CDELT4": 1.0, "CRPIX4": 1.0, "CROTA4": 0.0,
    })  # fmt: skip
    hdu.header["HISTORY"] = f"AIPS   CLEAN BMAJ= {beam:11.4E} BMIN= {beam:11.4E} BPA=   0.00"
    return hdu
