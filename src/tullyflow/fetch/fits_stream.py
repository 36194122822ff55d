"""FITS read once from front to back: do all extensions end before the file does, are the expected ones there, are the sums right?

The headers are walked here rather than by astropy because this works on a stream as it is unpacked, and holds one block of it.
Structure and sums after the FITS standard 4.0, sections 3, 4.4.2.7 and appendix J.
"""

import math
import re
from typing import BinaryIO

import numpy as np

__all__ = ["fits_problem"]

BLOCK = 2880
CHUNK = BLOCK * 90
_ONES = 0xFFFFFFFF  # a ones' complement sum of 32-bit words is a sum modulo this
_SIZES = {"8": 1, "16": 2, "32": 4, "64": 8, "-32": 4, "-64": 8}
_WANTED = re.compile(rb"(?:SIMPLE  |XTENSION|BITPIX  |NAXIS\d* *|PCOUNT  |GCOUNT  |GROUPS  |EXTNAME |CHECKSUM|DATASUM )=")
_TEXT = re.compile(r"\s*'((?:[^']|'')*)'")
_LONGEST_HEADER = 4000  # blocks


class _NotFits(Exception):
    """What is wrong with the structure."""


def fits_problem(stream: BinaryIO, hdus: tuple[str, ...] = (), *, sums: bool = True) -> str:
    """Say what is wrong with the FITS file that ``stream`` delivers; empty where nothing is.

    ``hdus`` are extension names (EXTNAME; PRIMARY for a nameless first one) that must be there: ``A|B`` is one of them, and
    BINTABLE any table. With ``sums``, CHECKSUM and
    DATASUM are compared in every HDU that has them. Behind the last extension only filling (zeros, blanks) may follow.
    Where something is wrong, the stream is not read to its end. Errors of the stream itself pass through.
    """
    names: list[str] = []
    kinds: set[str] = set()
    try:
        while header := _header(stream, number=len(names)):
            cards, raw = header
            names.append(_name(cards, "" if names else "PRIMARY"))
            kinds.add(_text(cards.get("XTENSION", "")))
            data_sum = _data(stream, _length(cards, len(names) - 1), len(names) - 1)
            if sums:
                _compare(cards, raw, data_sum, names)
    except _NotFits as err:
        return str(err)
    absent = [name for name in hdus if not kinds.union(names) & set(name.upper().split("|"))]
    if absent:
        found = ", ".join(name or "(no name)" for name in names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
        return f"expected HDU {', '.join(absent[:6])} is not in it; found: {found}"
    return ""


def _header(stream: BinaryIO, number: int) -> tuple[dict[str, str], bytes] | None:
    """The next header's cards that matter, and its bytes; None at the end of the file."""
    raw, cards = bytearray(), {}
    for count in range(_LONGEST_HEADER):
        block = stream.read(BLOCK)
        if count == 0 and not block.startswith(b"XTENSION=" if number else b"SIMPLE  ="):
            if number == 0:
                raise _NotFits("not FITS (it does not begin with SIMPLE)")
            while block:
                if block.strip(b"\0 "):
                    raise _NotFits("what follows the last FITS extension cannot be read")
                block = stream.read(BLOCK)
            return None
        raw += block
        for start in range(0, len(block), 80):
            card = block[start : start + 80]
            if card[:8] == b"END     ":
                return cards, bytes(raw)
            if _WANTED.match(card):
                cards.setdefault(card[:8].decode("ascii").strip(), card[10:].decode("latin-1"))
        if len(block) < BLOCK:
            break
    raise _NotFits(f"not FITS (header {number} does not end)")


def _name(cards: dict[str, str], otherwise: str) -> str:
    return _text(cards.get("EXTNAME", "")).upper() or otherwise


def _text(value: str) -> str:
    found = _TEXT.match(value)
    return found.group(1).replace("''", "'").strip() if found else ""


def _length(cards: dict[str, str], number: int) -> int:
    """Bytes of the data that follow a header, without filling."""

    def integer(key: str, otherwise: int | None = None) -> int:
        text = cards.get(key, "").partition("/")[0].strip()
        if not text and otherwise is not None:
            return otherwise
        if not text.isdigit():
            raise _NotFits(f"not FITS (header {number}: {key} is '{text}')")
        return int(text)

    bits = cards.get("BITPIX", "").partition("/")[0].strip()
    if bits not in _SIZES:
        raise _NotFits(f"not FITS (header {number}: BITPIX is '{bits}')")
    axes = [integer(f"NAXIS{k}") for k in range(1, integer("NAXIS") + 1)]
    if not axes:
        return 0
    if number == 0:
        groups = axes[0] == 0 and cards.get("GROUPS", "").partition("/")[0].strip() == "T"
        if not groups:
            return _SIZES[bits] * math.prod(axes)
        axes = axes[1:]
    return _SIZES[bits] * integer("GCOUNT", 1) * (integer("PCOUNT", 0) + math.prod(axes))


def _data(stream: BinaryIO, length: int, number: int) -> int:
    """Read a data unit with its filling; return the sum of its words. The very last one may lack the filling."""
    whole, came, total = length + -length % BLOCK, 0, 0
    while came < whole and (block := stream.read(min(whole - came, CHUNK))):
        came += len(block)
        total += _sum(block)
    if came < length:
        raise _NotFits(f"FITS extension {number} ends after the file does")
    return total % _ONES


def _sum(block: bytes) -> int:
    return int(np.frombuffer(block + bytes(-len(block) % 4), ">u4").sum(dtype=np.uint64))


def _compare(cards: dict[str, str], raw: bytes, data_sum: int, names: list[str]) -> None:
    where = f"HDU {len(names) - 1} ({names[-1] or 'no name'})"
    stated = _text(cards.get("DATASUM", ""))
    if stated.isdigit() and int(stated) % _ONES != data_sum:
        raise _NotFits(f"{where}: DATASUM is not the sum of its data")
    if _text(cards.get("CHECKSUM", "")) and (_sum(raw) + data_sum) % _ONES:
        raise _NotFits(f"{where}: CHECKSUM is not that of its content")
