"""Snakemake, as a user calls it, in a folder of the test's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", name="snakemake")
def snakemake_fixture():
    """Function (folder, *arguments) -> the finished process of this checkout's workflow."""

    def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        tools = Path(sys.executable).parent
        command = [str(tools / "snakemake"), "--snakefile", str(ROOT / "workflow" / "Snakefile")]
        variables = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", **environment}
        return subprocess.run([*command, *arguments], cwd=folder, env=variables, capture_output=True, text=True, timeout=900, check=False)

    return run
