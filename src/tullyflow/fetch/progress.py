"""How far a transfer is: files, bytes, rate, remaining time, failures; a bar on a terminal, the same line in the log."""

import logging
import sys
import threading
import time
from collections.abc import Callable

__all__ = ["Progress"]

log = logging.getLogger("tullyflow")

EVERY_S = 30.0


class Progress:
    """Told of each file that is done; ``received`` says how many bytes have come over the network.

    The line goes to the log every half minute and at the end, where anything was fetched.
    """

    def __init__(self, name: str, total: int, received: Callable[[], int]):
        self._name, self._total, self._received = name, total, received
        self._done = self._failed = 0
        self._lock = threading.Lock()
        self._began = self._said = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="file", desc=name)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._draw()
            self._bar.close()
        if self._received():
            log.info("%s", self.line())

    def done(self, status: str) -> None:
        """Count one file; any thread may."""
        with self._lock:
            self._done += 1
            self._failed += status == "failed"

    def tick(self) -> None:
        """Show how far we are; call it now and then."""
        self._draw()
        if time.monotonic() - self._said >= EVERY_S:
            self._said = time.monotonic()
            log.info("%s", self.line())

    def _draw(self) -> None:
        if self._bar is not None:
            self._bar.n = self._done
            self._bar.set_postfix_str(f"{self._received() / 1e6:.1f} MB, {self._rate() / 1e6:.2f} MB/s, {self._failed} failed")

    def _rate(self) -> float:
        return self._received() / max(time.monotonic() - self._began, 1e-3)

    def line(self) -> str:
        """What is known now, in one line."""
        passed = time.monotonic() - self._began
        left = passed / self._done * (self._total - self._done) if self._done else float("nan")
        remaining = f"{left:.0f} s left" if self._done else "time left not known"
        return (
            f"{self._name}: {self._done} of {self._total} files, {self._received() / 1e6:.1f} MB, {self._rate() / 1e6:.2f} MB/s, "
            f"{remaining}, {self._failed} failed"
        )
