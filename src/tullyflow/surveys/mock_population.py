"""The mock universe: galaxies on a known Tully-Fisher relation, each drawn from its own seed.

log V_max = slope (log M* - 10.09) + intercept + N(0, scatter), with V_max the asymptotic *rotation* velocity of
V(R) = (2/pi) V_max arctan(R/r_turn): no asymmetric drift is put in, so none may be taken out in a comparison.
A galaxy depends on (seed, group, place in the group) alone: a longer list keeps its first galaxies.
"""

from dataclasses import dataclass

import numpy as np
from astropy.cosmology import FlatLambdaCDM

from tullyflow.conventions import C_KMS, R_E_PER_SCALE_LENGTH, axis_ratio_from_inclination, wrap_degrees
from tullyflow.settings import Settings

__all__ = ["GROUPS", "HARD_CASES", "PIVOT", "MockGalaxy", "draw_population"]

PIVOT = 10.09  # of log M*, as in the thesis' reverse relation
GROUPS = (("manga", "DR15"), ("manga", "DR17"), ("sami", "DR3"), ("things", "NA"))
_DR15, _DR17, _SAMI = 0, 1, 2

# what each case must be flagged as (any of the names), and the groups it is put in, first choice first
HARD_CASES = {
    "face_on": ("FACE_ON", (_DR15, _SAMI, _DR17)),
    "no_rotation": ("NO_ROTATION,PA_FAILED", (_DR17, _DR15, _SAMI)),
    "too_few_pixels": ("TOO_FEW_PIXELS,LOW_FILL_FACTOR", (_SAMI, _DR17, _DR15)),
    "missing_mass": ("MISSING_MASS", (_DR17, _SAMI, _DR15)),
    "quality_bad": ("QUALITY_BAD", (_DR15, _DR17)),
    "truncated_file": ("UNREADABLE_FILE,FETCH_FAILED", (_DR17, _DR15, _SAMI)),
    "missing_file": ("MISSING_FILE", (_SAMI, _DR17, _DR15)),
    "missing_hdu": ("MISSING_HDU", (_DR15, _DR17, _SAMI)),
    "foreground_star": ("QUALITY_WARNING", (_DR17, _DR15)),
    "missing_mass_nan": ("MISSING_MASS", (_SAMI,)),
}

# a MaNGA plate's bundles, sizes mixed; diameter (arcsec) and grid of each
_IFUS = "12701 6101 9101 3701 12702 6102 1901 12703 3702 9102 6103 12704 3703 6104 12705 1902 3704".split()  # noqa: SIM905
_BUNDLES = {19: (12.5, 34), 37: (17.5, 42), 61: (22.5, 54), 91: (27.5, 64), 127: (32.5, 74)}
_FIRST_PLATE = {"DR15": 70001, "DR17": 90001}  # no real plate has such a number
_SAMI_RADIUS, _SAMI_GRID = 7.35, 50
_OPTICAL_PIXEL = 0.5
_REDSHIFTS = (0.005, 0.15)
_PRIMARY_TARGET, _SECONDARY_TARGET = 1 << 10, 1 << 11  # MNGTARG1


@dataclass(frozen=True)
class MockGalaxy:
    """One galaxy: the truth, its catalogue entries, and how it is observed. Angles and units as the names say.

    ``v_sys_kms`` counts from the zero of the galaxy's own map; ``centre`` is (x, y) in 0-based pixels; ``seed`` is for
    KinMS and ``place`` = (seed, group, index) for its noise.
    """

    galaxy: str
    survey: str
    release: str
    hard_case: str
    expected_flags: str
    log_mstar: float
    abs_mag_r: float
    v_max_kms: float
    inclination_deg: float
    pa_deg: float
    v_sys_kms: float
    r_scale_arcsec: float
    r_turn_arcsec: float
    gas_dispersion_kms: float
    z: float
    distance_mpc: float
    ra_deg: float
    dec_deg: float
    axis_ratio: float
    pa_phot_deg: float
    target_bits: int
    pixels: int
    pixel_scale_arcsec: float
    field_radius_arcsec: float
    psf_fwhm_arcsec: float
    centre: tuple[float, float]
    rotation_deg: float
    snr_edge: float
    bright_pixels: int
    star_radius_arcsec: float
    bad_column: bool
    seed: int
    place: tuple[int, int, int]

    @property
    def r_e_arcsec(self) -> float:
        """Half-light radius along the major axis."""
        return self.r_scale_arcsec * R_E_PER_SCALE_LENGTH


def _place_hard_cases(counts: tuple[int, ...]) -> dict[tuple[int, int], str]:
    """Return {(group, index): case}: evenly spread, never more than half of a group."""
    chosen: dict[int, list[str]] = {group: [] for group in range(len(GROUPS))}
    for case, (_, groups) in HARD_CASES.items():
        group = next((g for g in groups if len(chosen[g]) < counts[g] // 2), None)
        if group is not None:
            chosen[group].append(case)
    return {
        (group, (2 * k + 1) * counts[group] // (2 * len(cases))): case.removesuffix("_nan")
        for group, cases in chosen.items()
        for k, case in enumerate(cases)
    }


def draw_population(settings: Settings) -> list[MockGalaxy]:
    """Return every galaxy of the mock archive in its groups' order (MaNGA DR15, DR17, SAMI, THINGS).

    Log M* is uniform between 8.8 and 11.3, P(i) ~ sin i between 20 and 85 deg, position angles are uniform, the r-band
    relation is M_r = -21.0 - 2.1 (log M* - 10.3) +- 0.15, log R_e/kpc = 0.25 (log M* - 10) + 0.65 +- 0.12, and r_turn/R_e
    falls with mass. Hard cases sit at fixed places.
    """
    mock = settings.mock
    counts = (mock.manga_dr15, mock.manga_dr17, mock.sami, mock.things)
    cases = _place_hard_cases(counts)
    cosmology = FlatLambdaCDM(H0=100 * settings.cosmology.h, Om0=settings.cosmology.omega_m)
    z = np.geomspace(0.001, 0.5, 400)
    kpc_per_arcsec = cosmology.angular_diameter_distance(z).value * 1e3 / 206_265
    return [
        _draw(settings, group, k, cases.get((group, k), ""), (z, kpc_per_arcsec, cosmology))
        for group, count in enumerate(counts)
        for k in range(count)
    ]


def _name(survey: str, release: str, k: int) -> str:
    if survey == "manga":
        return f"{_FIRST_PLATE[release] + k // len(_IFUS)}-{_IFUS[k % len(_IFUS)]}"
    if survey == "sami":
        return str(9_980_000_001 + k if k % 4 == 3 else 88_000_001 + k)  # every fourth is a cluster galaxy
    return f"MOCK_{k + 1}"


def _draw(settings: Settings, group: int, k: int, case: str, scales: tuple) -> MockGalaxy:
    mock, (survey, release) = settings.mock, GROUPS[group]
    place = (settings.seed, group, k)
    rng = np.random.default_rng(place)
    name = _name(survey, release, k)

    log_mstar = rng.uniform(10.2, 11.0) if case == "face_on" else rng.uniform(8.8, 11.3)
    log_v = mock.slope * (log_mstar - PIVOT) + mock.intercept + mock.scatter * rng.standard_normal()
    abs_mag_r = -21.0 - 2.1 * (log_mstar - 10.3) + 0.15 * rng.standard_normal()
    r_e_kpc = 10 ** (0.25 * (log_mstar - 10) + 0.65 + 0.12 * rng.standard_normal())
    turn_over_e = np.clip(10 ** (np.log10(0.3) - 0.25 * (log_mstar - 10) + 0.12 * rng.standard_normal()), 0.15, 0.6)
    inclination = np.degrees(np.arccos(rng.uniform(np.cos(np.radians(85)), np.cos(np.radians(20)))))
    inclination = {"face_on": 10.0, "no_rotation": 30.0}.get(case, inclination)
    pa = rng.uniform(0, 360)
    v_sys = rng.uniform(-60, 60)
    dispersion = max(mock.gas_dispersion + 5 * rng.standard_normal(), 0.25 * mock.gas_dispersion)
    r_e_per_field = rng.uniform(1.5, 2.5)
    offset = rng.uniform(-0.5, 0.5, 2).tolist()
    extra = rng.uniform(size=4).tolist()
    common = {
        "galaxy": name, "survey": survey, "release": release, "hard_case": case,
        "log_mstar": log_mstar, "abs_mag_r": abs_mag_r, "v_max_kms": 5.0 if case == "no_rotation" else 10**log_v,
        "inclination_deg": inclination, "pa_deg": pa, "gas_dispersion_kms": dispersion,
        "ra_deg": rng.uniform(110, 260), "dec_deg": rng.uniform(0, 60), "seed": int(rng.integers(1, 2**20)), "place": place,
        "axis_ratio": float(np.clip(axis_ratio_from_inclination(inclination) + 0.015 * rng.standard_normal(), 0.2, 0.99)),
        "pa_phot_deg": float(wrap_degrees(pa + 3 * rng.standard_normal(), 180.0)),
    }  # fmt: skip
    expected = HARD_CASES[case][0] if case else ""
    if survey == "things":
        return _radio({**common, "expected_flags": expected}, r_e_kpc, turn_over_e, offset, extra)

    if survey == "manga":
        diameter, pixels = _BUNDLES[int(name.split("-")[1][:-2])]
        radius, psf, middle = diameter / 2, 2.5 + 0.16 * (extra[0] - 0.5), pixels / 2
    else:
        radius, pixels, psf = _SAMI_RADIUS, _SAMI_GRID, 2.2 + 0.5 * (extra[0] - 0.5)
        middle = (pixels - 1) / 2
    r_e = radius / r_e_per_field
    z, kpc_per_arcsec, cosmology = scales
    redshift = float(np.clip(np.interp(r_e_kpc / r_e, kpc_per_arcsec, z), *_REDSHIFTS))  # a giant in a small field is a compact one
    star = 2.5 if case == "foreground_star" else 1.5 if survey == "manga" and extra[1] < 0.15 and not case else 0.0
    return MockGalaxy(
        **common,
        expected_flags=expected or ("QUALITY_WARNING" if star else ""),
        v_sys_kms=v_sys / 30 if case == "no_rotation" else v_sys,
        r_scale_arcsec=r_e / R_E_PER_SCALE_LENGTH,
        r_turn_arcsec=turn_over_e * r_e,
        z=redshift,
        distance_mpc=float(cosmology.luminosity_distance(redshift).value),
        target_bits=_PRIMARY_TARGET if r_e_per_field < 2 else _SECONDARY_TARGET,
        pixels=pixels,
        pixel_scale_arcsec=_OPTICAL_PIXEL,
        field_radius_arcsec=radius,
        psf_fwhm_arcsec=psf,
        centre=(middle + offset[0], middle + offset[1]),
        rotation_deg=0.0,
        snr_edge={"no_rotation": 80.0, "too_few_pixels": 9.0}.get(case, (10 if survey == "manga" else 16) * 2.5 ** extra[2]),
        bright_pixels=60 if case == "too_few_pixels" else 0,
        star_radius_arcsec=star,
        bad_column=survey == "manga" and extra[3] < 0.2 and not case,
    )


def _radio(common: dict, r_e_kpc: float, turn_over_e: float, offset: list[float], extra: list[float]) -> MockGalaxy:
    """A nearby galaxy in a cube of 64 pixels of 6-10 arcsec, beam of 2-3 pixels, at 3-15 Mpc; the frame is turned (CROTA2)."""
    pixels, scale = 64, 6 + 4 * extra[0]
    distance = float(np.clip(r_e_kpc / (11 * scale) * 206.265, 3.0, 15.0))
    r_e = r_e_kpc / distance * 206.265
    v_sys = 70 * distance + 100 * (extra[1] - 0.5)
    return MockGalaxy(
        **common,
        v_sys_kms=v_sys,
        r_scale_arcsec=r_e / R_E_PER_SCALE_LENGTH,
        r_turn_arcsec=turn_over_e * r_e,
        z=v_sys / C_KMS,
        distance_mpc=distance,
        target_bits=0,
        pixels=pixels,
        pixel_scale_arcsec=scale,
        field_radius_arcsec=scale * pixels / 2,
        psf_fwhm_arcsec=scale * (2 + extra[2]),
        centre=(pixels / 2 + offset[0], pixels / 2 + offset[1]),
        rotation_deg=30 * (extra[3] - 0.5),
        snr_edge=5.0,
        bright_pixels=0,
        star_radius_arcsec=0.0,
        bad_column=False,
    )
