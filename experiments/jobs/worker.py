"""The worker: one per data directory, elected by a file lock, detached from whoever started it.

It claims queued runs one at a time and gives each a fresh process. It imports nothing heavy, so that a backend that crashes,
leaks or hangs costs its own trial and nothing else.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.home import home
from experiments.store.store import Store
from quantizers.errors import BackendCrashed, TrialError, TrialTimeout
from quantizers.schema import Status

IDLE_SECONDS = 10.0
POLL_SECONDS = 0.2
TERM_SECONDS = 2.0
TRIAL_LIMIT_SECONDS = 3600.0
ROOT = Path(__file__).resolve().parents[2]
_started: list[subprocess.Popen[bytes]] = []
"""Workers this process started: polled so that one that left does not stay a zombie of a long-lived server."""


def ensure_worker(folder: Path | None = None) -> None:
    """Starts a worker for a data directory unless one is at work there. Returns at once.

    Whoever waits for runs calls this each time it looks: a worker may be about to leave just when a run is queued.
    """
    folder = folder or home()
    lock = _lock(folder)
    try:
        lock.acquire()
    except Timeout:
        return
    lock.release()
    _started[:] = [worker for worker in _started if worker.poll() is None]
    with (folder / "worker.log").open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "experiments.jobs.worker"],
            cwd=ROOT,
            env=os.environ | {"QUANTSCOPE_HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _started.append(worker)


def main() -> None:
    """Works until nothing has been queued for a while. A second worker on the same directory leaves at once."""
    folder = home()
    try:
        with _lock(folder):
            _work(Store(folder))
    except Timeout:
        return


def _work(store: Store) -> None:
    store.end_orphans()
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < IDLE_SECONDS:
        run_id = store.claim(os.getpid())
        if run_id is None:
            time.sleep(POLL_SECONDS)
            continue
        _run_in_child(store, run_id)
        idle_since = time.monotonic()


def _run_in_child(store: Store, run_id: str) -> None:
    log_path = store.log_path(run_id)
    log_path.parent.mkdir(exist_ok=True)
    with log_path.open("ab") as log:
        # The pipe to the child's standard input is its leash: it closes with this process, and the child then ends itself.
        child = subprocess.Popen(
            [sys.executable, "-m", "experiments.jobs.child", run_id],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        status, error = _watch(store, run_id, child)
        assert child.stdin is not None
        child.stdin.close()
    store.end(run_id, status, error)


def _watch(store: Store, run_id: str, child: subprocess.Popen[bytes]) -> tuple[Status, TrialError | None]:
    """Waits for a child and says how its run ends if the child has not recorded an end itself."""
    deadline = time.monotonic() + TRIAL_LIMIT_SECONDS
    while child.poll() is None:
        if store.cancel_requested(run_id):
            _stop(child)
            return Status.CANCELLED, None
        if time.monotonic() > deadline:
            _stop(child)
            minutes = TRIAL_LIMIT_SECONDS / 60
            return Status.FAILED, TrialTimeout(f"The trial took longer than {minutes:.0f} minutes.", "Use fewer samples.")
        time.sleep(POLL_SECONDS)
    return Status.FAILED, _crash(child.returncode)


def _crash(returncode: int) -> BackendCrashed:
    if returncode < 0:
        how = f"was killed by signal {-returncode} ({signal.Signals(-returncode).name})"
    else:
        how = f"ended with exit code {returncode} before it had a result"
    return BackendCrashed(f"The backend crashed on this model: its process {how}.", "The run's log holds its last words.")


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Ends a child and everything it started: politely, then not."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, sign)
            child.wait(TERM_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            break
        break
    child.wait()


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / "worker.lock", timeout=0)


if __name__ == "__main__":
    main()
