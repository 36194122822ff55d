"""Tables by TAP, the table access protocol of the virtual observatory: whole, counted, and kept as CSV.

A table is read page by page in the order of its key, ``SELECT TOP n ... WHERE key >= last ORDER BY key``: every service must
know TOP, comparison and ORDER BY (ADQL 2.0), while OFFSET came with ADQL 2.1 and is optional there; and unlike OFFSET a key says
exactly where a page ends when the service cuts it short. Rows of one key are never split: those of a full page's last key are left
to the next page. VOTable is asked for, since only it says that rows are missing (QUERY_STATUS OVERFLOW), what went wrong (ERROR)
and of which type the key is; a service that sends CSV all the same is caught by the count.
"""

import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit, urlunsplit
from xml.parsers.expat import ExpatError

from tullyflow.fetch.client import Client, TryError
from tullyflow.fetch.download import Answer
from tullyflow.fetch.service import Reply, ask, web_address
from tullyflow.fetch.verify import sha256_of
from tullyflow.tables import whole_file

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PAGE_ROWS", "Page", "fetch_table", "list_tables", "parse_page"]

log = logging.getLogger("tullyflow")

PAGE_ROWS = 2000
_KEYS = ("catid", "cubeidpub", "cubeid")  # what a page is ordered by: the first of these, else the first column
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?")
_UNREADABLE = (ValueError, IndexError, TypeError, EOFError, ExpatError, OSError)


@dataclass(frozen=True)
class Page:
    """Rows of one reply and whether the service says that there were more."""

    rows: "pd.DataFrame"
    overflow: bool


class _ServiceError(Exception):
    """The service's own words for why it did not answer a query."""

    def __init__(self, sentence: str, http_status: int = 200):
        super().__init__(sentence)
        self.http_status = http_status


class _Session:
    """One service: its address, the replies counted."""

    def __init__(self, client: Client, url: str):
        parts = urlsplit(web_address(url))
        self.client, self.address = client, f"{urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip('/'), '', ''))}/sync"
        self.table = parse_qs(parts.query).get("table", [""])[0]
        self.tries, self.http_status = 0, 0

    def query(self, adql: str, most: int = PAGE_ROWS + 1) -> Page:
        form = {"REQUEST": "doQuery", "LANG": "ADQL", "FORMAT": "votable", "MAXREC": str(most), "QUERY": adql}
        reply = ask(self.client, "POST", self.address, form=form)
        self.tries, self.http_status = self.tries + reply.tries, reply.status
        return parse_page(reply)


def fetch_table(client: Client, url: str, destination: Path, columns: tuple[str, ...] = ()) -> Answer:
    """Bring the table of ``tap+https://HOST/PATH?table=SCHEMA.TABLE`` to ``destination`` as CSV, once it is whole.

    Whole means: as many rows as SELECT COUNT(*) says, and every one of ``columns`` (case does not matter). A table the service
    does not have is looked for under other names of its release (TAP_SCHEMA) and is ``missing`` where none fits, with the
    names there are.
    """
    session = _Session(client, url)
    if not _NAME.fullmatch(session.table):
        return Answer("failed", 0, 0, f"{url}: ?table=SCHEMA.TABLE is needed at the end of a table's address")
    try:
        try:
            name, first = session.table, session.query(f"SELECT TOP 1 * FROM {session.table}", 2)
        except _ServiceError as err:
            name, missing = _other_name(session, err)
            if missing:
                return Answer("missing", session.http_status, session.tries, missing)
            first = session.query(f"SELECT TOP 1 * FROM {name}", 2)
        table = _whole_table(session, name, first)
    except _ServiceError as err:
        return Answer("failed", err.http_status, max(session.tries, 1), f"{session.address}: {session.table}: {err}")
    except TryError as err:
        return Answer("failed", err.http_status, max(session.tries, 1), str(err))
    lacking = [column for column in columns if column.lower() not in {str(c).lower() for c in table.columns}]
    if lacking:
        found = ", ".join(map(str, table.columns[:12]))
        return Answer(
            "failed", session.http_status, session.tries,
            f"{session.address}: {name} has no column {', '.join(lacking)}; it has {found} ...: is it the table that was meant?",
        )  # fmt: skip
    with whole_file(destination) as part:
        table.to_csv(part, index=False)
    log.info("%s: %d rows, %d columns in %d requests", name, len(table), len(table.columns), session.tries)
    return Answer("ok", session.http_status, session.tries, sha256=sha256_of(destination))


def list_tables(client: Client, url: str, families: Sequence[str]) -> list[str]:
    """Return SCHEMA.TABLE of every table whose schema begins with one of ``families``; raise `TryError` where the service does not say."""
    session = _Session(client, url)
    like = " OR ".join(f"schema_name LIKE '{family}%'" for family in families)
    try:
        page = session.query(f"SELECT schema_name, table_name FROM TAP_SCHEMA.tables WHERE {like}", 100_000)
    except _ServiceError as err:
        raise TryError(f"{session.address}: {err}", err.http_status, again=False) from err
    return [_full_name(*row) for row in page.rows.iloc[:, :2].astype(str).itertuples(index=False)]


def _whole_table(session: _Session, name: str, first: Page) -> "pd.DataFrame":
    import pandas as pd

    by_lower = {str(column).lower(): str(column) for column in first.rows.columns}
    key = next((by_lower[wanted] for wanted in _KEYS if wanted in by_lower), next(iter(by_lower.values()), ""))
    if not _NAME.fullmatch(key) or "." in key:
        raise _ServiceError(f"no column to order by (the first is called {key!r})")
    counted = session.query(f"SELECT COUNT(*) AS n_rows FROM {name}", 2).rows
    if counted.shape != (1, 1):
        raise _ServiceError(f"SELECT COUNT(*) brought {counted.shape[0]} rows of {counted.shape[1]} columns")
    count = int(counted.iloc[0, 0])
    pages, here, last = [], 0, None
    while here < count:
        where = "" if last is None else f" WHERE {key} >= {_literal(last)}"
        page = session.query(f"SELECT TOP {PAGE_ROWS} * FROM {name}{where} ORDER BY {key}")
        rows = page.rows
        if key not in rows or not len(rows):
            break
        if here + len(rows) < count or page.overflow:  # more rows follow: those of the last key may go on on the next page
            last = rows[key].iloc[-1]
            split = (rows[key] == last).fillna(False).to_numpy(dtype=bool)
            if split.all():
                here += len(rows)
                if page.overflow or len(rows) >= PAGE_ROWS:
                    raise _ServiceError(f"{len(rows)} rows of {key} = {last} came and more follow: no page can end between two keys")
                break  # nothing follows: the count is wrong
            rows = rows[~split]
        pages.append(rows)
        here += len(rows)
    if here != count:
        raise _ServiceError(f"{here} rows came, SELECT COUNT(*) says {count}")
    return pd.concat(pages, ignore_index=True) if pages else first.rows.iloc[:0]


def _literal(value) -> str:
    """A key as ADQL writes it: numbers plain, texts in quotes."""
    text = str(value)
    if not isinstance(value, str) and re.fullmatch(r"-?\d+", text):
        return text
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _other_name(session: _Session, err: _ServiceError) -> tuple[str, str]:
    """Another name under which the service has the table, or the sentence that it has none; raises ``err`` where it has this very one."""
    schema, _, table = session.table.rpartition(".")
    family = re.match(r"[A-Za-z]+", schema or table)[0].lower()
    try:
        listed = session.query(
            f"SELECT schema_name, table_name FROM TAP_SCHEMA.tables WHERE schema_name LIKE '{family}%'", 100_000
        )
        names = [_full_name(*row) for row in listed.rows.iloc[:, :2].astype(str).itertuples(index=False)]
    except (_ServiceError, ValueError):
        raise err from None
    if session.table.lower() in (name.lower() for name in names) or not names:
        raise err
    tag = re.search(r"dr\d+", session.table.lower())
    release = tag[0] if tag else ""
    alike = [n for n in names if release in n.lower() and _plain(n, family, release) == _plain(session.table, family, release)]
    if len(alike) == 1 and _NAME.fullmatch(alike[0]):
        log.info("%s: the service calls it %s", session.table, alike[0])
        return alike[0], ""
    same_release = [name for name in names if release in name.lower()] or names
    more = f" and {len(same_release) - 20} more" if len(same_release) > 20 else ""
    return "", f"{session.address}: no table {session.table}; there are {', '.join(same_release[:20])}{more}"


def _full_name(schema: str, table: str) -> str:
    return table if "." in table else f"{schema}.{table}"


def _plain(name: str, family: str, release: str) -> str:
    """A table's name without schema, survey, release and underscores."""
    text = name.lower().rpartition(".")[2].replace("_", "")
    return text.replace(family, "").replace(release, "") if release else text.replace(family, "")


def parse_page(reply: Reply) -> Page:
    """Rows of a reply, VOTable or CSV; raise `_ServiceError` with the service's words where it holds an error or cannot be read."""
    start = reply.body[:2000].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"<") and b"<votable" in start.lower():
        return _votable(reply)
    if start.startswith(b"<") or "html" in reply.kind:
        raise _ServiceError("a web page came instead of a table", reply.status)
    if reply.status >= 400:
        said = " ".join(reply.body[:300].decode("utf-8", "replace").split())
        raise _ServiceError(f"HTTP {reply.status}{': ' + said if said else ''}", reply.status)
    import pandas as pd

    try:
        return Page(pd.read_csv(io.BytesIO(reply.body)), overflow=False)
    except _UNREADABLE as err:
        raise _ServiceError(f"the reply is no table ({' '.join(str(err).split())[:120]})", reply.status) from err


def _votable(reply: Reply) -> Page:
    import warnings

    from astropy.io.votable import parse

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            document = parse(io.BytesIO(reply.body), verify="ignore")
            states = [info for resource in document.resources for info in resource.infos if info.name == "QUERY_STATUS"]
            if any(info.value == "ERROR" for info in states) or reply.status >= 400:
                said = " ".join(" ".join(str(info.content or "") for info in states if info.value == "ERROR").split())
                raise _ServiceError(f"the service says: {said[:300] or f'HTTP {reply.status}'}", reply.status)
            table = document.get_first_table().to_table(use_names_over_ids=True)
            return Page(table.to_pandas(), any(info.value == "OVERFLOW" for info in states))
    except _UNREADABLE as err:
        raise _ServiceError(f"the VOTable cannot be read ({' '.join(str(err).split())[:120]})", reply.status) from err
