"""The releases table and its archives as lines for people: what `tullyflow releases` prints."""

from collections.abc import Sequence
from itertools import groupby

from tullyflow.fetch.archives import check_archives, holdings
from tullyflow.settings import Settings

__all__ = ["check_lines", "columns", "holding_lines", "size"]


def size(count: float) -> str:
    """A number of bytes in a unit people read."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Rows of texts as lines with aligned columns; the columns in ``right`` end, not begin, at the same place."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    pad = [str.rjust if k in right else str.ljust for k in range(len(widths))]
    return ["  ".join(pad[k](text, widths[k]) for k, text in enumerate(row)).rstrip() for row in rows]


def holding_lines(settings: Settings) -> list[str]:
    """Every dataset of every release: version, files and bytes on disk."""
    rows = [("survey", "release", "dataset", "version", "files", "on disk", "")]
    found = holdings(settings)
    for h in found:
        shared = "" if h.kept_under == h.release else f"the files of {h.kept_under}"
        rows.append((h.survey, h.release, h.dataset, h.version, str(h.files), size(h.bytes) if h.files else "-", shared))
    own = [h for h in found if h.kept_under == h.release]
    files, length = sum(h.files for h in own), sum(h.bytes for h in own)
    return [*columns(rows, right=(4, 5)), f"{files} files, {size(length)} below {settings.resources}; releases: {settings.releases}"]


def check_lines(settings: Settings) -> list[str]:
    """What the archives say of each address, grouped by what they say, and the rows to add to the table."""
    check = check_archives(settings)
    order = ("changed", "vanished", "absent", "unreachable", "refused", "new", "there", "not asked")
    words = {"new": "there, not asked before", "there": "there, as at the last look", "absent": "not there (nor at an earlier look)"}
    lines = []
    findings = sorted(check.findings, key=lambda finding: order.index(finding.state))
    for state, group in groupby(findings, key=lambda finding: finding.state):
        listed = list(group)
        lines.append(f"{words.get(state, state)}: {len(listed)}")
        rows = [("", f.survey, f.release, f.dataset, f.url, f.detail) for f in listed]
        lines += columns(rows)
    if not check.rows:
        return [*lines, "no release has appeared that the table does not list"]
    return [*lines, f"appeared: {len(check.rows)} row(s) to add to {settings.releases}, once you have looked at them:", *check.rows]
