"""Where everything a person made is kept: `$QUANTSCOPE_HOME`, or the platform's user data directory."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from quantizers.errors import StoreUnavailable


def home() -> Path:
    """The data directory, created when missing.

    Raises:
        StoreUnavailable: it cannot be made, or not be written to.
    """
    chosen = os.environ.get("QUANTSCOPE_HOME")
    folder = Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("quantscope", appauthor=False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        hint = "Make it writable, or name another with QUANTSCOPE_HOME."
        raise StoreUnavailable(f"The data directory {folder} cannot be written to.", hint)
    return folder.resolve()
