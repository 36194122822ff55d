"""Would an eye use these velocity fields, and how much of the motion is ordered rotation: a row for each of one's own maps."""

import logging
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from tullyflow.errors import DataError
from tullyflow.flags import GALAXY
from tullyflow.maps.fields import FEWEST_PIXELS, valid_in_field, velocity_fields
from tullyflow.maps.masks import mask_maps
from tullyflow.network.judges.judged import Judges
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps
from tullyflow.surveys.cubes import TAKEN_AS_CENTRE
from tullyflow.surveys.local_maps import ABSOLUTE
from tullyflow.tables import USABILITY, conform
from tullyflow.tools.axis import MapFile, read_map_file
from tullyflow.tools.table_rows import Defaults, rows_of_table, unusable

__all__ = ["judge_files", "judge_table"]

log = logging.getLogger("tullyflow")

_NOT_OF_A_FIELD = GALAXY.INTENSITY_FROM_PHOTOMETRY | GALAXY.NO_PHOTOMETRY  # flags of the reader that concern the disc model


def judge_files(files: Sequence[MapFile], settings: Settings, judges: Judges) -> pd.DataFrame:
    """Judge the velocity field of each file; columns ``tables.USABILITY``, a row for each, in order.

    A file that cannot be used has NaN, its flag and a sentence; so has one of several that is not there. Raises `SettingsError` for what
    cannot be asked.
    """
    rows = []
    for file in files:
        try:
            if len(files) > 1 and not file.path.is_file():
                raise DataError(GALAXY.MISSING_FILE, f"{file.path}: no such file.")
            rows.append(_fields(settings, read_map_file(file, settings)))
        except DataError as err:
            rows.append(unusable(file.path.name.split(".fit")[0], err))
    return _judge(rows, judges)


def judge_table(settings: Settings, defaults: Defaults, judges: Judges, threads: int = 1) -> pd.DataFrame:
    """Judge the velocity fields of every galaxy of ``settings.catalogue``, as `judge_files`; see `rows_of_table`."""
    rows, _ = rows_of_table(settings, defaults, partial(_fields, settings), threads)
    return _judge(rows, judges)


def _fields(settings: Settings, maps: GalaxyMaps) -> dict:
    mask = mask_maps(maps, settings.maps)
    gas, stars = velocity_fields(maps, mask)
    flags = maps.flags & ~_NOT_OF_A_FIELD
    messages = [said for said in maps.messages if said and said != ABSOLUTE and not said.endswith(TAKEN_AS_CENTRE)]
    number = int((valid_in_field(mask) & np.isfinite(maps.velocity)).sum())
    if number == 0:
        flags |= GALAXY.NO_VALID_PIXEL
    elif number < FEWEST_PIXELS:
        flags |= GALAXY.TOO_FEW_PIXELS
        messages.append(f"{number} valid pixels, needed {FEWEST_PIXELS}.")
    elif not np.nanmax(np.abs(gas)) > 0:
        flags |= GALAXY.NO_ROTATION
        messages.append("All velocities are alike.")
    return {"galaxy": maps.galaxy, "flags": GALAXY.names(flags), "messages": " ".join(messages), "gas": gas, "stars": stars}


def _judge(rows: Sequence[dict], judges: Judges) -> pd.DataFrame:
    """Columns ``tables.USABILITY`` of rows that hold the fields ``gas`` and ``stars``, or none where they could not be had."""
    frame = pd.DataFrame([{name: row[name] for name in ("galaxy", "flags", "messages")} for row in rows])
    there = [k for k, row in enumerate(rows) if "gas" in row]
    if there:
        judged = judges.judge(*(np.stack([rows[k][name] for k in there]) for name in ("gas", "stars")))
        for name, values in judged.columns.items():
            frame.loc[there, name] = values
        for k, flag in zip(there, judged.flags, strict=True):
            frame.loc[k, "flags"] = ",".join(filter(None, (frame["flags"][k], GALAXY.names(flag))))
    frame = conform(frame, [c for c in USABILITY if c.name != "usable_class"], "usability")
    probability = frame["usable_prob"]
    frame["usable_class"] = np.where(probability.isna(), -1, probability >= 0.5)
    log.info(
        "%d velocity fields: %d an eye would use, %d not, %d cannot be judged; median kappa %.2f",
        len(frame), *((frame["usable_class"] == c).sum() for c in (1, 0, -1)), frame["kappa"].median(),
    )  # fmt: skip
    return conform(frame, USABILITY, "usability")
