"""The one registry of flags: why a pixel is masked, why a galaxy is out, what to be wary of.

A bit set means something is wrong. ``PIXEL.LOW_SNR`` and ``GALAXY.FACE_ON`` are plain integer
masks; ``GALAXY.names(bits)`` and ``GALAXY.sentences(bits)`` turn them back into words. A galaxy
flag either *excludes* the galaxy from the relation or is a *warning* that stays beside it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["BAD_VELOCITY", "GALAXY", "PIXEL", "Flag", "Registry"]


@dataclass(frozen=True)
class Flag:
    """One bit: its name, the sentence a person reads, and whether it keeps a galaxy out."""

    bit: int
    name: str
    sentence: str
    excludes: bool = True

    @property
    def mask(self) -> int:
        return 1 << self.bit


class Registry:
    """Flags by name; every name is an attribute that holds the integer mask."""

    def __init__(self, *flags: Flag):
        if len({f.bit for f in flags}) != len(flags) or len({f.name for f in flags}) != len(flags):
            raise ValueError("two flags share a bit or a name")
        self._flags = flags
        for flag in flags:
            setattr(self, flag.name, flag.mask)

    def __iter__(self) -> Iterator[Flag]:
        return iter(self._flags)

    def __getattr__(self, name: str) -> int:
        raise AttributeError(f"no flag is called {name}; known: {', '.join(f.name for f in self._flags)}")

    @property
    def excluding(self) -> int:
        """Mask of every flag that keeps a galaxy out of the relation."""
        return sum(f.mask for f in self._flags if f.excludes)

    def set_in(self, bits: int) -> tuple[Flag, ...]:
        return tuple(f for f in self._flags if int(bits) & f.mask)

    def names(self, bits: int) -> str:
        """Names of the bits set, comma-separated; empty where none is."""
        return ",".join(f.name for f in self.set_in(bits))

    def sentences(self, bits: int) -> str:
        """The bits set, as sentences for a person; empty where none is."""
        return " ".join(f.sentence for f in self.set_in(bits))


PIXEL = Registry(
    Flag(0, "NO_COVERAGE", "The instrument did not look here."),
    Flag(1, "UNRELIABLE", "The survey's pipeline calls this value unreliable."),
    Flag(2, "DO_NOT_USE", "The survey's pipeline says not to use this value."),
    Flag(3, "LOW_SNR", "The line is too faint here (maps.snr_min)."),
    Flag(4, "FOREGROUND", "A foreground star lies here."),
    Flag(5, "ISLAND", "This patch is not connected with the galaxy."),
    Flag(6, "VELOCITY_OUTLIER", "The velocity disagrees with all its neighbours."),
    Flag(7, "NEGATIVE_DISPERSION", "The measured dispersion is below the instrument's.", excludes=False),
    Flag(8, "NEAR_BOUND", "The survey's fit stopped at a limit."),
    Flag(9, "NO_VALUE", "The map holds no finite value here."),
)

BAD_VELOCITY = PIXEL.excluding  # NEGATIVE_DISPERSION spoils the dispersion only

GALAXY = Registry(
    Flag(0, "MISSING_FILE", "A file this galaxy needs does not exist in the archive."),
    Flag(1, "FETCH_FAILED", "A file this galaxy needs could not be fetched; run again to retry."),
    Flag(2, "UNREADABLE_FILE", "A file is truncated or not FITS."),
    Flag(3, "MISSING_HDU", "A file lacks an extension or line the reader needs."),
    Flag(4, "NO_VALID_PIXEL", "No pixel is left after masking."),
    Flag(5, "TOO_FEW_PIXELS", "Too few valid pixels (maps.min_pixels)."),
    Flag(6, "LOW_FILL_FACTOR", "The valid pixels fill too little of the field of view (maps.fill_factor_min)."),
    Flag(7, "NO_ROTATION", "No velocity is large enough to be rotation (maps.v_abs_min)."),
    Flag(8, "PA_FAILED", "The kinematic position angle is not defined."),
    Flag(9, "NO_WCS", "The map has no usable sky orientation."),
    Flag(10, "QUALITY_BAD", "The survey's quality bits say the data are bad."),
    Flag(11, "QUALITY_WARNING", "The survey's quality bits carry a warning.", excludes=False),
    Flag(12, "MISSING_MASS", "The catalogue has no stellar mass."),
    Flag(13, "LOW_MASS", "The stellar mass is below relation.log_mstar_min."),
    Flag(14, "NO_PHOTOMETRY", "Velocity alone, without axis ratio and R_e: no inclination can be had."),
    Flag(15, "INTENSITY_FROM_PHOTOMETRY", "The intensity is the exponential disc the photometry describes.", excludes=False),
    Flag(16, "NO_ERROR_MAP", "No error map: one constant error was used.", excludes=False),
    Flag(17, "NOT_INFERRED", "The network saw no usable stamp."),
    Flag(18, "FACE_ON", "The inclination is below relation.inclination_min."),
    Flag(19, "POOR_RECONSTRUCTION", "The disc model does not reproduce the velocity field."),
    Flag(20, "AT_BOUND_INCLINATION", "The inclination sits at the end of its range.", excludes=False),
    Flag(21, "AT_BOUND_R_SCALE", "The scale length sits at the end of its range.", excludes=False),
    Flag(22, "AT_BOUND_R_TURN", "The turnover radius sits at the end of its range.", excludes=False),
    Flag(23, "AT_BOUND_V_MAX", "The rotation velocity sits at the end of its range."),
    Flag(24, "EXTRAPOLATED", "The curve has not turned over inside the data: V_max is an extrapolation.", excludes=False),
    Flag(25, "NO_DRIFT_CORRECTION", "The asymmetric drift could not be corrected.", excludes=False),
    Flag(26, "MISSING_MAGNITUDE", "The catalogue has no r-band magnitude: not in the r-band relation.", excludes=False),
    Flag(27, "DUPLICATE", "Another observation of this galaxy is used."),
    Flag(28, "MOCK", "A simulated galaxy.", excludes=False),
    Flag(29, "EDGE_ON", "The inclination is above relation.inclination_max."),
    Flag(30, "UNCERTAIN_VELOCITY", "The error of V_max is above relation.log_v_err_max."),
    Flag(31, "SURVEY_LEFT_OUT", "The relation is made of other surveys' galaxies (relation.surveys)."),
    Flag(32, "OUTSIDE_TRAINING", "Beam or noise lie outside what the network was trained on (network.stream)."),
    Flag(33, "UNRESOLVED_TURNOVER", "The turnover radius is below half the beam: it is known to a third at best.", excludes=False),
    Flag(34, "UNCERTAIN_AXIS", "The axis is so uncertain (3 network.stream.pa_err) that inclination and r_scale suffer.", excludes=False),
    Flag(35, "BULGE_DOMINATED", "The Sersic index is above relation.sersic_n_max."),
    Flag(36, "MISALIGNED", "The axes of gas and stars are further apart than relation.delta_pa_max."),
    Flag(37, "NO_STELLAR_AXIS", "The stars' kinematic axis is not defined: they may not be aligned with the gas.", excludes=False),
    Flag(38, "ALIGNMENT_UNKNOWN", "Gas and stars cannot be compared, and relation.delta_pa_unknown leaves such galaxies out."),
    Flag(39, "PHOTOMETRY_OFF_AXIS", "The photometric axis is not the kinematic one (relation.delta_pa_phot_max): no inclination from it."),
    Flag(40, "FIT_FAILED", "The least-squares fit found no disc it can vouch for: the network's answer and errors stand.", excludes=False),
    Flag(41, "DISTURBED", "Rotation explains less than 95 % of the coherent motion: a bar, a warp, or no disc.", excludes=False),
    Flag(42, "INCLINATION_NOT_FITTED", "Inclination and scale length could not be fitted: the network's are used.", excludes=False),
    Flag(43, "NOT_USABLE", "An eye would hardly use this field: usable_prob is below relation.usable_prob_min."),
    Flag(44, "NOT_CIRCULAR", "Too little of the motion is circular: kappa is below relation.kappa_min."),
    Flag(45, "UNLIKE_SIMULATED", "The field is unlike all that circularity was learned on: kappa may mean nothing.", excludes=False),
)
