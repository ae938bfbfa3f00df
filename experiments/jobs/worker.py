"""The worker: one per data directory, elected by a file lock, detached from whoever started it.

It gives every job a process of its own and imports nothing heavy, so that a backend that crashes, leaks or hangs costs its own
trial and nothing else. What it decides is in `dispatcher`; here is how it comes and goes.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy.exc import OperationalError

from experiments.home import home
from experiments.jobs import folders
from experiments.jobs.dispatcher import Dispatcher, Superseded
from experiments.jobs.executor import Executor
from experiments.jobs.local import ROOT, LocalExecutor
from experiments.jobs.settings import Settings
from experiments.store.store import Store
from quantizers.errors import ClusterUnavailable, QuantScopeError, StoreError, StoreUnavailable

IDLE_SECONDS = 10.0
TIDY_SECONDS = 5.0
"""After how long without work the worker removes what nobody needs any more, once."""
POLL_SECONDS = 0.2
TROUBLE_SECONDS = 60.0
"""How long the database or the cluster may fail to answer before the worker gives up. Its runs are left to the next one."""
LOG_BYTES = 1_000_000
"""From what size on a new worker begins a new log; the one before it is kept."""
_started: dict[Path, subprocess.Popen[bytes]] = {}
"""The worker this process last started for a directory: polled, so that one that left does not stay a zombie."""


def ensure_worker(folder: Path | None = None) -> None:
    """Starts a worker for a data directory unless one is at work there. Returns at once.

    Whoever waits for runs calls this each time it looks: a worker may be about to leave just when a run is queued.

    Raises:
        InputError: a setting makes no sense.
        MissingExtra: a scheduler is set, and the package to reach it is not installed.
        StoreUnavailable: the directory cannot be written to.
        ClusterUnavailable: the worker is there and has nowhere to run anything; it goes on trying for a while.
    """
    Settings.read()
    folder = folder or home()
    started = _started.get(folder)
    if (started is not None and started.poll() is None) or _is_worked_on(folder):
        _raise_trouble(folder)
        return
    with _log(folder).open("ab") as log:
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
    _tell_trouble(store.home, None)
    executor = _executor(store, settings, worker)
    try:
        _serve(store, executor, Dispatcher(store, executor, settings, worker))
        store.dismiss(worker)
    except Superseded:
        print("Another worker has taken over; this one leaves.", file=sys.stderr)
    finally:
        executor.close()
        _tell_trouble(store.home, None)


def _executor(store: Store, settings: Settings, worker: str) -> Executor:
    if settings.scheduler is None:
        return LocalExecutor(store, settings.children)
    from experiments.jobs.dask import DaskExecutor

    return DaskExecutor(store, settings.scheduler, worker)


def _serve(store: Store, executor: Executor, dispatcher: Dispatcher) -> None:
    """Lets the dispatcher take its steps until there has been no work, or nowhere to do it, for a while."""
    busy_at = well_at = time.monotonic()
    tidy, trouble = False, None
    while (now := time.monotonic()) - busy_at < IDLE_SECONDS:
        try:
            if dispatcher.step():
                busy_at, tidy = now, False
            if str(executor.trouble) != str(trouble):
                trouble = executor.trouble
                _tell_trouble(store.home, trouble)
            if trouble is None:
                well_at = now
            elif now - well_at > TROUBLE_SECONDS:
                return
            if not tidy and now - busy_at > TIDY_SECONDS:
                tidy = True
                _tidy(store)
        except OperationalError:
            traceback.print_exc(limit=1)
            if now - well_at > TROUBLE_SECONDS:
                raise
        time.sleep(POLL_SECONDS)


def _tidy(store: Store) -> None:
    try:
        store.collect_garbage()
    except (StoreError, OSError):
        traceback.print_exc()


def _tell_trouble(folder: Path, trouble: QuantScopeError | None) -> None:
    """Leaves word for whoever waits for runs; see `ensure_worker`."""
    told = _trouble_file(folder)
    if trouble is None:
        told.unlink(missing_ok=True)
        return
    print(f"{trouble.message} {trouble.hint}", file=sys.stderr, flush=True)
    half = told.with_suffix(".part")
    half.write_text(json.dumps(trouble.to_dict()), encoding="utf-8")
    half.replace(told)


def _raise_trouble(folder: Path) -> None:
    try:
        told = json.loads(_trouble_file(folder).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    raise ClusterUnavailable(told["message"], told["hint"])


def _trouble_file(folder: Path) -> Path:
    return folder / "worker.trouble"


def _log(folder: Path) -> Path:
    """The log of the next worker, which is not grown without bound."""
    log = folder / "worker.log"
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES:
            log.replace(folder / "worker.log.1")
    return log


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
