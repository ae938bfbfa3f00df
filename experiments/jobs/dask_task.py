"""What runs on a Dask worker: a look at what its host can do, and jobs, each a child process as on one's own machine.

The Dask worker imports nothing heavy and only watches. A child lives as long as somebody wants its result: when the task is
cancelled, when its client is gone or when the Dask worker closes, the child is ended, and it dies with the Dask worker.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from experiments.home import home
from experiments.jobs import folders, isolation
from experiments.jobs.executor import Job
from experiments.jobs.local import LocalExecutor
from experiments.store import artefacts, database
from experiments.store.queue import Phase
from experiments.store.store import Store
from models import entry, my_data
from quantizers.errors import ClusterUnavailable, InputError
from quantizers.processors import processors
from quantizers.schema import Status

POLL_SECONDS = 0.1
LOG_BYTES = 1 << 16
"""The most of a log that is sent at once to a worker that cannot read it where it lies."""
STORE_HINT = (
    f"Start Dask workers with the same {database.URL_VARIABLE}, of a PostgreSQL server, and the same {artefacts.URL_VARIABLE}, "
    "or on the same disk with the same data directory."
)


@dataclass(frozen=True, slots=True)
class Seat:
    """Who asks for jobs: the worker `owner` of the data directory `home`, in which it has laid the file `token`."""

    owner: str
    home: Path
    token: str
    hostname: str
    artefacts_url: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a Dask worker runs jobs: a data directory; `shared`: it is the very directory of the worker that asks."""

    home: Path
    shared: bool


def look(seat: Seat) -> Place:
    """Sees whether this host can work for `seat`, and where: in its own `$QUANTSCOPE_HOME` if it has one.

    Raises:
        ClusterUnavailable: it has another store, or could not hand over what its trials make.
        StoreError: its store cannot be opened.
    """
    here = socket.gethostname()
    seen = (seat.home / seat.token).is_file() and not os.environ.get("QUANTSCOPE_HOME")
    folder = seat.home if seen else home()
    place = Place(folder, (folder / seat.token).is_file())
    in_file = not os.environ.get(database.URL_VARIABLE, "").startswith("postgresql")
    if in_file and here != seat.hostname:
        raise ClusterUnavailable(f"The store is a file, which host {here} cannot share with {seat.hostname}.", STORE_HINT)
    if seat.owner not in Store(place.home).beats():
        raise ClusterUnavailable(f"The Dask worker on host {here} has another store.", STORE_HINT)
    url = os.environ.get(artefacts.URL_VARIABLE)
    if not place.shared and (url is None or url != seat.artefacts_url):
        raise ClusterUnavailable(f"Host {here} keeps what trials make in another place.", STORE_HINT)
    return place


def run(place: Place, job: Job, topic: str, key: str) -> None:
    """Runs a job in a process of its own, and tells under `topic` when it starts, what it prints, and how it ends."""
    from distributed import get_worker

    worker = get_worker()

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        return worker.status.name in ("running", "paused") and task is not None and task.state == "executing"

    def tell(**what: Any) -> None:
        worker.log_event(topic, {"key": key, **what})

    store = Store(place.home)
    if job.phase is Phase.QUANTIZE:
        job = replace(job, threads=max(1, processors() // worker.state.nthreads))
    if not place.shared and _refuses_own_files(store, job):
        _tidy(store, job)
        tell(code=0)
        return
    code = isolation.ORPHANED
    with _undisturbed(job, wanted) as undisturbed:
        if undisturbed:
            tell(started=True)
            code = _watch(store, job, wanted, None if place.shared else lambda text: tell(log=text))
    if not place.shared:
        _tidy(store, job)
    tell(code=code)


def _tidy(store: Store, job: Job) -> None:
    """Removes what a job left on a disk that nobody else looks after."""
    folders.clear(store, job.run_ids[0])
    folders.clear_shared(store, store.experiment_of(job.run_ids[0]))


def _watch(store: Store, job: Job, wanted: Callable[[], bool], send: Callable[[bytes], None] | None) -> int:
    """The exit code of the job's process, which is ended when it is no longer wanted."""
    log_path, sent = store.log_path(job.run_ids[0]), 0
    if send is not None:
        log_path.unlink(missing_ok=True)
    with closing(LocalExecutor(store, 1)) as executor:
        executor.submit(job)
        while True:
            exits = executor.poll()
            if send is not None:
                with log_path.open("rb") as log:
                    log.seek(sent)
                    while text := log.read(LOG_BYTES):
                        send(text)
                    sent = log.tell()
            if exits:
                assert exits[0].code is not None
                return exits[0].code
            if not wanted():
                executor.cancel(job)
            time.sleep(POLL_SECONDS)


@contextmanager
def _undisturbed(job: Job, wanted: Callable[[], bool]) -> Iterator[bool]:
    """Holds what a measurement of latency has to itself on this machine; False when it is no longer wanted."""
    if job.phase is not Phase.LATENCY:
        yield True
        return
    machine = FileLock(isolation.machine_lock_path(), timeout=0)
    while wanted():
        try:
            machine.acquire()
        except Timeout:
            time.sleep(POLL_SECONDS)
            continue
        try:
            yield True
        finally:
            machine.release()
        return
    yield False


def _refuses_own_files(store: Store, job: Job) -> bool:
    """Ends runs whose model or data a person has added: those files lie in a data directory that is not here."""
    spec = store.spec(job.run_ids[0])
    data = spec.measurement.data
    if not (spec.model.startswith(entry.PREFIX) or data.startswith(my_data.PREFIX) or data.endswith(".npz")):
        return False
    error = InputError(
        f"Host {socket.gethostname()} does not have the files of “{spec.model}” and “{data}”.",
        "Models and data of one's own need Dask workers on the same data directory, or a run without a scheduler.",
    )
    for run_id in job.run_ids:
        store.end(run_id, Status.FAILED, error, owner=job.owner)
    return True
