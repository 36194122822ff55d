"""What the report says of releases: which galaxies are new, what the network was trained on, published counts beside those found."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from tullyflow.flags import GALAXY
from tullyflow.report.figures.style import survey_style
from tullyflow.report.sections import Listing

__all__ = ["news_listing", "news_sentences", "published_listing", "training_releases"]

_AFTER_INFERENCE = (
    GALAXY.NOT_INFERRED | GALAXY.FACE_ON | GALAXY.EDGE_ON | GALAXY.POOR_RECONSTRUCTION | GALAXY.AT_BOUND_V_MAX
    | GALAXY.UNCERTAIN_VELOCITY | GALAXY.SURVEY_LEFT_OUT
)  # fmt: skip


def _age(release: str) -> int:
    """The number in a release's name; -1 where it has none (weightings of THINGS are of one age)."""
    digits = re.search(r"\d+", release)
    return int(digits[0]) if digits else -1


def training_releases(network_dirs: Sequence[str | Path]) -> dict[str, str]:
    """Release that trained each survey's network, by the names of their folders, ``{survey}-{release}``."""
    pairs = [Path(folder).name.partition("-") for folder in network_dirs]
    return {survey: release for survey, _, release in pairs if survey not in ("initial", "synthetic")}


def news_listing(sample: pd.DataFrame, trained: Mapping[str, str]) -> Listing:
    """List every release of the sample: its galaxies, those in no older release, and whether it trained the network."""
    rows = []
    for survey, group in sample.groupby("survey", sort=False):
        seen: set[str] = set()
        for release in sorted(group["release"].unique(), key=_age):
            here = group[group["release"] == release]
            new = int((~here["galaxy"].isin(seen)).sum())
            seen |= set(here["galaxy"])
            network = trained.get(str(survey), "")
            role = "trained it" if release == network else f"never seen by it ({network})" if network else "\u2013"
            label = f"{survey_style(str(survey)).label} {release}".strip()
            rows.append((label, len(here), new, len(here) - new, int(here["used"].sum()), role))
    columns = ("release", "galaxies", "in no older release", "observed before", "in the relation", "the network")
    return Listing("Releases and what is new in them", columns, rows, frozenset({5}))


def news_sentences(sample: pd.DataFrame, trained: Mapping[str, str]) -> list[str]:
    """Say which releases are newer or older than what their survey's network was trained on."""
    sentences = []
    for survey, group in sample.groupby("survey", sort=False):
        network = trained.get(str(survey))
        label = survey_style(str(survey)).label
        for release in sorted(group["release"].unique(), key=_age):
            if network and release != network:
                word = "newer" if _age(release) > _age(network) else "older" if _age(release) < _age(network) else "other"
                sentences.append(
                    f"{label} {release} is {word} than the network, which {network} trained: its galaxies cost no training. "
                    f"With {survey}: train_release: {release} it is trained on them."
                )
    return sentences


def published_listing(sample: pd.DataFrame, published: Mapping[str, Mapping[str, int]]) -> Listing:
    """List the galaxies found beside a published sample's: before the cuts that need the network, and in the relation.

    Before: no flag excludes them but those that inference and the cuts after it set.
    """
    rows = []
    for survey, counts in published.items():
        here = sample[sample["survey"] == survey]
        before = (here["flags"].to_numpy(dtype="int64") & GALAXY.excluding & ~_AFTER_INFERENCE) == 0
        found = {"before": int(before.sum()), "used": int(here["used"].sum())}
        cells = [cell for stage in ("before", "used") for cell in (found[stage], counts.get(stage, "\u2013"))]
        rows.append((survey_style(str(survey)).label, len(here), *cells))
    columns = ("survey", "targets", "before the network", "published", "in the relation", "published")
    return Listing("Galaxies found beside a published sample's", columns, rows)
