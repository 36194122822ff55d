"""Read a spectral cube one channel at a time, so that its size does not matter."""

import gzip
import shutil
import struct
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from tullyflow.errors import DataError
from tullyflow.flags import GALAXY
from tullyflow.maps.spectral_axis import spectral_axis_number

__all__ = ["CubeFile"]

_BROKEN = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, struct.error, zlib.error, gzip.BadGzipFile)
_GZIP = b"\x1f\x8b"
_BLOCK = 32_000_000  # voxels read at once where the spectral axis is not the slowest


class CubeFile:
    """A cube of a FITS file as channels: ``cube[k]`` is the image (y, x) of channel k, float32, NaN = no value.

    Axes of length one (Stokes, degenerate ones) are dropped. Where the spectral axis is the slowest, as in most cubes, nothing is
    kept in memory; otherwise the cube is turned once and kept. A gzipped file is unpacked into a temporary one. ``blank`` lists
    values that mean no data besides NaN and inf. Raises `DataError`: UNREADABLE_FILE (torn, no three axes longer than one), NO_WCS
    (no one spectral axis).
    """

    def __init__(self, path: str | Path, hdu: int = 0, blank: Sequence[float] = ()):
        self.name = Path(path).name
        self.blank = list(blank)
        self._unpacked = None
        try:
            self._hdus = fits.open(self._plain(Path(path)), memmap=False)
        except _BROKEN as err:
            self._drop_unpacked()
            raise self._broken(err) from err
        try:
            self._open(hdu)
        except BaseException:
            self.close()
            raise

    def _plain(self, path: Path) -> Path:
        """The path, or that of the file it unpacks into: in a gzip stream each channel would be sought from the start."""
        with path.open("rb") as file:
            if file.read(len(_GZIP)) != _GZIP:
                return path
        self._unpacked = tempfile.NamedTemporaryFile(suffix=".fits")  # noqa: SIM115 (closed with the cube)
        with gzip.open(path) as packed:
            shutil.copyfileobj(packed, self._unpacked, 1 << 20)
        self._unpacked.flush()
        return Path(self._unpacked.name)

    def _drop_unpacked(self) -> None:
        if self._unpacked is not None:
            self._unpacked.close()

    def _open(self, hdu: int) -> None:
        try:
            image = self._hdus[hdu]
            self.header = image.header
            lengths = [int(self.header[f"NAXIS{k}"]) for k in range(1, int(self.header["NAXIS"]) + 1)]
        except _BROKEN as err:
            raise self._broken(err) from err
        if len(lengths) < 3 or not isinstance(image, fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU):
            raise DataError(GALAXY.UNREADABLE_FILE, f"{self.name}: HDU {hdu} is not a cube: it has {len(lengths)} axes, needed 3.")
        self.axis = spectral_axis_number(self.header, self.name)
        sky = [k for k, n in enumerate(lengths, start=1) if n > 1 and k != self.axis]
        if len(sky) != 2:
            raise DataError(
                GALAXY.UNREADABLE_FILE, f"{self.name}: axes {lengths}; a cube has one spectral and two sky axes longer than 1."
            )
        self._section = image.section
        self._slow_first = tuple(reversed(range(1, len(lengths) + 1)))  # FITS axis of each numpy axis
        self._sky = sky
        self.shape = (lengths[self.axis - 1], lengths[sky[1] - 1], lengths[sky[0] - 1])
        self._turned = None if self.axis > max(sky) else self._turn()

    def _read(self, channels: slice | int) -> NDArray[np.float32]:
        """Part of the file, in the file's order of axes, those of length one dropped."""
        where = tuple(channels if k == self.axis else slice(None) if k in self._sky else 0 for k in self._slow_first)
        try:
            return np.asarray(self._section[where], dtype=np.float32)
        except _BROKEN as err:
            raise self._broken(err) from err

    def _turn(self) -> NDArray[np.float32]:
        cube = np.empty(self.shape, dtype=np.float32)
        order = [k for k in self._slow_first if k == self.axis or k in self._sky]
        step = max(1, _BLOCK // (self.shape[1] * self.shape[2]))
        for start in range(0, self.shape[0], step):
            cube[start : start + step] = np.moveaxis(self._read(slice(start, start + step)), order.index(self.axis), 0)
        return cube

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, channel: int) -> NDArray[np.float32]:
        if not 0 <= channel < self.shape[0]:
            raise IndexError(channel)
        image = self._read(channel) if self._turned is None else self._turned[channel].copy()
        image = image.reshape(self.shape[1:])
        image[~np.isfinite(image)] = np.nan
        if self.blank:
            image[np.isin(image, self.blank)] = np.nan
        return image

    def beams(self) -> fits.FITS_rec | None:
        """The table BEAMS of a cube whose beam differs between channels (CASA); None where there is none."""
        return self._hdus["BEAMS"].data if "BEAMS" in self._hdus else None

    def close(self) -> None:
        self._hdus.close()
        self._drop_unpacked()

    def __enter__(self) -> "CubeFile":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _broken(self, err: Exception) -> DataError:
        return DataError(GALAXY.UNREADABLE_FILE, f"{self.name}: not a readable cube: {' '.join(str(err).split())[:160]}.")
