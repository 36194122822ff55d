"""A mock archive in the archives' own layouts, so that simulated galaxies walk through the same readers as real ones."""

import json
import logging
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from tullyflow.errors import SettingsError
from tullyflow.settings import Settings
from tullyflow.surveys import mock_layouts
from tullyflow.surveys.mock_disc import (
    THICKNESS,
    Disc,
    Moments,
    OpticalMaps,
    channels_needed,
    field_of_view,
    moments,
    observe_optical,
    simulate_cube,
)
from tullyflow.surveys.mock_manga import INSTRUMENT_KMS, maps_bytes
from tullyflow.surveys.mock_population import GROUPS, MockGalaxy, draw_population
from tullyflow.surveys.releases import addresses
from tullyflow.tables import TRUTH, whole_file, write_table

__all__ = ["disc_of", "make_archive", "mirror_path", "observe", "true_moments"]

_log = logging.getLogger("tullyflow")
_OPTICAL_CHANNEL_KMS = 10.0
_THINGS_CHANNELS = 50
_STELLAR_ROTATION = 0.85  # of the gas, with the same axis
_STELLAR_ERR_KMS = 8.0
_STATEMENT = (
    "Simulated galaxies (KinMS), not observations. The relation put in is log V = slope (log M* - 10.09) + intercept + N(0, scatter), "
    "V the asymptotic rotation velocity: switch the asymmetric drift correction off to compare. It holds for every row of truth.parquet "
    "but the hard case no_rotation. Gas discs have an exponential scale height of 0.1 scale lengths; noise is white between spaxels."
)


def mirror_path(url: str, root: str | Path) -> Path:
    """Return where an address lies below a mirror: https://host/x -> root/host/x, archive://name/x -> root/name/x."""
    parts = urlsplit(url)
    return Path(root) / parts.netloc / parts.path.lstrip("/")


def make_archive(settings: Settings, out_dir: str | Path, threads: int = 1) -> None:
    """Write the mock archive of ``settings.mock`` below ``out_dir``, a folder that then serves as ``mirror``.

    Beside the surveys' files lie ``truth.parquet`` (tables.TRUTH) and, written last, ``mock.json``. ``threads`` is the
    number of processes; the pixels do not depend on it, only on ``settings.seed``. Raises `SettingsError` where the
    section ``mock`` is absent.
    """
    if settings.mock is None:
        raise SettingsError("mock: the settings hold no section 'mock'; add 'mock: {}' for the default archive.")
    out_dir = Path(out_dir)
    galaxies = draw_population(settings)
    _write_catalogues(galaxies, settings, out_dir)
    tasks = [(settings, galaxy, out_dir) for galaxy in galaxies]
    if threads > 1 and len(tasks) > 1:
        with ProcessPoolExecutor(min(threads, len(tasks)), mp_context=get_context("spawn")) as pool:
            for _ in pool.map(_write_galaxy, tasks, chunksize=4):
                pass
    else:
        for task in tasks:
            _write_galaxy(task)
    names = [column.name for column in TRUTH]
    truth = pd.DataFrame([{name: value for name, value in asdict(g).items() if name in names} for g in galaxies], columns=names)
    write_table(out_dir / "truth.parquet", truth, TRUTH)

    hard = truth["hard_case"].ne("").sum()
    counts = {f"{survey} {release}": int(((truth["survey"] == survey) & (truth["release"] == release)).sum()) for survey, release in GROUPS}
    summary = {
        "statement": _STATEMENT,
        "seed": settings.seed,
        "mock": settings.mock.model_dump(mode="json"),
        "cosmology": settings.cosmology.model_dump(mode="json"),
        "velocity": "asymptotic rotation velocity (not circular)",
        "thickness": f"exponential, {THICKNESS} scale lengths",
        "galaxies": counts,
        "hard_cases": {case: int(n) for case, n in truth["hard_case"].value_counts().sort_index().items() if case},
    }
    with whole_file(out_dir / "mock.json") as part:
        part.write_text(json.dumps(summary, indent=2) + "\n")
    each = ", ".join(f"{name}: {n}" for name, n in counts.items())
    _log.info("mock: %d galaxies in %s (%s); %d hard cases", len(galaxies), out_dir, each, hard)


def disc_of(galaxy: MockGalaxy) -> Disc:
    """Return what KinMS is told: East is at -x, so the image angle from +y is the position angle, turned with the frame."""
    return Disc(
        galaxy.inclination_deg, galaxy.pa_deg + galaxy.rotation_deg, galaxy.v_max_kms, galaxy.r_scale_arcsec, galaxy.r_turn_arcsec,
        galaxy.gas_dispersion_kms, galaxy.centre,
    )  # fmt: skip


def true_moments(galaxy: MockGalaxy, samples: int) -> Moments:
    """Simulate an optical galaxy without noise: maps (y, x) on its own grid, smoothed by its PSF, systemic velocity 0."""
    disc = disc_of(galaxy)
    cube, velocity = simulate_cube(
        disc, pixels=galaxy.pixels, pixel_scale_arcsec=galaxy.pixel_scale_arcsec, beam_fwhm_arcsec=galaxy.psf_fwhm_arcsec,
        channel_kms=_OPTICAL_CHANNEL_KMS, channels=channels_needed(disc, _OPTICAL_CHANNEL_KMS), samples=samples, seed=galaxy.seed,
    )  # fmt: skip
    return moments(cube, velocity, galaxy.psf_fwhm_arcsec / galaxy.pixel_scale_arcsec)


def observe(galaxy: MockGalaxy, truth: Moments) -> tuple[OpticalMaps, np.ndarray]:
    """Return an optical galaxy's noisy maps and its stars' velocities (km/s), both (y, x)."""
    rng = np.random.default_rng((*galaxy.place, 1))
    scale = galaxy.pixel_scale_arcsec
    manga = galaxy.survey == "manga"
    field = field_of_view("hexagon" if manga else "circle", galaxy.pixels, galaxy.field_radius_arcsec / scale)
    maps = observe_optical(
        truth, field, rng, v_sys_kms=galaxy.v_sys_kms, instrument_kms=INSTRUMENT_KMS if manga else mock_layouts.SAMI_INSTRUMENT_KMS,
        snr_edge=galaxy.snr_edge, bright_pixels=galaxy.bright_pixels, star_radius=galaxy.star_radius_arcsec / scale,
        bad_column=galaxy.bad_column,
    )  # fmt: skip
    rotation = maps.true_velocity - galaxy.v_sys_kms
    stellar = _STELLAR_ROTATION * rotation + galaxy.v_sys_kms + _STELLAR_ERR_KMS * rng.standard_normal(rotation.shape)
    return maps, stellar


def _write_catalogues(galaxies: list[MockGalaxy], settings: Settings, out_dir: Path) -> None:
    by_group = {group: [g for g in galaxies if (g.survey, g.release) == group] for group in GROUPS}
    for release in ("DR15", "DR17"):
        path = mirror_path(addresses("manga", release, "drpall", settings)[0], out_dir)
        with whole_file(path) as part:
            mock_layouts.drpall(by_group["manga", release], release, settings.cosmology.h).writeto(part, overwrite=True)
    for dataset, table in mock_layouts.sami_catalogues(by_group["sami", "DR3"]).items():
        with whole_file(mirror_path(addresses("sami", "DR3", dataset, settings)[0], out_dir)) as part:
            table.to_csv(part)
    with whole_file(out_dir / "mock" / "things" / "galaxies.csv") as part:
        mock_layouts.things_catalogue(by_group["things", "NA"]).to_csv(part, index=False)


def _write_galaxy(task: tuple[Settings, MockGalaxy, Path]) -> None:
    settings, galaxy, out_dir = task
    if galaxy.hard_case == "missing_file":
        return
    for url, content in _files(settings, galaxy):
        with whole_file(mirror_path(url, out_dir)) as part:
            part.write_bytes(content)


def _files(settings: Settings, galaxy: MockGalaxy) -> Iterable[tuple[str, bytes]]:
    """Yield (address, bytes) of a galaxy's files."""
    samples = settings.mock.samples
    if galaxy.survey == "things":
        rng = np.random.default_rng((*galaxy.place, 1))
        disc = disc_of(galaxy)
        step = channels_needed(disc, 1.0) / _THINGS_CHANNELS
        cube, velocity = simulate_cube(
            disc, pixels=galaxy.pixels, pixel_scale_arcsec=galaxy.pixel_scale_arcsec, beam_fwhm_arcsec=galaxy.psf_fwhm_arcsec,
            channel_kms=step, channels=_THINGS_CHANNELS, samples=samples, seed=galaxy.seed,
        )  # fmt: skip
        url = addresses("things", galaxy.release, "cube", settings, name=galaxy.galaxy)[0]
        yield url, mock_layouts.fits_bytes(mock_layouts.things_cube(galaxy, cube, velocity, rng))
        return
    maps, stellar = observe(galaxy, true_moments(galaxy, samples))
    if galaxy.survey == "manga":
        daptype = settings.manga.daptype[galaxy.release]
        plate, ifu = galaxy.galaxy.split("-")
        url = addresses("manga", galaxy.release, "maps", settings, daptype=daptype, plate=plate, ifu=ifu)[0]
        yield url, maps_bytes(galaxy, maps, stellar, daptype, settings.manga.lsf_factor)
        return
    sami = settings.sami
    for product, hdus in mock_layouts.sami_files(galaxy, maps, stellar, sami.components).items():
        names = {"catid": galaxy.galaxy, "cube": f"{galaxy.galaxy}_A", "product": product, "binning": sami.binning}
        components = "two-moment" if product == "stellar-velocity" else sami.components
        content = mock_layouts.fits_bytes(hdus)
        if galaxy.hard_case == "truncated_file" and product == "gas-velocity":
            content = content[: len(content) // 2]
        yield addresses("sami", galaxy.release, "maps", settings, components=components, **names)[0], content
