"""The piece of a file that is here so far: locked while somebody writes it, kept to be gone on with, renamed when whole."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["Part", "identity", "locked_part"]

WORTH = 200_000


class Part:
    """``.name.part`` beside the final name, and ``.name.part.version``, which says of what it is a piece.

    The version is written once the piece is worth going on with after a kill (``WORTH`` bytes), and by `keep`.
    """

    def __init__(self, path: Path, handle: BinaryIO):
        self.path, self.handle = path, handle
        self._file = path.with_name(f"{path.name}.version")
        self._here = os.fstat(handle.fileno()).st_size
        self.version = self._file.read_text() if self._here and self._file.exists() else ""
        self._stated = bool(self.version)  # whether the file of the version is there

    @property
    def length(self) -> int:
        """Bytes that are here and can be gone on with: none where the version they belong to is not known."""
        return self._here if self.version else 0

    def begin(self, version: str) -> None:
        """Empty the part; what follows belongs to ``version``: its ETag or Last-Modified, empty where the server names none."""
        self.empty()
        self.version = version

    def go_on(self) -> None:
        """Let what is written follow what is here."""
        if self._here:
            self.handle.seek(self._here)

    def write(self, block: bytes) -> None:
        """Write the next bytes."""
        while block:
            written = self.handle.write(block)
            self._here += written
            block = block[written:]
        if self._here > WORTH:
            self.keep()

    def keep(self) -> None:
        """State on disk of what this is a piece, for another try or another process."""
        if self.length and not self._stated:
            self._file.write_text(self.version)
            self._stated = True

    def empty(self) -> None:
        """Forget what is here."""
        if self._here:
            self._file.unlink(missing_ok=True)
            self.handle.seek(0)
            self.handle.truncate()
        self.version, self._here, self._stated = "", 0, False

    def discard(self) -> None:
        """Remove the part from the folder."""
        self.empty()
        self.path.unlink(missing_ok=True)

    def finish(self, destination: Path) -> None:
        """Give the part its final name, once its bytes are on the disk; the folder follows, so that a crash loses neither."""
        os.fsync(self.handle.fileno())
        if self._stated:
            self._file.unlink(missing_ok=True)
        os.replace(self.path, destination)
        folder = os.open(destination.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def locked_part(destination: Path, seen: tuple[int, int] | None) -> Iterator[Part | None]:
    """Yield the part of ``destination``, which no other process or thread touches meanwhile; None where another file is here now than
    the one ``seen`` (its `identity`) when this one was asked for. A part that a killed process left is taken over as it is.
    """
    path = destination.with_name(f".{destination.name}.part")
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            destination.parent.mkdir(parents=True, exist_ok=True)
            continue
        with open(descriptor, "r+b", buffering=0) as handle:
            if not _lock(handle):
                time.sleep(0.1)
                continue
            if identity(path) != identity(handle.fileno()):  # renamed or removed by the one who held the lock
                continue
            part = Part(path, handle)
            if identity(destination) not in (None, seen):
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


def identity(place: Path | int) -> tuple[int, int] | None:
    """Return what tells a file, by its path or descriptor, from every other: device and inode; None where there is none."""
    try:
        stat = os.stat(place)
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino
