"""What every cut looks at and where its limit stands: one table, from which a galaxy's cuts are told.

The cuts themselves are in ``relation/cuts.py``, ``maps`` and ``network``; here is which column of the sample each compares with which
setting, so that whoever tells a galaxy's story names the same ones.
"""

from dataclasses import dataclass
from typing import Literal

from tullyflow.conventions import EXTRAPOLATION_FACTOR, PA_ERRS_MAX, UNRESOLVED_BEAMS
from tullyflow.flags import GALAXY

__all__ = ["LIMITS", "Limit"]


@dataclass(frozen=True)
class Limit:
    """A galaxy is flagged where ``column`` of the sample lies on the wrong ``side`` of ``factor`` times its limit.

    The limit is the setting ``setting`` ("section.key") or, where ``against`` names one, another column. ``missing``: flagged where the
    column has no finite value; ``true``: flagged where the column is set, or by the flag alone where there is no column.
    """

    flag: int
    column: str
    side: Literal["below", "above", "missing", "true"]
    setting: str = ""
    against: str = ""
    factor: float = 1.0


LIMITS: tuple[Limit, ...] = (  # in the order a galaxy walks
    Limit(GALAXY.TOO_FEW_PIXELS, "n_spaxels", "below", "maps.min_pixels"),
    Limit(GALAXY.LOW_FILL_FACTOR, "fill_factor", "below", "maps.fill_factor_min"),
    Limit(GALAXY.PA_FAILED, "pa_err_deg", "above", "maps.pa_err_max"),
    Limit(GALAXY.NO_ROTATION, "v_abs_max_kms", "below", "maps.v_abs_min"),
    Limit(GALAXY.QUALITY_BAD, "drp3qual", "true"),
    Limit(GALAXY.MISSING_MASS, "log_mstar", "missing"),
    Limit(GALAXY.LOW_MASS, "log_mstar", "below", "relation.log_mstar_min"),
    Limit(GALAXY.MISSING_MAGNITUDE, "abs_mag_r", "missing"),
    Limit(GALAXY.BULGE_DOMINATED, "sersic_n", "above", "relation.sersic_n_max"),
    Limit(GALAXY.MISALIGNED, "delta_pa_deg", "above", "relation.delta_pa_max"),
    Limit(GALAXY.ALIGNMENT_UNKNOWN, "", "true", "relation.delta_pa_unknown"),
    Limit(GALAXY.PHOTOMETRY_OFF_AXIS, "", "true", "relation.delta_pa_phot_max"),
    Limit(GALAXY.OUTSIDE_TRAINING, "", "true", "network.stream"),
    Limit(GALAXY.UNCERTAIN_AXIS, "pa_err_deg", "above", "network.stream.pa_err", factor=PA_ERRS_MAX),
    Limit(GALAXY.FACE_ON, "inclination_used_deg", "below", "relation.inclination_min"),
    Limit(GALAXY.EDGE_ON, "inclination_used_deg", "above", "relation.inclination_max"),
    Limit(GALAXY.AT_BOUND_INCLINATION, "inclination_deg_at_bound", "true", "network.ranges.inclination_deg"),
    Limit(GALAXY.AT_BOUND_R_SCALE, "r_scale_arcsec_at_bound", "true", "network.ranges.r_scale"),
    Limit(GALAXY.AT_BOUND_R_TURN, "r_turn_arcsec_at_bound", "true", "network.ranges.r_turn"),
    Limit(GALAXY.AT_BOUND_V_MAX, "v_max_sini_kms_at_bound", "true", "network.ranges.v_max"),
    Limit(GALAXY.UNRESOLVED_TURNOVER, "r_turn_arcsec", "below", against="psf_fwhm_arcsec", factor=UNRESOLVED_BEAMS),
    Limit(GALAXY.EXTRAPOLATED, "r_turn_arcsec", "above", against="r_max_arcsec", factor=1 / EXTRAPOLATION_FACTOR),
    Limit(GALAXY.POOR_RECONSTRUCTION, "reconstruction", "above", "relation.reconstruction_sigma", against="reconstruction_threshold"),
    Limit(GALAXY.NOT_USABLE, "usable_prob", "below", "relation.usable_prob_min"),
    Limit(GALAXY.NOT_CIRCULAR, "kappa", "below", "relation.kappa_min"),
    Limit(GALAXY.UNCERTAIN_VELOCITY, "log_v_max_err", "above", "relation.log_v_err_max"),
    Limit(GALAXY.SURVEY_LEFT_OUT, "", "true", "relation.surveys"),
    Limit(GALAXY.DUPLICATE, "", "true"),
)
