"""Open a galaxy's FITS file so that whatever is wrong with it becomes that galaxy's flag.

Shared by the readers: a truncated file, a wrong checksum of a gzip stream or a file that is not FITS raises
`DataError` with UNREADABLE_FILE, an absent extension or line with MISSING_HDU, a map without sky axes with NO_WCS.
"""

import gzip
import io
import math
import re
import struct
import warnings
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from tullyflow.errors import DataError
from tullyflow.flags import GALAXY

__all__ = [
    "beam_of", "celestial_wcs", "channel_of_line", "clean_beams", "image", "image_hdu", "image_hdus", "is_cube", "open_fits", "path_of",
    "pixel_scale_arcsec", "plane_of", "sky_wcs",
]  # fmt: skip

_CLEAN_BEAM = re.compile(r"BMAJ=\s*([0-9.E+-]+)\s+BMIN=\s*([0-9.E+-]+)(?:\s+BPA=\s*([0-9.E+-]+))?", re.IGNORECASE)
_CARD = re.compile(rb"(BITPIX|NAXIS\d*|PCOUNT|GCOUNT|EXTNAME) *= *(?:'([^']*)'|(-?\d+))")  # what says how long an HDU is, and its name
_SPECTRAL = ("FREQ", "VEL", "VRAD", "VOPT", "FELO", "WAV", "AWAV", "ENER", "ZOPT", "BETA")  # third axes of a spectral cube
_END = b"END" + 77 * b" "
_BLOCK = 2880
_INFLATION = 32  # maps shrink less than that
_BROKEN = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, struct.error, zlib.error)


def path_of(paths: Mapping[str, Path], product: str, galaxy: str) -> Path:
    """Path of a product; raise `DataError` (MISSING_FILE) where it was not fetched."""
    if product not in paths or not Path(paths[product]).exists():
        looked_for = f": {paths[product]}" if product in paths else ""
        raise DataError(GALAXY.MISSING_FILE, f"{galaxy}: there is no file for {product}{looked_for}.")
    return Path(paths[product])


@contextmanager
def open_fits(path: str | Path, extensions: Collection[str] = ()) -> Iterator[fits.HDUList]:
    """Open a FITS file, gzipped or not, whatever its suffix.

    A gzipped file is inflated in one go: that checks its CRC and is faster than astropy's seeks in the stream. Of one that has
    all of ``extensions`` (names; a number or "" among them asks for the whole file), only these and the primary HDU are there:
    astropy would parse the headers of the others, too, and of a MaNGA file that takes longer than anything else. Errors inside the
    block that stem from broken bytes become `DataError` (UNREADABLE_FILE) too.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            with open(path, "rb") as handle:
                zipped = handle.read(2) == b"\x1f\x8b"
            source = io.BytesIO(_only(_inflate(path.read_bytes()), extensions)) if zipped else path
            with fits.open(source, memmap=not zipped) as hdus:
                yield hdus
    except DataError:
        raise
    except FileNotFoundError as err:
        raise DataError(GALAXY.MISSING_FILE, f"{path}: no such file.") from err
    except _BROKEN as err:
        raise DataError(GALAXY.UNREADABLE_FILE, f"{path.name}: truncated or not FITS ({type(err).__name__}: {_line(err)}).") from err


def _inflate(packed: bytes) -> bytes:
    """Bytes of a gzip stream, CRC checked; room for the length it states is made at once, which saves up to a third of the time."""
    length = int.from_bytes(packed[-4:], "little")
    plain = zlib.decompress(packed, wbits=31, bufsize=max(1, min(length, _INFLATION * len(packed))))
    return plain if len(plain) == length else gzip.decompress(packed)  # several streams in one file


def _only(content: bytes, extensions: Collection[str]) -> bytes:
    """Bytes of the primary HDU and of the ``extensions``; all bytes where one is missing or no name, or where this is no FITS."""
    wanted = {str(name).upper() for name in extensions}
    if any(not name or name.isdigit() for name in wanted):
        return content
    try:
        layout = list(_layout(content)) if wanted else []
    except (KeyError, ValueError):
        return content
    if wanted - {name for name, _, _ in layout} or not wanted:
        return content
    return b"".join(content[start:end] for k, (name, start, end) in enumerate(layout) if k == 0 or name in wanted)


def _layout(content: bytes) -> Iterator[tuple[str, int, int]]:
    """Name of every HDU, and where its bytes start and end (FITS standard 4.0, sec. 3 and 4.4.1)."""
    start = 0
    while start < len(content):
        end = content.index(_END, start)
        while (end - start) % 80:  # not a card of its own
            end = content.index(_END, end + 1)
        cards = {m[1]: m[3] or m[2] for m in _CARD.finditer(content[start:end]) if m.start() % 80 == 0}
        shape = [int(cards[b"NAXIS%d" % (k + 1)]) for k in range(int(cards[b"NAXIS"]))]
        pixels = int(cards.get(b"GCOUNT", 1)) * (int(cards.get(b"PCOUNT", 0)) + math.prod(shape)) if shape else 0
        size = [end - start + len(_END), pixels * abs(int(cards[b"BITPIX"])) // 8]
        stop = start + sum(-(-n // _BLOCK) * _BLOCK for n in size)
        yield cards.get(b"EXTNAME", b"").decode("ascii").strip().upper(), start, stop
        start = stop


def _line(err: BaseException) -> str:
    return " ".join(str(err).split())[:160]


def image_hdu(hdus: fits.HDUList, key: str | int, path: Path):
    """The image extension of that EXTNAME or number; raise `DataError` (MISSING_HDU) where it is absent or no image.

    An empty key takes the first HDU that holds an image. Two extensions of one name are refused.
    """
    if key == "":
        found = [hdu for hdu in hdus if hdu.is_image and hdu.header.get("NAXIS", 0) >= 2]
    elif isinstance(key, int) or str(key).isdigit():
        found = [hdu for hdu in [hdus[int(key)]] if hdu.is_image] if int(key) < len(hdus) else []
    else:
        return image_hdus(hdus, [key], path)[key]
    if not found or found[0].header.get("NAXIS", 0) == 0:
        raise _no_image(hdus, key, path)
    return found[0]


def image_hdus(hdus: fits.HDUList, keys: Collection[str], path: Path) -> dict:
    """The image extensions of those names, in one pass; raise `DataError` (MISSING_HDU) where one is absent, no image, or there twice."""
    wanted, found = {key.strip().upper(): key for key in keys}, {}
    for k, hdu in enumerate(hdus):
        for name in {hdu.name.strip().upper(), *(["PRIMARY"] if k == 0 else [])} & wanted.keys():
            if name in found:
                raise DataError(GALAXY.MISSING_HDU, f"{path.name}: two extensions are called {wanted[name]}.")
            found[name] = hdu
    for name, key in wanted.items():
        if name not in found or not found[name].is_image or found[name].header.get("NAXIS", 0) == 0:
            raise _no_image(hdus, key, path)
    return {key: found[name] for name, key in wanted.items()}


def _no_image(hdus: fits.HDUList, key: str | int, path: Path) -> DataError:
    names = ", ".join(hdu.name or str(k) for k, hdu in enumerate(hdus)) or "none"
    return DataError(GALAXY.MISSING_HDU, f"{path.name}: no image extension {key!r}; there are {names[:200]}.")


def image(hdu, path: Path, plane: int | None = None, dtype: type = float) -> np.ndarray:
    """Pixels of an image extension as a native (y, x) array; ``plane`` is 0-based along the third axis.

    Without ``plane`` axes of length one are dropped. Raises `DataError`: UNREADABLE_FILE where the file ends too soon,
    MISSING_HDU where the image has not two axes.
    """
    where = hdu.fileinfo()
    if where is not None and hdu.size and not isinstance(hdu, fits.CompImageHDU):  # whose size is that after unpacking
        handle = where["file"]
        end = handle.size or 0
        if end and where["datLoc"] + hdu.size > end:
            raise DataError(GALAXY.UNREADABLE_FILE, f"{path.name}: truncated: {hdu.name or 'image'} ends after the file does.")
    try:
        pixels = hdu.data
    except _BROKEN as err:
        raise DataError(GALAXY.UNREADABLE_FILE, f"{path.name}: {hdu.name or 'image'} cannot be read ({_line(err)}).") from err
    if plane is not None and pixels.ndim == 3:
        if plane >= len(pixels):
            raise DataError(GALAXY.MISSING_HDU, f"{path.name}: {hdu.name} has {len(pixels)} planes, plane {plane + 1} is needed.")
        pixels = pixels[plane]
    while pixels.ndim > 2 and 1 in pixels.shape[: pixels.ndim - 2]:
        pixels = pixels.squeeze(axis=pixels.shape.index(1))
    if pixels.ndim != 2:
        raise _no_map(hdu, pixels.shape, path)
    return np.array(pixels, dtype=dtype)


def _no_map(hdu, shape: tuple[int, ...], path: Path) -> DataError:
    name, header = hdu.name or "image", hdu.header
    if len(shape) != 3 or str(header.get("CTYPE3", "")).upper().startswith(_SPECTRAL):
        return DataError(GALAXY.MISSING_HDU, f"{path.name}: {name} has axes {shape}; a map has two (of a cube: tullyflow moments).")
    lines = list(_lines(header).values())
    example = next((line for line in lines if line.startswith("Ha")), lines[0] if lines else "1")
    how = f"by its number from 1{' or its line' if lines else ''}, e.g. --plane {example}"
    said = f"{name} has axes {shape}, a map has two: name one of the {shape[0]} planes to tullyflow position-angle {how}."
    return DataError(GALAXY.MISSING_HDU, f"{path.name}: {said}")


def plane_of(header: fits.Header, plane: str, path: Path) -> int | None:
    """0-based plane along the third axis, of its number from 1 or its line's name; None where the image has no planes or none is asked for.

    Raises `DataError` (MISSING_HDU) where there is no such plane.
    """
    if not plane or header.get("NAXIS") != 3 or header["NAXIS3"] == 1:
        return None
    if not plane.isdigit():
        return channel_of_line(header, plane, path)
    if not 1 <= int(plane) <= header["NAXIS3"]:
        name = header.get("EXTNAME", "image")
        raise DataError(GALAXY.MISSING_HDU, f"{path.name}: {name} has planes 1 to {header['NAXIS3']}, plane {plane} is needed.")
    return int(plane) - 1


def _lines(header: fits.Header) -> dict[str, str]:
    """Names of the planes' lines, by their key C##."""
    return {key: str(header[key]).strip() for key in header if key[:1] == "C" and key[1:].isdigit()}


def channel_of_line(header: fits.Header, line: str, path: Path, likely: str = "") -> int:
    """0-based channel whose C## key names ``line``; raise `DataError` (MISSING_HDU) unless exactly one does.

    ``likely`` is the key that does so in another extension of the file: where it does here too, the others are not looked at.
    """
    if likely and str(header.get(likely, "")).strip() == line:
        return int(likely[1:]) - 1
    names = _lines(header)
    found = [key for key, name in names.items() if name == line]
    if len(found) != 1:
        extension = header.get("EXTNAME", "image")
        raise DataError(
            GALAXY.MISSING_HDU,
            f"{path.name}: {len(found)} channels of {extension} are called {line}, one is needed; found {', '.join(names.values())[:200]}.",
        )
    return int(found[0][1:]) - 1


def is_cube(header: fits.Header) -> bool:
    """Whether an image is a spectral cube: three axes longer than one, the third a spectral one by its CTYPE."""
    longer = sum(header[f"NAXIS{k + 1}"] > 1 for k in range(header["NAXIS"]))
    return longer > 2 and any(str(header.get(f"CTYPE{k}", "")).upper().startswith(_SPECTRAL) for k in (3, 4))


def celestial_wcs(header: fits.Header, path: Path) -> WCS:
    """Sky axes (2-D) of a header; raise `DataError` (NO_WCS) where there are none or they are degenerate."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wcs = WCS(header).celestial
            scales = proj_plane_pixel_scales(wcs) if wcs.naxis == 2 else np.zeros(2)
    except Exception as err:  # wcslib's errors share no base class
        raise DataError(GALAXY.NO_WCS, f"{path.name}: the sky axes cannot be used ({_line(err)}).") from err
    if not (wcs.naxis == 2 and np.all(np.isfinite(scales)) and np.all(scales > 0) and np.all(np.isfinite(wcs.wcs.crval))):
        raise DataError(GALAXY.NO_WCS, f"{path.name}: the header has no sky axes (CTYPE RA/DEC).")
    return wcs


def pixel_scale_arcsec(wcs: WCS) -> float:
    """Pixel size (arcsec): the geometric mean of both axes."""
    return float(np.sqrt(np.prod(proj_plane_pixel_scales(wcs))) * 3600)


def sky_wcs(ra_deg: float, dec_deg: float, scale_arcsec: float, centre: tuple[float, float]) -> WCS:
    """A plane with north up and east left around a position; an unknown position is the origin of the sky."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cdelt = [-scale_arcsec / 3600, scale_arcsec / 3600]
    wcs.wcs.crpix = [centre[0] + 1, centre[1] + 1]
    wcs.wcs.crval = [ra_deg, dec_deg] if np.isfinite([ra_deg, dec_deg]).all() else [0.0, 0.0]
    return wcs


def clean_beams(header: fits.Header) -> list[tuple[str, str, str | None]]:
    """BMAJ, BMIN and BPA (deg, as written; None where not said) of each line that AIPS's CLEAN left in HISTORY, in order."""
    return [found.groups() for found in map(_CLEAN_BEAM.search, map(str, header.get("HISTORY", []))) if found]


def beam_of(header: fits.Header) -> tuple[float, float, float] | None:
    """FWHM (arcsec) along both axes of a header's beam and its position angle (deg, N through E); None where it lacks one of them.

    From BMAJ, BMIN and BPA (deg), else the last such line AIPS left in HISTORY.
    """
    said = [header.get(key) for key in ("BMAJ", "BMIN", "BPA")]
    if any(value is None for value in said):
        lines = [beam for beam in clean_beams(header) if beam[2] is not None]
        said = lines[-1] if lines else said
    try:
        major, minor, angle = (float(value) for value in said)
    except (TypeError, ValueError):
        return None
    return (3600 * major, 3600 * minor, angle % 180) if np.isfinite([major, minor, angle]).all() and major >= minor > 0 else None
