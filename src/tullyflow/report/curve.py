"""A galaxy's rotation curve as SVG: the model with its band, the data near the major axis, the outermost data."""

import numpy as np
from markupsafe import Markup

from tullyflow.report.figures.style import OKABE_ITO
from tullyflow.report.galaxy import GalaxyView, azimuthal_velocities

__all__ = ["curve_svg", "round_ticks"]

_WIDTH, _HEIGHT = 420.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 8.0, 10.0, 38.0
_SIDES = (("receding", OKABE_ITO["vermilion"], OKABE_ITO["vermilion"]), ("approaching", OKABE_ITO["blue"], "#fff"))


def round_ticks(high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round numbers (steps of 1, 2 or 5 times a power of ten) from 0 to at most ``high``."""
    step = 10.0 ** np.floor(np.log10(high / count))
    step = next(s * step for s in (1, 2, 5, 10) if s * step * count >= high)
    return [float(k * step) for k in range(int(high / step + 1e-9) + 1)]


def _top_of(view: GalaxyView, rings, inside: np.ndarray) -> float:
    tops = list(rings["velocity_kms"][rings["velocity_kms"] > 0])
    if view.curve is not None:
        tops += list(view.curve.high_kms[inside & np.isfinite(view.curve.high_kms)])
    return 1.12 * float(np.percentile(tops, 97)) if tops else 100.0


def curve_svg(view: GalaxyView) -> Markup:
    """Return the curve as an SVG element that scales with its column; empty where there is neither a model nor a ring of data."""
    rings = azimuthal_velocities(view.velocity, float(view.row.get("inclination_used_deg", np.nan)), view.scale_arcsec, view.placing)
    if rings.empty and view.curve is None:
        return Markup()
    reach = view.half_width_arcsec
    inside = view.curve.radius_arcsec <= reach if view.curve is not None else np.zeros(0, dtype=bool)
    top = _top_of(view, rings, inside)

    def x(radius: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * radius / reach

    def y(speed: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * min(max(speed / top, -0.02), 1.05)

    def path(radius, speed) -> str:
        return "M" + "L".join(f"{x(r):.1f},{y(v):.1f}" for r, v in zip(radius, speed, strict=True) if np.isfinite(v))

    base = _HEIGHT - _BOTTOM
    parts = [f'<svg class="curve" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="Rotation curve">']
    for tick in round_ticks(top):
        parts.append(f'<path class="grid" d="M{_LEFT:g},{y(tick):.1f}H{_WIDTH - _RIGHT:g}"/>')
        parts.append(f'<text x="{_LEFT - 6:g}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in round_ticks(reach):
        parts.append(f'<text x="{x(tick):.1f}" y="{base + 16:g}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT:g}" y="{_HEIGHT - 5:g}" text-anchor="end">radius in the disc (″)</text>')
    parts.append(f'<text x="{_LEFT + 4:g}" y="{_TOP + 8:g}">km/s</text>')
    r_max = float(view.row.get("r_max_arcsec", np.nan))
    if 0 < r_max < reach:
        parts.append(f'<path class="edge" d="M{x(r_max):.1f},{_TOP:g}V{base:g}"/>')
    if view.curve is not None and np.isfinite(view.curve.velocity_kms[inside]).any():
        radius, low, high = (v[inside] for v in (view.curve.radius_arcsec, view.curve.low_kms, view.curve.high_kms))
        if np.isfinite(low).all() and np.isfinite(high).all():
            there_and_back = np.concatenate([radius, radius[::-1]]), np.concatenate([high, low[::-1]])
            parts.append(f'<path class="band" d="{path(*there_and_back)}Z"/>')
        parts.append(f'<path class="model" d="{path(radius, view.curve.velocity_kms[inside])}"/>')
    for side, colour, fill in _SIDES:
        for ring in rings[rings["side"] == side].itertuples():
            if ring.radius_arcsec > reach:
                continue
            at, speed, err = x(ring.radius_arcsec), ring.velocity_kms, ring.velocity_kms_err
            parts.append(f'<path stroke="{colour}" d="M{at:.1f},{y(speed - err):.1f}V{y(speed + err):.1f}"/>')
            parts.append(f'<circle cx="{at:.1f}" cy="{y(speed):.1f}" r="3.2" stroke="{colour}" fill="{fill}"/>')
    parts.append("</svg>")
    return Markup("".join(parts))
