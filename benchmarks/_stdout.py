"""Keeps standard output for what is meant to be read: what libraries print, C++ included, goes to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def claimed_stdout() -> Iterator[IO[str]]:
    """What was standard output; file descriptor 1 is standard error for the rest of the context."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as mine:
        os.dup2(2, 1)
        try:
            yield mine
        finally:
            sys.stdout.flush()
            mine.flush()
            os.dup2(mine.fileno(), 1)
