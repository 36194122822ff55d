"""Draw one figure of a run by its name, and write it as PNG, PDF and CSV."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from tullyflow.relation.cuts import cut_flow
from tullyflow.relation.literature import LITERATURE
from tullyflow.relation.record import read_record
from tullyflow.report.figures.colours import colour_points, plot_colours
from tullyflow.report.figures.comparison import plot_comparison
from tullyflow.report.figures.cut_flow import plot_cut_flow
from tullyflow.report.figures.judgement import plot_judgement
from tullyflow.report.figures.listing import Entry, find_figure
from tullyflow.report.figures.literature import offset_table, plot_offsets
from tullyflow.report.figures.misalignment import misalignment_table, plot_misalignment
from tullyflow.report.figures.properties import plot_properties, property_table
from tullyflow.report.figures.relation import plot_relation, relation_points
from tullyflow.report.figures.style import SavedFigure, save_figure
from tullyflow.report.figures.threshold import plot_threshold, threshold_table
from tullyflow.report.figures.trend import plot_trends, trend_table, trends_of
from tullyflow.report.judgement import judgement_table
from tullyflow.tables import SAMPLE, read_table

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["draw_figure", "make_figure"]

_LOG = logging.getLogger("tullyflow")


def _missing_fit(relation: str, settings: "Settings") -> dict:
    chosen = settings.relation
    error = f"the settings fit no {relation.replace('_', '-')} relation (relation.relations)."
    return {"relation": relation, "velocity": chosen.velocities[0], "method": chosen.methods[0], "error": error}


def _published(relation: str) -> list[Mapping]:
    return [line for line in LITERATURE if line["relation"] == relation]


@dataclass(frozen=True)
class _Inputs:
    """All a figure may be drawn from."""

    entry: Entry
    sample: pd.DataFrame
    fits: Sequence[dict]
    trends: Sequence[Mapping]
    choices: Mapping | None
    settings: "Settings"

    def fit(self, relation: str) -> dict:
        """The fit of a relation; a record that says why, where there is none."""
        return next((fit for fit in self.fits if fit.get("relation") == relation), None) or _missing_fit(relation, self.settings)


Drawn = tuple[Figure, pd.DataFrame]


def _properties(given: _Inputs) -> Drawn:
    table = property_table(given.sample)
    return plot_properties(table), table


def _comparison(given: _Inputs) -> Drawn:
    fit = given.fit(given.entry.name)
    points = relation_points(given.sample, fit, given.settings)
    figure = plot_comparison(given.sample, fit, given.settings, _published(given.entry.name))
    return figure, points[points["used"]]


def _trends(given: _Inputs) -> Drawn:
    panels = trends_of(given.entry.name, given.sample, given.fits, given.settings)
    return plot_trends(panels, given.entry.title, given.trends, given.settings.seed), trend_table(panels)


def _colours(given: _Inputs) -> Drawn:
    fit = given.fit("reverse")
    points = colour_points(given.sample, fit, given.settings)
    return plot_colours(points, fit, given.trends, given.settings.seed), points


def _threshold(given: _Inputs) -> Drawn:
    return plot_threshold(given.choices), threshold_table(given.choices)


def _literature(given: _Inputs) -> Drawn:
    table = offset_table(given.fits)
    return plot_offsets(table), table


def _cut_flow(given: _Inputs) -> Drawn:
    flow = cut_flow(given.sample)
    return plot_cut_flow(flow), flow


def _judgement(given: _Inputs) -> Drawn:
    table = judgement_table(given.sample, given.settings)
    return plot_judgement(table, given.settings), table


def _misalignment(given: _Inputs) -> Drawn:
    table = misalignment_table(given.sample, given.settings)
    return plot_misalignment(table), table


def _relation(given: _Inputs) -> Drawn:
    fit = given.fit(given.entry.name.partition("-")[0])
    return plot_relation(given.sample, fit, given.settings, _published(fit["relation"])), relation_points(given.sample, fit, given.settings)


_DRAWERS: dict[str, Callable[[_Inputs], Drawn]] = {
    "properties": _properties, "reverse": _comparison, "forward": _comparison, "r_band": _comparison,
    "age": _trends, "mass_to_light": _trends, "turnover": _trends, "magnitude_residual": _trends, "mass_residual": _trends,
    "extent": _trends, "colours": _colours, "threshold": _threshold, "literature": _literature, "cut_flow": _cut_flow,
    "judgement": _judgement, "misalignment": _misalignment,
}  # fmt: skip


def make_figure(
    name: str,
    sample: pd.DataFrame,
    fits: Sequence[dict],
    settings: "Settings",
    trends: Sequence[Mapping] = (),
    choices: Mapping | None = None,
) -> Drawn:
    """Return one figure and the data behind it.

    Parameters
    ----------
    name : str
        A fixed figure (`tullyflow.report.figures.listing`), or ``relation-velocity-method``.
    sample : DataFrame
        Rows of ``tables.SAMPLE``.
    fits : sequence of mappings
        The fits it draws (`listing.figure_relations`); one that is absent is said in the figure.
    trends, choices : optional
        Rows of rank correlations (those of the settings' first velocity serve; what they lack is measured here), and the record of
        changed choices.

    Raises `SettingsError` for an unknown name. A figure that has nothing to show carries a sentence in its panel.
    """
    entry, first = find_figure(name, settings), settings.relation.velocities[0]
    trends = [row for row in trends if row.get("velocity") in (None, first)]
    return _DRAWERS.get(entry.name, _relation)(_Inputs(entry, sample, fits, trends, choices, settings))


def draw_figure(
    name: str,
    sample_path: str | Path,
    relation_paths: Sequence[str | Path],
    settings: "Settings",
    out_stem: str | Path,
    trends_path: str | Path | None = None,
    choices_path: str | Path | None = None,
) -> SavedFigure:
    """Write ``out_stem``.png, .pdf and .csv of one figure, from the files of a run; see `make_figure`.

    Raises `SettingsError` for an unknown name, `CatalogueError` or `RelationError` for an unreadable file.
    """
    sample = read_table(sample_path, SAMPLE)
    fits = [read_record(path) for path in relation_paths]
    trends = read_record(trends_path).get("rows", []) if trends_path else []
    choices = read_record(choices_path) if choices_path else None
    figure, data = make_figure(name, sample, fits, settings, trends, choices)
    saved = save_figure(figure, out_stem, data)
    _LOG.info("figure %s: %d rows behind it; %s, %.0f kB as PDF", name, len(data), saved.png, saved.pdf.stat().st_size / 1000)
    return saved
