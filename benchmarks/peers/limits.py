"""A command with limits: on its time, and on what it may write into a folder. Its whole process group ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

POLL_SECONDS = 0.2
FOLDER_POLL_SECONDS = 5.0


class Stopped(Exception):
    """A command did not come to its end, or ended badly; the text is fit for a table."""


def run(
    command: Sequence[str],
    *,
    seconds: float,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    most_bytes: int = 0,
) -> str:
    """Standard output of a command.

    Args:
        folder: may grow to `most_bytes` while the command runs.

    Raises:
        Stopped: it took longer, wrote more, or ended with an error; with the last line of what it said.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        child = subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        try:
            _await(child, seconds, folder, most_bytes)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        said = [_text(stream) for stream in (out, err)]
    if child.returncode:
        raise Stopped(last_line(said[1]) or last_line(said[0]) or _ending(child.returncode))
    return said[0]


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; what vanishes meanwhile does not count."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(place) / name).lstat().st_size
    return total


def _await(child: subprocess.Popen[bytes], seconds: float, folder: Path | None, most_bytes: int) -> None:
    began = looked = time.monotonic()
    while child.poll() is None:
        now = time.monotonic()
        if now - began > seconds:
            raise Stopped(f"> {seconds:g} s unfinished")
        if folder is not None and now - looked > FOLDER_POLL_SECONDS:
            looked = now
            if folder_bytes(folder) > most_bytes:
                raise Stopped(f"> {most_bytes / 1e9:g} GB to install")
        time.sleep(POLL_SECONDS)


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


def _text(stream: object) -> str:
    stream.seek(0)  # type: ignore[attr-defined]
    return str(stream.read())  # type: ignore[attr-defined]
