"""The 4,107 MaNGA velocity fields of gas and stars with Duckworth+2019's classes by eye, and the training that is measured on them."""

from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from tullyflow.maps.fields import empty_field, make_field
from tullyflow.network.judges.usability_fitting import Training
from tullyflow.network.judges.usability_labels import LabelledFields

SEED = 9
TRAINING = Training(seed=SEED)
KINDS = ("gas", "stars")
_HDUS = ("VELOCITY", "STELLAR_VELOCITY")
_CLASSES = ("halpha_qual", "stel_qual")


def read_classes(shared: Path) -> pd.DataFrame:
    """The table by eye; a class that is not 0, 1 or 2 (two fields have 3) is not known and becomes NaN."""
    table = pd.read_csv(shared / "truth" / "manga_velocity_field_classes.csv").set_index("galaxy")
    return table[list(_CLASSES)].where(table[list(_CLASSES)].isin([0, 1, 2]))


def read_fields(shared: Path) -> tuple[LabelledFields, np.ndarray]:
    """All labelled fields, grouped by plate, and their classes (galaxy, 2), NaN where unknown."""
    folder = shared / "mirror" / "manga_velocity_fields"
    listed = pd.read_csv(folder / "galaxies.csv")
    classes = read_classes(shared).loc[listed["galaxy"]].to_numpy(float)
    images = ([], [])
    for path in listed["velocity"]:
        with fits.open(folder / path, memmap=False) as hdus:
            for name, found in zip(_HDUS, images, strict=True):
                found.append(make_field(hdus[name].data, np.isfinite(hdus[name].data)) if name in hdus else empty_field())
    galaxy = listed["galaxy"].to_numpy(str)
    said = np.isfinite(classes)
    labelled = LabelledFields(
        galaxy, np.array([name.split("-")[0] for name in galaxy]), *(np.stack(found) for found in images),
        np.where(said, classes >= 1, np.nan), np.where(said, classes == 2, np.nan),
    )  # fmt: skip
    return labelled, classes
