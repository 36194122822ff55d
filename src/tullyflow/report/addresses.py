"""Where a galaxy's page lies: a name from a catalogue becomes a file name only when it is a harmless one."""

import hashlib
import re

__all__ = ["page_address", "safe_name"]

_HARMLESS = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]{0,79}")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{k}" for port in ("com", "lpt") for k in range(10))}  # on Windows


def safe_name(name: str) -> str:
    """Return a file name for a galaxy: the name itself where it is harmless, else what is left of it with a digest of the whole."""
    if _HARMLESS.fullmatch(name) and not name.endswith(".") and name.partition(".")[0].lower() not in _RESERVED:
        return name
    kept = re.sub(r"[^A-Za-z0-9_+-]+", "-", name).strip("-")[:60]
    return f"{kept or 'galaxy'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def page_address(survey: str, release: str, galaxy: str) -> str:
    """Return where a galaxy's page lies in the report's folder, with forward slashes."""
    return f"galaxies/{safe_name(f'{survey}-{release}')}/{safe_name(galaxy)}.html"
