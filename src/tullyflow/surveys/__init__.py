"""One adapter per survey; what each must offer is the `Survey` protocol below.

A fourth survey is one new module here (and rows in ``config/releases.csv``): nothing after
`GalaxyMaps` knows where a galaxy came from.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tullyflow.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from astropy.wcs import WCS

    from tullyflow.settings import Settings

__all__ = ["SURVEYS", "GalaxyMaps", "Product", "Survey", "get_survey"]

SURVEYS = ("manga", "sami", "things", "local")


@dataclass(frozen=True)
class Product:
    """One file: where it may be found (mirrors in order) and where it is kept.

    ``urls`` may be http(s), file, ``archive://HOST/PATH`` for archives without static addresses (found only under
    ``mirror``), or a service (``tap+https``, ``bulk+https``, ``private+https``). ``path`` is relative to the resources folder;
    a FITS file must have ``hdus`` (names; ``A|B``: one of them, BINTABLE: any table), a CSV table ``columns``.
    """

    galaxy: str
    product: str
    urls: tuple[str, ...]
    path: str
    sha256: str = ""
    hdus: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class GalaxyMaps:
    """One galaxy on its native grid, as its reader delivers it. Arrays are (y, x).

    Velocities in km/s (positive = receding, systemic not removed), intensity in ``intensity_unit``,
    ``dispersion_sq`` in km^2/s^2 with the instrument removed (may be negative), errors 1 sigma,
    ``mask`` bits of ``flags.PIXEL``. ``centre`` is (x, y), 0-based pixels; ``centre_guessed``: nobody said where it is.
    NaN = no value. ``absolute``: velocities are cz (zero at rest with us), so that what they show inside the galaxy is 1 + z too
    large; False where they are relative to the galaxy's redshift and already in its rest frame. ``beam``: FWHM along its axes
    (arcsec) and position angle (deg, N through E) of an elliptical beam, where the file says them; ``psf_fwhm_arcsec`` is one
    number for either.
    """

    galaxy: str
    velocity: "np.ndarray"
    velocity_err: "np.ndarray"
    mask: "np.ndarray"
    wcs: "WCS | None"
    centre: tuple[float, float]
    pixel_scale_arcsec: float
    intensity: "np.ndarray | None" = None
    intensity_err: "np.ndarray | None" = None
    intensity_unit: str = ""
    dispersion_sq: "np.ndarray | None" = None
    dispersion_sq_err: "np.ndarray | None" = None
    stellar_velocity: "np.ndarray | None" = None
    stellar_velocity_err: "np.ndarray | None" = None
    bin_id: "np.ndarray | None" = None
    psf_fwhm_arcsec: float = float("nan")
    beam: tuple[float, float, float] | None = None
    fov_pixels: int = 0
    absolute: bool = False
    centre_guessed: bool = False
    flags: int = 0
    messages: tuple[str, ...] = ()
    history: Mapping[str, str] = field(default_factory=dict)


class Survey(Protocol):
    """What the workflow asks of a survey. Each adapter module holds these four functions."""

    def catalogue_products(self, release: str, settings: "Settings") -> list[Product]:
        """List the catalogue files that `targets` reads."""

    def targets(self, catalogues: Mapping[str, Path], release: str, settings: "Settings") -> "pd.DataFrame":
        """Return one row per galaxy with the columns of ``tables.TARGETS`` (shard left empty)."""

    def products(self, target: Mapping, release: str, settings: "Settings") -> list[Product]:
        """List the files one galaxy needs."""

    def read(self, paths: Mapping[str, Path], target: Mapping, settings: "Settings") -> GalaxyMaps:
        """Read one galaxy; raise `DataError` with its flag where the data cannot be used."""


def get_survey(name: str) -> Survey:
    """Return the adapter module of a survey; raise `SettingsError` for an unknown name."""
    if name not in SURVEYS:
        raise SettingsError(f"surveys: unknown survey {name!r}; known: {', '.join(SURVEYS)}.")
    return importlib.import_module(f"tullyflow.surveys.{name}")
