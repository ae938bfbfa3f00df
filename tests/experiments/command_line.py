"""The command line in a process of its own, as scripts call it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.jobs.worker import ROOT


def cli(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments", *arguments]
    environment = os.environ | {"QUANTSCOPE_HOME": str(home)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


def document(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Standard output as the one JSON document it must be, without NaN or infinities."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in the output")

    parsed: dict[str, Any] = json.loads(run.stdout, parse_constant=refuse)
    return parsed
