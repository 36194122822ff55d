"""The piece of a file that is here so far: locked while somebody writes it, kept to be gone on with, renamed when whole."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["Part", "locked_part"]


class Part:
    """``.name.part`` beside the final name, and ``.name.part.version``, which says of what it is a piece."""

    def __init__(self, path: Path, handle: BinaryIO):
        self.path, self.handle = path, handle
        self._version = path.with_name(f"{path.name}.version")

    @property
    def length(self) -> int:
        """Bytes that are here and can be gone on with: none where the version they belong to is not known."""
        return os.fstat(self.handle.fileno()).st_size if self.version else 0

    @property
    def version(self) -> str:
        """ETag or Last-Modified of the file this is a piece of; empty where the server named none."""
        return self._version.read_text() if self._version.exists() else ""

    def begin(self, version: str) -> None:
        """Empty the part; what follows belongs to ``version``."""
        self.empty()
        if version:
            self._version.write_text(version)

    def empty(self) -> None:
        """Forget what is here."""
        self._version.unlink(missing_ok=True)
        self.handle.seek(0)
        self.handle.truncate()

    def discard(self) -> None:
        """Remove the part from the folder."""
        self.empty()
        self.path.unlink(missing_ok=True)

    def finish(self, destination: Path) -> None:
        """Give the part its final name, once its bytes are on the disk; the folder follows, so that a crash loses neither."""
        os.fsync(self.handle.fileno())
        self._version.unlink(missing_ok=True)
        os.replace(self.path, destination)
        folder = os.open(destination.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def locked_part(destination: Path) -> Iterator[Part | None]:
    """Yield the part of ``destination``, which no other process or thread touches meanwhile; None where the file came to be
    here while somebody else held the lock. A part that a killed process left is taken over as it is.
    """
    path = destination.with_name(f".{destination.name}.part")
    destination.parent.mkdir(parents=True, exist_ok=True)
    was_here = _identity(destination)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with open(descriptor, "r+b", buffering=0) as handle:
            if not _lock(handle):
                time.sleep(0.1)
                continue
            if _identity(path) != _identity(handle.fileno()):  # renamed or removed by the one who held the lock
                continue
            part = Part(path, handle)
            if _identity(destination) not in (None, was_here):
                part.discard()
                yield None
            else:
                yield part
            return


def _lock(handle: BinaryIO) -> bool:
    """Whether the file is ours now; on a file system that knows no locks, always."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as err:
        if err.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL):
            raise
    return True


def _identity(place: Path | int) -> tuple[int, int] | None:
    try:
        stat = os.stat(place)
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino
