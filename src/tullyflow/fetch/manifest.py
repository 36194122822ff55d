"""Many files: fetched side by side, listed honestly, and recognised when somebody replaces one."""

import hashlib
import logging
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from tullyflow.errors import FetchError
from tullyflow.fetch.ledger import Ledger, known_rows
from tullyflow.fetch.progress import Progress
from tullyflow.fetch.transfer import candidates, fetch_file
from tullyflow.fetch.verify import sha256_of
from tullyflow.settings import Settings
from tullyflow.surveys import Product, get_survey
from tullyflow.tables import MANIFEST, TARGETS, read_table, write_table

if TYPE_CHECKING:
    from tullyflow.fetch.client import Client
    from tullyflow.fetch.sums import SumLists

__all__ = ["check_places", "content_digest", "fetch_catalogue", "fetch_products", "fetch_shard"]

log = logging.getLogger("tullyflow")

TICK_S = 0.5  # how often the progress is looked at; the threads that bring files wake nobody meanwhile


def fetch_catalogue(survey: str, release: str, settings: Settings, manifest_path: str | Path) -> pd.DataFrame:
    """Fetch the catalogues of a release and write their manifest; return it.

    A catalogue the archive does not have is listed as missing (the adapter knows whether it can do without);
    raises `FetchError` for one that could not be fetched.
    """
    products = get_survey(survey).catalogue_products(release, settings)
    return fetch_products(products, settings, manifest_path, failures_allowed=0.0)


def fetch_shard(targets_path: str | Path, settings: Settings, manifest_path: str | Path) -> pd.DataFrame:
    """Fetch the files of a shard's targets and write the manifest, in the order of the targets; return it.

    Raises `FetchError` where more than ``fetch.failures_allowed`` of the files failed: the files that came stay, and the
    next run goes on from there. Files the archive does not have are no failures.
    """
    targets = read_table(targets_path, TARGETS)
    products: list[Product] = []
    for target in targets.to_dict("records"):
        products += get_survey(target["survey"]).products(target, target["release"], settings)
    return fetch_products(products, settings, manifest_path)


def fetch_products(
    products: list[Product], settings: Settings, manifest_path: str | Path, *, failures_allowed: float | None = None
) -> pd.DataFrame:
    """Fetch files with ``fetch.connections`` at a time below ``resources``; write and return the manifest (``tables.MANIFEST``).

    What is known of earlier transfers is read from the manifest and from a ledger beside it, which survives where the
    manifest is deleted before a new run. Raises `FetchError` for too many failures, for a mirror that does not exist, and for
    archives without addresses where no mirror is set.
    """
    manifest_path = Path(manifest_path)
    check_places(products, settings)
    ledger_path = manifest_path.with_name(f".{manifest_path.stem}.ledger.csv")
    known = known_rows(manifest_path) | known_rows(ledger_path)
    rows: list[dict | None] = [None] * len(products)
    with ExitStack() as stack:
        client = sums = None
        if any(isinstance(place, str) for product in products for place in candidates(product, settings.mirror)):
            from tullyflow.fetch.client import open_client
            from tullyflow.fetch.sums import SumLists

            client = stack.enter_context(open_client(settings.fetch))
            sums = SumLists(client) if settings.fetch.sum_lists else None
            _check_room(products, settings, client)
        ledger = Ledger(ledger_path)
        try:
            _fetch_all(products, settings, known, rows, ledger, client, sums, manifest_path.stem)
        finally:
            done = pd.DataFrame([row for row in rows if row is not None], columns=[c.name for c in MANIFEST])
            ledger.close(done)
    count = done["status"].value_counts()
    failed = done[done["status"] == "failed"]
    for row in failed.head(20).itertuples():
        log.warning("%s %s failed after %d tries: %s", row.galaxy, row.product, row.tries, row.message)
    for row in done[done["status"] == "missing"].head(20).itertuples():
        log.warning("%s %s is missing: %s", row.galaxy, row.product, row.message)
    log.info(
        "%s: %d files, %d ok (%.1f MB), %d missing, %d failed",
        manifest_path.stem, len(done), count.get("ok", 0), done["bytes"].sum() / 1e6, count.get("missing", 0), count.get("failed", 0),
    )  # fmt: skip
    allowed = settings.fetch.failures_allowed if failures_allowed is None else failures_allowed
    if len(failed) > allowed * len(products):
        raise FetchError(
            f"{len(failed)} of {len(products)} files failed (allowed: {allowed:.0%}); first: {failed['message'].iloc[0]}. "
            "The files that came are kept: run again to go on."
        )
    write_table(manifest_path, done, MANIFEST)
    return done


def check_places(products: list[Product], settings: Settings) -> None:
    """Raise `FetchError` for a mirror that does not exist, for products without an address, and for absent ones that need a secret."""
    mirror = settings.mirror
    if mirror and "://" not in mirror and not Path(mirror).is_dir():
        raise FetchError(f"mirror: no such folder: {mirror}.")
    if mirror and "://" in mirror and not mirror.startswith(("file://", "http://", "https://")):
        raise FetchError(f"mirror: {mirror}: a folder, file:// or http(s):// is needed.")
    for product in products:
        if not candidates(product, mirror):
            host = product.urls[0] if product.urls else product.product
            name = f"{product.galaxy} {product.product}"
            raise FetchError(f"{name}: this archive has no static addresses ({host}); set 'mirror' to a folder laid out like it.")
    if mirror is None:
        from tullyflow.fetch.datacentral import check_secrets

        check_secrets([product for product in products if not (Path(settings.resources) / product.path).is_file()])


def _check_room(products: list[Product], settings: Settings, client: "Client") -> None:
    """Compare what is still to come with the free space, before anything is fetched."""
    from tullyflow.fetch.space import check_space, estimate_bytes

    absent = []
    for product in products:
        places = candidates(product, settings.mirror)
        here = (Path(settings.resources) / product.path).is_file() or any(isinstance(p, Path) and p.is_file() for p in places)
        remote = [place for place in places if isinstance(place, str) and place.startswith("http")]  # services say no length
        if remote and not here:
            absent.append(remote)
    if absent:
        check_space(settings.resources, estimate_bytes(client, absent), settings.fetch.disk_margin_gb)


def _fetch_all(
    products: list[Product],
    settings: Settings,
    known: dict[str, dict],
    rows: list[dict | None],
    ledger: Ledger,
    client: "Client | None",
    sums: "SumLists | None",
    name: str,
) -> None:
    """Fill ``rows`` in the order of the products and note each in the ledger; an interrupt stops what is under way, too."""

    def fetch(number: int, product: Product) -> None:
        path = Path(settings.resources) / product.path
        previous = known.get(str(path))
        row = from_service.get(str(path)) or fetch_file(
            product, path, settings.fetch, settings.mirror, previous=previous, client=client, sums=sums
        )
        if row != previous:
            ledger.append(row)
        rows[number] = row
        progress.done(row["status"])

    from_service = {}
    if client is not None and settings.mirror is None:
        from tullyflow.fetch.datacentral import bulk_rows

        from_service = bulk_rows(client, products, settings.resources)
    connections = settings.fetch.connections
    with Progress(name, len(products), lambda: client.received if client else 0) as progress, ThreadPoolExecutor(connections) as pool:
        try:
            left = {pool.submit(fetch, number, product) for number, product in enumerate(products)}
            while left:
                finished, left = wait(left, timeout=TICK_S, return_when=FIRST_EXCEPTION)
                for future in finished:
                    future.result()
                progress.tick()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            if client is not None:
                client.stop()
            raise


def content_digest(manifest_path: str | Path) -> str:
    """SHA-256 over (path, digest) of the files listed as ok: changes when a raw file is replaced, not when it is touched.

    A file with the recorded length and time is trusted, any other is read again; one that is gone counts as absent.
    Raises `FileNotFoundError` where there is no manifest, `CatalogueError` where it is unreadable.
    """
    if not Path(manifest_path).is_file():
        raise FileNotFoundError(manifest_path)
    manifest = read_table(manifest_path, MANIFEST)
    total = hashlib.sha256()
    listed = manifest.loc[manifest["status"] == "ok", ["path", "bytes", "mtime_ns", "sha256"]]
    for path, size, mtime_ns, recorded in listed.itertuples(index=False):
        digest = recorded
        try:
            stat = Path(path).stat()
            if (stat.st_size, stat.st_mtime_ns) != (size, mtime_ns):
                digest = sha256_of(path)
        except OSError:
            digest = "absent"
        total.update(f"{path}\0{digest}\n".encode())
    return total.hexdigest()
