"""A shard's stamps in one FITS file: one image plane and one table row per target, in the targets' order."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from numpy.typing import NDArray

import tullyflow
from tullyflow.conventions import STAMP
from tullyflow.errors import ModelError
from tullyflow.flags import GALAXY
from tullyflow.maps.galaxies import MadeGalaxy, make_galaxy
from tullyflow.settings import Settings, select_sections
from tullyflow.surveys import SURVEYS
from tullyflow.surveys.pipe3d import odd_widths
from tullyflow.surveys.rows import add_flag
from tullyflow.tables import FIELD_HDUS, GALAXIES, MANIFEST, STAMP_HDUS, TARGETS, conform, read_table, whole_file

__all__ = ["Shard", "build_shard", "gather_shard", "read_shard"]

log = logging.getLogger("tullyflow")

_IMAGES = (*STAMP_HDUS, *FIELD_HDUS)
_FORMAT = {"f": "D", "i": "K", "b": "L"}


@dataclass(frozen=True)
class Shard:
    """Stamps of a shard: ``galaxies`` (columns of ``tables.GALAXIES``) and images (galaxy, y, x), float32; ``mask`` int32.

    The velocity fields of gas and stars are not rotated (`maps.fields.make_field`).
    """

    galaxies: pd.DataFrame
    intensity: NDArray[np.float32]
    intensity_err: NDArray[np.float32]
    velocity: NDArray[np.float32]
    velocity_err: NDArray[np.float32]
    dispersion: NDArray[np.float32]
    dispersion_err: NDArray[np.float32]
    mask: NDArray[np.int32]
    velocity_field: NDArray[np.float32]
    stellar_velocity_field: NDArray[np.float32]


def build_shard(manifest_path: str | Path, targets_path: str | Path, settings: Settings, out_path: str | Path, threads: int = 1) -> Shard:
    """Make the stamps of every target of a shard and write them; return what was written.

    A galaxy whose data cannot be used keeps its row, with flags and a sentence, NaN stamps and mask NO_COVERAGE. One line per
    galaxy goes to the log. The file depends on the input alone, down to the byte. Raises `CatalogueError` where the target
    list or the manifest cannot be read.
    """
    targets = read_table(targets_path, TARGETS)
    manifest = read_table(manifest_path, MANIFEST)
    files: dict[str, dict[str, Mapping]] = {}
    for entry in manifest.to_dict("records"):
        files.setdefault(entry["galaxy"], {})[entry["product"]] = entry
    jobs = [(target, files.get(target["galaxy"], {})) for target in targets.to_dict("records")]
    surveys = {survey: settings.for_survey(survey) for survey in targets["survey"].unique()}
    made = []
    with _mapper(threads) as run:
        for galaxy in run(partial(_make_one, surveys), jobs):
            log.info(galaxy.log)
            if galaxy.trouble:
                log.warning(galaxy.trouble)
            made.append(galaxy)
    shard = gather_shard(made)
    _write(shard, out_path, _provenance(settings, manifest_path, targets_path))
    _sum_up(shard, Path(out_path))
    return shard


@contextmanager
def _mapper(threads: int) -> Iterator:
    if threads <= 1:
        yield map
        return
    with ProcessPoolExecutor(threads) as pool:
        yield pool.map


def _make_one(surveys: Mapping[str, Settings], job: tuple[Mapping, Mapping]) -> MadeGalaxy:
    target, files = job
    return make_galaxy(target, files, surveys[target["survey"]])


def gather_shard(made: Sequence[MadeGalaxy]) -> Shard:
    """Put galaxies into one shard, in their order."""
    frame = pd.DataFrame([galaxy.row for galaxy in made], columns=[c.name for c in GALAXIES])
    images = {}
    for name in _IMAGES:
        dtype = np.int32 if name == "MASK" else np.float32
        stamps = [getattr(galaxy.stamp if name in STAMP_HDUS else galaxy, name.lower()) for galaxy in made]
        images[name.lower()] = np.array(stamps, dtype=dtype).reshape(len(made), STAMP, STAMP)  # (galaxy, y, x)
    odd, sentence = odd_widths([galaxy.history.get("DISPKIND", "") for galaxy in made])
    if sentence:
        log.warning(sentence)
        add_flag(frame, odd, GALAXY.QUALITY_WARNING, sentence)
    return Shard(galaxies=conform(frame, GALAXIES, "GALAXIES"), **images)


def _provenance(settings: Settings, manifest_path: str | Path, targets_path: str | Path) -> list[tuple[str, str, str]]:
    digest = hashlib.sha256(select_sections(settings, "maps", *SURVEYS).encode()).hexdigest()
    return [
        ("CREATOR", f"tullyflow {tullyflow.__version__}", "what wrote this file"),
        ("SETTINGS", digest[:32], "SHA-256, settings"),
        ("MANIFEST", hashlib.sha256(Path(manifest_path).read_bytes()).hexdigest()[:32], "SHA-256, files"),
        ("TARGETS", hashlib.sha256(Path(targets_path).read_bytes()).hexdigest()[:32], "SHA-256, galaxies"),
    ]


def _write(shard: Shard, path: str | Path, provenance: list[tuple[str, str, str]]) -> None:
    hdus = [fits.PrimaryHDU()]
    for name in _IMAGES:
        hdu = fits.ImageHDU(getattr(shard, name.lower()), name=name)
        hdu.header["BUNIT"] = "km/s" if "VELOCITY" in name or "DISPERSION" in name else ""
        hdus.append(hdu)
    columns = []
    for column in GALAXIES:
        values = shard.galaxies[column.name].to_numpy()
        if column.kind == "s":
            values = np.array([str(value).encode("ascii", "replace") for value in values], dtype="S")
            width = max(1, values.dtype.itemsize)
            columns.append(fits.Column(column.name, f"{width}A", array=values.astype(f"S{width}")))
        else:
            columns.append(fits.Column(column.name, _FORMAT[column.kind], unit=column.unit or None, array=values))
    table = fits.BinTableHDU.from_columns(columns, name="GALAXIES")
    for k, column in enumerate(GALAXIES):
        room = 80 - len(f"TTYPE000= {column.name!r:<20} / ")  # a FITS card has 80 characters
        table.header.comments[f"TTYPE{k + 1}"] = column.description[:room]
    hdus.append(table)
    for hdu in hdus:
        hdu.header.extend(provenance)
        hdu.add_datasum(when="no date")
        hdu.add_checksum(when="no date", override_datasum=False)
    with whole_file(path) as part:
        fits.HDUList(hdus).writeto(part, output_verify="exception", checksum=False)


def read_shard(path: str | Path) -> Shard:
    """Read a shard written by `build_shard`; raise `ModelError` where the file is broken or another version made it."""
    path = Path(path)
    try:
        with fits.open(path, memmap=False) as hdus:
            images = {name: np.ascontiguousarray(hdus[name].data, dtype=np.int32 if name == "MASK" else np.float32) for name in _IMAGES}
            table = hdus["GALAXIES"].data
            frame = pd.DataFrame({c.name: _native(table[c.name]) for c in GALAXIES})
    except (OSError, KeyError, ValueError, TypeError, IndexError) as err:
        raise ModelError(f"{path}: not a readable shard of stamps ({' '.join(str(err).split())[:200]}); run the maps stage again.") from err
    wrong = [name for name, image in images.items() if image.shape != (len(frame), STAMP, STAMP)]
    if wrong:
        raise ModelError(f"{path}: {', '.join(wrong)} is not ({len(frame)}, {STAMP}, {STAMP}) like its table; run the maps stage again.")
    return Shard(galaxies=conform(frame, GALAXIES, str(path)), **{name.lower(): image for name, image in images.items()})


def _native(values: NDArray) -> NDArray:
    values = np.asarray(values)
    return values.astype(object) if values.dtype.kind in "SU" else values.astype(values.dtype.newbyteorder("="))


def _sum_up(shard: Shard, path: Path) -> None:
    flags = shard.galaxies["flags"].to_numpy(dtype=np.int64)
    out = (flags & GALAXY.excluding) != 0
    reasons = Counter(flag.name for bits in flags for flag in GALAXY.set_in(int(bits)) if flag.excludes)
    said = ", ".join(f"{n} {name}" for name, n in reasons.most_common())
    log.info("%s: %d galaxies, %d without a flag that excludes%s", path.name, len(flags), int((~out).sum()), f" ({said})" if said else "")
