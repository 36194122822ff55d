"""Time of `tullyflow targets` for a MaNGA release as large as DR17: 10,735 galaxies, with and without the further catalogues.

    python benchmarks/targets.py

The catalogues are mocks with the columns and sizes of the real ones (drpall 99 columns; dapall 91 in each of four extensions;
Pipe3D 535; HI-MaNGA 34). Prints the figures and keeps them in targets.json.
"""

import logging
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from record import keep

from tullyflow.settings import parse_settings
from tullyflow.surveys.catalogue import list_targets
from tullyflow.tables import MANIFEST, write_table

GALAXIES = 10_735
ROOT = Path(__file__).resolve().parents[1]
DAPTYPES = ("SPX-MILESHC-MASTARSSP", "HYB10-MILESHC-MASTARSSP", "VOR10-MILESHC-MASTARSSP", "HYB10-MILESHC-MASTARHC2")


def _table(name: str, values: dict, columns: int) -> fits.BinTableHDU:
    """A table of the values and as many further columns of numbers as make ``columns``."""
    formats = {"U": "24A", "f": "D", "i": "K"}
    values = values | {f"other_{k}": np.full(len(values["plateifu"]), float(k)) for k in range(columns - len(values))}
    made = [fits.Column(name=k, format="7E" if v.ndim == 2 else formats[v.dtype.kind], array=v) for k, v in values.items()]
    return fits.BinTableHDU.from_columns(made, name=name)


def _catalogues(folder: Path, rng: np.random.Generator) -> dict[str, Path]:
    ifus = [f"{fibres}{k:02d}" for fibres, n in ((19, 2), (37, 4), (61, 4), (91, 2), (127, 5)) for k in range(1, n + 1)]
    names = np.array([f"{7400 + plate}-{ifu}" for plate in range(-(-GALAXIES // len(ifus))) for ifu in ifus][:GALAXIES])
    n, z, mass = len(names), rng.uniform(0.01, 0.15, GALAXIES), 10 ** rng.uniform(8.5, 11.2, GALAXIES)
    drpall = {
        "plateifu": names, "mangaid": np.array([f"1-{k}" for k in rng.integers(0, 40 * n, n)]), "objra": rng.uniform(0, 360, n),
        "objdec": rng.uniform(-10, 60, n), "z": z, "drp3qual": np.where(rng.random(n) < 0.05, 1 << 30, 0),
        "mngtarg1": np.full(n, 1 << 10), "mngtarg3": np.zeros(n, int), "rfwhm": rng.uniform(2.3, 2.8, n),
        "nsa_z": z, "nsa_sersic_n": z * 50,
        "nsa_elpetro_mass": mass, "nsa_sersic_mass": mass, "nsa_elpetro_absmag": rng.normal(-20, 1, (n, 7)),
        "nsa_elpetro_th50_r": rng.uniform(2, 15, n), "nsa_elpetro_ba": rng.uniform(0.2, 1, n), "nsa_elpetro_phi": rng.uniform(0, 180, n),
    }  # fmt: skip
    pipe3d = {
        "plateifu": names, "log_Mass": np.log10(mass) + 0.54, "e_log_Mass": np.full(n, 0.1), "log_SFR_Ha": np.log10(mass) - 9.7,
        "Age_LW_Re_fit": np.full(n, 9.3), "Re_arc": drpall["nsa_elpetro_th50_r"], "PA": drpall["nsa_elpetro_phi"],
        "ellip": 1 - drpall["nsa_elpetro_ba"], "DL": z * 4300, "QCFLAG": np.zeros(n, int),
    }  # fmt: skip
    hi = {"plateifu": names[:6632], "logMHI": np.full(6632, 9.5), "snr": rng.uniform(3, 30, 6632), "WM50": np.full(6632, 300.0)}
    files = {
        "drpall": [_table("MANGA", drpall, 99)],
        "dapall": [_table(name, {"plateifu": names, "daptype": np.full(n, name), "sfr_tot": mass / 1e10}, 91) for name in DAPTYPES],
        "pipe3d": [_table("", pipe3d, 535)],
        "hi": [_table("", hi, 34)],
    }
    for name, tables in files.items():
        fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(folder / f"{name}.fits")
    return {name: folder / f"{name}.fits" for name in files}


def _seconds(folder: Path, catalogues: dict[str, Path], tables: list[str]) -> tuple[float, int]:
    import pandas as pd

    rows = [{"galaxy": "DR17", "product": name, "path": str(catalogues[name]), "status": "ok"} for name in ("drpall", *tables)]
    write_table(folder / "manifest.csv", pd.DataFrame(rows), MANIFEST)
    settings = parse_settings({"releases": str(ROOT / "config/releases.csv"), "manga": {"tables": tables}})
    start = time.perf_counter()
    shards = list_targets("manga", "DR17", folder / "manifest.csv", settings, folder / "targets")
    return time.perf_counter() - start, len(shards)


def main() -> None:
    logging.getLogger("tullyflow").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalogues = _catalogues(folder, np.random.default_rng(1))
        size = sum(path.stat().st_size for path in catalogues.values())
        alone = [_seconds(folder, catalogues, []) for _ in range(3)]
        every = [_seconds(folder, catalogues, ["dapall", "pipe3d", "hi"]) for _ in range(3)]
    keep("targets", {
        "galaxies": GALAXIES, "shards": alone[0][1], "catalogues_mb": round(size / 1e6),
        "drpall_s": round(max(s for s, _ in alone), 2), "with_dapall_pipe3d_hi_s": round(max(s for s, _ in every), 2), "allowed_s": 10,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    })  # fmt: skip


if __name__ == "__main__":
    main()
