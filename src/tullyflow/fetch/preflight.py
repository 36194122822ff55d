"""What must hold before anything runs: the releases asked for exist, and their archives can be reached at all."""

from pathlib import Path

from tullyflow.errors import FetchError, SettingsError
from tullyflow.fetch.manifest import check_places
from tullyflow.settings import Settings
from tullyflow.surveys import get_survey
from tullyflow.surveys.releases import known_releases, release_rows

__all__ = ["check_access", "check_release", "choose_training", "resolve_releases"]

LATEST = "latest"


def check_release(survey: str, release: str, settings: Settings, where: str = "settings") -> None:
    """Raise `SettingsError`, with the releases that exist, for one that the table does not list."""
    known = known_releases(survey, settings)
    if release not in known:
        there = ", ".join(known) or "none"
        raise SettingsError(f"{where}: {settings.releases} lists no release {release!r} of {survey}; there are: {there}.")


def resolve_releases(settings: Settings, source: str = "settings") -> Settings:
    """Return the settings with ``latest`` replaced by each survey's release added last.

    Raises `SettingsError`, with the releases that exist, for one that the table does not list (to use or to train on),
    and for one that is asked for twice.
    """
    update = {}
    for survey in settings.surveys:
        section = getattr(settings, survey)
        known = known_releases(survey, settings)
        asked = [*section.releases, *([section.train_release] if section.train_release else [])]
        for release in asked:
            if not (release == LATEST and known):
                key = "releases" if release in section.releases else "train_release"
                check_release(survey, release, settings, f"{source}: {survey}.{key}")
        newest = _newest(survey, known, settings)
        releases = [newest if release == LATEST else release for release in section.releases]
        if len(set(releases)) < len(releases):
            raise SettingsError(f"{source}: {survey}.releases: a release is listed twice: {', '.join(releases)}.")
        train = newest if section.train_release == LATEST else section.train_release
        update[survey] = section.model_copy(update={"releases": releases, "train_release": train})
    return settings.model_copy(update=update)


def _newest(survey: str, known: list[str], settings: Settings) -> str:
    """The release whose first row was added last; of several on one day the one listed first."""
    if survey == "local":
        return known[0]
    added: dict[str, str] = {}
    for row in release_rows(settings):
        if row["survey"] == survey:
            added[row["release"]] = min(added.get(row["release"], row["added"]), row["added"])
    return max(known, key=lambda release: added[release])


def check_access(settings: Settings) -> None:
    """Check that the files of all releases have an address that can be used: a place in the mirror, or no secret that is missing.

    What galaxies need is looked up for one of no name, so that it is said before the catalogues are fetched; not where a
    release's galaxies are here already, in part at least. Raises `FetchError` or `SettingsError` with what to do.
    """
    resources, target = Path(settings.resources), {"galaxy": "any-galaxy", "observation": "any-galaxy"}
    for survey in settings.surveys:
        if survey == "local":
            continue
        section, adapter = getattr(settings, survey), get_survey(survey)
        for release in dict.fromkeys([*section.releases, *([section.train_release] if section.train_release else [])]):
            products = adapter.products(target, release, settings)
            begun = any((resources / Path(*Path(product.path).parts[:3])).is_dir() for product in products)
            try:
                check_places([*adapter.catalogue_products(release, settings), *([] if begun else products)], settings)
            except FetchError as err:
                raise FetchError(f"{survey} {release}: {err}") from err


def choose_training(settings: Settings, results: str | Path) -> tuple[Settings, list[str]]:
    """Return the settings with every ``train_release`` decided, and a sentence for each that had to be.

    Given, it is that. Not given, the release whose network lies below ``results/network`` (of several the one written last),
    so that a release added to the list trains nothing again; without a network the first release of the list.
    """
    update, said = {}, []
    for survey in settings.surveys:
        section = getattr(settings, survey)
        networks = _networks(survey, Path(results))
        if section.train_release:
            others = [name for name in networks if name != section.train_release]
            if networks and section.train_release not in networks:
                said.append(f"{survey}: train_release asks for a network of {section.train_release}; this run has one of {others[0]}")
            continue
        chosen = networks[0] if networks else section.releases[0]
        update[survey] = section.model_copy(update={"train_release": chosen})
        if networks and section.releases != [chosen]:
            newer = ", ".join(release for release in section.releases if release != chosen)
            said.append(f"{survey}: the network of {chosen} serves {newer} too (train_release is not given, and this run has it)")
        elif len(section.releases) > 1:
            said.append(f"{survey}: the network is trained on {chosen}, the first of the releases (train_release is not given)")
    return settings.model_copy(update=update), said


def _networks(survey: str, results: Path) -> list[str]:
    """Releases that a network of this run is of, the one written last first; a training under way counts."""
    times: dict[str, float] = {}
    for name in ("weights.safetensors", "training.json"):
        for path in results.glob(f"network/{survey}-*/{name}"):
            release = path.parent.name.removeprefix(f"{survey}-")
            times[release] = max(times.get(release, 0.0), path.stat().st_mtime)
    return sorted(times, key=lambda release: -times[release])
