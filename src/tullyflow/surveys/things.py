"""THINGS: HI cubes, or moment maps, of nearby galaxies; the target table is shipped with the package.

A survey of 34 galaxies has no catalogue server: ``things_galaxies.csv`` holds positions, distances, geometry (Walter+2008,
de Blok+2008), scale lengths and masses. ``reference`` says per quantity where it is from, ``confidence`` how sure it is: H read in
the survey's own table, M at second hand, L from memory or unconfirmed. Masses are those of Leroy+2008 (0.5 Msun/Lsun in K) where
they have the galaxy, else S4G's (0.6 at 3.6 um), SPARC's (0.5 at 3.6 um) or Lee+2006's, at the table's distance. Of the 15
galaxies in both (IC 2574 apart), S4G's are 0.12 dex heavier (scatter 0.07) on one initial mass function: nothing is done about it.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.conventions import C_KMS, axis_ratio_from_inclination
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps, Product
from tullyflow.surveys.cubes import check_on_map, read_cube
from tullyflow.surveys.fits_images import path_of
from tullyflow.surveys.releases import addresses, galaxy_product
from tullyflow.surveys.rows import check_names, common_masses, flag_missing, mass_doubts, read_csv
from tullyflow.surveys.things_moments import MOMENTS, read_moments
from tullyflow.tables import TARGETS

__all__ = ["catalogue_products", "products", "read", "targets"]

_NEEDED = ("galaxy", "ra_deg", "dec_deg", "distance_mpc")
_TEXT = ("galaxy", "imf", "reference", "confidence", "morphology")
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
    A mass of confidence L, and one that is missing, have a sentence with its reference.
    """
    if "catalogue" in catalogues:
        source = str(catalogues["catalogue"])
        table = read_csv(catalogues["catalogue"], _NEEDED, text=_TEXT)
    else:
        source = "things_galaxies.csv"
        with resources.as_file(resources.files("tullyflow.surveys") / "things_galaxies.csv") as path:
            table = read_csv(path, _NEEDED, text=_TEXT)
    check_names(table["galaxy"], source)

    def column(name: str) -> np.ndarray:
        return pd.to_numeric(table[name], errors="coerce").to_numpy(float) if name in table else np.full(len(table), np.nan)

    copied = {c.name: column(c.name) for c in TARGETS if c.kind == "f" and c.name in table}
    imf = table["imf"].fillna("").str.lower() if "imf" in table else pd.Series(["chabrier"] * len(table))
    mass = column("log_mstar")
    beam = np.sqrt(column(f"bmaj_{release.lower()}_arcsec") * column(f"bmin_{release.lower()}_arcsec"))
    axis_ratio = column("axis_ratio")
    frame = pd.DataFrame({
        **copied, "galaxy": table["galaxy"], "survey": "things", "release": release, "shard": "",
        "z": np.where(np.isfinite(column("z")), column("z"), column("v_sys_kms") / C_KMS),
        "log_mstar": common_masses(mass, imf, settings, source), "imf": imf,
        "axis_ratio": np.where(np.isfinite(axis_ratio), axis_ratio, axis_ratio_from_inclination(column("inclination_deg"))),
        "pa_phot_deg": np.mod(np.where(np.isfinite(column("pa_phot_deg")), column("pa_phot_deg"), column("pa_deg")), 180.0),
        "drp3qual": 0, "flags": 0, "messages": mass_doubts(table, mass), "observation": "",
        "psf_fwhm_arcsec": np.where(np.isfinite(beam), beam, column("psf_fwhm_arcsec")),
    })  # fmt: skip
    if "abs_mag_r" not in frame:
        frame["abs_mag_r"] = np.nan
    return flag_missing(frame)


def products(target: Mapping, release: str, settings: Settings) -> list[Product]:
    """List the files a galaxy needs: its cube, or its three moment maps (``things.product``)."""
    galaxy, wanted = str(target["galaxy"]), ("cube",) if settings.things.product == "cube" else MOMENTS
    folder = f"things/{release}/{'cubes' if wanted == ('cube',) else 'moments'}"
    return [galaxy_product(galaxy, name, addresses("things", release, name, settings, name=galaxy), folder) for name in wanted]


def read(paths: Mapping[str, Path], target: Mapping, settings: Settings) -> GalaxyMaps:
    """Make moment maps of a cube, or read the archive's (``things.product``); the centre is the table's position.

    Raises `DataError`: MISSING_FILE, UNREADABLE_FILE (or that position is not on the map), MISSING_HDU, NO_WCS.
    """
    if settings.things.product == "moments":
        return read_moments(paths, target, settings)
    path = path_of(paths, "cube", str(target["galaxy"]))
    maps = read_cube(path, target, settings)
    check_on_map(maps.wcs, target, maps.velocity.shape, path.name)
    return maps
