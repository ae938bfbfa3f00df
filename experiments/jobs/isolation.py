"""What keeps a trial's process from harming the rest of the machine; all that only some operating systems offer is here.

Linux has all of it. Elsewhere a measure that is missing is left out, and the log of the trial says so.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks._session import THREAD_VARIABLES

ORPHANED = 70
"""The exit code of a process that found itself without its worker."""
NICENESS = 10
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
AUTOGROUP = Path("/proc/self/autogroup")
"""“/autogroup-123 nice 0”, see sched(7)."""
_PR_SET_PDEATHSIG = 1


def hold_leash(*, to_thread: bool = True) -> None:
    """Ends this process as soon as the one that started it is gone.

    Standard input is a pipe whose other end only the starter holds; a thread waits for its end. On Linux the kernel watches
    too, for a library may keep that thread from running for seconds; but what it watches is the thread that started this
    process, so with `to_thread` False, where threads come and go as a page's do, it is left out.
    """
    if to_thread and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_wait_for_end, daemon=True).start()


def _wait_for_end() -> None:
    # Not through sys.stdin, whose lock this thread would hold while the interpreter shuts down.
    while os.read(0, 1):
        pass
    os._exit(ORPHANED)


def limit_memory(limit: int | None) -> None:
    """Caps the address space of this process and of those it starts, each for itself, at `limit` bytes."""
    if limit is None:
        return
    if sys.platform != "linux":
        _notice("memory is not limited on this system")
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))


def step_back() -> None:
    """Lets everything else on the machine go first, the page's process above all."""
    if not hasattr(os, "nice"):
        _notice("trials have the same priority as everything else on this system")
        return
    os.nice(NICENESS)
    # A Linux that groups processes by session weighs the groups first; the process's own niceness then counts only inside.
    if os.getsid(0) == os.getpid() and AUTOGROUP.exists():
        with suppress(OSError):
            AUTOGROUP.write_text(str(NICENESS))


def thread_limits(threads: int) -> dict[str, str]:
    """Environment variables for libraries that would otherwise take all cores; they read them when they are loaded."""
    return dict.fromkeys((*THREAD_VARIABLES, "TF_NUM_INTRAOP_THREADS"), str(threads))


def interrupt(process: subprocess.Popen[bytes], *, force: bool = False) -> None:
    """Asks a process that leads a session, and all it started, to end; with `force` they have no choice."""
    if not hasattr(os, "killpg"):
        process.kill() if force else process.terminate()
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL if force else signal.SIGTERM)


def machine_memory() -> int:
    """Bytes of memory there are for this process: the machine's, or its container's."""
    limits = [psutil.virtual_memory().total]
    for file in CGROUP_LIMITS:
        with suppress(OSError, ValueError):
            limits.append(int(file.read_text()))
    return min(limits)


def machine_lock_path() -> Path:
    """A file that all programs of this user on this machine agree on, whatever their data directories."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    return Path(tempfile.gettempdir()) / f"quantscope-{user}-latency.lock"


def _notice(what: str) -> None:
    print(f"Notice: {what}.", file=sys.stderr)
