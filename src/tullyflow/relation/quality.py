"""The sample: targets, maps and kinematics joined, every cut as a flag, and the velocities the relation uses.

Nobody is dropped: one row per target, and every row that is not used says why.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.table import Column, Table
from scipy.stats import spearmanr

from tullyflow.conventions import R_80_PER_SCALE_LENGTH, R_E_PER_SCALE_LENGTH
from tullyflow.errors import CatalogueError, RelationError
from tullyflow.flags import GALAXY
from tullyflow.relation.cuts import KINEMATIC_CUTS, apply_cuts, cut_flow
from tullyflow.relation.drift import correct_drift
from tullyflow.relation.duplicates import link_observations
from tullyflow.relation.extinction import internal_extinction
from tullyflow.relation.record import read_record, write_record
from tullyflow.settings import Relation, Settings
from tullyflow.tables import GALAXIES, KINEMATICS, SAMPLE, TARGETS, VELOCITIES, conform, read_table, whole_file, write_table

__all__ = ["cut_flow", "freeze_threshold", "merge_samples", "select_sample"]

_LOG = logging.getLogger("tullyflow")
_STATISTICS = {"chi2": "chi2_velocity", "mse_over_v": "mse_over_v"}
_SCALE_LENGTHS_OF_V_22 = 2.2
_MIN_CORRELATED = 10  # galaxies: a rank correlation of fewer says nothing


def _spearman(values: np.ndarray, velocity: np.ndarray) -> float:
    """Spearman's coefficient of two arrays (galaxy,); NaN for fewer than 10 finite pairs or where one does not vary."""
    known = np.isfinite(values) & np.isfinite(velocity)
    pairs = values[known], velocity[known]
    if known.sum() < _MIN_CORRELATED or any(np.ptp(array) == 0 for array in pairs):
        return float("nan")
    return float(spearmanr(*pairs).statistic)


def freeze_threshold(kinematics_paths: Sequence[str | Path], settings: Settings, out_path: str | Path) -> dict:
    """Measure the reconstruction cut on the training release's galaxies and write it as JSON.

    The threshold is ``relation.reconstruction_sigma`` standard deviations above the mean (or above zero) of the statistic,
    or as many robust ones (1.4826 median absolute deviations) above its median, which one absurd galaxy cannot move; taken
    over the galaxies that nothing else in their kinematics excludes; NaN and infinite values are left out. Without a
    single value, or with ``reconstruction: off``, it is null: not tested, excludes nobody. ``spearman_with_v`` is the rank
    correlation of the statistic with V_max sin i over the same galaxies (null for fewer than 10): far from zero, the cut
    selects by velocity and moves the relation.

    Raises `CatalogueError` for an unreadable table. Source: thesis section 4.2.4.
    """
    relation = settings.relation
    frame = pd.concat([read_table(path, KINEMATICS) for path in kinematics_paths], ignore_index=True)
    fit_to_count = (apply_cuts(frame, relation, KINEMATIC_CUTS) & GALAXY.excluding) == 0
    values, velocity = np.array([]), np.array([])
    if relation.reconstruction != "off":
        counted = frame.loc[fit_to_count & np.isfinite(frame[_STATISTICS[relation.reconstruction]])]
        values, velocity = (counted[name].to_numpy(dtype=float) for name in (_STATISTICS[relation.reconstruction], "v_max_sini_kms"))
    mean, std = (float(values.mean()), float(values.std())) if values.size else (np.nan, np.nan)
    if relation.reconstruction_from == "median" and values.size:
        mean = float(np.median(values))
        std = float(1.4826 * np.median(np.abs(values - mean)))
    base = 0.0 if relation.reconstruction_from == "zero" else mean
    record = {
        "statistic": relation.reconstruction,
        "from": relation.reconstruction_from,
        "sigma": relation.reconstruction_sigma,
        "mean": mean,
        "std": std,
        "threshold": base + relation.reconstruction_sigma * std,
        "n": int(values.size),
        "spearman_with_v": _spearman(values, velocity),
    }
    write_record(out_path, record)
    _LOG.info("reconstruction threshold: %s %.4g (mean %.4g, std %.4g of %d of %d galaxies; Spearman %.2f with V_max sin i)",
              relation.reconstruction, record["threshold"], mean, std, values.size, len(frame), record["spearman_with_v"])  # fmt: skip
    return record


def _read_galaxies(maps_path: str | Path) -> pd.DataFrame:
    """Read the GALAXIES table of a shard's maps, and leave its stamps alone."""
    try:
        with fits.open(maps_path) as hdus:
            table = Table.read(hdus["GALAXIES"])
    except (OSError, KeyError) as err:
        raise CatalogueError(f"{maps_path}: no readable GALAXIES table ({' '.join(str(err).split())}); make the maps again.") from err
    table.convert_bytestring_to_unicode()
    missing = [c.name for c in GALAXIES if c.name not in table.colnames]
    if missing:
        raise CatalogueError(f"{maps_path}: GALAXIES lacks {', '.join(missing)}; made by another version? Make the maps again.")
    columns = {}
    for column in GALAXIES:
        values = np.asarray(np.ma.filled(table[column.name], {"s": "", "f": np.nan}.get(column.kind, 0)))
        columns[column.name] = values.astype(values.dtype.newbyteorder("="))  # FITS is big-endian, pandas is not
    return conform(pd.DataFrame(columns), GALAXIES, str(maps_path))


def _by_galaxy(frame: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    twice = frame["galaxy"][frame["galaxy"].duplicated()].unique()
    if len(twice):
        raise CatalogueError(f"{path}: {len(twice)} galaxy name(s) twice, the first is {twice[0]!r}; names are unique within a shard.")
    return frame.set_index("galaxy", drop=False)


def _join_sentences(*columns: Sequence[str]) -> list[str]:
    """Join sentences row by row; one that an earlier stage already handed on is not repeated."""
    joined = []
    for row in zip(*columns, strict=True):
        text = ""
        for sentence in (str(s).strip() for s in row):
            if text and text in sentence:
                text = sentence
            elif sentence not in text:
                text = f"{text} {sentence}".strip()
        joined.append(text)
    return joined


def _join(targets: pd.DataFrame, galaxies: pd.DataFrame, kinematics: pd.DataFrame) -> pd.DataFrame:
    """One row per target, in the targets' order; galaxies without kinematics get NOT_INFERRED."""
    names = targets.index
    maps_rows, inferred = galaxies.reindex(names), kinematics.reindex(names)
    parts = {}
    for source in (inferred, maps_rows, targets):  # the catalogue has the last word
        parts |= {column: source[column] for column in source.columns if column not in ("flags", "messages", "observation")}
    psf = maps_rows["psf_fwhm_arcsec"]
    parts["psf_fwhm_arcsec"] = psf.where(psf.notna(), targets["psf_fwhm_arcsec"])
    flags = targets["flags"].to_numpy(dtype=np.int64, copy=True)
    for source in (maps_rows, inferred):
        flags |= source["flags"].fillna(0).to_numpy(dtype=np.int64)
    flags[~names.isin(kinematics.index)] |= GALAXY.NOT_INFERRED
    parts["flags"] = pd.Series(flags, index=names)
    messages = _join_sentences(targets["messages"], maps_rows["messages"].fillna(""), inferred["messages"].fillna(""))
    parts["messages"] = pd.Series(messages, index=names)
    return conform(pd.DataFrame(parts).reset_index(drop=True), SAMPLE, "sample")


def _correct_velocities(sample: pd.DataFrame, relation: Relation) -> None:
    """Fill the ``_circ`` columns in place; without a correction they equal the rotation velocity.

    The factor takes the radius each velocity belongs to; V_max takes r_max as the thesis does. With ``drift_at: r_max``
    only the velocity at r_max is corrected. The scale length is the one the velocities use; one from the catalogue's R_e has
    no error.
    """
    r_max, r_scale = sample["r_max_arcsec"], sample["r_scale_used_arcsec"]
    scale_err = sample["r_scale_arcsec_err"].where(sample["inclination_kind"] != "photometric", 0.0)
    radius = {"v_max": r_max, "v_rmax": r_max, "v_22": _SCALE_LENGTHS_OF_V_22 * r_scale, "v_re": sample["r_e_arcsec"]}
    radius["v_80"] = R_80_PER_SCALE_LENGTH * r_scale
    radius["v_re"] = radius["v_re"].where(radius["v_re"].notna(), R_E_PER_SCALE_LENGTH * r_scale)
    chosen = () if relation.drift == "off" else VELOCITIES if relation.drift_at == "v_max" else ("v_rmax",)
    for velocity in VELOCITIES:
        v, log_err = sample[f"{velocity}_kms"], sample[f"log_{velocity}_err"]
        if velocity not in chosen:
            sample[f"{velocity}_circ_kms"], sample[f"log_{velocity}_circ_err"] = v, log_err
            continue
        r_scale_err = 0.0 if velocity in ("v_22", "v_80") else scale_err  # 2.2 scale lengths, whatever the length
        drift = correct_drift(
            v, log_err * v * np.log(10), sample["outer_dispersion_kms"], sample["outer_dispersion_err_kms"],
            radius[velocity], r_scale, relation.drift, r_scale_err,
        )  # fmt: skip
        sample[f"{velocity}_circ_kms"] = drift.v_kms
        with np.errstate(divide="ignore", invalid="ignore"):
            sample[f"log_{velocity}_circ_err"] = drift.v_err / (drift.v_kms * np.log(10))
        sample.loc[v.notna() & ~drift.applied, "flags"] |= GALAXY.NO_DRIFT_CORRECTION


def _conclude(sample: pd.DataFrame) -> pd.DataFrame:
    """Fill ``used`` and the words of the flags from the flags."""
    flags = sample["flags"]
    sample["used"] = ((flags & GALAXY.excluding) == 0) & np.isfinite(sample["v_max_kms"])
    names, sentences = ({bits: say(bits) for bits in flags.unique()} for say in (GALAXY.names, GALAXY.sentences))
    sample["flag_names"] = flags.map(names)
    twin = [f"The same galaxy as {name}, which counts." if name else "" for name in sample["same_as"]]
    sample["flag_sentences"] = _join_sentences(flags.map(sentences), sample["messages"], twin)
    return sample


def select_sample(
    targets_path: str | Path,
    maps_path: str | Path,
    kinematics_path: str | Path,
    threshold_path: str | Path,
    settings: Settings,
    out_path: str | Path,
) -> pd.DataFrame:
    """Join a shard's targets, maps and kinematics, set a flag for every cut, correct the velocities, write the sample.

    Returns the rows of ``tables.SAMPLE``, one per target in the targets' order. A cut whose value is NaN is not tested
    and excludes nobody; ``used`` is True where no excluding flag is set and V_max is finite.

    Raises `CatalogueError` for unreadable inputs or a name given twice, `RelationError` for an unreadable threshold.
    Source: thesis section 4.2.4 and eq. 4.4.
    """
    targets = _by_galaxy(read_table(targets_path, TARGETS), targets_path)
    galaxies = _by_galaxy(_read_galaxies(maps_path), maps_path)
    kinematics = _by_galaxy(read_table(kinematics_path, KINEMATICS), kinematics_path)
    strangers = kinematics.index.difference(targets.index)
    if len(strangers):
        _LOG.warning("%s: %d galaxies are no targets of this shard and stay out, e.g. %s", kinematics_path, len(strangers), strangers[0])
    sample = _join(targets, galaxies, kinematics)
    frozen = read_record(threshold_path)
    statistic = frozen.get("statistic", "off")
    if statistic != "off":
        if statistic not in _STATISTICS:
            raise RelationError(f"{threshold_path}: unknown statistic {statistic!r}; known: {', '.join(_STATISTICS)}, off.")
        sample["reconstruction"] = sample[_STATISTICS[statistic]]
        threshold = frozen.get("threshold")
        sample["reconstruction_threshold"] = np.nan if threshold is None else float(threshold)
    _correct_velocities(sample, settings.relation)
    off = settings.relation.internal_extinction == "off"
    sample["extinction_r_mag"] = 0.0 if off else internal_extinction(sample["v_max_kms"], sample["axis_ratio"])
    sample["flags"] = apply_cuts(sample, settings.relation)
    _conclude(sample)
    write_table(out_path, sample, SAMPLE)
    _log_cuts(Path(out_path).stem, sample)
    return sample


def _log_cuts(name: str, sample: pd.DataFrame) -> None:
    flow = cut_flow(sample)
    why = ", ".join(f"{row.in_order} {row.flag}" for row in flow.itertuples() if row.in_order)
    _LOG.info("%s: %d targets, %d used (%s)", name, len(sample), int(sample["used"].sum()), why or "none is out")


def merge_samples(paths: Sequence[str | Path], out_path: str | Path) -> pd.DataFrame:
    """Put the shards' samples into one table, Parquet and an ``.ecsv`` with units beside it.

    A galaxy observed more than once, in several releases, twice in one, or by two surveys, counts once: its other rows stay and
    get DUPLICATE and ``same_as`` (`link_observations`). Rows keep the order of ``paths``. Raises `CatalogueError` for an
    unreadable sample.
    """
    sample = link_observations(pd.concat([read_table(path, SAMPLE) for path in paths], ignore_index=True))
    _conclude(sample)
    write_table(out_path, sample, SAMPLE)
    _write_ecsv(Path(out_path).with_suffix(".ecsv"), sample)
    _log_cuts("sample", sample)
    return sample


def _write_ecsv(path: Path, sample: pd.DataFrame) -> None:
    kinds: Mapping[str, type] = {"f": float, "i": np.int64, "b": bool, "s": str}
    table = Table([
        Column(sample[c.name].to_numpy(dtype=kinds[c.kind]), name=c.name, unit=c.unit or None, description=c.description) for c in SAMPLE
    ])  # fmt: skip
    with whole_file(path) as part:
        table.write(part, format="ascii.ecsv")
