"""Fixtures of all tests, and the list of what was skipped and why at the end of the run."""

import os
import subprocess
import sys
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


@pytest.fixture(scope="session")
def marvin_python() -> Path:
    """Python of Marvin's environment, which `make marvin` builds once; skipped only where it cannot be installed."""
    command = ["make", "--no-print-directory", "marvin", f"MARVIN_PYTHON={sys.executable}"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    if made.returncode != 0:
        said = made.stdout + made.stderr
        offline = any(words in said for words in ("connection broken", "NewConnectionError", "Temporary failure", "Marvin needs Python"))
        line = next((line for line in said.splitlines() if "Marvin needs" in line or "ERROR" in line), said[-300:])
        (pytest.skip if offline else pytest.fail)(f"Marvin's environment cannot be installed here: {line}")
    return ROOT / ".venv-marvin/bin/python"


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.section("skipped tests and why")
    if not skipped:
        terminalreporter.write_line("none")
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.write_line(f"{report.nodeid}: {reason.removeprefix('Skipped: ')}")
