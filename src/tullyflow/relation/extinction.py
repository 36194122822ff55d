"""Dust inside the galaxy: how much fainter an inclined disc is than the same disc seen face-on (Tully+1998)."""

import numpy as np

__all__ = ["internal_extinction"]


def internal_extinction(v_kms, axis_ratio) -> np.ndarray:
    """Return A_r (mag, positive), by which an r magnitude of an inclined disc is too faint: gamma log10(a/b).

    gamma = 1.15 + 1.88 (log10 W - 2.5), not below 0; W = 2 V is the line width corrected for inclination, so V (km/s) is the
    rotation velocity in the disc plane, not its projection. ``axis_ratio`` is the observed b/a. Arrays of one shape (galaxy,). NaN
    where either is NaN, V <= 0, or b/a is not in ]0, 1].
    Source: Tully+1998 (AJ 115, 2264), Cousins R band, here for r.
    """
    v, q = np.asarray(v_kms, dtype=float), np.asarray(axis_ratio, dtype=float)
    known = (v > 0) & (q > 0) & (q <= 1)
    log_w = np.log10(2 * v, out=np.full(v.shape, np.nan), where=known)
    log_ab = -np.log10(q, out=np.full(q.shape, np.nan), where=known)
    return np.clip(1.15 + 1.88 * (log_w - 2.5), 0.0, None) * log_ab
