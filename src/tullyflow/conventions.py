"""The only place that converts: angles, velocities, inclinations, masses, lengths.

Position angle ``pa_deg``: North through East to the receding side, 0-360. Inclination: 0 = face-on.
A stamp is 64x64 with the receding side at +x, y up and the galaxy's centre at (31.5, 31.5);
its half-width is 32 pixels. Velocities are km/s in the optical convention (cz).
"""

from dataclasses import dataclass

import numpy as np

__all__ = [
    "C_KMS",
    "EXTRAPOLATION_FACTOR",
    "FWHM_PER_SIGMA",
    "HALF_WIDTH",
    "M_SUN_R",
    "PA_ERRS_MAX",
    "R_80_PER_SCALE_LENGTH",
    "R_E_PER_SCALE_LENGTH",
    "SCALE_LENGTHS_OF_V_22",
    "STAMP",
    "STAMP_CENTRE",
    "THICKNESS_Q0",
    "UNRESOLVED_BEAMS",
    "System",
    "axis_ratio_from_inclination",
    "inclination_error_from_axis_ratio",
    "inclination_from_axis_ratio",
    "log_mass_to_chabrier",
    "log_mass_to_light",
    "log_to_system",
    "magnitude_to_h",
    "optical_from_radio",
    "optical_from_relativistic",
    "rest_frame_factor",
    "sky_to_image_angle",
    "velocity_radii",
    "wrap_degrees",
]

C_KMS = 299_792.458
STAMP = 64
HALF_WIDTH = 32.0
STAMP_CENTRE = 31.5
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
R_E_PER_SCALE_LENGTH = 1.678  # half-light radius of an exponential disc, in scale lengths
R_80_PER_SCALE_LENGTH = 2.994  # radius of 80 % of its light: 1 - (1 + x) exp(-x) = 0.8
SCALE_LENGTHS_OF_V_22 = 2.2  # where the curve of a self-gravitating exponential disc peaks (Freeman 1970)
THICKNESS_Q0 = 0.2  # axis ratio of an edge-on disc
EXTRAPOLATION_FACTOR = 2.0  # r_turn > r_max / 2: the data reach less than 70 % of the asymptote (2/pi arctan 2)
UNRESOLVED_BEAMS = 0.5  # a turnover radius of fewer beams is not seen
PA_ERRS_MAX = 3.0  # position angles this many times less certain than those of the training discs
M_SUN_R = 4.65  # absolute magnitude of the Sun, r band, AB

_LOG_MASS_TO_CHABRIER = {"chabrier": 0.0, "salpeter": -0.24, "kroupa": -0.04}


def velocity_radii(r_scale, r_e, r_max) -> dict[str, np.ndarray]:
    """Radius each rotation velocity belongs to, in the unit of the arguments, arrays (galaxy,); infinite for the asymptote v_max.

    ``r_scale`` is the scale length the velocities use; without a positive ``r_e`` the half-light radius is that of the exponential
    disc. NaN stays NaN.
    """
    r_scale, r_e, r_max = (np.asarray(radius, dtype=float) for radius in (r_scale, r_e, r_max))
    return {
        "v_max": np.full(r_scale.shape, np.inf),
        "v_22": SCALE_LENGTHS_OF_V_22 * r_scale,
        "v_re": np.where(r_e > 0, r_e, R_E_PER_SCALE_LENGTH * r_scale),
        "v_80": R_80_PER_SCALE_LENGTH * r_scale,
        "v_rmax": r_max,
    }


def wrap_degrees(angle_deg, period: float = 360.0):
    """Wrap an angle into [0, period). NaN stays NaN."""
    return np.mod(angle_deg, period)


def inclination_from_axis_ratio(axis_ratio, q0: float = THICKNESS_Q0):
    """Inclination (deg) of an oblate disc: cos^2 i = (q^2 - q0^2) / (1 - q0^2), Hubble 1926.

    ``axis_ratio`` b/a in 0-1, any shape; q <= q0 gives 90, q > 1 or NaN gives NaN.
    """
    q = np.asarray(axis_ratio, dtype=float)
    cos2 = np.clip((q**2 - q0**2) / (1 - q0**2), 0.0, 1.0)
    return np.where((q > 0) & (q <= 1), np.degrees(np.arccos(np.sqrt(cos2))), np.nan)


def axis_ratio_from_inclination(inclination_deg, q0: float = THICKNESS_Q0):
    """Inverse of `inclination_from_axis_ratio`: b/a of an oblate disc seen at ``inclination_deg``."""
    cos = np.cos(np.radians(inclination_deg))
    return np.sqrt(q0**2 + (1 - q0**2) * cos**2)


def inclination_error_from_axis_ratio(axis_ratio, axis_ratio_err, q0: float = THICKNESS_Q0, q0_err: float = 0.05):
    """1 sigma of the inclination (deg) by central differences over b/a and the thickness, added in quadrature.

    ``axis_ratio_err`` is in b/a; a NaN axis ratio gives NaN.
    """
    q = np.asarray(axis_ratio, dtype=float)
    dq = np.asarray(axis_ratio_err, dtype=float)
    low, high = np.clip(q - dq, 1e-3, 1), np.clip(q + dq, 1e-3, 1)
    by_q = (inclination_from_axis_ratio(low, q0) - inclination_from_axis_ratio(high, q0)) / 2
    by_q0 = (inclination_from_axis_ratio(q, q0 + q0_err) - inclination_from_axis_ratio(q, max(q0 - q0_err, 0.0))) / 2
    return np.hypot(by_q, by_q0)


def sky_to_image_angle(pa_deg, north, east):
    """Direction on the image (deg counter-clockwise from +x) of a sky position angle.

    ``north`` and ``east`` are unit pixel vectors (x, y) of the two sky directions, from the WCS:
    so a rotated or mirrored image is handled by construction.
    """
    pa = np.radians(pa_deg)
    x = np.cos(pa) * north[0] + np.sin(pa) * east[0]
    y = np.cos(pa) * north[1] + np.sin(pa) * east[1]
    return wrap_degrees(np.degrees(np.arctan2(y, x)))


def optical_from_radio(v_radio_kms):
    """Optical velocity cz (km/s) of a radio-convention velocity c(1 - f/f0) (km/s)."""
    v = np.asarray(v_radio_kms, dtype=float)
    return v / (1 - v / C_KMS)


def optical_from_relativistic(v_kms):
    """Optical velocity cz (km/s) of a relativistic radial velocity: 1 + z = sqrt((1 + v/c) / (1 - v/c))."""
    beta = np.asarray(v_kms, dtype=float) / C_KMS
    return C_KMS * (np.sqrt((1 + beta) / (1 - beta)) - 1)


def rest_frame_factor(v_sys_kms: float) -> float:
    """1 + z of a galaxy whose systemic velocity is cz = ``v_sys_kms``.

    Differences of optical velocities cz within the galaxy are this times the velocities in its rest frame: (1 + z') =
    (1 + z)(1 + v/c). Dispersions likewise, their squares by the square.
    """
    return 1 + v_sys_kms / C_KMS


def log_mass_to_chabrier(log_mass, imf: str):
    """log10 mass (Msun) on a Chabrier IMF; Salpeter is 0.24 dex and Kroupa 0.04 dex heavier (SCIENCE 8)."""
    return np.asarray(log_mass, dtype=float) + _LOG_MASS_TO_CHABRIER[imf.lower()]


def magnitude_to_h(abs_mag_h1, h: float):
    """Absolute magnitude quoted for h = 1 (M - 5 log h, e.g. NSA) at another h."""
    return np.asarray(abs_mag_h1, dtype=float) + 5 * np.log10(h)


@dataclass(frozen=True)
class System:
    """What the masses and star formation rates of a catalogue assume, and who says so.

    ``imf`` is the initial mass function ("" where it does not matter, e.g. HI), ``h`` the Hubble constant / 100 km/s/Mpc
    of its distances.
    """

    imf: str
    h: float
    source: str


def log_to_system(log_value, system: System, h: float, imf: str = "chabrier"):
    """log10 of a mass or star formation rate of a catalogue, at another h and on a Chabrier initial mass function.

    Both go with the square of the distance, so with h^-2: log x + 2 log10(h_catalogue / h). Star formation rates measured from
    light change with the initial mass function by about the factor of the masses, and are converted by the same one: specific
    rates stay what they are. ``imf`` "own" leaves the catalogue's initial mass function alone. NaN stays NaN.
    """
    log_value = np.asarray(log_value, dtype=float) + 2 * np.log10(system.h / h)
    return log_value if imf == "own" or not system.imf else log_mass_to_chabrier(log_value, system.imf)


def log_mass_to_light(log_mass, abs_mag_r):
    """log10 of the mass-to-light ratio in the r band (solar units), of a log10 mass and an absolute AB magnitude of one h."""
    return np.asarray(log_mass, dtype=float) + 0.4 * (np.asarray(abs_mag_r, dtype=float) - M_SUN_R)
