"""THINGS: HI cubes of nearby galaxies; the target table is shipped with the package.

A survey of 34 galaxies has no catalogue server: ``things_galaxies.csv`` holds positions, distances and geometry
(Walter+2008, de Blok+2008) and masses (Leroy+2008), each row with its reference.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.conventions import C_KMS, axis_ratio_from_inclination, log_mass_to_chabrier
from tullyflow.errors import CatalogueError
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps, Product
from tullyflow.surveys.cubes import read_cube
from tullyflow.surveys.fits_images import path_of
from tullyflow.surveys.releases import addresses, galaxy_product
from tullyflow.surveys.rows import check_names, flag_missing, read_csv
from tullyflow.tables import TARGETS

__all__ = ["catalogue_products", "products", "read", "targets"]

_NEEDED = ("galaxy", "ra_deg", "dec_deg", "distance_mpc")
_MOCK_CATALOGUE = "archive://mock/things/galaxies.csv"


def catalogue_products(release: str, settings: Settings) -> list[Product]:
    """List no catalogue (the table is shipped), or the mock archive's own."""
    if settings.mock is None:
        return []
    return [Product(galaxy=release, product="catalogue", urls=(_MOCK_CATALOGUE,), path=f"things/{release}/catalogues/galaxies.csv")]


def targets(catalogues: Mapping[str, Path], release: str, settings: Settings) -> pd.DataFrame:
    """Return one row per galaxy of the shipped table, or of the catalogue handed in (same columns, any target column besides).

    The axis ratio is that of an oblate disc (q0 = 0.2) at the table's inclination, z = v_sys / c, and the beam
    (geometric mean of both axes) that of the release, natural (NA) or robust (RO) weighting; empty where not known.
    """
    if "catalogue" in catalogues:
        source = str(catalogues["catalogue"])
        table = read_csv(catalogues["catalogue"], _NEEDED, text=("galaxy", "imf", "reference", "morphology"))
    else:
        source = "things_galaxies.csv"
        with resources.as_file(resources.files("tullyflow.surveys") / "things_galaxies.csv") as path:
            table = read_csv(path, _NEEDED, text=("galaxy", "imf", "reference"))
    check_names(table["galaxy"], source)

    def column(name: str) -> np.ndarray:
        return pd.to_numeric(table[name], errors="coerce").to_numpy(float) if name in table else np.full(len(table), np.nan)

    copied = {c.name: column(c.name) for c in TARGETS if c.kind == "f" and c.name in table}
    imf = table["imf"].fillna("").str.lower().to_numpy() if "imf" in table else np.full(len(table), "chabrier")
    unknown = sorted(set(imf) - {"", "chabrier", "kroupa", "salpeter"})
    if unknown:
        raise CatalogueError(f"{source}: imf {unknown[0]!r} is not known; known: chabrier, kroupa, salpeter.")
    mass = column("log_mstar")
    beam = np.sqrt(column(f"bmaj_{release.lower()}_arcsec") * column(f"bmin_{release.lower()}_arcsec"))
    axis_ratio = column("axis_ratio")
    frame = pd.DataFrame({
        **copied, "galaxy": table["galaxy"], "survey": "things", "release": release, "shard": "",
        "z": np.where(np.isfinite(column("z")), column("z"), column("v_sys_kms") / C_KMS),
        "log_mstar": [float(log_mass_to_chabrier(m, k or "chabrier")) for m, k in zip(mass, imf, strict=True)], "imf": imf,
        "axis_ratio": np.where(np.isfinite(axis_ratio), axis_ratio, axis_ratio_from_inclination(column("inclination_deg"))),
        "pa_phot_deg": np.mod(np.where(np.isfinite(column("pa_phot_deg")), column("pa_phot_deg"), column("pa_deg")), 180.0),
        "drp3qual": 0, "flags": 0, "messages": "", "observation": "",
        "psf_fwhm_arcsec": np.where(np.isfinite(beam), beam, column("psf_fwhm_arcsec")),
    })  # fmt: skip
    if "abs_mag_r" not in frame:
        frame["abs_mag_r"] = np.nan
    return flag_missing(frame)


def products(target: Mapping, release: str, settings: Settings) -> list[Product]:
    """List the one file a galaxy needs: its cube."""
    galaxy = str(target["galaxy"])
    urls = addresses("things", release, "cube", settings, name=galaxy)
    return [galaxy_product(galaxy, "cube", urls, f"things/{release}/cubes")]


def read(paths: Mapping[str, Path], target: Mapping, settings: Settings) -> GalaxyMaps:
    """Make moment maps of a cube; the centre is the table's position.

    Raises `DataError`: MISSING_FILE, UNREADABLE_FILE, MISSING_HDU, NO_WCS.
    """
    galaxy = str(target["galaxy"])
    return read_cube(path_of(paths, "cube", galaxy), target, settings)
