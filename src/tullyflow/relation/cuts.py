"""The cuts after inference (thesis section 4.2.4): one function each, a flag where it fails, nobody dropped.

Each takes the sample (rows of ``tables.SAMPLE``) and the settings of ``relation`` and returns a mask (galaxy,): True = flag.
A NaN is *not tested* and never flagged by a cut on its value; what is missing has flags of its own.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from tullyflow.conventions import EXTRAPOLATION_FACTOR
from tullyflow.flags import GALAXY
from tullyflow.settings import Relation
from tullyflow.tables import PARAMETERS

__all__ = ["CUTS", "DRP3QUAL_CRITICAL", "KINEMATIC_CUTS", "apply_cuts", "cut_flow"]

DRP3QUAL_CRITICAL = 1 << 30


def face_on(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    return sample["inclination_used_deg"] < relation.inclination_min


def edge_on(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    return sample["inclination_used_deg"] > relation.inclination_max


def missing_mass(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    return ~np.isfinite(sample["log_mstar"])


def low_mass(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    return sample["log_mstar"] < relation.log_mstar_min


def missing_magnitude(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    return ~np.isfinite(sample["abs_mag_r"])


def bulge_dominated(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    return sample["sersic_n"] > (np.inf if relation.sersic_n_max is None else relation.sersic_n_max)


def misaligned(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    return sample["delta_pa_deg"] > (np.inf if relation.delta_pa_max is None else relation.delta_pa_max)


def alignment_unknown(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    """Stars that were mapped and have no axis; galaxies without a map of their stars are not tested."""
    return ((sample["flags"] & GALAXY.NO_STELLAR_AXIS) != 0) & (relation.delta_pa_unknown == "leave_out")


def photometry_off_axis(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    """Only where the velocities use the photometric inclination; axes, where refined as the fit has them, are compared modulo 180 deg."""
    axis = sample["pa_deg"] + sample["axis_offset_deg"].fillna(0.0)
    apart = (axis - sample["pa_phot_deg"] + 90) % 180 - 90
    limit = np.inf if relation.delta_pa_phot_max is None else relation.delta_pa_phot_max
    return (apart.abs() > limit) & (sample["inclination_kind"] == "photometric")


def quality_bad(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    """MaNGA's DRP3QUAL bit CRITICAL; a negative number is a missing value, not bits."""
    return (sample["drp3qual"] > 0) & ((sample["drp3qual"] & DRP3QUAL_CRITICAL) != 0)


def poor_reconstruction(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    return sample["reconstruction"] > sample["reconstruction_threshold"]


def at_bound_inclination(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    """Only where the velocities use the network's inclination."""
    return sample["inclination_deg_at_bound"] & (sample["inclination_kind"] != "photometric")


def at_bound_r_scale(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    """Only where the velocities use the network's scale length, not the photometry's R_e."""
    return sample["r_scale_arcsec_at_bound"] & (sample["inclination_kind"] != "photometric")


def at_bound_r_turn(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    return sample["r_turn_arcsec_at_bound"]


def at_bound_v_max(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    return sample["v_max_sini_kms_at_bound"]


def extrapolated(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    return sample["r_turn_arcsec"] * EXTRAPOLATION_FACTOR > sample["r_max_arcsec"]


def uncertain_velocity(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    """Too large an error of log V_max, or inferred kinematics without a positive velocity and error."""
    inferred = sample[list(PARAMETERS)].notna().any(axis=1)
    known = (sample["v_max_kms"] > 0) & np.isfinite(sample["v_max_kms"]) & (sample["log_v_max_err"] > 0)
    return (sample["log_v_max_err"] > relation.log_v_err_max) | (inferred & ~known)


def not_usable(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    return sample["usable_prob"] < (-np.inf if relation.usable_prob_min is None else relation.usable_prob_min)


def not_circular(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    """Not tested where the field is unlike those circularity was learned on."""
    known = (sample["flags"] & GALAXY.UNLIKE_SIMULATED) == 0
    return known & (sample["kappa"] < (-np.inf if relation.kappa_min is None else relation.kappa_min))


def survey_left_out(sample: pd.DataFrame, relation: Relation) -> pd.Series:
    return pd.Series(False, sample.index) if relation.surveys is None else ~sample["survey"].isin(relation.surveys)


Cut = Callable[[pd.DataFrame, Relation], pd.Series]

KINEMATIC_CUTS: tuple[tuple[int, Cut], ...] = (  # those that need nothing but the kinematics
    (GALAXY.FACE_ON, face_on),
    (GALAXY.EDGE_ON, edge_on),
    (GALAXY.AT_BOUND_INCLINATION, at_bound_inclination),
    (GALAXY.AT_BOUND_R_SCALE, at_bound_r_scale),
    (GALAXY.AT_BOUND_R_TURN, at_bound_r_turn),
    (GALAXY.AT_BOUND_V_MAX, at_bound_v_max),
    (GALAXY.UNCERTAIN_VELOCITY, uncertain_velocity),
)
CUTS: tuple[tuple[int, Cut], ...] = (
    (GALAXY.QUALITY_BAD, quality_bad),
    (GALAXY.MISSING_MASS, missing_mass),
    (GALAXY.LOW_MASS, low_mass),
    (GALAXY.MISSING_MAGNITUDE, missing_magnitude),
    (GALAXY.BULGE_DOMINATED, bulge_dominated),
    (GALAXY.MISALIGNED, misaligned),
    (GALAXY.ALIGNMENT_UNKNOWN, alignment_unknown),
    (GALAXY.PHOTOMETRY_OFF_AXIS, photometry_off_axis),
    (GALAXY.POOR_RECONSTRUCTION, poor_reconstruction),
    (GALAXY.EXTRAPOLATED, extrapolated),
    (GALAXY.NOT_USABLE, not_usable),
    (GALAXY.NOT_CIRCULAR, not_circular),
    (GALAXY.SURVEY_LEFT_OUT, survey_left_out),
    *KINEMATIC_CUTS,
)


def apply_cuts(sample: pd.DataFrame, relation: Relation, cuts: tuple[tuple[int, Cut], ...] = CUTS) -> np.ndarray:
    """Return the flags (galaxy,), int64, of ``sample`` with those of every cut set beside them."""
    flags = sample["flags"].to_numpy(dtype=np.int64, copy=True)
    for flag, cut in cuts:
        flags[cut(sample, relation).to_numpy(dtype=bool)] |= flag
    return flags


def cut_flow(sample: pd.DataFrame) -> pd.DataFrame:
    """Count who is out and why: one row per survey and excluding flag that anybody carries.

    Columns: survey; flag; ``alone``, galaxies that carry it, whatever else they carry; ``in_order``, galaxies it takes out
    of those the flags above it left; ``left``, what then remains. The first row of a survey, flag "", counts everybody.
    """
    rows = []
    for survey, group in sample.groupby("survey", sort=False):
        flags = group["flags"].to_numpy(dtype=np.int64)
        left = np.ones(flags.size, dtype=bool)
        rows.append((survey, "", 0, 0, flags.size))
        for flag in GALAXY:
            carries = (flags & flag.mask) != 0
            if not flag.excludes or not carries.any():
                continue
            in_order = int((left & carries).sum())
            left &= ~carries
            rows.append((survey, flag.name, int(carries.sum()), in_order, int(left.sum())))
    return pd.DataFrame(rows, columns=["survey", "flag", "alone", "in_order", "left"])
