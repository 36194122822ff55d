"""Galaxies asked for by name: each must be in one release at least, and a name in none is said before its maps are fetched."""

import logging
from pathlib import Path

from tullyflow.errors import CatalogueError
from tullyflow.settings import Settings
from tullyflow.surveys import SURVEYS
from tullyflow.surveys.catalogue import UNKNOWN, UNKNOWN_COLUMNS
from tullyflow.surveys.releases import known_releases
from tullyflow.surveys.rows import names_in
from tullyflow.tables import read_table, whole_file

__all__ = ["check_asked"]

log = logging.getLogger("tullyflow")


def check_asked(settings: Settings, targets_dir: str | Path, out_path: str | Path) -> int:
    """Check that every name under ``galaxies`` is in one of the releases it is asked of; write and return how many there are.

    ``targets_dir`` holds the target lists of all releases, ``{survey}-{release}/``. A name without its release (``8485-1901``)
    may be in any release of any survey that takes the general list; ``DR15/8485-1901`` must be in that one; one that names a
    release which this run leaves out is passed over. Raises `CatalogueError`, with names like it, for a name that none has.
    """
    total = 0
    for key, surveys in _lists(settings).items():
        asked = settings.galaxies if key == "galaxies" else getattr(settings, surveys[0]).galaxies
        names = names_in(asked)
        total += len(names)
        releases = [(survey, release) for survey in surveys for release in getattr(settings, survey).releases]
        missing = {place: _unknown(Path(targets_dir), *place) for place in releases}
        lost = []
        for text in names:
            wanted, _, name = text.rpartition("/")
            places = [place for place in releases if wanted in ("", place[1])]
            if not places and _exists(wanted, settings):
                log.info("%s: %s is of a release that this run does not use", key, text)
            elif not any(name not in missing[place] for place in places):
                lost.append((text, [missing[place].get(name, "") for place in places]))
        if lost:
            text, others = lost[0]
            close = list(dict.fromkeys(name for names in others for name in names.split(", ") if name))[:5]
            there = ", ".join(f"{survey} {release}" for survey, release in releases)
            hint = f" (close: {', '.join(close)})" if close else ""
            more = f"; neither are {len(lost) - 1} more of the {len(names)} names" if len(lost) > 1 else ""
            raise CatalogueError(f"{key}: {text} is in none of the releases of this run ({there}){hint}{more}.")
    with whole_file(out_path) as part:
        part.write_text(f"{total}\n")
    log.info("%d galaxies asked for by name, each is in a release of this run", total)
    return total


def _lists(settings: Settings) -> dict[str, list[str]]:
    """Lists of names by their key, with the surveys they are for; a survey's own list replaces the general one."""
    own = [survey for survey in settings.surveys if getattr(settings, survey).galaxies is not None]
    general = [survey for survey in settings.surveys if survey not in own]
    lists = {f"{survey}.galaxies": [survey] for survey in own}
    return lists | ({"galaxies": general} if settings.galaxies is not None and general else {})


def _unknown(targets_dir: Path, survey: str, release: str) -> dict[str, str]:
    """Names that a release does not have, with those like them."""
    table = read_table(targets_dir / f"{survey}-{release}" / UNKNOWN, UNKNOWN_COLUMNS)
    return dict(zip(table["galaxy"], table["close"], strict=True))


def _exists(release: str, settings: Settings) -> bool:
    return any(release in known_releases(survey, settings) for survey in SURVEYS)
