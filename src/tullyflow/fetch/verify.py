"""Is a fetched file what its name says? Digest, gzip checksum, FITS structure, no web page in disguise."""

import gzip
import hashlib
import io
import warnings
import zlib
from pathlib import Path

__all__ = ["looks_like_web_page", "problem_with", "sha256_of"]

_FITS = (".fits", ".fit", ".fts")


def sha256_of(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def looks_like_web_page(start: bytes) -> bool:
    """Whether the first bytes of a file are HTML."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml version")) and (b"html" in text or not text.startswith(b"<?xml"))


def problem_with(path: str | Path, name: str, sha256: str = "") -> str:
    """Say what is wrong with a downloaded file that is to be called ``name``; empty where nothing is.

    Checks the digest where one is known, the gzip checksum of ``.gz``, and for FITS that every header reads and no
    extension ends after the file does.
    """
    path = Path(path)
    if path.stat().st_size == 0:
        return "the file is empty"
    if sha256 and sha256_of(path) != sha256.lower():
        return f"SHA-256 is not the expected {sha256[:12]}..."
    with open(path, "rb") as handle:
        if looks_like_web_page(handle.read(512)):
            return "the file is a web page"
    lower = name.lower()
    content: Path | bytes = path
    if lower.endswith(".gz"):
        try:
            content = gzip.decompress(path.read_bytes())
        except (OSError, EOFError, zlib.error) as err:
            return f"gzip stream is damaged ({' '.join(str(err).split())})"
    return _fits_problem(content) if lower.removesuffix(".gz").endswith(_FITS) else ""


def _tail(content: Path | bytes, start: int) -> bytes:
    """What follows the last extension; tape padding is blank."""
    if isinstance(content, bytes):
        return content[start:]
    with open(content, "rb") as handle:
        handle.seek(start)
        return handle.read(1 << 20)


def _fits_problem(content: Path | bytes) -> str:
    from astropy.io import fits

    length = len(content) if isinstance(content, bytes) else content.stat().st_size
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(io.BytesIO(content) if isinstance(content, bytes) else content, lazy_load_hdus=False) as hdus:
                for number, hdu in enumerate(hdus):
                    where = hdu.fileinfo()
                    if where["datLoc"] + hdu.size > length:
                        return f"FITS extension {number} ends after the file does"
                last = hdus[-1].fileinfo()
                if _tail(content, last["datLoc"] + last["datSpan"]).strip(b"\0 "):
                    return "what follows the last FITS extension cannot be read"
    except (OSError, ValueError, TypeError, KeyError, IndexError) as err:
        return f"not FITS ({' '.join(str(err).split())[:120]})"
    return ""
