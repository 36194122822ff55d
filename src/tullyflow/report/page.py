"""The page: gather the numbers, draw the figures, and write one HTML file with thumbnails and galaxies' pages beside it."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup

import tullyflow
from tullyflow.provenance import versions
from tullyflow.relation.record import read_record
from tullyflow.report.calibration import calibration_listing, fit_calibration_listing
from tullyflow.report.closure import closure_block
from tullyflow.report.columns import galaxy_columns, script_json
from tullyflow.report.comparisons import choice_listing, group_listing, trend_listings
from tullyflow.report.figures.closure import plot_closure
from tullyflow.report.figures.listing import RELATION_WORDS
from tullyflow.report.judgement import judgement_table, strongest
from tullyflow.report.judgement_block import judgement_block
from tullyflow.report.judges import is_judge, judge_sentences
from tullyflow.report.pictures import check_pictures, coverage_pictures, listed_pictures, picture, training_pictures
from tullyflow.report.relation_data import advice, fit_name, relation_data
from tullyflow.report.releases import news_listing, news_sentences, published_listing, training_releases
from tullyflow.report.run_page import remove_pages, write_pages
from tullyflow.report.sections import (
    bound_listing,
    comparison_listing,
    fit_listing,
    flow_listing,
    reach_listing,
    warning_listing,
)
from tullyflow.report.sprites import Sheets, write_sheets
from tullyflow.report.summary import at_bounds, cautions, count_galaxies, headline, main_fit, recommended, stage_costs
from tullyflow.report.words import render
from tullyflow.tables import SAMPLE, read_table, whole_file

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["build_report"]

_LOG = logging.getLogger("tullyflow")

_CITATIONS = (
    ("the method", "Dawson, Davis, Gomez & Schock 2021, MNRAS 503, 574"),
    ("simulated galaxies", "KinMS: Davis et al. 2013, MNRAS 429, 534"),
    ("least trimmed squares", "Cappellari et al. 2013, MNRAS 432, 1709; Rousseeuw & Van Driessen 2006"),
    ("marginalised normal regression", "Bartlett & Desmond 2023, arXiv:2309.00948"),
    ("kinematic position angles", "Krajnović et al. 2006, MNRAS 366, 787"),
    ("usability by eye, misalignment of gas and stars", "Duckworth, Tojeiro & Kraljic 2020, MNRAS 492, 1869"),
    ("circularity", "Sales et al. 2012, MNRAS 423, 1544; Dawson et al. 2020, MNRAS 491, 2506"),
    ("the workflow", "Snakemake: Mölder et al. 2021, F1000Research 10, 33"),
    ("MaNGA", "Bundy et al. 2015, ApJ 798, 7, and the SDSS acknowledgements of the release used"),
    ("SAMI", "Croom et al. 2021, MNRAS 505, 991"),
    ("THINGS", "Walter et al. 2008, AJ 136, 2563"),
)
_SECTIONS = (
    ("relation", "The relation"), ("fits", "All fits"), ("literature", "Literature"), ("groups", "By group"), ("choices", "Choices"),
    ("trends", "Trends"), ("closure", "Put in, found"), ("flags", "Who is out"), ("judgement", "Is it a disc?"), ("gallery", "Gallery"),
    ("figures", "Figures"), ("new", "What is new"), ("bounds", "Bounds"), ("training", "Training"), ("checks", "Inclination, drift"),
    ("cost", "Time, memory"), ("provenance", "Provenance"), ("cite", "How to cite"),
)  # fmt: skip
_SCRIPTS = ("data.js", "panel.js", "gallery.js", "scatter.js", "pick.js")


def _failed_fits(fits: Sequence[Mapping]) -> list[str]:
    """One sentence per relation and reason, however many velocities and methods failed for it."""
    failed = Counter((str(fit.get("relation", "?")), str(fit["error"]).removeprefix("fit: ")) for fit in fits if "error" in fit)
    return [f"{RELATION_WORDS.get(relation, relation)}, {count} fit(s): {reason}" for (relation, reason), count in failed.items()]


def _order(fit: Mapping, settings: "Settings") -> tuple[int, ...]:
    """Where the settings list a fit's relation, velocity and method; what they do not list comes last."""
    lists = (settings.relation.relations, settings.relation.velocities, settings.relation.methods)
    chosen = (fit.get(key) for key in ("relation", "velocity", "method"))
    return tuple(names.index(name) if name in names else len(names) for name, names in zip(chosen, lists, strict=True))


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


def _scripts() -> Markup:
    """The page's scripts, one after the other, as they are."""
    folder = files("tullyflow.report")
    return Markup("\n".join((folder / name).read_text(encoding="utf-8") for name in _SCRIPTS))


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
    groups_path: str | Path | None = None,
    choices_path: str | Path | None = None,
    trends_path: str | Path | None = None,
    figures: Sequence[str | Path] = (),
) -> Path:
    """Write ``out_dir/index.html`` with its figures, thumbnails and galaxies' pages, and ``out_dir/provenance.json``; return the page.

    Parameters
    ----------
    sample_path : path
        The merged sample (``tables.SAMPLE``).
    relation_paths, models_paths, maps_paths, network_dirs : sequences of paths
        Fits (JSON), models and curves, stamps (FITS by shard), folders of trained networks. Any may be empty: the page
        says what is missing.
    benchmarks_dir, closure_path : path or None
        Snakemake's benchmarks as ``{rule}/*.tsv``; the closure table of a mock run (JSON).
    groups_path, choices_path, trends_path : path or None
        Fits by group, what each choice changes, and trends (JSON).
    figures : sequence of paths
        The run's figures (PNG, with PDF and CSV beside each).

    Raises
    ------
    CatalogueError, RelationError
        For an unreadable sample, fit or closure file.
    """
    out_dir = Path(out_dir)
    own = out_dir / "figures"
    own.mkdir(parents=True, exist_ok=True)
    sample = read_table(sample_path, SAMPLE)
    fits = sorted((read_record(path) for path in relation_paths), key=lambda fit: _order(fit, settings))
    records = (groups_path, choices_path, trends_path, closure_path)
    groups, choices, trends, closed = (read_record(path) if path else None for path in records)
    counts, made = count_galaxies(sample), datetime.now(UTC)
    best = recommended(fits)
    checks, check_notes = check_pictures(sample, settings, own)
    closure = closure_block(closed) if closed else None
    closure_picture = None
    if closure is not None and len(closure.galaxies):
        caption = "Each point is a mock galaxy; the line is perfect recovery."
        closure_picture = picture(plot_closure(closure.galaxies), own / "closure", closure.galaxies, "Put in against found", caption)
    judged = judgement_table(sample, settings)
    sheets, has_page = _galaxies(sample, strongest(judged).index, fits, maps_paths, models_paths, settings, out_dir)
    group_table, group_notes = group_listing(groups, best.get("reverse") or next(iter(best.values()), None))
    (choice_table, choice_notes), (trend_tables, trend_notes) = choice_listing(choices), trend_listings(trends)
    shown = listed_pictures(figures, settings, out_dir)
    of_fits = {f"{fit['relation']}-{fit['velocity']}-{fit['method']}" for fit in fits if {"relation", "velocity", "method"} <= set(fit)}
    judges = judge_sentences(network_dirs, settings) if len(judged) else []
    network_dirs = [folder for folder in network_dirs if not is_judge(folder)]
    mock, trained = settings.mock is not None, training_releases(network_dirs) if settings.network.adapt else {}
    inputs = [Path(path) for path in (sample_path, *relation_paths, *records) if path]
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
            "advice": [advice(fit) for fit in best.values()],
            "cautions": cautions(best, trends),
            "total": counts[-1],
            "sections": [s for s in _SECTIONS if s[0] != "closure" or mock or closure],
            "relation_data": script_json(relation_data(sample, fits, best, settings)) if fits else None,
            "relation_figure": next((p for fit in best.values() for _, p in shown if p.name == fit_name(fit, "-")), None),
            "galaxy_data": script_json(galaxy_columns(sample, settings, sheets, has_page)),
            "scripts": _scripts(),
            "fits": fit_listing(fits),
            "failed_fits": _failed_fits(fits),
            "literature": comparison_listing(list(best.values())),
            "groups": group_table,
            "group_notes": group_notes,
            "choices": choice_table,
            "choice_notes": choice_notes,
            "trends": trend_tables,
            "trend_notes": trend_notes,
            "figures": [(number, p) for number, p in shown if p.name not in of_fits],
            "fit_figures": [p for _, p in shown if p.name in of_fits],
            "closure": closure,
            "closure_picture": closure_picture,
            "reach": reach_listing(counts),
            "published": published_listing(sample, settings.report.published_counts),
            "news": news_listing(sample, trained),
            "news_sentences": news_sentences(sample, trained),
            "flow": flow_listing(sample),
            "warnings": warning_listing(sample),
            "judgement": judgement_block(sample, judged, sheets, has_page, settings),
            "bounds": bound_listing(at_bounds(sample)),
            "judges": judges,
            "training": training_pictures(network_dirs, own),
            "calibration": calibration_listing(network_dirs),
            "fit_calibration": fit_calibration_listing(network_dirs),
            "coverage": coverage_pictures(network_dirs, own),
            "checks": checks,
            "check_notes": check_notes,
            "gallery": settings.report.gallery and len(sample) > 0,
            "thumbnails": int((sheets.sheet >= 0).sum()),
            "pages": int(has_page.sum()),
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
        "report: %d targets, %d used; %d fits, %d thumbnails, %d pages of galaxies; %s, %.1f MB",
        counts[-1].targets, counts[-1].used, len(fits), int((sheets.sheet >= 0).sum()), int(has_page.sum()), index,
        index.stat().st_size / 1e6,
    )  # fmt: skip
    return index


def _galaxies(
    sample: pd.DataFrame, contested: pd.Index, fits: Sequence[Mapping], maps_paths: Sequence[str | Path],
    models_paths: Sequence[str | Path], settings: "Settings", out_dir: Path,
) -> tuple[Sheets, np.ndarray]:  # fmt: skip
    """Write the thumbnails and pages the settings ask for, with those of the galaxies the tests contradict each other on (index labels).

    Returns where the thumbnails are, and who has a page.
    """
    (out_dir / "galaxies").mkdir(exist_ok=True)
    sheets = write_sheets(sample, maps_paths if settings.report.gallery else [], models_paths, out_dir / "gallery")
    remove_pages(out_dir)
    wanted = {"none": sample.head(0), "used": sample[sample["used"] | sample.index.isin(contested)], "all": sample}[settings.report.pages]
    written = write_pages(wanted, fits, settings, maps_paths, models_paths, out_dir)
    return sheets, sample.index.isin(written)
