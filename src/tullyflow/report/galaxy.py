"""What is shown of one galaxy: its stamps as the network saw them (receding side to the right), its model and its rotation curve."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from tullyflow.conventions import HALF_WIDTH, STAMP, STAMP_CENTRE
from tullyflow.errors import CatalogueError

__all__ = ["GalaxyView", "RotationCurve", "azimuthal_velocities", "read_views"]


@dataclass(frozen=True)
class RotationCurve:
    """The model's V(R), inclination corrected: radius (arcsec), median and 16/84 per cent (km/s), each of shape (radius,)."""

    radius_arcsec: np.ndarray
    velocity_kms: np.ndarray
    low_kms: np.ndarray
    high_kms: np.ndarray


@dataclass(frozen=True)
class GalaxyView:
    """What is drawn of a galaxy: stamps (y, x), NaN where masked, and its row of the sample."""

    row: Mapping
    scale_arcsec: float
    beam_arcsec: float
    intensity: np.ndarray
    velocity: np.ndarray
    velocity_err: np.ndarray
    model_velocity: np.ndarray
    curve: RotationCurve | None
    label: Hashable = None  # index of the row

    @property
    def residual(self) -> np.ndarray:
        """Data minus model, km/s; NaN where either is."""
        return self.velocity - self.model_velocity

    @property
    def placing(self) -> tuple[float, ...]:
        """Where the fit has the disc, as `azimuthal_velocities` takes it; zeros where the network's answer stands."""
        names = ("axis_offset_deg", "centre_x_offset", "centre_y_offset", "v_sys_offset_kms")
        return tuple(float(np.nan_to_num(self.row.get(name, 0.0))) for name in names)

    @property
    def half_width_arcsec(self) -> float:
        return HALF_WIDTH * self.scale_arcsec


def azimuthal_velocities(
    velocity: np.ndarray, inclination_deg: float, scale_arcsec: float, placing: Sequence[float] = (0.0, 0.0, 0.0, 0.0), cone: float = 0.8
) -> pd.DataFrame:
    """Deproject a velocity stamp into rotation velocities near the major axis, one row per ring and side.

    Parameters
    ----------
    velocity : array (y, x)
        km/s, receding side at +x, systemic removed; NaN pixels are left out.
    inclination_deg, scale_arcsec : float
        Inclination and size of a stamp pixel.
    placing : four floats
        Where a fit has the disc: axis (deg, counter-clockwise from +x), centre x and y (pixels from the middle), v_sys (km/s).
    cone : float
        Pixels whose in-plane azimuth has \\|cos\\| above this are used.

    Returns
    -------
    DataFrame
        ``side`` (receding or approaching), ``radius_arcsec``, ``velocity_kms`` (median of v / (sin i cos azimuth)) and
        ``velocity_kms_err`` (its error from the scatter in the ring); rings of two stamp pixels, at least three pixels each.
    """
    columns = ["side", "radius_arcsec", "velocity_kms", "velocity_kms_err"]
    if not 5.0 <= inclination_deg < 89.0:
        return pd.DataFrame(columns=columns)
    axis, x0, y0, v_sys = placing
    offsets = np.arange(STAMP) - STAMP_CENTRE
    dx, dy = np.meshgrid(offsets - x0, offsets - y0)
    cos, sin = np.cos(np.radians(axis)), np.sin(np.radians(axis))
    x, y = cos * dx + sin * dy, cos * dy - sin * dx
    velocity = velocity - v_sys
    radius = np.hypot(x, y / np.cos(np.radians(inclination_deg)))
    cosine = x / radius
    rotation = velocity / (np.sin(np.radians(inclination_deg)) * cosine)
    near = np.isfinite(velocity) & (np.abs(cosine) > cone)
    rows = []
    for side, chosen in (("receding", near & (x > 0)), ("approaching", near & (x < 0))):
        ring = (radius / 2).astype(int)
        for k in np.unique(ring[chosen]):
            here = chosen & (ring == k)
            values = rotation[here]
            if values.size >= 3:
                spread = 1.4826 * np.median(np.abs(values - np.median(values)))
                error = 1.2533 * spread / np.sqrt(values.size)
                rows.append((side, np.median(radius[here]) * scale_arcsec, np.median(values), error))
    return pd.DataFrame(rows, columns=columns)


def _index(table: "fits.FITS_rec | None", galaxy: str) -> int | None:
    if table is None:
        return None
    where = np.flatnonzero(np.char.strip(np.asarray(table["galaxy"], dtype=str)) == galaxy)
    return int(where[0]) if where.size else None


def _stamp(hdus: fits.HDUList, name: str, k: int) -> np.ndarray:
    return np.asarray(hdus[name].section[k], dtype=float) if name in hdus else np.full((STAMP, STAMP), np.nan)


def _curve(hdus: "fits.HDUList | None", k: int) -> RotationCurve | None:
    if hdus is None or "CURVES" not in hdus:
        return None
    row = hdus["CURVES"].data[k]
    names = ("radius_arcsec", "v_rot_p50", "v_rot_p16", "v_rot_p84")
    values = [np.asarray(row[name], dtype=float) for name in names]
    return RotationCurve(*values) if np.isfinite(values[1]).any() else None


def read_views(rows: pd.DataFrame, maps_paths: Sequence[str | Path], models_paths: Sequence[str | Path]) -> list[GalaxyView]:
    """Read the stamps of some galaxies, one pass over each shard's files.

    Parameters
    ----------
    rows : DataFrame
        Rows of ``tables.SAMPLE``; ``shard`` names the files.
    maps_paths, models_paths : sequences of paths
        ``{shard}.fits`` of the stages maps and kinematics; a shard without models shows data alone.

    Returns
    -------
    list of GalaxyView
        In the order of ``rows``; a galaxy whose shard has no maps file here is left out.

    Raises `CatalogueError` where a maps file does not hold a galaxy the sample says it does.
    """
    maps = {Path(p).stem: Path(p) for p in maps_paths}
    models = {Path(p).stem: Path(p) for p in models_paths}
    views: dict[int, GalaxyView] = {}
    positions = pd.Series(range(len(rows)), index=rows.index)
    for shard, group in rows.groupby("shard", sort=False):
        if shard not in maps:
            continue
        with fits.open(maps[shard]) as data:
            model = fits.open(models[shard]) if shard in models else None
            try:
                table = data["GALAXIES"].data
                for label, row in group.iterrows():
                    k = _index(table, row["galaxy"])
                    if k is None:
                        raise CatalogueError(f"{maps[shard]}: no galaxy {row['galaxy']}; made from another target list? Run maps again.")
                    views[positions[label]] = GalaxyView(
                        row=row.to_dict(),
                        scale_arcsec=float(table["stamp_scale_arcsec"][k]),
                        beam_arcsec=float(table["psf_fwhm_arcsec"][k]),
                        intensity=_stamp(data, "INTENSITY", k),
                        velocity=_stamp(data, "VELOCITY", k),
                        velocity_err=_stamp(data, "VELOCITY_ERR", k),
                        model_velocity=_stamp(model, "MODEL_VELOCITY", k) if model else np.full((STAMP, STAMP), np.nan),
                        curve=_curve(model, k),
                        label=label,
                    )
            finally:
                if model is not None:
                    model.close()
    return [views[k] for k in sorted(views)]
