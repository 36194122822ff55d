"""The report of many galaxies: how long it takes, how large it is, and how fast a browser is with it.

    python benchmarks/report_page.py results/RUN --scratch /tmp/report [--galaxies 10000] [--pages used]

The galaxies of a finished run are repeated under new names, in shards of 200, until there are enough; their maps and models with them.
The relations are fitted and the figures drawn beforehand: they are rules of their own. Then the report is built in a process of its
own, and opened in Chromium.
"""

import argparse
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from record import keep

from tullyflow.relation.tully_fisher import fit_relation
from tullyflow.report.figures.draw import draw_figure
from tullyflow.report.figures.listing import FIGURES, figure_relations
from tullyflow.settings import Settings, parse_settings
from tullyflow.tables import SAMPLE, conform, write_table

SHARD = 200
KEPT = {"maps": ("VELOCITY", "INTENSITY", "VELOCITY_ERR"), "models": ("MODEL_VELOCITY",)}
TABLES = {"maps": "GALAXIES", "models": "CURVES"}
REPEATS = 5


def _repeat_files(run: Path, scratch: Path, wanted: int) -> list[tuple[str, str, int]]:
    """Copy maps and models shard by shard under new names; the (shard, source shard, galaxies) written."""
    sources = sorted(path.stem for path in (run / "maps").glob("*.fits") if (run / "models" / path.name).is_file())
    written, total = [], 0
    while total < wanted:
        source = sources[len(written) % len(sources)]
        shard, turn = f"mock-{len(written):03d}", len(written) // len(sources)
        with fits.open(run / "maps" / f"{source}.fits") as maps:
            count = min(len(maps["GALAXIES"].data), SHARD, wanted - total)
        for kind, images in KEPT.items():
            with fits.open(run / kind / f"{source}.fits") as hdus:
                table = fits.BinTableHDU.from_columns(hdus[TABLES[kind]].columns, nrows=count, name=TABLES[kind])
                names = [f"{str(name).strip()}.{turn}" for name in hdus[TABLES[kind]].data["galaxy"][:count]]
                width = max(map(len, names))
                columns = [c if c.name != "galaxy" else fits.Column("galaxy", f"{width}A", array=np.array(names)) for c in table.columns]
                new = fits.BinTableHDU.from_columns(columns, nrows=count, name=TABLES[kind])
                cut = [fits.ImageHDU(hdus[name].section[:count], name=name) for name in images if name in hdus]
                (scratch / kind).mkdir(parents=True, exist_ok=True)
                fits.HDUList([fits.PrimaryHDU(), *cut, new]).writeto(scratch / kind / f"{shard}.fits", overwrite=True)
        written.append((shard, source, count))
        total += count
    return written


def _repeat_sample(run: Path, scratch: Path, shards: list[tuple[str, str, int]]) -> pd.DataFrame:
    old = pd.read_parquet(run / "sample.parquet")
    old = conform(old[[column.name for column in SAMPLE if column.name in old]], SAMPLE)
    turns, parts = {}, []
    for shard, source, count in shards:
        with fits.open(run / "maps" / f"{source}.fits") as maps:
            order = [str(name).strip() for name in maps["GALAXIES"].data["galaxy"][:count]]
        rows = old[old["shard"] == source].set_index("galaxy", drop=False).loc[order].reset_index(drop=True)
        turn = turns[source] = turns.get(source, -1) + 1
        parts.append(rows.assign(galaxy=rows["galaxy"] + f".{turn}", shard=shard))
    sample = pd.concat(parts, ignore_index=True)
    write_table(scratch / "sample.parquet", sample, SAMPLE)
    return sample


def _prepare(run: Path, scratch: Path, wanted: int, settings: Settings) -> tuple[pd.DataFrame, float]:
    """Everything the report is built from; the sample, and the seconds that the fixed figures took."""
    shutil.rmtree(scratch, ignore_errors=True)
    sample = _repeat_sample(run, scratch, _repeat_files(run, scratch, wanted))
    chosen = settings.relation
    for relation in chosen.relations:
        for velocity in chosen.velocities:
            for method in chosen.methods:
                name = f"{relation}-{velocity}-{method}.json"
                fit_relation(scratch / "sample.parquet", relation, velocity, method, settings, scratch / "relation" / name)
    start = time.perf_counter()
    for entry in FIGURES:
        relations = [scratch / "relation" / f"{name}.json" for name in figure_relations(entry, settings)]
        draw_figure(entry.name, scratch / "sample.parquet", relations, settings, scratch / "figures" / entry.name)
    return sample, time.perf_counter() - start


def _build(run: Path, scratch: Path, settings: Settings) -> dict[str, float]:
    """Build the report in a process of its own; seconds and peak memory."""
    out = scratch / "report"
    shutil.rmtree(out, ignore_errors=True)

    def every(folder: str, pattern: str) -> list[str]:
        return [str(path) for path in sorted((scratch / folder).glob(pattern))]

    command = [
        sys.executable, "-m", "tullyflow.cli", "report", "--sample", str(scratch / "sample.parquet"),
        "--relations", *every("relation", "*.json"), "--maps", *every("maps", "*.fits"),
        "--models", *every("models", "*.fits"), "--figures", *every("figures", "*.png"),
        "--networks", *map(str, sorted((run / "network").iterdir())), "--settings", settings.model_dump_json(), "--out", str(out),
    ]  # fmt: skip
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the report failed ({status})")
    sizes = {name: [p.stat().st_size for p in (out / name).rglob("*") if p.is_file()] for name in ("gallery", "galaxies")}
    return {
        "build_s": round(time.perf_counter() - start, 1), "build_cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_mb": round(usage.ru_maxrss / 1024), "index_mb": round((out / "index.html").stat().st_size / 1e6, 2),
        "thumbnails_mb": round(sum(sizes["gallery"]) / 1e6, 1), "thumbnail_images": len(sizes["gallery"]),
        "pages": len(sizes["galaxies"]), "pages_mb": round(sum(sizes["galaxies"]) / 1e6, 1),
    }  # fmt: skip


_CHANGE = """([name, value]) => new Promise(done => {
  const control = document.querySelector(`[name=${name}]`), start = performance.now();
  if (control.type === 'checkbox') control.checked = value; else control.value = value;
  control.dispatchEvent(new Event(control.type === 'search' ? 'input' : 'change'));
  const worked = performance.now() - start;
  requestAnimationFrame(() => setTimeout(() => done([worked, performance.now() - start])));
})"""
_FILTERS = (("place", "used"), ("flag", "FACE_ON"), ("place", ""), ("flag", ""), ("search", "12"), ("search", "nobody"), ("search", ""))
_SORTS = (("sort", "log_mstar"), ("sort", "name"), ("sort", "pa_deg"), ("descending", True), ("sort", ""), ("descending", False))
_SCROLL = """async () => {
  const rows = document.querySelector('.rows'), times = [];
  rows.scrollIntoView();
  for (let k = 1; k <= 40; k++) {
    const start = performance.now();
    rows.scrollTop = rows.scrollHeight * k / 40;
    await new Promise(drawn => requestAnimationFrame(() => setTimeout(drawn)));
    times.push(performance.now() - start);
  }
  return times;
}"""


def _browse(index: Path) -> dict[str, float]:
    """Open the report in Chromium: milliseconds to the first view, and from a choice to the rows (script alone, and drawn)."""
    from playwright.sync_api import sync_playwright

    found = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    views, filters, sorts, scrolls = [], [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for _ in range(REPEATS):
            page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
            start = time.perf_counter()
            page.goto(index.as_uri())
            page.locator(".row").first.wait_for()
            views.append(1000 * (time.perf_counter() - start))
            filters += [page.evaluate(_CHANGE, list(change)) for change in _FILTERS]
            sorts += [page.evaluate(_CHANGE, list(change)) for change in _SORTS]
            scrolls += page.evaluate(_SCROLL)
            page.close()
        browser.close()
    worst = {"filter": np.max(filters, axis=0), "sort": np.max(sorts, axis=0)}
    return {
        "first_view_ms": round(float(np.median(views))), "first_view_worst_ms": round(max(views)),
        **{f"{name}_worst_ms": round(float(times[0]), 1) for name, times in worst.items()},
        **{f"{name}_drawn_worst_ms": round(float(times[1]), 1) for name, times in worst.items()},
        "scroll_frame_median_ms": round(float(np.median(scrolls)), 1), "scroll_frame_worst_ms": round(max(scrolls), 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--galaxies", type=int, default=10_000)
    parser.add_argument("--pages", default="used", choices=["none", "used", "all"])
    args = parser.parse_args()
    logging.disable(logging.INFO)
    settings = parse_settings({"run": "many", "surveys": ["local"], "report": {"pages": args.pages}})
    sample, figures_s = _prepare(args.run, args.scratch, args.galaxies, settings)
    built = {}
    for pages in dict.fromkeys(("none", args.pages)):  # the last is browsed
        with_pages = settings.model_copy(update={"report": settings.report.model_copy(update={"pages": pages})})
        built[f"pages: {pages}"] = _build(args.run, args.scratch, with_pages)
    figures = {"galaxies": len(sample), "used": int(sample["used"].sum()), "figures_s": round(figures_s, 1), **built}
    figures |= _browse(args.scratch / "report" / "index.html")
    keep("report_page", figures)


if __name__ == "__main__":
    main()
