"""The sample: targets, maps and kinematics joined, every cut as a flag, and the velocities the relation uses.

Nobody is dropped: one row per target, and every row that is not used says why.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.table import Table
from scipy.stats import spearmanr

from tullyflow.errors import CatalogueError, RelationError
from tullyflow.flags import GALAXY
from tullyflow.relation.cuts import KINEMATIC_CUTS, apply_cuts, cut_flow
from tullyflow.relation.described import write_described
from tullyflow.relation.drift import correct_velocities
from tullyflow.relation.duplicates import link_observations
from tullyflow.relation.extinction import internal_extinction
from tullyflow.relation.record import read_record, write_record
from tullyflow.settings import Relation, Settings
from tullyflow.tables import GALAXIES, KINEMATICS, SAMPLE, TARGETS, conform, read_table, write_table

__all__ = ["RECONSTRUCTION_COLUMNS", "cut_flow", "freeze_threshold", "measure_threshold", "merge_samples", "select_sample"]

_LOG = logging.getLogger("tullyflow")
RECONSTRUCTION_COLUMNS = {"chi2": "chi2_velocity", "mse_over_v": "mse_over_v"}
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
    record = measure_threshold(frame, relation)
    write_record(out_path, record)
    _LOG.info("reconstruction threshold: %s %.4g (mean %.4g, std %.4g of %d of %d galaxies; Spearman %.2f with V_max sin i)",
              relation.reconstruction, record["threshold"], record["mean"], record["std"], record["n"], len(frame),
              record["spearman_with_v"])  # fmt: skip
    return record


def measure_threshold(frame: pd.DataFrame, relation: Relation) -> dict:
    """Return the record of `freeze_threshold` for rows that carry the columns of ``tables.KINEMATICS``."""
    fit_to_count = (apply_cuts(frame, relation, KINEMATIC_CUTS) & GALAXY.excluding) == 0
    values, velocity = np.array([]), np.array([])
    if relation.reconstruction != "off":
        column = RECONSTRUCTION_COLUMNS[relation.reconstruction]
        counted = frame.loc[fit_to_count & np.isfinite(frame[column])]
        values, velocity = (counted[name].to_numpy(dtype=float) for name in (column, "v_max_sini_kms"))
    mean, std = (float(values.mean()), float(values.std())) if values.size else (np.nan, np.nan)
    if relation.reconstruction_from == "median" and values.size:
        mean = float(np.median(values))
        std = float(1.4826 * np.median(np.abs(values - mean)))
    base = 0.0 if relation.reconstruction_from == "zero" else mean
    return {
        "statistic": relation.reconstruction,
        "from": relation.reconstruction_from,
        "sigma": relation.reconstruction_sigma,
        "mean": mean,
        "std": std,
        "threshold": base + relation.reconstruction_sigma * std,
        "n": int(values.size),
        "spearman_with_v": _spearman(values, velocity),
    }


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
        if statistic not in RECONSTRUCTION_COLUMNS:
            raise RelationError(f"{threshold_path}: unknown statistic {statistic!r}; known: {', '.join(RECONSTRUCTION_COLUMNS)}, off.")
        sample["reconstruction"] = sample[RECONSTRUCTION_COLUMNS[statistic]]
        threshold = frozen.get("threshold")
        sample["reconstruction_threshold"] = np.nan if threshold is None else float(threshold)
    correct_velocities(sample, settings.relation)
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
    """Put the shards' samples into one table: Parquet, and an ``.ecsv`` and a ``.fits`` with units and descriptions beside it.

    A galaxy observed more than once, in several releases, twice in one, or by two surveys, counts once: its other rows stay and
    get DUPLICATE and ``same_as`` (`link_observations`). Rows keep the order of ``paths``. Raises `CatalogueError` for an
    unreadable sample.
    """
    sample = link_observations(pd.concat([read_table(path, SAMPLE) for path in paths], ignore_index=True))
    _conclude(sample)
    write_table(out_path, sample, SAMPLE)
    for suffix in (".ecsv", ".fits"):
        write_described(Path(out_path).with_suffix(suffix), sample, SAMPLE)
    _log_cuts("sample", sample)
    return sample
