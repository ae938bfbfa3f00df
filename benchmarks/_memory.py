"""Resident memory of this process: now, and the most it has been since `forget_peak`.

On Linux the peak is VmHWM of /proc: `getrusage` is of no use in a child, since its ru_maxrss starts from the memory of the
process that spawned it (getrusage(2), proc_pid_status(5)).
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")


def resident_bytes() -> int:
    """Memory in use now."""
    return int(psutil.Process().memory_info().rss)


def forget_peak() -> None:
    """Starts the peak anew where the system can (Linux); elsewhere it stays that of the whole life of the process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """The most memory that was in use."""
    if _STATUS.is_file():
        fields = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="utf-8").splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
