"""Kinematic centre: the point about which a velocity map is closest to bi-antisymmetric."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from tullyflow.maps.antisymmetry import Sampler, correlated_pixels, middle_of, pixel_weights, residuals
from tullyflow.maps.position_angle import ERR_FLOOR_KMS, fit_position_angle
from tullyflow.surveys import GalaxyMaps

__all__ = ["KinematicCentre", "fit_centre", "move_centre"]

_STEP = np.array([1.0, 1.0, 3.0])  # pixels, pixels, deg: over shorter ways interpolation makes the surface uneven
_ERR_CALIBRATION = 1.5  # by Monte-Carlo on simulated discs with noise, beam and gaps
_SMOOTH = 1.0  # pixels: all copies lie between pixels alike, where interpolation would smooth them and not the pixels
_ERR_FLOOR = 0.03  # pixels: interpolation alone
_FREEDOM_MIN = 0.8  # of that about the start
_ERR_MAX = 2.0  # pixels
_REACH, _REACH_SHARE = 4.0, 0.2  # pixels, and of the radius of a circle of as many pixels as are valid


@dataclass(frozen=True)
class KinematicCentre:
    """Centre (x, y) in 0-based pixels, with its 1 sigma (pixels) along the kinematic axis and across it.

    ``fitted`` is False where the map does not say; then ``x`` and ``y`` are where the search began, and ``message`` says why.
    """

    x: float
    y: float
    err_along: float
    err_across: float
    fitted: bool = True
    message: str = ""


class _Surface:
    """Chi-squared per degree of freedom as a function of (pixels along the axis, pixels across, degrees), v_sys free at each point."""

    def __init__(self, v_map: NDArray, good: NDArray, weight: NDArray, start: tuple[float, float], angle_deg: float):
        self._v, self._good, self._weight = v_map, good, weight
        self._start, self._angle = start, angle_deg
        self._rows, self._columns = np.nonzero(good)
        self._freedom_min = _FREEDOM_MIN * self.parts(np.zeros(3))[1]

    def centre(self, along: float, across: float) -> tuple[float, float]:
        c, s = np.cos(np.radians(self._angle)), np.sin(np.radians(self._angle))
        return self._start[0] + c * along - s * across, self._start[1] + s * along + c * across

    def residual(self, point: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Residuals, copies in the model, and offsets from the centre (pixel,)."""
        x, y = self.centre(point[0], point[1])
        offsets = np.stack([self._columns - x, self._rows - y])
        theta = np.radians([self._angle + point[2]])
        v = self._v[self._good]
        (left, n), (of_one, _) = (
            tuple(a[0] for a in residuals(theta, offsets, values[self._good], Sampler(values, self._good, (x, y))))
            for values in (self._v, np.ones_like(self._v))
        )  # the model is linear: a systemic velocity leaves this much of itself
        weight = self._weight * of_one
        v_sys = (weight * left).sum() / max((weight * of_one).sum(), 1e-12 * v.size)
        return left - v_sys * of_one, n, offsets

    def parts(self, point: NDArray) -> tuple[float, float]:
        """Chi-squared and degrees of freedom, both weighted."""
        residual, n, _ = self.residual(point)
        return float((self._weight * residual**2).sum()), float((self._weight * (1 - 1 / n)).sum())

    def __call__(self, point: NDArray) -> float:
        chi2, freedom = self.parts(point)
        if not freedom > 0:
            return np.inf
        return chi2 / freedom * max(1.0, self._freedom_min / freedom) ** 2  # no escape to where few pixels have partners


def fit_centre(
    velocity: ArrayLike, velocity_err: ArrayLike | float, valid: ArrayLike, start: tuple[float, float], *, reach: float | None = None
) -> KinematicCentre:
    """Find the centre near ``start`` (x, y) about which the map is closest to bi-antisymmetric.

    The other parameters are those of `fit_position_angle`; the axis is fitted along, v_sys too. It moves by at
    most ``reach`` pixels (default: 4, or a fifth of the map's radius where that is more). Solid-body rotation has no kinematic
    centre: where the best point lies at the edge of the reach, or 1 sigma exceeds 2 pixels, the start is given back.

    Notes
    -----
    What is minimised is Krajnovic+2006's function (App. C) per degree of freedom. 1 sigma is from its second derivatives with the
    axis free, scaled as the angle's: by the reduced chi^2, and the pixels that share one independent residual.
    """
    from scipy.optimize import minimize  # slow to load, and most maps do without

    v_map = np.asarray(velocity, dtype=float)
    err_map = np.broadcast_to(np.asarray(velocity_err, dtype=float), v_map.shape)
    good = np.asarray(valid, dtype=bool) & np.isfinite(v_map) & np.isfinite(err_map) & (err_map > 0)
    axis = fit_position_angle(v_map, err_map, good, start)
    if not np.isfinite(axis.image_angle_deg):
        return KinematicCentre(*start, np.nan, np.nan, False, axis.message)
    reach = max(_REACH, _REACH_SHARE * np.sqrt(good.sum() / np.pi)) if reach is None else reach
    weight = pixel_weights(err_map[good], ERR_FLOOR_KMS)
    surface = _Surface(_smoothed(v_map - axis.v_sys_kms, good), good, weight, start, axis.image_angle_deg)
    simplex = np.vstack([np.zeros(3), np.diag([1.5, 1.5, 5.0])])
    found = minimize(
        lambda p: surface(p) * (1 + max(0.0, np.hypot(p[0], p[1]) / reach - 1) ** 2), np.zeros(3), method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 0.01, "fatol": 1e-5 * surface(np.zeros(3)), "maxfev": 200},
    ).x  # fmt: skip
    residual, n, offsets = surface.residual(found)
    curvature = _curvature(surface, found)
    freedom = float((1 - 1 / n).sum())
    scale = surface(found) * correlated_pixels(residual * np.sqrt(weight), offsets) / freedom
    with np.errstate(invalid="ignore"):
        along, across = np.hypot(_ERR_CALIBRATION * np.sqrt(2 * scale * np.diag(np.linalg.pinv(curvature))[:2]), _ERR_FLOOR)
    if np.hypot(found[0], found[1]) >= reach:
        message = f"the best centre lies {reach:.0f} pixels or more from ({start[0]:.1f}, {start[1]:.1f})"
    elif not max(along, across) <= _ERR_MAX or np.linalg.eigvalsh(curvature).min() <= 0:
        message = f"the map does not say where its centre is (1 sigma {along:.1f} and {across:.1f} pixels, allowed {_ERR_MAX:g})"
    else:
        x, y = surface.centre(found[0], found[1])
        return KinematicCentre(float(x), float(y), float(along), float(across))
    return KinematicCentre(*start, float(along), float(across), False, message)


def move_centre(maps: GalaxyMaps, valid: NDArray) -> tuple[GalaxyMaps, str]:
    """Maps with their kinematic centre instead of the one they came with, and the sentence that says so, or why not.

    Where the centre they came with is a guess, the search begins at the middle of the valid pixels.
    """
    guess = middle_of(valid) if maps.centre_guessed and valid.any() else maps.centre
    found = fit_centre(maps.velocity, maps.velocity_err, valid, guess)
    if not found.fitted:
        return replace(maps, centre=guess), f"No kinematic centre: {found.message}; {guess[0]:.1f}, {guess[1]:.1f} is used."
    away = np.hypot(found.x - maps.centre[0], found.y - maps.centre[1])
    errors = f"1 sigma {found.err_along:.2f} pixels along the axis and {found.err_across:.2f} across"
    said = f"Kinematic centre ({found.x:.2f}, {found.y:.2f}), {errors}"
    kind = "guessed" if maps.centre_guessed else "given"
    return replace(maps, centre=(found.x, found.y)), f"{said}; {away:.1f} pixels from the {kind} one."


def _smoothed(v_map: NDArray, good: NDArray) -> NDArray[np.float64]:
    """The map smoothed over its valid pixels, 0 elsewhere."""
    total, share = (gaussian_filter(np.where(good, image, 0.0), _SMOOTH) for image in (v_map, np.ones_like(v_map)))
    return np.where(good, total / np.maximum(share, 1e-9), 0.0)


def _curvature(surface: _Surface, point: NDArray) -> NDArray[np.float64]:
    """Second derivatives (3, 3) by a quadratic through the 27 points a step around."""
    steps = np.array(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij")).reshape(3, -1).T
    values = np.array([surface(point + step * _STEP) for step in steps])
    pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
    terms = np.column_stack([np.ones(len(steps)), steps, *(steps[:, i] * steps[:, j] for i, j in pairs)])
    solved = np.linalg.lstsq(terms, values, rcond=None)[0][4:]
    second = np.zeros((3, 3))
    for (i, j), value in zip(pairs, solved, strict=True):
        second[i, j] = second[j, i] = (2 if i == j else 1) * value / (_STEP[i] * _STEP[j])
    return second
