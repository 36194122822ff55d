"""The archive's own checksums: a list ``<path with / as _>.sha1sum`` beside the files of an SDSS folder, where there is one."""

import logging
import re
import threading
from collections import defaultdict
from urllib.parse import unquote, urlsplit

from tullyflow.fetch.client import Client, TryError

__all__ = ["SumLists", "list_address"]

log = logging.getLogger("tullyflow")

_SAS = re.compile(r"/sas/[^/]+/(?P<folder>.+)/(?P<name>[^/]+)$")
_LINE = re.compile(r"^([0-9a-fA-F]{40})[ \t]+\*?(\S.*?)\s*$")
_LONGEST = 16_000_000


def list_address(url: str) -> str:
    """Address of the list that may hold the checksum of ``url``; empty outside the Science Archive Server (FACTS: not confirmed)."""
    found = _SAS.search(urlsplit(url).path)
    return f"{url.rpartition('/')[0]}/{found['folder'].replace('/', '_')}.sha1sum" if found else ""


class SumLists:
    """Lists asked for once per folder and job; an absent one, or one that cannot be had, means no check."""

    def __init__(self, client: Client):
        self._client, self._lock = client, threading.Lock()
        self._folders: dict[str, dict[str, str]] = {}
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def sha1_of(self, url: str) -> str:
        """SHA-1 of a file in hexadecimal, empty where no list states it."""
        address = list_address(url)
        if not address:
            return ""
        with self._lock:
            mine = self._locks[address]
        with mine:
            if address not in self._folders:
                self._folders[address] = self._read(address)
        return self._folders[address].get(unquote(urlsplit(url).path.rpartition("/")[2]), "")

    def _read(self, address: str) -> dict[str, str]:
        content = bytearray()
        try:
            with self._client.request("GET", address) as (response, place):
                if response.status != 200:
                    return {}
                for block in self._client.blocks(response, place, decode=True):
                    content += block
                    if len(content) > _LONGEST:
                        return {}
        except TryError as err:
            log.info("%s: no checksums from there", err)
            return {}
        lines = (_LINE.match(line) for line in content.decode("utf-8", "replace").splitlines())
        return {found[2].rpartition("/")[2]: found[1].lower() for found in lines if found}
