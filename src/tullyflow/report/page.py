"""The page: gather the numbers, draw the figures, and write one HTML file that needs nothing else."""

import base64
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

import tullyflow
from tullyflow.errors import ModelError
from tullyflow.provenance import versions
from tullyflow.relation.literature import LITERATURE
from tullyflow.relation.record import read_record
from tullyflow.report.closure import closure_block
from tullyflow.report.figures.closure import plot_closure
from tullyflow.report.figures.drift import drift_corrections, plot_drift
from tullyflow.report.figures.inclination import plot_inclination
from tullyflow.report.figures.relation import METHOD_WORDS, RELATION_WORDS, VELOCITY_WORDS, plot_relation, relation_points
from tullyflow.report.figures.style import palette_png, save_figure, survey_style
from tullyflow.report.figures.training import clock, plot_training, read_history
from tullyflow.report.gallery import build_gallery
from tullyflow.report.linewidths import width_sentence
from tullyflow.report.releases import news_listing, news_sentences, published_listing, training_releases
from tullyflow.report.sections import (
    bound_listing,
    comparison_listing,
    fit_listing,
    flow_listing,
    reach_listing,
    warning_listing,
)
from tullyflow.report.summary import at_bounds, count_galaxies, headline, is_fit, main_fit, stage_costs
from tullyflow.report.words import plus_minus, render
from tullyflow.tables import SAMPLE, read_table, whole_file

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["Picture", "build_report"]

_LOG = logging.getLogger("tullyflow")

_CITATIONS = (
    ("the method", "Dawson, Davis, Gomez & Schock 2021, MNRAS 503, 574"),
    ("simulated galaxies", "KinMS: Davis et al. 2013, MNRAS 429, 534"),
    ("least trimmed squares", "Cappellari et al. 2013, MNRAS 432, 1709; Rousseeuw & Van Driessen 2006"),
    ("marginalised normal regression", "Bartlett & Desmond 2023, arXiv:2309.00948"),
    ("kinematic position angles", "Krajnović et al. 2006, MNRAS 366, 787"),
    ("the workflow", "Snakemake: Mölder et al. 2021, F1000Research 10, 33"),
    ("MaNGA", "Bundy et al. 2015, ApJ 798, 7, and the SDSS acknowledgements of the release used"),
    ("SAMI", "Croom et al. 2021, MNRAS 505, 991"),
    ("THINGS", "Walter et al. 2008, AJ 136, 2563"),
)
_SECTIONS = (
    ("relation", "The relation"), ("fits", "All fits"), ("literature", "Literature"), ("closure", "Put in, found"), ("flags", "Who is out"),
    ("new", "What is new"), ("bounds", "Bounds"), ("training", "Training"), ("checks", "Inclination, drift"), ("gallery", "Gallery"),
    ("cost", "Time, memory"), ("provenance", "Provenance"), ("cite", "How to cite"),
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its image inside the page, its files beside it (relative addresses)."""

    image: str
    width: int
    height: int
    alt: str
    caption: str
    png: str
    pdf: str
    csv: str


def _picture(figure: Figure, stem: Path, data: pd.DataFrame, alt: str, caption: str) -> Picture:
    saved = save_figure(figure, stem, data)
    with Image.open(saved.png) as image:
        (width, height), small = image.size, palette_png(image)
    address = "data:image/png;base64," + base64.b64encode(small).decode()
    return Picture(address, width, height, alt, caption, *(f"figures/{path.name}" for path in (saved.png, saved.pdf, saved.csv)))


def _name(fit: Mapping) -> str:
    relation, velocity, method = (str(fit.get(key, "?")) for key in ("relation", "velocity", "method"))
    return f"{RELATION_WORDS.get(relation, relation)}, {VELOCITY_WORDS.get(velocity, velocity)}, {METHOD_WORDS.get(method, method)}"


def _failed_fits(fits: Sequence[Mapping]) -> list[str]:
    """One sentence per relation and reason, however many velocities and methods failed for it."""
    failed = Counter((str(fit.get("relation", "?")), str(fit["error"]).removeprefix("fit: ")) for fit in fits if "error" in fit)
    return [f"{RELATION_WORDS.get(relation, relation)}, {count} fit(s): {reason}" for (relation, reason), count in failed.items()]


def _order(fit: Mapping, settings: "Settings") -> tuple[int, ...]:
    """Where the settings list a fit's relation, velocity and method; what they do not list comes last."""
    lists = (settings.relation.relations, settings.relation.velocities, settings.relation.methods)
    chosen = (fit.get(key) for key in ("relation", "velocity", "method"))
    return tuple(names.index(name) if name in names else len(names) for name, names in zip(chosen, lists, strict=True))


def _relation_pictures(sample: pd.DataFrame, fits: Sequence[dict], settings: "Settings", folder: Path) -> list[Picture]:
    pictures = []
    for fit in fits:
        relation, velocity, method = (str(fit.get(key, "")) for key in ("relation", "velocity", "method"))
        lines = [line for line in LITERATURE if line["relation"] == relation]
        words = _name(fit)
        if is_fit(fit):
            caption = f"{words}: slope {plus_minus(fit['slope'], fit.get('slope_err'))}, {fit.get('n_used', '?')} galaxies."
        else:
            caption = f"{words}: no fit."
        figure, points = plot_relation(sample, fit, settings, lines), relation_points(sample, fit, settings)
        pictures.append(_picture(figure, folder / f"{relation}-{velocity}-{method}", points, words, caption))
    return pictures


def _training_pictures(network_dirs: Sequence[str | Path], target: Path) -> list[Picture]:
    pictures = []
    for folder in map(Path, network_dirs):
        try:
            history = read_history(folder / "history.csv")
        except ModelError as err:
            _LOG.warning("report: %s No training curve for %s.", err, folder.name)
            continue
        if history.empty:
            continue
        survey, _, release = folder.name.partition("-")
        name = "Synthetic discs" if survey in ("initial", "synthetic") else f"{survey_style(survey).label} {release}".strip()
        last = history.iloc[-1]
        caption = f"{name}: loss {last['loss']:.3g} after {clock(history)} {int(last[clock(history)])}."
        pictures.append(_picture(plot_training(history, name), target / f"training-{folder.name}", history, f"Training of {name}", caption))
    return pictures


def _check_pictures(sample: pd.DataFrame, settings: "Settings", folder: Path) -> tuple[list[Picture], list[str]]:
    pictures, notes = [], []
    velocity = settings.relation.velocities[0]
    known = sample[sample["inclination_used_deg"].notna()]
    if len(known):
        figure = plot_inclination(known, settings.relation.inclination_min)
        data = known[["galaxy", "survey", "inclination_used_deg", "inclination_used_err_deg", "used"]]
        caption = "Random orientations follow sin i; a pile-up at one angle is the network's prejudice, not the sky's."
        pictures.append(_picture(figure, folder / "inclination", data, "Histogram of inclinations", caption))
    corrections = drift_corrections(sample, velocity)
    if settings.relation.drift == "off":
        notes.append("The asymmetric drift correction is switched off (relation.drift).")
    elif corrections.empty:
        notes.append("No galaxy of the relation has a velocity corrected for asymmetric drift.")
    else:
        caption = "What the asymmetric drift correction added; warm gas in slow discs moves most."
        figure = plot_drift(corrections, VELOCITY_WORDS[velocity])
        pictures.append(_picture(figure, folder / "drift", corrections, "Histogram of asymmetric drift corrections", caption))
    widths = width_sentence(sample, velocity)
    if widths:
        notes.append(widths)
    return pictures, notes


def _digest(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _provenance(settings: "Settings", inputs: Sequence[Path], made: str) -> dict:
    return {
        "run": settings.run,
        "made": made,
        "seed": settings.seed,
        "versions": versions(),
        "settings": settings.model_dump(mode="json"),
        "inputs": {str(path): _digest(path) for path in inputs},
    }


def build_report(
    sample_path: str | Path,
    *,
    relation_paths: Sequence[str | Path],
    models_paths: Sequence[str | Path],
    maps_paths: Sequence[str | Path],
    network_dirs: Sequence[str | Path],
    benchmarks_dir: str | Path | None,
    closure_path: str | Path | None,
    settings: "Settings",
    out_dir: str | Path,
) -> Path:
    """Write ``out_dir/index.html`` with its figures, and ``out_dir/provenance.json``; return the page.

    Parameters
    ----------
    sample_path : path
        The merged sample (``tables.SAMPLE``).
    relation_paths, models_paths, maps_paths, network_dirs : sequences of paths
        Fits (JSON), models and curves, stamps (FITS by shard), folders of trained networks. Any may be empty: the page
        says what is missing.
    benchmarks_dir, closure_path : path or None
        Snakemake's benchmarks as ``{rule}/*.tsv``; the closure table of a mock run (JSON).

    Raises
    ------
    CatalogueError, RelationError
        For an unreadable sample, fit or closure file.
    """
    out_dir = Path(out_dir)
    figures = out_dir / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    sample = read_table(sample_path, SAMPLE)
    fits = sorted((read_record(path) for path in relation_paths), key=lambda fit: _order(fit, settings))
    counts = count_galaxies(sample)
    made = datetime.now(UTC)
    pictures = _relation_pictures(sample, fits, settings, figures)
    first = {}
    for k, fit in enumerate(fits):
        first.setdefault(fit.get("relation"), k)
    checks, check_notes = _check_pictures(sample, settings, figures)
    closure = closure_block(read_record(closure_path)) if closure_path else None
    closure_picture = None
    if closure is not None and len(closure.galaxies):
        caption = "Each point is a mock galaxy; the line is perfect recovery."
        closure_picture = _picture(plot_closure(closure.galaxies), figures / "closure", closure.galaxies, "Put in against found", caption)
    cards = build_gallery(sample, maps_paths, models_paths, settings.report.gallery, settings.relation.velocities[0])
    mock, trained = settings.mock is not None, training_releases(network_dirs)
    inputs = [Path(path) for path in (sample_path, *relation_paths, closure_path) if path]
    provenance = _provenance(settings, inputs, made.isoformat(timespec="seconds"))
    page = render(
        "template.html",
        {
            "title": settings.report.title,
            "run": settings.run,
            "made": f"{made:%d %B %Y, %H:%M} UTC".lstrip("0"),
            "version": tullyflow.__version__,
            "mock": mock,
            "lead": headline(counts[-1], main_fit(fits)),
            "total": counts[-1],
            "sections": [s for s in _SECTIONS if s[0] != "closure" or mock or closure],
            "relations": [pictures[k] for k in first.values()],
            "more_relations": [p for k, p in enumerate(pictures) if k not in first.values()],
            "fits": fit_listing(fits),
            "failed_fits": _failed_fits(fits),
            "literature": comparison_listing([fits[k] for k in first.values()]),
            "closure": closure,
            "closure_picture": closure_picture,
            "reach": reach_listing(counts),
            "published": published_listing(sample, settings.report.published_counts),
            "news": news_listing(sample, trained),
            "news_sentences": news_sentences(sample, trained),
            "flow": flow_listing(sample),
            "warnings": warning_listing(sample),
            "bounds": bound_listing(at_bounds(sample)),
            "training": _training_pictures(network_dirs, figures),
            "checks": checks,
            "check_notes": check_notes,
            "cards": cards,
            "costs": stage_costs(benchmarks_dir),
            "seed": settings.seed,
            "versions": list(provenance["versions"].items()),
            "settings_json": json.dumps(provenance["settings"], indent=2, ensure_ascii=False),
            "citations": _CITATIONS,
        },
    )
    with whole_file(out_dir / "provenance.json") as part:
        part.write_text(json.dumps(provenance, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    index = out_dir / "index.html"
    with whole_file(index) as part:
        part.write_text(page, encoding="utf-8")
    _LOG.info(
        "report: %d targets, %d used; %d fits, %d galaxies in the gallery; %s, %.1f MB",
        counts[-1].targets, counts[-1].used, len(fits), len(cards), index, index.stat().st_size / 1e6,
    )  # fmt: skip
    return index
