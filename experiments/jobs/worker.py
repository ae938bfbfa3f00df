"""The worker: one per data directory, elected by a file lock, detached from whoever started it.

It gives every job a process of its own and imports nothing heavy, so that a backend that crashes, leaks or hangs costs its own
trial and nothing else. What it decides is in `dispatcher`; here is how it comes and goes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy.exc import OperationalError

from experiments.home import home
from experiments.jobs import folders
from experiments.jobs.dispatcher import Dispatcher, Superseded
from experiments.jobs.local import ROOT, LocalExecutor
from experiments.jobs.settings import Settings
from experiments.store.store import Store
from quantizers.errors import StoreUnavailable

IDLE_SECONDS = 10.0
POLL_SECONDS = 0.2
TROUBLE_SECONDS = 60.0
"""How long the database may fail to answer before the worker gives up. Its runs are then taken over by the next one."""
_started: dict[Path, subprocess.Popen[bytes]] = {}
"""The worker this process last started for a directory: polled, so that one that left does not stay a zombie."""


def ensure_worker(folder: Path | None = None) -> None:
    """Starts a worker for a data directory unless one is at work there. Returns at once.

    Whoever waits for runs calls this each time it looks: a worker may be about to leave just when a run is queued.

    Raises:
        InputError: a setting makes no sense.
        StoreUnavailable: the directory cannot be written to.
    """
    Settings.read()
    folder = folder or home()
    started = _started.get(folder)
    if (started is not None and started.poll() is None) or _is_worked_on(folder):
        return
    with (folder / "worker.log").open("ab") as log:
        _started[folder] = subprocess.Popen(
            [sys.executable, "-m", "experiments.jobs.worker"],
            cwd=ROOT,
            env=os.environ | {"QUANTSCOPE_HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def main() -> None:
    """Works until nothing has been queued for a while. A second worker on the same directory leaves at once."""
    folder = home()
    try:
        with _lock(folder):
            _work(Store(folder), Settings.read())
    except Timeout:
        return


def _work(store: Store, settings: Settings) -> None:
    worker = store.register(f"{socket.gethostname()}:{store.home}")
    folders.clear_all(store)
    executor = LocalExecutor(store, settings.children)
    dispatcher = Dispatcher(store, executor, settings, worker)
    busy_at = well_at = time.monotonic()
    try:
        while time.monotonic() - busy_at < IDLE_SECONDS:
            try:
                if dispatcher.step():
                    busy_at = time.monotonic()
                well_at = time.monotonic()
            except OperationalError:
                traceback.print_exc()
                if time.monotonic() - well_at > TROUBLE_SECONDS:
                    raise
            time.sleep(POLL_SECONDS)
        store.dismiss(worker)
    except Superseded:
        print("Another worker has taken over; this one leaves.", file=sys.stderr)
    finally:
        executor.close()


def _is_worked_on(folder: Path) -> bool:
    lock = _lock(folder)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError as error:
        raise StoreUnavailable(
            f"The data directory {folder} cannot be written to.", "Make it writable, or name another with QUANTSCOPE_HOME."
        ) from error
    lock.release()
    return False


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / "worker.lock", timeout=0)


if __name__ == "__main__":
    main()
