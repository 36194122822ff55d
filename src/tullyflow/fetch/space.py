"""Is there room? The size of what is still to come, from a few files asked beforehand, against the free space."""

import logging
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tullyflow.errors import FetchError
from tullyflow.fetch.client import Client, TryError, remote_length

__all__ = ["Estimate", "check_space", "estimate_bytes"]

log = logging.getLogger("tullyflow")

SAMPLE = 8


@dataclass(frozen=True)
class Estimate:
    """``bytes`` that ``files`` files need, from the ``sampled`` ones that answered (0: nothing is known)."""

    files: int
    bytes: int
    sampled: int


def estimate_bytes(client: Client, urls: Sequence[Sequence[str]]) -> Estimate:
    """Ask up to eight files, evenly chosen, for their length (HEAD); ``urls`` has each file's addresses, tried in order.

    A file that no address has counts as empty; one whose length nobody says is left out of the mean.
    """
    chosen = [urls[k * len(urls) // SAMPLE] for k in range(SAMPLE)] if len(urls) > SAMPLE else list(urls)
    with ThreadPoolExecutor(min(len(chosen), client.fetch.connections) or 1) as pool:
        lengths = [length for length in pool.map(lambda places: _length(client, places), chosen) if length is not None]
    return Estimate(len(urls), round(sum(lengths) / len(lengths) * len(urls)) if lengths else 0, len(lengths))


def _length(client: Client, places: Sequence[str]) -> int | None:
    codes = []
    for url in places:
        try:
            code, length = remote_length(client, url)
        except TryError:
            codes.append(0)
            continue
        if length is not None:
            return length
        codes.append(code)
    return 0 if codes and all(code in (404, 410) for code in codes) else None


def check_space(folder: str | Path, estimate: Estimate, margin_gb: float) -> None:
    """Raise `FetchError` where the files do not fit beside ``margin_gb`` GB that are to stay free."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    log.info("%d files to fetch, about %.2f GB; %.1f GB free in %s", estimate.files, estimate.bytes / 1e9, free / 1e9, place)
    if estimate.sampled and estimate.bytes + margin_gb * 1e9 > free:
        raise FetchError(
            f"{folder}: {estimate.files} files of about {estimate.bytes / 1e9:.2f} GB in all do not fit: {free / 1e9:.2f} GB are free, "
            f"{margin_gb:g} GB of them to stay so (fetch.disk_margin_gb); make room, or set 'resources' to a folder on another disk."
        )
