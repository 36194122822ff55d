"""What the figures put on their axes: each quantity with its label, and the sentence said where nobody has one.

Their values are columns of the sample or of `tullyflow.relation.trends.quantities`, so that a figure shows what the coefficients
were measured on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tullyflow.relation.trends import quantities

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["QUANTITIES", "VELOCITY_SYMBOLS", "Quantity", "quantity_table", "residual_quantity", "velocity_quantity"]

VELOCITY_SYMBOLS = {"v_max": r"V_{\max}", "v_22": r"V_{2.2}", "v_re": r"V_{R_\mathrm{e}}", "v_80": r"V_{80}", "v_rmax": r"V_{r_{\max}}"}
_RESIDUALS = {
    "reverse": (r"$\log_{10} VELOCITY - \log_{10} VELOCITY(M_{\!*})$ (dex)", "velocity residual"),
    "forward": (r"$\log_{10} M_{\!*} - \log_{10} M_{\!*}(VELOCITY)$ (dex)", "mass residual"),
    "r_band": (r"$M_r - M_r(VELOCITY)$ (mag)", "magnitude residual"),
}


@dataclass(frozen=True)
class Quantity:
    """A quantity: ``name`` of its column, axis ``label``, short ``words``, the sentence where it is ``absent``; ``log`` for a log axis."""

    name: str
    label: str
    words: str
    absent: str
    log: bool = False


def _no(thing: str) -> str:
    return f"No galaxy in the relation has {thing}: no catalogue of this run gives one."


QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        Quantity("log_mstar", r"$\log_{10}\,(M_{\!*}\,/\,\mathrm{M}_\odot)$", "stellar mass", _no("a stellar mass")),
        Quantity("log_age_yr", r"$\log_{10}$ (age / yr)", "mean stellar age", _no("a stellar age")),
        Quantity("r_e_arcsec", r"$R_\mathrm{e}$ (arcsec)", "half-light radius", _no("a half-light radius"), log=True),
        Quantity("log_ssfr", r"$\log_{10}$ (sSFR / yr$^{-1}$)", "specific star formation rate", _no("a star formation rate and a mass")),
        Quantity("log_sfr", r"$\log_{10}$ (SFR / M$_\odot$ yr$^{-1}$)", "star formation rate", _no("a star formation rate")),
        Quantity("z", "redshift", "redshift", _no("a redshift")),
        Quantity("inclination_used_deg", "inclination (deg)", "inclination", "No galaxy in the relation has an inclination."),
        Quantity("abs_mag_r", r"$M_r$ (mag)", "absolute magnitude", _no("an r magnitude")),
        Quantity(
            "log_ml", r"$\log_{10}\,(M_{\!*}/L_r)$ (solar)", "mass-to-light ratio",
            "No galaxy in the relation has a mass-to-light ratio, nor a mass and an r magnitude to make one of.",
        ),
        Quantity(
            "r_turn_over_re", r"turnover radius  $r_\mathrm{turn}\,/\,R_\mathrm{e}$", "turnover radius",
            "No galaxy in the relation has both a turnover radius and a half-light radius.", log=True,
        ),
        Quantity(
            "r_max_over_re", r"extent of the data  $r_\mathrm{max}\,/\,R_\mathrm{e}$", "extent of the data",
            "No galaxy in the relation has both an extent of its data and a half-light radius.", log=True,
        ),
    )
}  # fmt: skip


def velocity_quantity(settings: "Settings") -> Quantity:
    """Return log V of the settings' first velocity as a quantity."""
    label = rf"$\log_{{10}}\,({VELOCITY_SYMBOLS[settings.relation.velocities[0]]}\,/\,\mathrm{{km\,s^{{-1}}}})$"
    return Quantity("log_v", label, "velocity", "No galaxy in the relation has a velocity.")


def residual_quantity(relation: str, fits: Sequence[Mapping]) -> Quantity:
    """Return y minus the line of a relation as a quantity; where it has no line, ``absent`` says why."""
    label, words = _RESIDUALS[relation]
    fit = next((fit for fit in fits if fit["relation"] == relation), None)
    unwanted = f"the settings fit no {relation.replace('_', '-')} relation."
    why = unwanted if fit is None else str(fit.get("error", "no galaxy of the line has one."))
    label = label.replace("VELOCITY", VELOCITY_SYMBOLS.get((fit or {}).get("velocity"), "V"))
    return Quantity(f"residual_{relation}", label, words, f"No {words}: {why.removeprefix('fit: ')}")


def quantity_table(sample: pd.DataFrame, fits: Sequence[Mapping], settings: "Settings") -> pd.DataFrame:
    """Return galaxy, survey and every quantity of the used galaxies, NaN where missing; ``r_turn_unresolved``: within half the beam."""
    table = quantities(sample, fits, settings.relation.velocities[0], settings)
    used = sample.loc[table.index]
    r_e = used["r_e_arcsec"].where(used["r_e_arcsec"] > 0)
    unresolved = used["r_turn_arcsec"] < used["psf_fwhm_arcsec"] / 2
    table = table.assign(galaxy=used["galaxy"], r_max_over_re=used["r_max_arcsec"] / r_e, r_turn_unresolved=unresolved)
    return table.replace([np.inf, -np.inf], np.nan)
