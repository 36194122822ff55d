"""Where a figure was measured: machine, date and commit, kept beside it as JSON."""

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path

__all__ = ["keep"]

HERE = Path(__file__).parent


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def keep(name: str, figures: dict) -> None:
    """Print the figures and write ``benchmarks/{name}.json``."""
    commit = subprocess.run(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    where = {
        "machine": f"{_cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip(),
    }
    text = json.dumps({"measured": where, "figures": figures}, indent=1)
    (HERE / f"{name}.json").write_text(text + "\n")
    print(text)
