"""Freed memory that stays with the process: a training step asks for the same tens of megabytes again and again.

glibc hands every large block back to the system as soon as it is free, and the next step pays for fresh pages, zeroed one by one.
"""

import ctypes
import logging

__all__ = ["keep_freed_memory"]

log = logging.getLogger("tullyflow")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_NEVER = 2**31 - 1  # bytes; the largest int
_LARGEST_ALLOWED = 32 * 2**20  # of the mmap threshold before glibc 2.35; larger ones are refused there


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed for the next request, for the whole process; return whether it did.

    For commands that train or infer and then end: the process keeps the most it has ever used. Elsewhere than on glibc nothing is done.
    A setting of the user's own (``MALLOC_TRIM_THRESHOLD_``, another allocator preloaded) loses nothing by it.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 (an AttributeError on musl, macOS and Windows)
        # the trim threshold second: set alone it would hold the mmap threshold at its 128 kB, which otherwise grows
        kept = any(libc.mallopt(_M_MMAP_THRESHOLD, size) for size in (_NEVER, _LARGEST_ALLOWED))
        kept = kept and bool(libc.mallopt(_M_TRIM_THRESHOLD, _NEVER))
    except (AttributeError, OSError, TypeError):  # TypeError: CDLL(None) on Windows
        return False
    log.debug("network: freed memory is kept for the next step: %s", kept)
    return kept
