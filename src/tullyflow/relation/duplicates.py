"""Which observations are of one galaxy, and which of them counts."""

import logging
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from tullyflow.conventions import C_KMS
from tullyflow.flags import GALAXY

__all__ = ["Observations", "group_observations", "link_observations", "rank_observations"]

_LOG = logging.getLogger("tullyflow")
_NEAR_ARCSEC = 3.0  # two catalogues' centres of one galaxy; less than any two galaxies one map could tell apart
_NEAR_KPC = 1.0  # a near galaxy is larger than that: its centre in HI, or by eye, is this uncertain
_FAR_ARCSEC = 60.0
_SAME_CZ_KMS = 1000.0
_CROWD = 10  # more observations of one galaxy than this are rather a placeholder for a position
_ARCSEC = np.pi / 180 / 3600


@dataclass(frozen=True)
class Observations:
    """Links between rows (row,): ``group`` numbers the galaxy, ``rank`` orders its observations (0 counts), ``of`` is their number."""

    group: NDArray[np.int64]
    rank: NDArray[np.int64]
    of: NDArray[np.int64]


def group_observations(name: ArrayLike, ra_deg: ArrayLike, dec_deg: ArrayLike, z: ArrayLike, distance_mpc: ArrayLike) -> NDArray[np.int64]:
    """Number the galaxy that each row observes.

    Rows of one ``name`` (survey and galaxy: the same object in two releases) are one galaxy, and so are rows at one position
    whose c dz is below 1000 km/s where both redshifts are known. One position: within 3 arcsec; where both redshifts are
    known, within what 1 kpc spans at the nearer one's distance, at most 60 arcsec, for the centre of a large galaxy depends on
    who measures it. Links chain. A position that is not finite, or exactly (0, 0), matches none.

    Parameters
    ----------
    name : (row,) text
    ra_deg, dec_deg : (row,), deg
    z : (row,), NaN where unknown
    distance_mpc : (row,), Mpc, NaN where unknown
    """
    ra, dec, z, distance = (np.asarray(a, dtype=float) for a in (ra_deg, dec_deg, z, distance_mpc))
    _, named = np.unique(np.asarray(name, dtype=str), return_inverse=True)
    placed = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec) & ~((ra == 0) & (dec == 0)))
    # equal rows are one point of the tree, however many they are
    points = pd.DataFrame({"ra": ra[placed], "dec": dec[placed], "z": z[placed]})
    point = points.groupby(["ra", "dec", "z"], dropna=False, sort=False).ngroup().to_numpy()
    _, first = np.unique(point, return_index=True)
    ra, dec, z = (points[c].to_numpy()[first] for c in ("ra", "dec", "z"))
    near = pd.Series(distance[placed]).groupby(point).min().to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        spans = np.where(near > 0, _NEAR_KPC / (1e3 * near) / _ARCSEC, _NEAR_ARCSEC)
    tolerance = np.where(np.isfinite(z), np.clip(spans, _NEAR_ARCSEC, _FAR_ARCSEC), _NEAR_ARCSEC)

    a, b = _pairs(ra, dec, tolerance)
    both = np.isfinite(z[a]) & np.isfinite(z[b])
    apart = _separation_arcsec(ra, dec, a, b)
    with np.errstate(invalid="ignore"):
        same = ~both | (C_KMS * np.abs(z[a] - z[b]) < _SAME_CZ_KMS)
    limit = np.where(both, np.maximum(tolerance[a], tolerance[b]), _NEAR_ARCSEC)
    keep = same & (apart <= limit)
    n_rows, n_names, n_points = len(named), int(named.max(initial=-1)) + 1, len(first)
    rows = np.concatenate([np.arange(n_rows), placed, n_rows + n_names + a[keep]])
    others = np.concatenate([n_rows + named, n_rows + n_names + point, n_rows + n_names + b[keep]])
    size = n_rows + n_names + n_points
    graph = coo_array((np.ones(len(rows), dtype=bool), (rows, others)), shape=(size, size))
    return connected_components(graph, directed=False)[1][:n_rows].astype(np.int64)


def _unit_vectors(ra_deg: NDArray, dec_deg: NDArray) -> NDArray:
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def _pairs(ra: NDArray, dec: NDArray, tolerance: NDArray) -> tuple[NDArray, NDArray]:
    """Pairs of points that may be near enough: all within 3 arcsec, and those about a point of a wider tolerance."""
    if not len(ra):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    vectors = _unit_vectors(ra, dec)
    tree, slack = cKDTree(vectors), 1 + 1e-9
    pairs = tree.query_pairs(_NEAR_ARCSEC * _ARCSEC * slack, output_type="ndarray")
    wide = np.flatnonzero(tolerance > _NEAR_ARCSEC)
    found = tree.query_ball_point(vectors[wide], tolerance[wide] * _ARCSEC * slack)
    about = np.repeat(wide, [len(hits) for hits in found])
    hits = np.concatenate([np.asarray(h, dtype=np.int64) for h in found]) if len(found) else np.empty(0, dtype=np.int64)
    return np.concatenate([pairs[:, 0], about]), np.concatenate([pairs[:, 1], hits])


def _separation_arcsec(ra: NDArray, dec: NDArray, a: NDArray, b: NDArray) -> NDArray:
    vectors = _unit_vectors(ra, dec)
    return 2 * np.arcsin(np.minimum(np.linalg.norm(vectors[a] - vectors[b], axis=1) / 2, 1)) / _ARCSEC


def rank_observations(
    group: ArrayLike, passes: ArrayLike, survey: ArrayLike, release: ArrayLike, log_v_err: ArrayLike, label: ArrayLike
) -> Observations:
    """Order the observations of each galaxy: the first counts.

    Those that pass the other cuts come first; of one survey the newest release (by the number in its name: DR9 < DR15;
    releases without a number are of one age) before older ones; then the smaller error of log V (NaN last); then ``label``
    (survey-release/name) by the alphabet, so that the order of the rows does not matter.
    """
    frame = pd.DataFrame({
        "group": np.asarray(group, dtype=np.int64), "fails": ~np.asarray(passes, dtype=bool), "survey": np.asarray(survey, dtype=str),
        "err": np.nan_to_num(np.asarray(log_v_err, dtype=float), nan=np.inf), "label": np.asarray(label, dtype=str),
    })  # fmt: skip
    release = pd.Series(np.asarray(release, dtype=str))
    ages = {text: int(digits.group()) if (digits := re.search(r"\d+", text)) else -1 for text in release.unique()}
    frame["age"] = release.map(ages)
    of_one = frame.groupby(["group", "survey", "fails"], sort=False)["age"]
    frame["older"] = of_one.rank(method="dense", ascending=False)
    ordered = frame.sort_values(["group", "fails", "older", "err", "label"], kind="stable")
    rank = ordered.groupby("group", sort=False).cumcount().sort_index().to_numpy(dtype=np.int64)
    of = frame.groupby("group")["fails"].transform("size").to_numpy(dtype=np.int64)
    return Observations(frame["group"].to_numpy(), rank, of)


def link_observations(sample: pd.DataFrame) -> pd.DataFrame:
    """Link the observations of each galaxy (rows of ``tables.SAMPLE``): all but one get DUPLICATE and ``same_as``, its name.

    What counts is decided here, on all surveys' results: a reader's DUPLICATE (made before anything was measured) is taken back
    where its galaxy would else be lost, and kept where the observation it repeats is not in the sample. ``same_as`` is
    survey-release/galaxy. Returns a copy; linking it again changes nothing.
    """
    sample = sample.copy()
    flags = sample["flags"].to_numpy(dtype=np.int64)
    label = (sample["survey"] + "-" + sample["release"] + "/" + sample["galaxy"]).to_numpy(dtype=str)
    names = (sample["survey"] + "/" + sample["galaxy"]).to_numpy(dtype=str)
    group = group_observations(names, *(sample[column] for column in ("ra_deg", "dec_deg", "z", "distance_mpc")))
    passes = ((flags & GALAXY.excluding & ~GALAXY.DUPLICATE) == 0) & np.isfinite(sample["v_max_kms"].to_numpy(dtype=float))
    links = rank_observations(group, passes, sample["survey"], sample["release"], sample["log_v_max_err"], label)
    marked = (flags & GALAXY.DUPLICATE) != 0
    elsewhere = pd.Series(marked).groupby(links.group).transform("all").to_numpy()  # the one they repeat is in no group of theirs
    first = pd.Series(label[links.rank == 0], index=links.group[links.rank == 0])
    linked = (links.of > 1) & ~elsewhere
    duplicate = np.where(linked, links.rank > 0, marked)
    sample["flags"] = np.where(duplicate, flags | GALAXY.DUPLICATE, flags & ~GALAXY.DUPLICATE)
    sample["same_as"] = np.where(linked & (links.rank > 0), first.reindex(links.group).to_numpy(dtype=object), "")
    _log(links, linked, sample["survey"].to_numpy(dtype=str), first)
    return sample


def _log(links: Observations, linked: NDArray, survey: NDArray, first: pd.Series) -> None:
    surveys = pd.Series(survey[linked]).groupby(links.group[linked]).nunique()
    more = int((linked & (links.rank > 0)).sum())
    _LOG.info("sample: %d observations of %d galaxies; %d galaxies are observed more than once (%d of them in two surveys), %d of their "
              "observations do not count", len(linked), len(first), len(surveys), int((surveys > 1).sum()), more)  # fmt: skip
    crowd = pd.Series(links.of, index=links.group)[linked].drop_duplicates()
    if crowd.max() > _CROWD:
        _LOG.warning("sample: %d observations are taken for one galaxy, %s: is that its position?", crowd.max(), first[crowd.idxmax()])
