"""What is said of a galaxy's disc: whether it was fitted and how, the rotation curve its map prefers, and what is no rotation."""

from collections.abc import Mapping

import numpy as np

from tullyflow.flags import GALAXY
from tullyflow.report.words import number, plus_minus

__all__ = ["disc_kind", "disc_sentences"]

_SHAPES = {"tanh": "a tanh", "slope": "an arctan with an outer slope"}
_CERTAIN = 6.0  # delta BIC: strong evidence, as in `tullyflow.network.model_choice`


def disc_kind(row: Mapping) -> str:
    """Return "whole", "photometry" or "network" (what a fit held inclination and scale length at), "failed", or "" without a fit."""
    if row.get("curve_kind") != "fit":
        return "failed" if int(row["flags"]) & GALAXY.FIT_FAILED else ""
    if row.get("inclination_kind") == "photometric":
        return "photometry"
    return "network" if int(row["flags"]) & GALAXY.INCLINATION_NOT_FITTED else "whole"


def _said_by_network(row: Mapping, whole: bool) -> str:
    curve = f"{number(row.get('r_turn_network_arcsec'), 2)} arcsec and {number(row.get('v_max_sini_network_kms'), 1)} km/s"
    if not whole:
        return f"The network alone said {curve} for the turnover radius and V_max sin i."
    disc = f"{number(row.get('inclination_network_deg'), 1)} deg, {number(row.get('r_scale_network_arcsec'), 2)} arcsec"
    return f"The network alone said {disc}, {curve} for inclination, scale length, turnover radius and V_max sin i."


def _fitted(row: Mapping, kind: str) -> list[str]:
    if kind == "whole":
        first = "The whole disc is fitted by least squares to both maps, from where the network saw it; values and errors are the fit's."
    elif kind == "photometry":
        first = "The rotation curve is fitted by least squares at the photometry's inclination and scale length."
    else:
        first = (
            "No fit of the whole disc held, so the rotation curve is fitted by least squares at the network's inclination and scale "
            "length, whose errors are the network's."
        )
    names = ("centre_x_offset", "centre_y_offset")
    x, y = (plus_minus(row.get(name), row.get(f"{name}_err"), 1) for name in names)
    axis, v_sys = (plus_minus(row.get(name), row.get(f"{name}_err"), 1) for name in ("axis_offset_deg", "v_sys_offset_kms"))
    place = f"From where the stamp has them, the fit's axis is {axis} deg, its centre ({x}, {y}) stamp pixels, its v_sys {v_sys} km/s."
    return [first, _said_by_network(row, kind == "whole"), place]


def _curve(row: Mapping) -> list[str]:
    evidence, shape = row.get("delta_bic", np.nan), row.get("curve_shape")
    if not shape or not np.isfinite(evidence):
        return []
    measured = f"delta BIC {number(evidence, 1, sign=True)}"
    if shape == "arctan":
        return [f"No other rotation curve is preferred to the arctan ({measured} for the better of two)."]
    other = _SHAPES.get(shape, shape)
    if shape == "slope":
        other += f" of {plus_minus(row.get('outer_slope'), row.get('outer_slope_err'), 2)}"
    if evidence > _CERTAIN:
        follow = "velocities at a radius follow it, unless it falls too steeply"
        return [f"The map strongly prefers {other} to the arctan ({measured}): {follow}."]
    return [f"The map prefers {other} to the arctan, but not strongly ({measured}): velocities stay the arctan's."]


def _not_rotation(row: Mapping) -> list[str]:
    if not np.isfinite(row.get("non_circular_kms", np.nan)):
        return []
    motion = plus_minus(row["non_circular_kms"], row.get("non_circular_err_kms"), 1)
    share, rotation = (number(100 * row.get(name, np.nan), 1) for name in ("non_circular_share", "rotation_share"))
    return [
        f"What the disc leaves that is coherent over a beam, and so no noise, is {motion} km/s rms, {share} % of the model's largest "
        f"velocity; rotation explains {rotation} % of the coherent motion."
    ]


def disc_sentences(row: Mapping) -> list[str]:
    """Say how the disc of a galaxy was found; nothing where it was not asked for, or the row is of a table that does not say."""
    kind = disc_kind(row)
    if kind == "failed":
        return ["Least squares found no disc it can vouch for: values and errors are the network's."]
    return [*_fitted(row, kind), *_curve(row), *_not_rotation(row)] if kind else []
