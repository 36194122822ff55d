"""Is a fetched file what its name says? Digest, gzip checksum, FITS structure and sums, columns, no web page in disguise."""

import csv
import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tullyflow.fetch.fits_stream import fits_problem

__all__ = ["Examined", "examine", "looks_like_web_page", "sha256_of"]

CHUNK = 1 << 18
_HEAD = 1 << 16  # bytes that hold the first line of a table
_FITS = (".fits", ".fit", ".fts")


@dataclass(frozen=True)
class Examined:
    """``problem`` is empty where nothing is wrong; ``sha256`` is the digest of the file as it is (empty where it was not read whole)."""

    problem: str
    sha256: str = ""


class _Digesting:
    """A file that is digested as it is read."""

    def __init__(self, handle: BinaryIO, *digests):
        self._handle, self._digests = handle, digests

    def read(self, size: int = -1) -> bytes:
        block = self._handle.read(size)
        for digest in self._digests:
            digest.update(block)
        return block


def sha256_of(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def looks_like_web_page(start: bytes) -> bool:
    """Whether the first bytes of a file are HTML."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml version")) and (b"html" in text or not text.startswith(b"<?xml"))


def examine(
    path: str | Path,
    name: str,
    sha256: str = "",
    *,
    sha1: str = "",
    hdus: tuple[str, ...] = (),
    columns: tuple[str, ...] = (),
    sums: bool = True,
) -> Examined:
    """Read a downloaded file that is to be called ``name`` once, a block at a time, and say what is wrong with it.

    Checks the digests that are known, the gzip checksum of ``.gz``, and for FITS that every header reads, that no extension
    ends after the file does, that ``hdus`` are there and, with ``sums``, that CHECKSUM and DATASUM are right where present. The
    first line of any other file must name the ``columns``, whatever their case.
    """
    with open(path, "rb") as handle:
        start = handle.read(512)
        if not start:
            return Examined("the file is empty")
        if looks_like_web_page(start):
            return Examined("the file is a web page")
        handle.seek(0)
        digests = [hashlib.sha256(), *([hashlib.sha1(usedforsecurity=False)] if sha1 else [])]
        source = _Digesting(handle, *digests)
        problem = _content_problem(source, name.lower(), hdus, columns, sums)
        while source.read(CHUNK):
            pass
    found = digests[0].hexdigest()
    if sha256 and found != sha256.lower():
        problem = f"SHA-256 is not the expected {sha256[:12]}..."
    elif sha1 and digests[1].hexdigest() != sha1.lower():
        problem = f"SHA-1 is not the {sha1[:12]}... of the archive's list"
    return Examined(problem, found)


def _content_problem(source: _Digesting, name: str, hdus: tuple[str, ...], columns: tuple[str, ...], sums: bool) -> str:
    zipped = name.endswith(".gz")
    is_fits = name.removesuffix(".gz").endswith(_FITS)
    if not zipped:
        return fits_problem(source, hdus, sums=sums) if is_fits else _columns_problem(source, columns)
    try:
        with gzip.GzipFile(fileobj=source) as stream:
            problem = fits_problem(stream, hdus, sums=sums) if is_fits else _columns_problem(stream, columns)
            while stream.read(CHUNK):
                pass
    except (OSError, EOFError, zlib.error) as err:
        return f"gzip stream is damaged ({' '.join(str(err).split())})"
    return problem


def _columns_problem(stream: BinaryIO, columns: tuple[str, ...]) -> str:
    """What is wrong with the first line of a CSV table that must have ``columns``."""
    if not columns:
        return ""
    line = stream.read(_HEAD).decode("utf-8-sig", "replace").partition("\n")[0]
    names = next(csv.reader([line], skipinitialspace=True), [])
    lacking = [column for column in columns if column.lower() not in {name.strip().lower() for name in names}]
    return f"has no column {', '.join(lacking[:6])}; it begins: {','.join(names[:6])[:80]}" if lacking else ""
