"""Columns and HDUs of every file, declared once, checked on write and on read.

Tables are Parquet (or CSV where people edit them); a `Column` carries dtype, unit and a sentence,
and the unit travels in the Parquet field metadata. Files appear under their final name only when whole.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tullyflow.errors import CatalogueError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AXES", "AXES_LAST", "FIELD_HDUS", "GALAXIES", "JUDGED", "KINEMATICS", "MANIFEST", "PARAMETERS", "PLACING", "SAMPLE",
    "SIMULATED_FIELDS", "STAMP_HDUS", "STELLAR_AXES", "TARGETS", "TRUTH", "USABILITY", "VELOCITIES",
    "Column", "conform", "read_table", "whole_file", "write_table",
]  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column: ``kind`` is f (float64), i (int64), s (text) or b (bool)."""

    name: str
    kind: str
    unit: str
    description: str


def _columns(text: str) -> tuple[Column, ...]:
    rows = (line.split("|") for line in text.strip().splitlines())
    return tuple(Column(*(cell.strip() for cell in row)) for row in rows)


TARGETS = _columns("""
galaxy|s||name, unique within the survey
survey|s||survey
release|s||release
shard|s||shard that carries the galaxy
ra_deg|f|deg|right ascension (ICRS)
dec_deg|f|deg|declination (ICRS)
z|f||redshift
distance_mpc|f|Mpc|luminosity distance
log_mstar|f|dex(Msun)|log10 stellar mass, h = 0.7, Chabrier
log_mstar_err|f|dex|its 1 sigma, NaN where the survey gives none
imf|s||initial mass function the catalogue used, before conversion
r_e_arcsec|f|arcsec|half-light radius along the major axis
axis_ratio|f||photometric b/a
pa_phot_deg|f|deg|photometric position angle, N through E, modulo 180
sersic_n|f||Sersic index
morphology|s||morphological type as the survey gives it
abs_mag_r|f|mag|absolute r magnitude, AB, h = 0.7
log_mgas|f|dex(Msun)|log10 gas mass
log_sfr|f|dex(Msun/yr)|log10 star formation rate
log_age_yr|f|dex(yr)|log10 mean stellar age
log_ml|f|dex|log10 stellar mass-to-light ratio
log_ssfr|f|dex(1/yr)|log10 specific star formation rate
volume_weight|f||weight that makes the survey's sample stand for a volume (MaNGA esrweight); NaN where the survey gives none
hi_width_kms|f|km/s|full width of the HI line at half the median of its two peaks (HI-MaNGA WM50), uncorrected for inclination
hi_width_err_kms|f|km/s|its 1 sigma
psf_fwhm_arcsec|f|arcsec|beam or PSF FWHM
drp3qual|i||the survey's quality bits (MaNGA DRP3QUAL; 0 elsewhere)
flags|i||galaxy flags (flags.GALAXY)
messages|s||sentences that belong to the flags
observation|s||what the reader needs besides the name, e.g. the SAMI repeat or the local row as JSON
""")

MANIFEST = _columns("""
galaxy|s||galaxy, or the release for catalogues
product|s||what the file is
url|s||where it came from
path|s||where it is
status|s||ok, missing (the archive says it does not exist) or failed
http_status|i||last HTTP status, 0 where none
bytes|i|byte|length
mtime_ns|i|ns|modification time when the digest was made
sha256|s||digest of the content
tries|i||tries made
message|s||why, where not ok
""")

GALAXIES = _columns("""
galaxy|s||name
survey|s||survey
release|s||release
shard|s||shard
n_spaxels|i||valid spaxels on the native grid
fill_factor|f||valid share of the field of view
pixel_scale_arcsec|f|arcsec|native pixel
stamp_scale_arcsec|f|arcsec|stamp pixel; the half-width is 32 of them
field_from|s||what chose the half-width: data (their extent), or r_e (wider, so that the disc fits)
r_e_stamp|f|pix|half-light radius in stamp pixels
x_centre|f|pix|native centre, 0-based
y_centre|f|pix|native centre, 0-based
pa_deg|f|deg|kinematic position angle, N through E to the receding side
pa_err_deg|f|deg|its 1 sigma
v_sys_kms|f|km/s|systemic velocity on the map's own zero point
v_sys_err_kms|f|km/s|its 1 sigma
pa_stellar_deg|f|deg|kinematic position angle of the stars
pa_stellar_err_deg|f|deg|its 1 sigma
delta_pa_deg|f|deg|misalignment of gas and stars, 0-180
delta_pa_err_deg|f|deg|its 1 sigma
v_abs_max_kms|f|km/s|robust largest absolute velocity (99th percentile), systemic removed
intensity_norm|f||the stamp's intensity times this is in intensity_unit
intensity_unit|s||unit of the native intensity
intensity_kind|s||data, or photometry (a model of the catalogue's disc)
r_max_arcsec|f|arcsec|deprojected radius of the outermost data (98th percentile, about the major axis)
outer_dispersion_kms|f|km/s|root of the mean squared dispersion, outer disc (SCIENCE 7)
outer_dispersion_err_kms|f|km/s|its 1 sigma
psf_fwhm_arcsec|f|arcsec|beam or PSF FWHM
beam_major_arcsec|f|arcsec|FWHM of the beam along its major axis, where the file says it
beam_minor_arcsec|f|arcsec|likewise, minor axis
beam_angle_deg|f|deg|direction of the beam's major axis on the stamp, counter-clockwise from +x, modulo 180
inclination_phot_deg|f|deg|inclination from the axis ratio
inclination_phot_err_deg|f|deg|its 1 sigma
flags|i||galaxy flags
messages|s||sentences
""")

AXES = _columns("""
galaxy|s||name
pa_deg|f|deg|kinematic position angle, N through E to the receding side; empty where the map's orientation is not known
pa_err_deg|f|deg|its 1 sigma
v_sys_kms|f|km/s|systemic velocity on the map's own zero point
v_sys_err_kms|f|km/s|its 1 sigma
n_spaxels|i||valid spaxels
flags|s||names of the galaxy flags, comma-separated; empty = none
image_angle_deg|f|deg|direction of the receding side on the image, counter-clockwise from +x
""")
STELLAR_AXES = _columns("""
pa_stellar_deg|f|deg|kinematic position angle of the stars
pa_stellar_err_deg|f|deg|its 1 sigma
delta_pa_deg|f|deg|misalignment of gas and stars, 0-180
delta_pa_err_deg|f|deg|its 1 sigma
""")
AXES_LAST = _columns("messages|s||sentences that belong to the flags, and what had to be assumed")

JUDGED = _columns("""
usable_prob|f||probability that an eye would use the velocity field (class 1 or 2 of Duckworth+2019)
usable_stellar_prob|f||the same of the stars' velocity field
kappa|f||circularity: share of the kinetic energy in ordered rotation (Sales+2012), as the velocity field shows it
kappa_err|f||its calibrated 1 sigma
""")
USABILITY = (
    *_columns("galaxy|s||name"), JUDGED[0], *_columns("usable_class|i||1 use: usable_prob is a half or more; 0 do not use; -1 not known"),
    *JUDGED[2:], *_columns("flags|s||names of the galaxy flags, comma-separated; empty = none"), JUDGED[1],
    *_columns("messages|s||sentences that belong to the flags, and what had to be assumed"),
)  # fmt: skip

PARAMETERS = ("inclination_deg", "r_scale_arcsec", "r_turn_arcsec", "v_max_sini_kms")
VELOCITIES = ("v_max", "v_22", "v_re", "v_80", "v_rmax")
PLACING = ("axis_offset_deg", "centre_x_offset", "centre_y_offset", "v_sys_offset_kms")
_UNITS = dict(zip(PARAMETERS, ("deg", "arcsec", "arcsec", "km/s"), strict=True))
_WORDS = {
    "v_max": "asymptotic rotation velocity",
    "v_22": "rotation velocity at 2.2 scale lengths",
    "v_re": "rotation velocity at R_e",
    "v_80": "rotation velocity at the radius of 80 % of an exponential disc's light",
    "v_rmax": "rotation velocity at r_max",
}


def _kinematics() -> tuple[Column, ...]:
    columns = list(_columns("galaxy|s||name\nsurvey|s||survey\nrelease|s||release\nshard|s||shard\nmode|s||solo, combined or blind"))
    for name in PARAMETERS:
        unit = _UNITS[name]
        columns += [
            Column(name, "f", unit, "least squares on the stamp, or the mean over dropout samples (Dawson+2021 eq. 6), as curve_kind says"),
            Column(f"{name}_std", "f", unit, "standard deviation over dropout samples (thesis eq. 3.7)"),
            Column(f"{name}_mad", "f", unit, "mean absolute deviation over dropout samples (eq. 7)"),
            Column(f"{name}_p16", "f", unit, "16th percentile of the dropout samples"),
            Column(f"{name}_p50", "f", unit, "median of the dropout samples"),
            Column(f"{name}_p84", "f", unit, "84th percentile of the dropout samples"),
            Column(f"{name}_err", "f", unit, "calibrated 1 sigma"),
            Column(f"{name}_err95", "f", unit, "half of the calibrated 95 % interval"),
            Column(f"{name}_at_bound", "b", "", "the value sits at the end of its range"),
        ]
    for k, a in enumerate(PARAMETERS):
        for b in PARAMETERS[k + 1 :]:
            columns.append(Column(f"cov_{a}_{b}", "f", f"{_UNITS[a]} {_UNITS[b]}", "covariance over dropout samples"))
    columns += _columns("""
inclination_kind|s||kinematic (network) or photometric (axis ratio): the one the velocities use
inclination_used_deg|f|deg|inclination the velocities use
inclination_used_err_deg|f|deg|its calibrated 1 sigma
curve_kind|s||fit (least squares on the stamp, from the network's answer) or network: where the four parameters, with errors, are from
inclination_network_deg|f|deg|the network's own inclination, whatever curve_kind
r_scale_network_arcsec|f|arcsec|likewise, the scale length
r_turn_network_arcsec|f|arcsec|likewise, the turnover radius
v_max_sini_network_kms|f|km/s|likewise, V_max sin i
axis_offset_deg|f|deg|direction of the fit's receding axis on the stamp, counter-clockwise from +x
centre_x_offset|f|pix|centre of the fit, stamp pixels from the stamp's
centre_y_offset|f|pix|likewise
v_sys_offset_kms|f|km/s|systemic velocity of the fit, from the stamp's
axis_offset_deg_err|f|deg|calibrated 1 sigma
centre_x_offset_err|f|pix|calibrated 1 sigma
centre_y_offset_err|f|pix|calibrated 1 sigma
v_sys_offset_kms_err|f|km/s|calibrated 1 sigma
axis_offset_deg_err95|f|deg|half of the calibrated 95 % interval
centre_x_offset_err95|f|pix|half of the calibrated 95 % interval
centre_y_offset_err95|f|pix|half of the calibrated 95 % interval
v_sys_offset_kms_err95|f|km/s|half of the calibrated 95 % interval
curve_shape|s||rotation curve the map prefers: arctan, tanh or slope (an arctan with an outer slope); empty without a fit
delta_bic|f||evidence (BIC) against the arctan, of as many measurements as the map is worth; velocities follow above 6
outer_slope|f||d ln V / d ln R far out of the curve that has one; 0 is an arctan, above it rises, below it declines
outer_slope_err|f||its 1 sigma
non_circular_kms|f|km/s|rms of residual velocities that are alike half a beam apart, as noise is not
non_circular_err_kms|f|km/s|its 1 sigma
non_circular_share|f||the same over the largest model velocity
rotation_share|f||share of the coherent v^2 that rotation explains (of the line of sight: not the circularity of orbits)
r_scale_used_arcsec|f|arcsec|scale length the velocities use: R_e / 1.678 where the inclination is photometric
reconstruction_intensity|f||mean squared residual of the normalised intensity
reconstruction_velocity_kms|f|km/s|root mean square residual velocity
chi2_velocity|f||reduced chi-squared of the velocity stamp
mse_over_v|f||mean squared residual of the scaled maps divided by V_max sin i / 500 km/s
n_pixels|i||valid stamp pixels
""")
    for name in VELOCITIES:
        columns += [
            Column(f"{name}_kms", "f", "km/s", f"{_WORDS[name]}, inclination corrected"),
            Column(f"{name}_kms_err", "f", "km/s", "its calibrated 1 sigma"),
            Column(f"log_{name}_err", "f", "dex", "calibrated 1 sigma of its log10, i-V covariance included"),
            Column(f"{name}_extrapolated", "b", "", "no data reach its radius (v_max: it still rises); false where r_max is not known"),
        ]
    return (*columns, *JUDGED, *_columns("flags|i||galaxy flags\nmessages|s||sentences"))


KINEMATICS = _kinematics()


def _sample() -> tuple[Column, ...]:
    columns = {c.name: c for c in (*TARGETS, *GALAXIES, *KINEMATICS)}
    columns.pop("observation")
    for name in VELOCITIES:
        columns[f"{name}_circ_kms"] = Column(f"{name}_circ_kms", "f", "km/s", f"{_WORDS[name]}, drift corrected (thesis eq. 4.4)")
        columns[f"log_{name}_circ_err"] = Column(f"log_{name}_circ_err", "f", "dex", "1 sigma of its log10")
    last = _columns("""
extinction_r_mag|f|mag|internal extinction of abs_mag_r, which the r-band relation takes off; 0 where relation.internal_extinction is off
reconstruction|f||the statistic the reconstruction cut is made on
reconstruction_threshold|f||its frozen threshold
same_as|s||the observation of this galaxy that counts (survey-release/name); empty where it is this one
used|b||in the relation
flag_names|s||names of the flags
flag_sentences|s||the flags, for people
""")
    return (*columns.values(), *last)


SAMPLE = _sample()

TRUTH = _columns("""
galaxy|s||name of a mock galaxy
survey|s||survey whose layout it has
release|s||release
hard_case|s||what was spoiled on purpose; empty for a normal galaxy
expected_flags|s||galaxy flags, any one of which must be set; empty for none
log_mstar|f|dex(Msun)|log10 stellar mass
abs_mag_r|f|mag|absolute r magnitude
v_max_kms|f|km/s|asymptotic rotation velocity put in
inclination_deg|f|deg|inclination, 0 = face-on
pa_deg|f|deg|position angle, N through E to the receding side
v_sys_kms|f|km/s|systemic velocity from the zero of the galaxy's own map
r_scale_arcsec|f|arcsec|scale length
r_turn_arcsec|f|arcsec|turnover radius
gas_dispersion_kms|f|km/s|velocity dispersion of the gas
z|f||redshift
""")

SIMULATED_FIELDS = _columns("""
kappa|f||circularity of the particles as published (Sales+2012): 1 = all of the motion is rotation
kappa_corotating|f||the same of the particles that turn with the galaxy (Correa+2017)
inclination_deg|f|deg|of the angular momentum to the line of sight, 0 = face-on
pa_deg|f|deg|position angle, N (+y) through E (-x) to the receding side
beam|f||beam FWHM, field pixels before the field was cropped to its data
peak_snr|f||peak S/N of the cube (thesis eq. 2.2); infinite: no noise; NaN: no cube, velocities with errors instead
particle_set|i||galaxy of particles: what fields are split by
particles|i||number of its particles
kind|s||kind of galaxy
""")

STAMP_HDUS = ("INTENSITY", "INTENSITY_ERR", "VELOCITY", "VELOCITY_ERR", "DISPERSION", "DISPERSION_ERR", "MASK")
FIELD_HDUS = ("VELOCITY_FIELD", "STELLAR_VELOCITY_FIELD")

_DTYPES = {"f": "float64", "i": "int64", "s": "str", "b": "bool"}
_EMPTY = {"f": float("nan"), "i": 0, "s": "", "b": False}


def conform(frame: "pd.DataFrame", columns: tuple[Column, ...], name: str = "table") -> "pd.DataFrame":
    """Return the frame with exactly these columns, order and dtypes; absent ones are empty (NaN, 0, "").

    Raises `CatalogueError` for a column nobody declared or a value of the wrong kind.
    """
    import pandas as pd

    unknown = [c for c in frame.columns if c not in {k.name for k in columns}]
    if unknown:
        raise CatalogueError(f"{name}: undeclared column(s) {', '.join(map(str, unknown))}; declare them in tables.py.")
    out = {}
    for column in columns:
        values = frame[column.name] if column.name in frame else pd.Series([_EMPTY[column.kind]] * len(frame), index=frame.index)
        if column.kind != "f":
            values = values.where(values.notna(), _EMPTY[column.kind])
        try:
            out[column.name] = values.astype(_DTYPES[column.kind])
        except (TypeError, ValueError) as err:
            raise CatalogueError(f"{name}: column {column.name}: {err}.") from err
    return pd.DataFrame(out, columns=[c.name for c in columns])


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a ``.part`` path beside ``path`` and rename it when the block ends without error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with open(part, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_table(path: str | Path, frame: "pd.DataFrame", columns: tuple[Column, ...]) -> None:
    """Write a checked table, Parquet or CSV by its suffix, with units and descriptions in the Parquet fields."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = conform(frame, columns, name=str(path))
    with whole_file(path) as part:
        if Path(path).suffix == ".csv":
            frame.to_csv(part, index=False)
            return
        table = pa.Table.from_pandas(frame, preserve_index=False)
        fields = [
            table.schema.field(c.name).with_metadata({"unit": c.unit, "description": c.description}) for c in columns
        ]
        pq.write_table(pa.Table.from_arrays(table.columns, schema=pa.schema(fields)), part)


def read_table(path: str | Path, columns: tuple[Column, ...]) -> "pd.DataFrame":
    """Read a table written by `write_table`; raise `CatalogueError` where it is unreadable or lacks a column."""
    import pandas as pd

    path = Path(path)
    if not path.exists():
        raise CatalogueError(f"{path}: no such table.")
    try:
        text = {c.name: "str" for c in columns if c.kind == "s"}
        frame = pd.read_csv(path, dtype=text, keep_default_na=True) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as err:
        raise CatalogueError(f"{path}: not a readable table: {' '.join(str(err).split())}.") from err
    missing = [c.name for c in columns if c.name not in frame.columns]
    if missing:
        raise CatalogueError(f"{path}: column(s) {', '.join(missing)} missing; made by another version? Run the stage again.")
    return conform(frame[[c.name for c in columns]], columns, name=str(path))
