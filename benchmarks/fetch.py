"""Speed and memory of the transfer: against ``curl --parallel`` from the same loopback server, and what verification costs.

    python benchmarks/fetch.py [--runs N] [--maps FILE.fits.gz] [--small]

The server is ``loopback.py`` in a process of its own. curl and `fetch_products` bring the same 2,000 FITS files of 150 kB with
the same number of connections, in turns; the ratios are of each one's least disturbed run. *Transfer* is the download with its
`.part` and rename, without verification and fsync, as curl does; the other steps are added one by one. Where there is a file
system in memory (/dev/shm) the same is done there, too: what writing to a disk costs both hides
nothing then. Memory is the largest resident size of a fresh process; for one large file also how much it grew over the
process that had only imported what it needs.
"""

import argparse
import gzip
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from record import keep

# numpy and astropy are imported where the files are made: the processes that are measured run this file, too
FILES, SIZE, CONNECTIONS = 2000, 150_000, 4
STEPS = {"transfer": (), "and fsync": ("fsync",), "and verification": ("fsync", "examine")}


@contextmanager
def server(folder: Path, *options: str):
    """Port of a loopback server of the folder's files."""
    command = [sys.executable, str(Path(__file__).with_name("loopback.py")), str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def write_files(folder: Path, count: int, size: int) -> None:
    """FITS images of noise with CHECKSUM and DATASUM, unpacked, so that each has the size asked for."""
    import numpy as np
    from astropy.io import fits

    rng = np.random.default_rng(1)
    for k in range(count):
        image = fits.ImageHDU(rng.integers(0, 255, size - 3 * 2880, dtype="u1").reshape(1, -1), name="A")
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(folder / f"f{k}.fits", checksum=True)


def curl(port: int, out: Path, names: list[str], connections: int) -> float:
    """Seconds that curl takes."""
    listing = out / "list"
    listing.write_text("".join(f'url="http://127.0.0.1:{port}/{name}"\noutput="{out / name}"\n' for name in names))
    began = time.perf_counter()
    command = ["curl", "--silent", "--no-progress-meter", "--parallel", "--parallel-max", str(connections), "-K", str(listing)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def ours(port: int, out: Path, names: list[str], connections: int, steps: tuple[str, ...]) -> dict:
    """Seconds and memory of a fresh process that fetches the files (see `child`)."""
    task = json.dumps({"port": port, "out": str(out), "names": names, "connections": connections, "steps": steps})
    # a starting process is charged with what the one that starts it holds, until it has begun: hence the shell between
    command = ["sh", "-c", '"$0" "$@"; exit $?', sys.executable, __file__, "--child"]
    run = subprocess.run(command, check=False, input=task, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr)
    return json.loads(run.stdout)


def child(task: dict) -> None:
    """Fetch what the task says; print seconds and the resident size before and at most, MiB."""
    from tullyflow.fetch import download, part
    from tullyflow.fetch.client import open_client
    from tullyflow.fetch.verify import Examined
    from tullyflow.settings import Fetch

    if "examine" not in task["steps"]:
        download.examine = lambda *_, **__: Examined("")
    if "fsync" not in task["steps"]:
        part.os = _WithoutFsync()
    out = Path(task["out"])
    url = f"http://127.0.0.1:{task['port']}"
    before = _resident()
    began = time.perf_counter()
    if "one file" in task["steps"]:
        fetch = Fetch(connections=1)
        with open_client(fetch) as client:
            answer = download.download(client, f"{url}/{task['names'][0]}", out / task["names"][0], fetch)
        statuses = {answer.message or answer.status}
    else:
        from tullyflow.fetch.manifest import fetch_products
        from tullyflow.settings import parse_settings
        from tullyflow.surveys import Product

        limits = {"connections": task["connections"], "connections_per_host": task["connections"]}
        settings = parse_settings({"resources": str(out), "fetch": limits})
        products = [Product(name, "maps", (f"{url}/{name}",), name) for name in task["names"]]
        before = _resident()
        began = time.perf_counter()
        frame = fetch_products(products, settings, out / "m.csv")
        statuses = set(frame["message"].where(frame["status"] != "ok", "ok"))
    seconds = time.perf_counter() - began
    if statuses != {"ok"}:
        raise SystemExit(f"not all came: {statuses}")
    print(json.dumps({"seconds": seconds, "before": before, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


class _WithoutFsync:
    """The module os, whose fsync does nothing."""

    def __getattr__(self, name: str):
        return (lambda *_: None) if name == "fsync" else getattr(os, name)


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def compare(files: Path, scratch: Path, runs: int, connections: int, *options: str, steps=tuple(STEPS)) -> dict:
    """Files per second of curl and of each step, in turns, and their ratios."""
    names = sorted(path.name for path in files.iterdir())
    seconds: dict[str, list[float]] = {name: [] for name in ("curl", *steps)}
    peak = 0.0
    with server(files, *options) as port:
        for _ in range(runs):
            for name, taken in seconds.items():
                out = Path(tempfile.mkdtemp(dir=scratch))
                if name == "curl":
                    taken.append(curl(port, out, names, connections))
                else:
                    run = ours(port, out, names, connections, STEPS[name])
                    taken.append(run["seconds"])
                    peak = max(peak, run["peak"])
                shutil.rmtree(out)
                os.sync()
    best = {name: min(taken) for name, taken in seconds.items()}
    return {
        "files/s (best run)": {name: round(len(names) / value) for name, value in best.items()},
        "files/s (median)": {name: round(len(names) / statistics.median(taken)) for name, taken in seconds.items()},
        "share of curl's speed": {name: round(best["curl"] / best[name], 2) for name in steps},
        "peak memory, MiB": round(peak),
    }


def in_memory(files: Path, runs: int) -> dict | None:
    """`compare` on a file system in memory; None where there is none."""
    if not Path("/dev/shm").is_dir():
        return None
    with tempfile.TemporaryDirectory(prefix="fetch-", dir="/dev/shm") as name:
        return compare(files, Path(name), runs, CONNECTIONS, steps=("transfer", "and verification"))


def one_file(scratch: Path, megabytes: int) -> dict:
    """Memory of one large FITS file, unpacked and packed: the download alone, and all of `fetch_products`."""
    import numpy as np
    from astropy.io import fits

    found = {}
    empty = scratch / "empty"
    empty.mkdir()
    head = fits.Header([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 1), ("NAXIS1", megabytes * 1_000_000 - 2880), ("DATASUM", "0")])
    (scratch / "big.fits.head").write_bytes(head.tostring().encode())
    packed = scratch / "packed"
    packed.mkdir()
    rng = np.random.default_rng(2)
    noise = rng.integers(0, 255, 1_000_000, dtype="u1").tobytes()
    total = sum(int(np.frombuffer(noise, ">u4").sum(dtype="u8")) for _ in range(megabytes)) % 0xFFFFFFFF
    head["NAXIS1"], head["DATASUM"] = megabytes * 1_000_000, str(total)
    with gzip.open(packed / "big.fits.gz", "wb", compresslevel=1) as handle:
        handle.write(head.tostring().encode())
        for _ in range(megabytes):
            handle.write(noise)
        handle.write(bytes(-megabytes * 1_000_000 % 2880))
    for label, folder, name, options in (
        ("unpacked", empty, "big.fits", ("--big", str(megabytes), "--head", str(scratch / "big.fits.head"))),
        ("packed", packed, "big.fits.gz", ()),
    ):
        with server(folder, *options) as port:
            for way, steps in (("download", ("one file", "fsync", "examine")), ("fetch_products", ("fsync", "examine"))):
                out = Path(tempfile.mkdtemp(dir=scratch))
                run = ours(port, out, [name], 1, steps)
                shutil.rmtree(out)
                found[f"{label}, {way}"] = {
                    "before": round(run["before"]), "peak": round(run["peak"]), "growth": round(run["peak"] - run["before"]),
                    "seconds": round(run["seconds"], 1),
                }  # fmt: skip
    return found


def checks(path: Path, runs: int) -> dict:
    """Milliseconds of each check of one file, added one by one; astropy opening it with its sums, to compare."""
    from astropy.io import fits

    from tullyflow.fetch.verify import examine, sha256_of

    def unpack() -> None:
        with gzip.open(path) as handle:
            while handle.read(1 << 18):
                pass

    def astropy() -> None:
        with fits.open(path, checksum=True) as hdus:
            for hdu in hdus:
                _ = hdu.data

    works = {
        "digest": lambda: sha256_of(path), "unpack": unpack, "digest, gzip, structure": lambda: examine(path, path.name, sums=False),
        "digest, gzip, structure, sums": lambda: examine(path, path.name), "astropy, with sums": astropy,
    }  # fmt: skip
    taken = {name: [] for name in works}
    for run in range(runs + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if run:
                taken[name].append((time.perf_counter() - began) * 1000)
    return {"file": path.name, "bytes": path.stat().st_size, "ms (median)": {k: round(statistics.median(v), 1) for k, v in taken.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--maps", type=Path, help="a real MAPS file, to show what checking it costs")
    parser.add_argument("--small", action="store_true", help="a tenth of everything, to try the script; nothing is kept")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(json.load(sys.stdin))
        return
    with tempfile.TemporaryDirectory(prefix="fetch-") as name:
        scratch = Path(name)
        (scratch / "files").mkdir()
        write_files(scratch / "files", FILES // (10 if args.small else 1), SIZE)
        figures = {
            f"{FILES} files of {SIZE // 1000} kB, {CONNECTIONS} connections": compare(scratch / "files", scratch, args.runs, CONNECTIONS),
            "the same, kept in memory": in_memory(scratch / "files", args.runs),
            "the same, each answer after 50 ms": compare(scratch / "files", scratch, 1, CONNECTIONS, "--wait", "0.05",
                                                         steps=("transfer", "and verification")),
            "memory of one file of 1 GB, MiB": one_file(scratch, 100 if args.small else 1000),
        }  # fmt: skip
        if args.maps:
            figures["checks of one MAPS file"] = checks(args.maps, args.runs)
    if args.small:
        print(json.dumps(figures, indent=1))
    else:
        keep("fetch", figures)


if __name__ == "__main__":
    main()
