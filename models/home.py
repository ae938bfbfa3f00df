"""Where everything a person made is kept: `$QUANTSCOPE_HOME`, or the platform's user data directory."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """The data directory, created when missing."""
    chosen = os.environ.get("QUANTSCOPE_HOME")
    folder = Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("quantscope", appauthor=False))
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()
