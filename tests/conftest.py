"""Fixtures of all tests, and the list of what was skipped and why at the end of the run."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real survey files beside the checkout; tests that need it are skipped elsewhere."""
    path = ROOT.parent / "shared"
    if not (path / "mirror").is_dir():
        pytest.skip(f"real survey files are not here ({path / 'mirror'})")
    return path


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.section("skipped tests and why")
    if not skipped:
        terminalreporter.write_line("none")
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.write_line(f"{report.nodeid}: {reason.removeprefix('Skipped: ')}")
