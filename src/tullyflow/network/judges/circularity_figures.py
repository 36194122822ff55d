"""How good circularities are that were found of simulated fields: what a network's card and the benchmark say."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["figures_of", "summary_of"]

_ORDERED = 0.5
_CLEAR = 0.1  # from it
_BINS = 5


def _share(there: NDArray[np.bool_]) -> float | None:
    return round(float(there.mean()), 3) if there.size else None


def _mean_recall(kappa: NDArray, found: NDArray) -> float | None:
    right = (found >= _ORDERED) == (kappa >= _ORDERED)
    shares = [_share(right[kappa >= _ORDERED]), _share(right[kappa < _ORDERED])]
    return None if None in shares else round(sum(shares) / 2, 3)


def figures_of(kappa: NDArray, found: NDArray, err: NDArray) -> dict:
    """Return recall at kappa = 0.5, error and coverage of circularities (field,), all together and by the true kappa.

    NaN is left out. A share over no field is None.
    """
    there = np.isfinite(found)
    kappa, found, err = kappa[there], found[there], err[there]
    clear = np.abs(kappa - _ORDERED) > _CLEAR

    def errors(some: NDArray[np.bool_]) -> dict:
        away = (found - kappa)[some]
        within = _share(np.abs(away) < err[some])
        if not away.size:
            return {"bias": None, "rms": None, "within 1 err": None}
        return {"bias": round(float(away.mean()), 3), "rms": round(float(np.sqrt(np.mean(away**2))), 3), "within 1 err": within}

    ordered = kappa >= _ORDERED
    place = (kappa * _BINS).astype(int).clip(0, _BINS - 1)
    return {
        "fields": len(kappa),
        "recall of kappa >= 0.5": _share(found[ordered] >= _ORDERED),
        "recall of kappa < 0.5": _share(found[~ordered] < _ORDERED),
        "mean recall": _mean_recall(kappa, found),
        "mean recall, kappa farther than 0.1 from 0.5": _mean_recall(kappa[clear], found[clear]),
        **errors(np.ones(len(kappa), dtype=bool)),
        "by kappa": {f"{k / _BINS:.1f}-{(k + 1) / _BINS:.1f}": errors(place == k) for k in range(_BINS)},
    }


def summary_of(fields: int, particle_sets: int, figures: dict) -> str:
    """Return two sentences for a reader of the report."""
    trained = f"Trained on {fields:,} velocity fields of {particle_sets:,} simulated galaxies of particles, kappa spread evenly over 0-1."
    if figures["mean recall"] is None:
        return f"{trained} Too few galaxies were held out to say how good it is."
    return (
        f"{trained} On galaxies held out: {100 * figures['mean recall']:.0f} % mean recall at kappa = 0.5, rms error of kappa "
        f"{figures['rms']:.2f}, {100 * figures['within 1 err']:.0f} % within the quoted error, on average over simulated fields of evenly "
        "spread kappa (for a given kappa it may be biased: see the card's figures)."
    )
