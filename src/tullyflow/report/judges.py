"""Which networks judged the velocity fields of a run, as their cards say it: those that ship, or the run's own."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from tullyflow.errors import RelationError
from tullyflow.relation.record import read_record

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["is_judge", "judge_sentences"]

_NAMES = ("usability", "circularity")


def _card(path: Path, name: str) -> dict | None:
    """The card of a network of usability or circularity; None where there is none, or it is of another network."""
    try:
        card = read_record(path)
    except RelationError:
        return None
    return card if str(card.get("format", "")).startswith(f"tullyflow {name} ") else None


def is_judge(folder: str | Path) -> bool:
    """Say whether a folder holds a network that judges velocity fields, rather than one of discs."""
    return any(_card(Path(folder) / "model.json", name) for name in _NAMES)


def judge_sentences(network_dirs: Sequence[str | Path], settings: "Settings") -> list[str]:
    """Say of usability and circularity which network judged, and what its card says it was trained on and reaches.

    A run's own networks are among ``network_dirs``, or in a survey's folder there; the others are those that ship with the package.
    """
    shipped, said = Path(str(files("tullyflow.network.judges"))) / "weights", []
    by_survey = [settings.for_survey(survey).network for survey in settings.surveys]
    own = {"usability": [net.usability.labels is not None for net in by_survey],
           "circularity": [net.circularity.galaxies > 0 for net in by_survey]}  # fmt: skip
    for name in _NAMES:
        folders = [place for folder in map(Path, network_dirs) for place in (folder, folder / name)]
        cards = [(f"this run's own ({folder.parent.name}/{folder.name})", _card(folder / "model.json", name)) for folder in folders]
        cards = [(which, card) for which, card in cards if card is not None]
        if not all(own[name]):
            cards.append(("the network that ships with tullyflow", _card(shipped / f"{name}.json", name)))
        said += [f"{name.capitalize()}, {which}. {_summary(card)}" for which, card in cards]
    return said


def _summary(card: dict | None) -> str:
    return str((card or {}).get("summary") or "Its card does not say what it was trained on.")
