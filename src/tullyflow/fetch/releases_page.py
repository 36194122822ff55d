"""The releases table and its archives as lines for people: what `tullyflow releases` prints."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from urllib.parse import urlsplit

from tullyflow.fetch.archives import Check, Finding, holdings
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


def check_lines(check: Check, settings: Settings) -> list[str]:
    """What archives say of each address, grouped by what they say, and the rows to add; silent hosts, what is not asked, summed up."""
    order = ("changed", "vanished", "absent", "unreachable", "refused", "new", "there", "not asked")
    words = {"new": "there, not asked before", "there": "there, as at the last look", "absent": "not there (nor at an earlier look)"}
    lines = []
    findings = sorted(check.findings, key=lambda finding: order.index(finding.state))
    for state, group in groupby(findings, key=lambda finding: finding.state):
        listed = list(group)
        lines.append(f"{words.get(state, state)}: {len(listed)}")
        if state == "unreachable":
            lines += [f"  {place}: {count} address(es) not checked" for place, count in Counter(map(_silence, listed)).items()]
        elif state == "not asked":
            reasons = Counter(f"{f.survey} {f.release}: {f.detail}" for f in listed)
            lines += [f"  {reason}: {count} address(es)" for reason, count in reasons.items()]
        else:
            lines += columns([("", f.survey, f.release, f.dataset, f.url, f.detail) for f in listed])
    if check.unasked:
        lines.append(f"could not be asked for new releases: {', '.join(check.unasked)}")
    elif not check.rows:
        lines.append("no release has appeared that the table does not list")
    if not check.rows:
        return lines
    return [*lines, f"appeared: {len(check.rows)} row(s) to add to {settings.releases}, once you have looked at them:", *check.rows]


def _silence(finding: Finding) -> str:
    """Host of an address without an answer, and why there is none, without the address itself."""
    host = urlsplit(finding.url).netloc
    reason = re.sub(r"^\w+://\S+: ", "", finding.detail).removeprefix(f"host {urlsplit(finding.url).hostname} ")
    return f"{host}: {reason}"
