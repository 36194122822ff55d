"""What the figures put on their axes: each quantity with its label, its values, and the sentence said where nobody has one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tullyflow.conventions import log_mass_to_light

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["QUANTITIES", "VELOCITY_SYMBOLS", "Quantity", "quantity_values", "velocity_quantity"]

VELOCITY_SYMBOLS = {"v_max": r"V_{\max}", "v_22": r"V_{2.2}", "v_re": r"V_{R_\mathrm{e}}", "v_80": r"V_{80}", "v_rmax": r"V_{r_{\max}}"}


@dataclass(frozen=True)
class Quantity:
    """A quantity of the sample: ``name`` (a column, or the key of a trend), axis ``label``, short ``words``, ``absent`` in words.

    ``log`` asks for a logarithmic axis. ``values`` is None where the quantity is the column of that name.
    """

    name: str
    label: str
    words: str
    absent: str
    log: bool = False
    values: Callable[[pd.DataFrame], np.ndarray] | None = None


def _mass_to_light(sample: pd.DataFrame) -> np.ndarray:
    """The catalogue's ratio; where it gives none, that of its mass and r magnitude."""
    given = sample["log_ml"].to_numpy(dtype=float)
    return np.where(np.isfinite(given), given, log_mass_to_light(sample["log_mstar"], sample["abs_mag_r"]))


def _over_r_e(column: str) -> Callable[[pd.DataFrame], np.ndarray]:
    def ratio(sample: pd.DataFrame) -> np.ndarray:
        top, r_e = sample[column].to_numpy(dtype=float), sample["r_e_arcsec"].to_numpy(dtype=float)
        return np.divide(top, r_e, out=np.full(top.shape, np.nan), where=(r_e > 0) & (top > 0))

    return ratio


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
            "No galaxy in the relation has a mass-to-light ratio, nor a mass and an r magnitude to make one of.", values=_mass_to_light,
        ),
        Quantity(
            "r_turn_over_re", r"turnover radius  $r_\mathrm{turn}\,/\,R_\mathrm{e}$", "turnover radius",
            "No galaxy in the relation has both a turnover radius and a half-light radius.", log=True, values=_over_r_e("r_turn_arcsec"),
        ),
        Quantity(
            "r_max_over_re", r"extent of the data  $r_\mathrm{max}\,/\,R_\mathrm{e}$", "extent of the data",
            "No galaxy in the relation has both an extent of its data and a half-light radius.", log=True,
            values=_over_r_e("r_max_arcsec"),
        ),
    )
}  # fmt: skip


def velocity_quantity(settings: "Settings", velocity: str | None = None) -> Quantity:
    """Return log V as the relation takes it: the first velocity of the settings (or the one named), drift-corrected unless that is off."""
    velocity = velocity or settings.relation.velocities[0]
    kind = "" if settings.relation.drift == "off" else "_circ"

    def values(sample: pd.DataFrame) -> np.ndarray:
        v = sample[f"{velocity}{kind}_kms"].to_numpy(dtype=float)
        return np.log10(v, out=np.full(v.shape, np.nan), where=v > 0)

    label = rf"$\log_{{10}}\,({VELOCITY_SYMBOLS[velocity]}\,/\,\mathrm{{km\,s^{{-1}}}})$"
    return Quantity("log_v", label, "velocity", "No galaxy in the relation has a velocity.", values=values)


def quantity_values(quantity: Quantity, sample: pd.DataFrame) -> np.ndarray:
    """Return the quantity of every row, float64; NaN where it is missing or infinite."""
    values = quantity.values(sample) if quantity.values else sample[quantity.name].to_numpy(dtype=float)
    return np.where(np.isfinite(values), values, np.nan)
