"""Circularity of real velocity maps beside what an eye says of them, and of what is no galaxy."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from astropy.io import fits

from tullyflow.flags import BAD_VELOCITY, PIXEL
from tullyflow.maps.fields import make_field
from tullyflow.maps.masks import mask_maps
from tullyflow.maps.position_angle import fit_position_angle
from tullyflow.network.judges.circularity import CircularityNetwork, circularity
from tullyflow.network.judges.fields import fields_of
from tullyflow.settings import Maps
from tullyflow.surveys import GalaxyMaps

__all__ = ["alma", "manga", "nonsense"]

_ERR_KMS = 5.0  # of the ALMA maps, which come without


def alma(networks: dict[str, CircularityNetwork], shared: Path) -> tuple[dict, np.ndarray]:
    """Both networks on the 14 ALMA maps of the thesis beside the eye and the published model, and the latent angle beside ours."""
    table = pd.read_csv(shared / "truth/alma_circularity.csv")
    native = [fits.getdata(shared / f"mirror/alma_velocity/{name}.fits", 1).astype(float) for name in table["galaxy"]]
    velocity = np.array([make_field(v, np.isfinite(v)) for v in native])
    found = {name: circularity(network, velocity) for name, network in networks.items()}
    latent = next(network for network in networks.values() if network.architecture == "dawson2020").model
    with torch.inference_mode():
        latent_pa = latent.position_angle(fields_of(velocity)[0]).numpy()
    rows = {}
    for k, row in enumerate(table.itertuples()):
        trusted = _trusted(row.galaxy, native[k])
        cut = make_field(native[k], trusted)
        axis = fit_position_angle(cut, _ERR_KMS, np.isfinite(cut), (31.5, 31.5))
        ours = (axis.image_angle_deg - 90) % 360
        rows[row.galaxy] = {
            "eye": row.regular_by_eye,
            "published model": row.regular_by_published_model,
            **{name: [round(float(v), 3) for v in (answer.kappa[k], answer.err[k])] for name, answer in found.items()},
            "unlike": bool(found["direct"].unlike[k]),
            "axis, deg": [round(ours, 1), round(axis.err_deg, 1)],
            "latent angle - axis, deg": round(float((latent_pa[k] - ours + 180) % 360 - 180), 1),
        }
    eye = table["regular_by_eye"].to_numpy() == 1
    right = {name: int(((answer.kappa >= 0.5) == eye).sum()) for name, answer in found.items()}
    right["published model"] = int((table["regular_by_published_model"] == table["regular_by_eye"]).sum())
    away = np.abs([row["latent angle - axis, deg"] for row in rows.values()])
    return {
        "agrees with the eye, of 14": right,
        "median |latent angle - axis|, regular by eye": round(float(np.median(away[eye])), 1),
        "maps": rows,
    }, velocity


def _trusted(galaxy: str, velocity: np.ndarray) -> np.ndarray:
    """Which pixels of a native map pass the cuts that come before any position angle: no outliers, no islands."""
    middle = ((velocity.shape[1] - 1) / 2, (velocity.shape[0] - 1) / 2)
    uncut = np.where(np.isfinite(velocity), 0, PIXEL.NO_VALUE).astype(np.int32)
    maps = GalaxyMaps(galaxy, velocity, np.full(velocity.shape, _ERR_KMS), uncut, None, middle, 1.0)
    return (mask_maps(maps, Maps()) & BAD_VELOCITY) == 0


def manga(network: CircularityNetwork, maps: list[Path], shared: Path, out: Path | None) -> dict:
    """Circularities of MaNGA's gas by class by eye (0 do not use, 1 messy, 2 clean); a table of all in ``out``."""
    names, velocity = [], []
    for path in sorted(maps):
        with fits.open(path) as hdus:
            names += [str(name) for name in hdus["GALAXIES"].data["galaxy"]]
            velocity.append(np.array(hdus["VELOCITY_FIELD"].data))
    found = circularity(network, np.concatenate(velocity))
    table = pd.DataFrame({"galaxy": names, "kappa": found.kappa, "kappa_err": found.err, "unlike": found.unlike})
    if out:
        table.to_csv(out, index=False)
    classes = pd.read_csv(shared / "truth/manga_velocity_field_classes.csv").drop_duplicates("galaxy")
    joined = table.merge(classes, on="galaxy")
    figures = {"fields": len(table), "without kappa": int(table["kappa"].isna().sum())}
    for quality, some in joined.groupby("halpha_qual"):
        low, median, high = some["kappa"].quantile((0.1587, 0.5, 0.8413))
        figures[f"class {int(quality)}"] = {
            "galaxies": len(some), "kappa 16, 50, 84 %": [round(low, 3), round(median, 3), round(high, 3)],
            "kappa >= 0.5": round(float((some["kappa"] >= 0.5).mean()), 4), "median err": round(float(some["kappa_err"].median()), 3),
            "unlike": round(float(some["unlike"].mean()), 4),
        }  # fmt: skip
    return figures


def nonsense(network: CircularityNetwork) -> dict:
    """What the default network says of fields that are no galaxy: median kappa, its error, and the share found unlike."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64].astype(float)
    noise = rng.standard_normal((50, 64, 64))
    patterns = {
        "white noise": noise,
        "checkerboard of pixels": np.where((x + y) % 2, 1, -1) + 0.1 * noise,
        "checkerboard of 8 pixels": np.where((x // 8 + y // 8) % 2, 1, -1) + 0.1 * noise,
        "stripes": np.sin(x) + 0.1 * noise,
        "wide stripes": np.sin(x / 3) + 0.1 * noise,
        "two halves": np.where(x < 32, -1, 1) + 0.1 * noise,
        "one spot": np.exp(-((x - 20) ** 2 + (y - 30) ** 2) / 50) + 0.02 * noise,
        "rings": np.hypot(x - 32, y - 32) / 32 + 0.02 * noise,
        "a plane to the edges": (x - 32) / 32 + 0.02 * noise,
        "one pixel in fifty": np.where(rng.random(noise.shape) < 0.02, noise, np.nan),
    }
    said = {}
    for name, pattern in patterns.items():
        found = circularity(network, (100 * pattern).astype(np.float32))
        kappa, err = float(np.nanmedian(found.kappa)), float(np.nanmedian(found.err))
        said[name] = {"kappa": round(kappa, 3), "err": round(err, 3), "unlike": round(float(found.unlike.mean()), 2)}
    constant = circularity(network, np.full((1, 64, 64), 3.0, np.float32))
    return {**said, "constant": {"kappa": None if np.isnan(constant.kappa[0]) else float(constant.kappa[0])}}
