"""Make the page of one galaxy of a finished run, where the run's report looks for it."""

from pathlib import Path

import pandas as pd

from tullyflow.errors import CatalogueError, SettingsError
from tullyflow.report.addresses import page_address
from tullyflow.report.galaxy import read_views
from tullyflow.report.run_page import page_of
from tullyflow.tables import SAMPLE, VELOCITIES, conform, whole_file
from tullyflow.tools.explain import explain

__all__ = ["make_page"]


def make_page(sample_path: Path, asked: str, survey: str | None = None, out: Path | None = None) -> Path:
    """Write the page of the galaxy called ``asked`` (see `tullyflow.tools.explain.explain`) and return its path.

    Without ``out`` it lies in the report of the run whose ``sample.parquet`` is given: ``report/galaxies/{survey}-{release}/``.
    The maps and the model are those in the run's folder. Raises `CatalogueError` for a name that is not one galaxy's, and for a galaxy
    without maps, `SettingsError` for another suffix than .html.
    """
    if out is not None and out.suffix not in (".html", ".htm"):
        raise SettingsError(f"{out}: a page is written as .html.")
    found = explain(sample_path, asked, survey)
    table = pd.read_parquet(sample_path)
    mine = (table["galaxy"] == found.galaxy) & (table["survey"] == found.survey) & (table["release"] == found.release)
    row = conform(table.loc[mine, [c.name for c in SAMPLE if c.name in table]], SAMPLE, name=str(sample_path))
    run = sample_path.absolute().parent
    shard = str(row["shard"].iloc[0])
    maps, models = ([path for path in (run / kind).glob("*.fits") if path.stem == shard] for kind in ("maps", "models"))
    views = read_views(row, maps, models) if row["n_spaxels"].iloc[0] > 0 else []
    if not views:
        raise CatalogueError(f"page: there is no map of {found.galaxy} in {run / 'maps'}; `tullyflow explain` says why.")
    velocity = next((s.velocity for s in found.standings if s.relation == "reverse"), VELOCITIES[0])
    path = out or run / "report" / page_address(found.survey, found.release, found.galaxy)
    with whole_file(path) as part:
        part.write_text(page_of(views[0], run.name, velocity, found.sections), encoding="utf-8")
    return path
