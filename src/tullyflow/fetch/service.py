"""Archives that answer questions rather than serve files: send a form, read the whole reply, try again where that makes sense.

Secrets live in the environment, never in a settings file, an address, a log line or a message; they are sent as
``Authorization: Bearer`` to the address's own host only.
"""

import json
import netrc
import os
import random
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from tullyflow.fetch.client import Client, TryError

__all__ = ["BACKOFF_S", "Reply", "ask", "bearer", "private_token", "web_address"]

BACKOFF_S = 1.0  # first pause between two tries; doubled each time
LARGEST_REPLY = 512 << 20
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
TOKEN = "TULLYFLOW_TOKEN"


@dataclass(frozen=True)
class Reply:
    """A whole reply: HTTP status, kind of content, content, and tries made."""

    status: int
    kind: str
    body: bytes
    tries: int = 1

    def json(self):
        """The content as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def ask(client: Client, method: str, url: str, *, form=None, data=None, headers=None) -> Reply:
    """Send a form (``form``) or JSON (``data``) and return the whole reply, whatever its status.

    A reply that breaks off and statuses that ask for patience are tried again, ``fetch.tries`` times in all, with pauses that
    double or as Retry-After says; the last such reply is returned. Raises `TryError` where no reply came.
    """
    sent = {"Accept": "*/*", **(headers or {})}
    body = None
    if form is not None:
        body, sent["Content-Type"] = urlencode(form).encode(), "application/x-www-form-urlencoded"
    elif data is not None:
        body, sent["Content-Type"] = json.dumps(data).encode(), "application/json"
    tries = client.fetch.tries
    for attempt in range(1, tries + 1):
        pause = BACKOFF_S * 2 ** (attempt - 1) * random.uniform(0.8, 1.2)
        try:
            reply, asked_for = _once(client, method, url, sent, body, attempt)
            if reply.status not in _TRY_AGAIN or attempt == tries:
                return reply
            pause = asked_for if asked_for is not None else pause
        except TryError as err:
            if not err.again or attempt == tries:
                raise
            pause = err.pause_s if err.pause_s is not None else pause
        client.pause(min(pause, 120.0))
    raise AssertionError("unreachable: the last try returns")


def _once(client: Client, method: str, url: str, headers: dict, body: bytes | None, attempt: int) -> tuple[Reply, float | None]:
    content = bytearray()
    with client.request(method, url, headers, body) as (response, address):
        for block in client.blocks(response, address, decode=True):
            content += block
            if len(content) > LARGEST_REPLY:
                raise TryError(f"{url}: the reply is longer than {LARGEST_REPLY >> 20} MB", response.status, again=False)
        seconds = response.headers.get("Retry-After", "").strip()
        kind = response.headers.get("Content-Type", "").lower()
        return Reply(response.status, kind, bytes(content), attempt), float(seconds) if seconds.isdigit() else None


def web_address(url: str) -> str:
    """The https address behind ``tap+https://``, ``bulk+https://`` and ``private+https://``."""
    return url.partition("+")[2]


def private_token(url: str) -> str:
    """The token for a private address: ``TULLYFLOW_TOKEN``, else the password of its host in ~/.netrc; empty where there is none."""
    if os.environ.get(TOKEN):
        return os.environ[TOKEN].strip()
    try:
        entry = netrc.netrc().authenticators(urlsplit(web_address(url) or url).hostname or "")
    except (OSError, netrc.NetrcParseError):
        return ""
    return entry[2] if entry and entry[2] else ""


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token; none for an empty one."""
    return {"Authorization": f"Bearer {token}"} if token else {}
