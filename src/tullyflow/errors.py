"""Every exception the package raises on purpose: one tree, one sentence each.

An error is the caller's mistake and ends the command with exit code 2 and one line. The data's
mistakes are flags (``flags.py``): a reader raises `DataError`, and the shard turns it into a row.
"""

__all__ = [
    "CatalogueError",
    "DataError",
    "FetchError",
    "ModelError",
    "RelationError",
    "SettingsError",
    "TullyflowError",
]


class TullyflowError(Exception):
    """What, where, found, allowed, what to do: one sentence for the person at the keyboard."""


class SettingsError(TullyflowError):
    """A key, value or unit of the configuration cannot be used."""


class CatalogueError(TullyflowError):
    """A catalogue cannot be read or lacks what it must hold."""


class FetchError(TullyflowError):
    """A file could not be brought here whole."""


class ModelError(TullyflowError):
    """Network weights or training input cannot be used."""


class RelationError(TullyflowError):
    """A relation cannot be fitted to what is left of the sample."""


class DataError(TullyflowError):
    """One galaxy's data cannot be used; carries the galaxy flag that says why.

    Parameters
    ----------
    flag : int
        A mask of ``flags.GALAXY``, e.g. ``flags.GALAXY.MISSING_HDU``.
    sentence : str
        What was found where; kept in the galaxy's row.
    """

    def __init__(self, flag: int, sentence: str):
        super().__init__(sentence)
        self.flag = int(flag)
