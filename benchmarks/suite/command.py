"""The command line as benchmarks drive it: from outside, in a data directory that is thrown away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks._session import ROOT


def document(*arguments: str) -> dict[str, Any]:
    """What `python -m experiments … --json` prints.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    command = [sys.executable, "-m", "experiments", *arguments, "--json"]
    with tempfile.TemporaryDirectory(prefix="quantscope-bench-") as home:
        environment = os.environ | {"QUANTSCOPE_HOME": home}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed
