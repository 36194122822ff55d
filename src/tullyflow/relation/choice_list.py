"""The choices a relation hangs on, each with what it changes: the rows of the table of choices."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from tullyflow.flags import GALAXY
from tullyflow.relation.methods import METHODS
from tullyflow.relation.quality import RECONSTRUCTION_COLUMNS
from tullyflow.settings import Relation
from tullyflow.tables import VELOCITIES

__all__ = ["Choice", "list_choices"]

_WORDS = {
    "v_max": "asymptotic velocity", "v_22": "velocity at 2.2 scale lengths", "v_re": "velocity at R_e",
    "v_80": "velocity at the radius of 80 % of the light", "v_rmax": "velocity at the outermost data",
    "lts": "least trimmed squares", "mnr": "marginalised normal regression", "ols": "ordinary least squares", "bisector": "bisector",
    "evans": "drift corrected (2 r / r_scale - 1)", "isotropic": "drift corrected as of isotropic gas (r / r_scale)",
    "off": "no drift correction", "chi2": "reduced chi-squared", "mse_over_v": "mean squared error over V",
}  # fmt: skip
_MOVED = {  # cut: its values, the first of which is no cut at all; the words of that, and of another
    "inclination_min": ((0.0, 30.0, 35.0, 40.0, 45.0), "no lower limit of the inclination", "inclination at least {:g} deg"),
    "inclination_max": ((90.0, 80.0), "no upper limit of the inclination", "inclination at most {:g} deg"),
    "sersic_n_max": ((None, 2.5), "any Sersic index", "Sersic index at most {:g}"),
    "delta_pa_max": ((None, 30.0), "any misalignment", "gas and stars aligned to {:g} deg"),
    "delta_pa_phot_max": ((None, 30.0, 15.0, 10.0), "any photometric axis", "photometric axis within {:g} deg of the kinematic"),
    "log_v_err_max": ((np.inf, 0.1, 0.05), "any error of log V", "error of log V at most {:g} dex"),
    "log_mstar_min": ((-np.inf, 9.0), "any mass", "log M* at least {:g}"),
    "usable_prob_min": ((None, 0.5), "any field, usable or not", "fields an eye would use, with probability {:g} or more"),
    "kappa_min": ((None, 0.5), "any circularity", "circularity at least {:g}"),
}
_BOTH = {"usable_prob_min": 0.5, "kappa_min": 0.5}
_WARNINGS = {
    GALAXY.AT_BOUND_R_TURN: "without turnover radii at the end of their range",
    GALAXY.UNRESOLVED_TURNOVER: "without unresolved turnover radii",
    GALAXY.UNCERTAIN_AXIS: "without uncertain axes",
    GALAXY.QUALITY_WARNING: "without quality warnings",
}


@dataclass(frozen=True)
class Choice:
    """One row: its section, key and words, and what is different.

    ``changes`` of the settings of ``relation``; ``velocity`` and ``method`` where they are others; ``without``: a flag, or a column of
    the sample, whose galaxies are left out; ``weighted``: with volume weights, compared with the unweighted fit; ``inverted``: log M* on
    log V, turned round.
    """

    section: str
    key: str
    words: str
    changes: Mapping = field(default_factory=dict)
    velocity: str | None = None
    method: str | None = None
    without: int | str | None = None
    weighted: bool = False
    inverted: bool = False

    @property
    def reference(self) -> str:
        return "method=ols" if self.weighted else "baseline"


def _cuts(relation: Relation) -> Iterator[Choice]:
    for key, (values, off_words, words) in _MOVED.items():
        for value in values:
            if value == getattr(relation, key):
                continue
            off = value == values[0]
            said = off_words if off else words.format(value)
            yield Choice("cuts", f"{key}={'off' if off else f'{value:g}'}", said, {key: value})


def list_choices(relation: Relation, velocity: str, method: str, name: str = "reverse") -> list[Choice]:
    """Return the choices to try beside the baseline of these settings, those that are the baseline's own left out.

    ``name`` is the baseline's relation: the reverse one is also compared with the forward fit.
    """
    rows = [Choice("baseline", "baseline", f"{_WORDS[velocity]}, {_WORDS[method]}")]
    rows += [Choice("velocity", f"velocity={name}", _WORDS[name], velocity=name) for name in VELOCITIES if name != velocity]
    kinds = (kind for kind in ("off", "evans", "isotropic") if kind != relation.drift)
    rows += [Choice("drift", f"drift={kind}", _WORDS[kind], {"drift": kind}) for kind in kinds]
    at_r_max = {"drift": "evans" if relation.drift == "off" else relation.drift, "drift_at": "r_max"}
    rows.append(Choice("drift", "drift_at=r_max", "velocity at the outermost data, corrected there", at_r_max, velocity="v_rmax"))
    rows += [Choice("method", f"method={name}", _WORDS[name], method=name) for name in METHODS if name != method]
    if name == "reverse":
        rows.append(Choice("method", "forward, inverted", "the fit of log M* on log V, inverted", inverted=True))
    errors = (value for value in (0.0, 0.1, 0.2) if value != relation.log_mstar_err)
    known = "masses without an error known to {:g} dex"
    rows += [Choice("mass error", f"log_mstar_err={e:g}", known.format(e), {"log_mstar_err": e}) for e in errors]
    if relation.reconstruction != "off":
        rows.append(Choice("reconstruction", "reconstruction=off", "no cut on the reconstruction", {"reconstruction": "off"}))
    for statistic in RECONSTRUCTION_COLUMNS:
        for sigma in (1.0, 2.0, 3.0):
            if (statistic, sigma) != (relation.reconstruction, relation.reconstruction_sigma):
                words = f"{_WORDS[statistic]} within {sigma:g} sigma"
                changes = {"reconstruction": statistic, "reconstruction_sigma": sigma}
                rows.append(Choice("reconstruction", f"reconstruction={statistic}, {sigma:g} sigma", words, changes))
    rows += _cuts(relation)
    if any(getattr(relation, key) != value for key, value in _BOTH.items()):
        key = ", ".join(f"{key}={value:g}" for key, value in _BOTH.items())
        rows.append(Choice("cuts", key, "fields an eye would use, of circularity at least 0.5", _BOTH))
    other = {"keep": "leave_out", "leave_out": "keep"}[relation.delta_pa_unknown]
    words = "galaxies whose stars have no axis " + {"keep": "kept", "leave_out": "left out"}[other]
    rows.append(Choice("cuts", f"delta_pa_unknown={other}", words, {"delta_pa_unknown": other}))
    beyond = f"{velocity}_extrapolated"
    rows.append(Choice("warnings", f"without {beyond}", "without velocities beyond the data", without=beyond))
    rows.append(Choice("warnings", "without EXTRAPOLATED", "without curves that have not turned over", without=GALAXY.EXTRAPOLATED))
    rows += [Choice("warnings", f"without {GALAXY.names(flag)}", words, without=flag) for flag, words in _WARNINGS.items()]
    weights = "ordinary least squares with volume weights, bootstrap errors"
    rows.append(Choice("weights", "volume_weight", weights, method="ols", weighted=True))
    return rows
