"""The shipped network of usability on maps of other instruments: SAMI's circle, ALMA's discs of gas, MaNGA's own files, nothing cut off.

    OMP_NUM_THREADS=1 python benchmarks/usability_others.py ../shared

No SAMI or ALMA map was trained on. The stellar maps are of galaxies whose plates were trained on, as other files show them.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from record import keep
from usability_data import read_classes

from tullyflow.maps.fields import empty_field, make_field
from tullyflow.network.judges.usability import load_usability, usable_probability

SAMI_ERR_KMS = 30.0
SAMI = {"gas": "gas-velocity_default_1-comp", "stars": "stellar-velocity_default_two-moment"}


def probability(network, gas=None, stars=None) -> list[float | None]:
    fields = [(empty_field() if one is None else one)[None] for one in (gas, stars)]
    return [None if np.isnan(p[0]) else round(float(p[0]), 4) for p in usable_probability(network, *fields)]


def sami(network, shared: Path) -> dict:
    found = {}
    for folder in sorted((shared / "mirror/datacentral/sami/dr3/ifs").iterdir()):
        fields, pixels = [], []
        for kind in SAMI.values():
            with fits.open(next(folder.glob(f"*_{kind}.fits")), memmap=False) as hdus:
                velocity, err = (np.asarray(hdu.data, float).reshape(-1, *hdu.shape[-2:])[0] for hdu in hdus[:2])
            valid = (err < SAMI_ERR_KMS) & (velocity != 0)
            fields.append(make_field(velocity, valid))
            pixels.append(int(valid.sum()))
        found[folder.name] = {"pixels": pixels, "usable_gas_stars": probability(network, *fields)}
    return found


def alma(network, shared: Path) -> dict:
    table = pd.read_csv(shared / "truth" / "alma_circularity.csv").set_index("galaxy")
    found = {}
    for galaxy, row in table.iterrows():
        with fits.open(shared / "mirror" / "alma_velocity" / f"{galaxy}.fits", memmap=False) as hdus:
            velocity = next(hdu.data for hdu in hdus if hdu.data is not None)
        field = make_field(velocity, np.isfinite(velocity))
        found[galaxy] = {"regular_by_eye": int(row["regular_by_eye"]), "usable": probability(network, field)[0]}
    agree = [(one["usable"] >= 0.5) == (one["regular_by_eye"] == 1) for one in found.values()]
    return {"agree": f"{sum(agree)} of {len(agree)}", "maps": found}


def own_files(network, shared: Path) -> dict:
    folder = shared / "truth" / "manga_stellar_velocity"
    classes = read_classes(shared)["stel_qual"]
    right = []
    for _, row in pd.read_csv(folder / "galaxies.csv").iterrows():
        if np.isfinite(seen := classes.get(row["galaxy"], np.nan)):
            with fits.open(folder / row["velocity"], memmap=False) as hdus:
                velocity = hdus[row["velocity_hdu"]].data
            right.append((probability(network, None, make_field(velocity, np.isfinite(velocity)))[1] >= 0.5) == (seen >= 1))
    return {"fields": len(right), "accuracy": round(float(np.mean(right)), 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    shared = parser.parse_args().shared
    network = load_usability()
    keep("usability_others", {
        "SAMI": sami(network, shared), "ALMA": alma(network, shared), "stellar maps of MaNGA's own files": own_files(network, shared),
    })  # fmt: skip


if __name__ == "__main__":
    main()
