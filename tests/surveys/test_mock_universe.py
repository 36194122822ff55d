"""The mock universe: honest errors against a disc that KinMS has no part in, and the relation put in."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tullyflow.conventions import FWHM_PER_SIGMA
from tullyflow.settings import parse_settings
from tullyflow.surveys.mock import observe, true_moments
from tullyflow.surveys.mock_disc import THICKNESS
from tullyflow.surveys.mock_manga import INSTRUMENT_KMS, stated_instrument_kms
from tullyflow.surveys.mock_population import HARD_CASES, draw_population

ROOT = Path(__file__).resolve().parents[2]


def settings_of(**mock):
    counts = {"manga_dr15": 6, "manga_dr17": 8, "sami": 8, "things": 2}
    return parse_settings({"releases": str(ROOT / "config/releases.csv"), "seed": 7, "mock": {**counts, **mock}})


def smooth_velocity(galaxy) -> np.ndarray:
    """Velocity map (y, x) of the disc by quadrature over radius, azimuth and height: nothing of KinMS in it."""
    mass = (np.arange(320) + 0.5) / 320
    radii = np.linspace(0, 14, 20_000)
    radius = galaxy.r_scale_arcsec * np.interp(mass, 1 - (1 + radii) * np.exp(-radii), radii)
    half = (np.arange(6) + 0.5) / 6
    z = THICKNESS * galaxy.r_scale_arcsec * np.concatenate([np.log(half), -np.log(half)])
    r, phi, z = np.meshgrid(radius, 2 * np.pi * (np.arange(180) + 0.3) / 180, z, indexing="ij", sparse=True)
    i, pa = np.radians(galaxy.inclination_deg), np.radians(galaxy.pa_deg)
    major = r * np.cos(phi) + 0 * z
    minor = r * np.sin(phi) * np.cos(i) + z * np.sin(i)
    speed = 2 / np.pi * galaxy.v_max_kms * np.arctan(r / galaxy.r_turn_arcsec) * np.sin(i) * np.cos(phi) + 0 * z
    east, north = major * np.sin(pa) + minor * np.cos(pa), major * np.cos(pa) - minor * np.sin(pa)
    fine, pixels = 3, galaxy.pixels
    x = galaxy.centre[0] - east / galaxy.pixel_scale_arcsec
    y = galaxy.centre[1] + north / galaxy.pixel_scale_arcsec
    edges = np.linspace(-6.5, pixels + 5.5, (pixels + 12) * fine + 1)
    sigma = galaxy.psf_fwhm_arcsec / FWHM_PER_SIGMA / galaxy.pixel_scale_arcsec * fine

    def image(weights):
        binned = np.histogram2d(y.ravel(), x.ravel(), bins=(edges, edges), weights=weights)[0]
        smooth = gaussian_filter(binned, sigma)
        return smooth.reshape(pixels + 12, fine, pixels + 12, fine).sum((1, 3))[6:-6, 6:-6]

    with np.errstate(invalid="ignore"):  # no light in the corners
        return image(speed.ravel()) / image(None)


def optical_galaxies():
    normal = [g for g in draw_population(settings_of()) if g.survey != "things" and not g.hard_case]
    return [next(g for g in normal if g.inclination_deg < 40), next(g for g in normal if 55 < g.inclination_deg < 75)]


@pytest.mark.parametrize("galaxy", optical_galaxies(), ids=lambda g: f"{g.galaxy}-i{g.inclination_deg:.0f}")
def test_velocity_errors_are_those_of_the_noise(galaxy):
    maps, _ = observe(galaxy, true_moments(galaxy, 200_000))
    truth = smooth_velocity(galaxy) + galaxy.v_sys_kms
    good = maps.fitted & ~maps.star & ~maps.column
    pull = ((maps.velocity - truth) / maps.velocity_err)[good]
    assert abs(pull.mean()) < 0.15, "the noisy map is biased against the smoothed disc"
    assert 0.9 < pull.std() < 1.12, "the stated errors are not those of the noise"
    assert np.mean(np.abs(pull) < 1) == pytest.approx(0.683, abs=0.05)
    assert np.mean(np.abs(pull[np.abs(truth[good] - galaxy.v_sys_kms) > 50])) < 1  # fast pixels too


def test_cloudlet_noise_is_counted():
    galaxy = optical_galaxies()[0]
    moments = true_moments(galaxy, 50_000)
    bright = moments.flux > 0.05 * moments.flux.max()
    pull = ((moments.velocity - smooth_velocity(galaxy)) / moments.velocity_err)[bright]
    assert 0.8 < pull.std() < 1.25


@pytest.mark.parametrize("release", ["DR15", "DR17"])
def test_gas_dispersion_comes_back_once_the_instrument_is_removed(release):
    settings = settings_of()
    galaxy = next(g for g in draw_population(settings) if g.release == release and g.inclination_deg < 45)
    maps, _ = observe(galaxy, true_moments(galaxy, 100_000))
    factor = settings.manga.lsf_factor if release == "DR15" else 1.0
    assert factor * stated_instrument_kms(release, settings.manga.lsf_factor) == pytest.approx(INSTRUMENT_KMS)
    y, x = np.mgrid[: galaxy.pixels, : galaxy.pixels]
    radius = np.hypot(x - galaxy.centre[0], y - galaxy.centre[1]) * galaxy.pixel_scale_arcsec
    outer = maps.fitted & ~maps.star & (radius > 0.6 * galaxy.field_radius_arcsec) & (maps.flux > 10 * maps.flux_err)
    mean = np.sqrt(np.mean(maps.dispersion[outer] ** 2 - INSTRUMENT_KMS**2))
    assert mean == pytest.approx(galaxy.gas_dispersion_kms, rel=0.35)


def test_truth_recovers_the_relation_put_in():
    galaxies = draw_population(settings_of(manga_dr15=300, manga_dr17=300, sami=300, things=40, slope=0.31, intercept=2.2, scatter=0.06))
    x = np.array([g.log_mstar - 10.09 for g in galaxies if g.hard_case != "no_rotation"])
    y = np.log10([g.v_max_kms for g in galaxies if g.hard_case != "no_rotation"])
    (slope, intercept), covariance = np.polyfit(x, y, 1, cov=True)
    error = np.sqrt(np.diag(covariance))
    assert abs(slope - 0.31) < 3.5 * error[0] and abs(intercept - 2.2) < 3.5 * error[1]
    assert np.std(y - slope * x - intercept) == pytest.approx(0.06, rel=0.1)


def test_a_longer_list_keeps_its_first_galaxies():
    short = [g for g in draw_population(settings_of(manga_dr17=8)) if g.release == "DR17"]
    longer = [g for g in draw_population(settings_of(manga_dr17=60)) if g.release == "DR17"]
    same = [a == b for a, b in zip(short, longer, strict=False) if not (a.hard_case or b.hard_case)]
    assert len(same) > 2 and all(same)


def test_names_and_fields_are_possible():
    galaxies = draw_population(settings_of(manga_dr15=40, manga_dr17=60, sami=60, things=8))
    assert len({(g.survey, g.galaxy) for g in galaxies}) == len(galaxies)
    optical = [g for g in galaxies if g.survey != "things"]
    assert all(1.45 < g.field_radius_arcsec / g.r_e_arcsec < 2.55 for g in optical)
    assert all(0.005 <= g.z <= 0.15 for g in optical)
    assert all(3 <= g.distance_mpc <= 15 for g in galaxies if g.survey == "things")
    assert all(20 <= g.inclination_deg <= 85 for g in galaxies if g.hard_case != "face_on")


def test_hard_cases_are_few_in_the_default_archive():
    galaxies = draw_population(parse_settings({"mock": {}}))
    hard = [g for g in galaxies if g.hard_case]
    assert len(galaxies) == 168 and len(HARD_CASES) <= len(hard) <= 0.08 * len(galaxies)
    assert {(g.survey, g.release) for g in hard} == {("manga", "DR15"), ("manga", "DR17"), ("sami", "DR3")}
