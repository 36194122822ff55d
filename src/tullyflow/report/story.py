"""The whole story of one galaxy in plain words: what came of it at every stage, and why it is in the relation or not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tullyflow.conventions import STAMP
from tullyflow.flags import GALAXY
from tullyflow.relation.drift import corrected_velocities, drift_factor, drift_radii
from tullyflow.report.checks import check_galaxy, remedies, setting_of, value_words
from tullyflow.report.disc_words import disc_kind, disc_sentences
from tullyflow.report.judged_words import judged_sentences
from tullyflow.report.words import number, plus_minus
from tullyflow.tables import PARAMETERS, TARGETS, VELOCITIES

if TYPE_CHECKING:
    from tullyflow.report.standing import Standing

__all__ = ["Section", "story", "verdict"]

_SURVEYS = {"manga": "MaNGA", "sami": "SAMI", "things": "THINGS", "local": "your own galaxies"}
_NOT_CATALOGUE = ("galaxy", "survey", "release", "shard", "flags", "messages", "ra_deg", "dec_deg", "drp3qual", "psf_fwhm_arcsec")
_PARAMETER_WORDS = ("inclination", "scale length of the light", "turnover radius", "V_max sin i")
_VELOCITY_WORDS = {
    "v_max": "asymptotic", "v_22": "at 2.2 scale lengths", "v_re": "at R_e", "v_80": "at the radius of 80 % of the light",
    "v_rmax": "at the outermost data",
}  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A chapter of the story: sentences, and a table where ``columns`` is not empty (``rows`` of as many texts)."""

    title: str
    sentences: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def story(
    row: Mapping, settings: Mapping | None = None, manifest: Sequence[Mapping] | None = None, standings: "Sequence[Standing] | None" = None
) -> list[Section]:
    """Tell the story of one galaxy, in the order it walks.

    Parameters
    ----------
    row
        Its row of ``tables.SAMPLE``; a column that is absent (a table of another version) is not known.
    settings
        Those of the run, dumped (``Settings.model_dump(mode="json")``, the ``settings`` of provenance.json); None: not known.
    manifest
        Its rows of ``tables.MANIFEST``; None where there is no manifest.
    standings
        Its places in the fitted relations (`tullyflow.report.standing.find_standings`); None where there are no fits.

    Returns
    -------
    list of Section
        Plain text, nothing escaped; minus signs are true ones. The first section holds the verdict.
    """
    return [
        Section("Verdict", (verdict(row),)),
        _identity(row),
        _files(manifest),
        _maps(row),
        Section("Is it a disc?", tuple(judged_sentences(row))),
        _disc(row),
        _velocities(row),
        Section("Asymmetric drift", tuple(_drift(row, settings))),
        _cuts(row, settings),
        _flags(row),
        _standing(standings),
        _change(row, settings),
    ]


def verdict(row: Mapping) -> str:
    """Say in one sentence whether the galaxy is in the relation, and what keeps it out."""
    name = f"{row['galaxy']} ({_SURVEYS.get(row['survey'], row['survey'])} {row['release']})"
    excluding = GALAXY.set_in(int(row["flags"]) & GALAXY.excluding)
    if row["used"]:
        warned = len(GALAXY.set_in(int(row["flags"]) & ~GALAXY.excluding))
        return f"{name} is in the relation" + (f", with {warned} warning{'s' if warned > 1 else ''}." if warned else ".")
    why = ", ".join(flag.name for flag in excluding) or "it has no finite V_max"
    return f"{name} is not in the relation: {why}."


def _known(row: Mapping, column: str) -> bool:
    value = row.get(column)
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def _pair(row: Mapping, column: str, error: str, digits: int, unit: str = "") -> str:
    return f"{plus_minus(row.get(column), row.get(error), digits)} {unit}".strip()


def _identity(row: Mapping) -> Section:
    place = f" at RA {number(row.get('ra_deg'), 5)}, Dec {number(row.get('dec_deg'), 5)} deg" if _known(row, "ra_deg") else ""
    sentences = [f"{row['galaxy']}, {_SURVEYS.get(row['survey'], row['survey'])} {row['release']}{place}; shard {row['shard']}."]
    if row.get("same_as"):
        sentences.append(f"It is the same galaxy as {row['same_as']}, which counts.")
    rows = []
    for column in TARGETS:
        value = row.get(column.name)
        if column.name in _NOT_CATALOGUE or column.name.endswith("_err") or column.name == "hi_width_err_kms":
            continue
        if column.kind == "s" and value:
            rows.append((column.name, str(value), column.description))
        elif column.kind == "f" and _known(row, column.name):
            error = "hi_width_err_kms" if column.name == "hi_width_kms" else f"{column.name}_err"
            shown = value_words(column.name, value) + (f" ± {number(row[error], 2)}" if _known(row, error) else "")
            rows.append((column.name, shown, column.description))
    missing = [c.name for c in TARGETS if c.kind == "f" and c.name in row and not _known(row, c.name) and not c.name.endswith("_err")]
    missing = [name for name in missing if name not in (*_NOT_CATALOGUE, "hi_width_err_kms")]
    if missing:
        sentences.append(f"The catalogue does not say: {', '.join(missing)}.")
    return Section("Who it is", tuple(sentences), ("catalogue", "value", "what it is"), tuple(rows))


def _files(manifest: Sequence[Mapping] | None) -> Section:
    if manifest is None:
        return Section("Its files", ("What was fetched is not known: there is no manifest of its shard here.",))
    if not manifest:
        return Section("Its files", ("The manifest of its shard names no file of it.",))
    came = [entry for entry in manifest if entry["status"] == "ok"]
    size = sum(int(entry.get("bytes") or 0) for entry in came) / 1e6
    names = ", ".join(str(entry["product"]) for entry in came) or "none"
    sentences = [f"{len(came)} of {len(manifest)} files came, {number(size, 2)} MB: {names}."]
    for entry in manifest:
        if entry["status"] != "ok":
            said = str(entry.get("message") or "").rstrip(".") or "no reason kept"
            word = "does not exist in the archive" if entry["status"] == "missing" else "could not be fetched"
            sentences.append(f"{entry['product']} {word}: {said} ({entry['url']}).")
    return Section("Its files", tuple(sentences))


def _maps(row: Mapping) -> Section:
    if not row.get("n_spaxels"):
        return Section("Its maps", (str(row.get("messages") or "No spaxel was left to make a stamp of."),))
    fill = f", {number(100 * row['fill_factor'], 0)} % of the field of view" if _known(row, "fill_factor") else ""
    sentences = [f"{row['n_spaxels']} valid spaxels of {value_words('pixel_scale_arcsec', row.get('pixel_scale_arcsec'))}{fill}."]
    if _known(row, "pa_deg"):
        axis = _pair(row, "pa_deg", "pa_err_deg", 1, "deg")
        sentences.append(f"Kinematic position angle {axis}, North through East to the receding side.")
    else:
        sentences.append("The kinematic position angle on the sky is not known.")
    if _known(row, "pa_stellar_deg"):
        apart = _pair(row, "delta_pa_deg", "delta_pa_err_deg", 1, "deg")
        sentences.append(f"The stars' axis is {_pair(row, 'pa_stellar_deg', 'pa_stellar_err_deg', 1, 'deg')}, {apart} from the gas'.")
    sentences.append(
        f"Systemic velocity {_pair(row, 'v_sys_kms', 'v_sys_err_kms', 1, 'km/s')} from the map's own zero; centre at pixel "
        f"({number(row.get('x_centre'), 1)}, {number(row.get('y_centre'), 1)}), from 0."
    )
    if _known(row, "v_abs_max_kms"):
        sentences.append(
            f"Velocities reach {number(row['v_abs_max_kms'], 0)} km/s on the sky; the data reach {number(row.get('r_max_arcsec'), 1)} "
            "arcsec in the plane of the disc."
        )
    beam = f"Beam {number(row['psf_fwhm_arcsec'], 2)} arcsec FWHM" if _known(row, "psf_fwhm_arcsec") else "Beam not known"
    if _known(row, "stamp_scale_arcsec"):
        scale = row["stamp_scale_arcsec"]
        beam += f", {number(row['psf_fwhm_arcsec'] / scale, 1)} stamp pixels" if _known(row, "psf_fwhm_arcsec") else ""
        chose = {"data": "the data's extent", "r_e": "R_e, so that the disc fits"}.get(row.get("field_from"), "what was there")
        beam += f"; the stamp is {number(STAMP * scale, 1)} arcsec wide, chosen by {chose}"
    sentences.append(beam + ".")
    if row.get("intensity_kind") == "photometry":
        sentences.append("There is no intensity map: the stamp shows the exponential disc that the photometry describes.")
    return Section("Its maps", tuple(sentences))


def _disc(row: Mapping) -> Section:
    if int(row["flags"]) & GALAXY.NOT_INFERRED or not _known(row, "v_max_sini_kms"):
        return Section("Its disc", ("None: the network saw no usable stamp of this galaxy.",))
    mode = {"blind": "never saw it in training", "combined": "was trained on it among others", "solo": "was trained on it alone"}
    sentences = [f"The network {mode.get(str(row.get('mode')), 'inferred it')}; errors are calibrated 1 sigma."]
    used = _pair(row, "inclination_used_deg", "inclination_used_err_deg", 1, "deg")
    kinds = {"photometry": "photometric, by the axis ratio", "whole": "the fit's"}
    photometric = row.get("inclination_kind") == "photometric"
    kind = kinds["photometry"] if photometric else kinds.get(disc_kind(row), "the network's own")
    length = number(row.get("r_scale_used_arcsec"), 2)
    sentences.append(f"The velocities use an inclination of {used} ({kind}) and a scale length of {length} arcsec.")
    sentences += disc_sentences(row)
    if _known(row, "reconstruction_velocity_kms"):
        line = f"The disc model leaves {number(row['reconstruction_velocity_kms'], 1)} km/s rms of the velocity field unexplained"
        if _known(row, "reconstruction"):
            limit = number(row.get("reconstruction_threshold"), 3)
            line += f"; the reconstruction cut compares {number(row['reconstruction'], 3)} with a threshold of {limit}"
        sentences.append(line + ".")
    rows = []
    for words, name in zip(_PARAMETER_WORDS, PARAMETERS, strict=True):
        digits = {"inclination_deg": 1, "v_max_sini_kms": 1}.get(name, 2)
        unit = {"inclination_deg": "deg", "v_max_sini_kms": "km/s"}.get(name, "arcsec")
        at, half = "at the end of its range" if bool(row.get(f"{name}_at_bound")) else "", number(row.get(f"{name}_err95"), digits)
        rows.append((words, _pair(row, name, f"{name}_err", digits, unit), "–" if half == "–" else f"± {half}", at))
    return Section("Its disc", tuple(sentences), ("parameter", "value", "95 %", ""), tuple(rows))


def _velocities(row: Mapping) -> Section:
    known = [name for name in VELOCITIES if _known(row, f"{name}_kms")]
    if not known:
        return Section("Its velocities", ("It has none.",))
    rows = []
    for name in known:
        beyond = row.get(f"{name}_extrapolated")
        circular = (number(row.get(f"{name}_circ_kms"), 1), number(row.get(f"log_{name}_circ_err"), 3))
        if row.get(f"{name}_circ_kms") == row.get(f"{name}_kms"):
            circular = ("–", "–")
        reach = "not known" if beyond is None or not _known(row, "r_max_arcsec") else "extrapolated" if beyond else "within the data"
        rows.append((
            name, _VELOCITY_WORDS[name], _pair(row, f"{name}_kms", f"{name}_kms_err", 1), number(row.get(f"log_{name}_err"), 3),
            *circular, reach,
        ))  # fmt: skip
    columns = ("velocity", "", "rotation (km/s)", "error (dex)", "drift corrected (km/s)", "error (dex)", "the data")
    return Section("Its velocities", ("Corrected for inclination; the errors hold those of the inclination.",), columns, tuple(rows))


def _drift(row: Mapping, settings: Mapping | None) -> Iterator[str]:
    if not _known(row, "v_max_kms"):
        yield "There is no velocity to correct."
        return
    try:
        kind, at = (setting_of(settings, f"relation.{key}") for key in ("drift", "drift_at"))
    except KeyError:
        kind, at = "", ""
    if kind == "off":
        yield "Not corrected: relation.drift is off. Velocities are those of rotation, not circular ones."
        return
    sigma = row.get("outer_dispersion_kms")
    if not _known(row, "outer_dispersion_kms"):
        yield "Not corrected: no dispersion of the outer disc is known (no map of it, too few pixels, or a mean square below 0)."
        return
    dispersion = _pair(row, "outer_dispersion_kms", "outer_dispersion_err_kms", 1, "km/s")
    yield f"Velocity dispersion of the outer disc, instrument removed: {dispersion}."
    lengths = ("r_scale_used_arcsec", "r_e_arcsec", "r_max_arcsec")
    radii = drift_radii({name: row.get(name, np.nan) for name in lengths})
    for name in corrected_velocities(kind, at) if kind else VELOCITIES:
        v, circular = row.get(f"{name}_kms", np.nan), row.get(f"{name}_circ_kms", np.nan)
        if not np.isfinite(v):
            continue
        if circular != v and np.isfinite(circular):
            said = f"{name}: {number(v, 1)} becomes {number(circular, 1)} km/s, by {number(circular - v, 1)}"
            if kind:
                factor = float(drift_factor(radii[name], row["r_scale_used_arcsec"], kind))
                said += f" (V² + {number(factor, 2)} × {number(sigma, 1)}², {kind})"
            yield said + "."
        elif kind:
            yield f"{name}: not corrected; its radius and the scale length give no positive factor (or are not known)."


def _cuts(row: Mapping, settings: Mapping | None) -> Section:
    checks = check_galaxy(row, settings)
    rows = tuple((c.flag, c.verdict, c.found, c.limit, c.setting) for c in checks)
    counts = {word: sum(c.verdict == word for c in checks) for word in ("passed", "failed", "warned", "not tested", "off")}
    said = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
    note = () if settings else ("The settings of this run are not here: what failed is known from the flags, the limits are not.",)
    return Section("Every cut", (f"{said}. A cut that warns, or could not be tested, excludes nobody.", *note),
                   ("cut", "verdict", "found", "limit", "setting"), rows)  # fmt: skip


def _flags(row: Mapping) -> Section:
    bits = int(row["flags"])
    said = [f"{f.name}{'' if f.excludes else ' (warning)'}: {f.sentence}" for f in GALAXY.set_in(bits)]
    if row.get("messages"):
        said.append(str(row["messages"]))
    return Section("Its flags", tuple(said) or ("None.",))


def _standing(standings: "Sequence[Standing] | None") -> Section:
    title = "In the relations"
    if standings is None:
        return Section(title, ("No fits of this run are here.",))
    if not standings:
        return Section(title, ("It stands in none: it lacks a value, or no line could be fitted.",))
    rows = tuple(
        (s.relation.replace("_", " "), s.velocity, s.method, number(s.residual, 3, sign=True), "mag" if s.relation == "r_band" else "dex",
         number(s.sigmas, 1, sign=True), s.part)
        for s in standings
    )  # fmt: skip
    sentences = ["Residuals are what was found minus the line; a sigma holds the errors of both axes and the intrinsic scatter."]
    if all(s.part == "left out" for s in standings):
        sentences.append("It is in none of the fits; this is where it would lie.")
    return Section(title, tuple(sentences), ("relation", "velocity", "fit", "residual", "in", "sigma", "part"), rows)


def _change(row: Mapping, settings: Mapping | None) -> Section:
    title = "What would have to change"
    if row["used"]:
        return Section(title, ("Nothing: it is used.",))
    needed = remedies(row, settings)
    if int(row["flags"]) & GALAXY.NOT_INFERRED:
        needed.append("Cuts that were not tested for want of kinematics may follow.")
    return Section(title, tuple(needed) or ("It needs a finite V_max with an error.",))
