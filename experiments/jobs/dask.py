"""Jobs on a Dask cluster: each a task that a Dask worker runs as the same child process as on one's own machine.

A Dask worker serves when it offers the resource `quantscope-host`, once a host. Quantizing takes a sliver of it, as often as
the Dask worker has threads; latency takes all of it, whoever asks, and so has its host to itself. Every job is pinned to one
Dask worker: when that one is lost, the store decides whether the job is done again, and Dask does not.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from experiments.jobs import dask_task, ends
from experiments.jobs.dask_task import Place, Seat
from experiments.jobs.executor import Exit, Job
from experiments.store import artefacts
from experiments.store.queue import Phase
from experiments.store.store import Store
from quantizers.errors import ClusterUnavailable, QuantScopeError

if TYPE_CHECKING:
    from distributed import Client, Future

RESOURCE = "quantscope-host"
SLIVER = 1 / 1024
"""What quantizing takes of a host: little, for the Dask worker's threads say how often, and exact in binary."""
ANSWER_SECONDS = 5.0
RETRY_SECONDS = 5.0
LOOK_SECONDS = 1.0
POLL_SECONDS = 0.05
GONE_SECONDS = 2.0
"""How long a cancelled job may take to say that it is gone."""


@dataclass(slots=True)
class _Host:
    """A Dask worker that offers to serve, and what came of looking at it."""

    threads: int
    looking: Future[Place]
    place: Place | None = None
    problem: QuantScopeError | None = None


@dataclass(slots=True)
class _Task:
    key: str
    address: str
    future: Future[None]
    starts: int = 0
    code: int | None = None
    gone_by: float | None = None


class DaskExecutor:
    """An `Executor` on the scheduler at `address`, for the registered worker `owner`. Not safe to share between threads."""

    isolates_latency = True

    def __init__(self, store: Store, address: str, owner: str) -> None:
        self._store, self._address = store, address
        token = f"cluster-{owner}"
        self._seat = Seat(owner, store.home, token, socket.gethostname(), os.environ.get(artefacts.URL_VARIABLE))
        self._token = store.home / token
        self._token.touch()
        self._topic = f"quantscope-{owner}"
        self._told: SimpleQueue[Mapping[str, Any]] = SimpleQueue()
        self._client: Client | None = None
        self._hosts: dict[str, _Host] = {}
        self._tasks: dict[Job, _Task] = {}
        self._next_look = 0.0
        self._trouble: QuantScopeError | None = None
        logging.getLogger("distributed").setLevel(logging.CRITICAL)

    @property
    def slots(self) -> int:
        return sum(host.threads for host in self._hosts.values() if host.place)

    @property
    def trouble(self) -> QuantScopeError | None:
        return self._trouble

    def waits(self, job: Job) -> bool:
        task = self._tasks.get(job)
        return task is not None and not task.starts

    def submit(self, job: Job) -> None:
        assert self._client is not None, "there are slots only while there is a cluster"
        address = min((address for address, host in self._hosts.items() if host.place), key=self._load)
        key = f"{job.phase}-{job.run_ids[0]}-{uuid.uuid4().hex[:8]}"
        future = self._client.submit(
            dask_task.run,
            self._hosts[address].place,
            job,
            self._topic,
            key,
            key=key,
            workers=[address],
            allow_other_workers=False,
            resources={RESOURCE: 1 if job.phase is Phase.LATENCY else SLIVER},
        )
        self._tasks[job] = _Task(key, address, future)

    def poll(self) -> list[Exit]:
        if time.monotonic() >= self._next_look:
            self._look()
        self._hear()
        exits = [found for job, task in self._tasks.items() if (found := self._exit(job, task))]
        for one in exits:
            del self._tasks[one.job]
        return exits

    def cancel(self, job: Job) -> None:
        task = self._tasks.get(job)
        if task is not None and task.gone_by is None:
            task.gone_by = time.monotonic() + GONE_SECONDS
            task.future.cancel()

    def close(self) -> None:
        for job in list(self._tasks):
            self.cancel(job)
        while self._tasks:
            self.poll()
            time.sleep(POLL_SECONDS)
        self._disconnect()
        self._token.unlink(missing_ok=True)

    # ── the cluster ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _look(self) -> None:
        """Learns which Dask workers there are, connecting first if need be."""
        pause = LOOK_SECONDS
        try:
            client = self._client = self._client or self._connect()
            assert client.scheduler is not None
            known = client.sync(client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER_SECONDS)["workers"]
        except (OSError, TimeoutError) as error:
            # One that is slow to answer is not lost, nor is what it runs.
            if self._client is None or self._client.status != "running":
                self._disconnect()
            what = f"The Dask scheduler at {self._address} does not answer: {error or type(error).__name__}"
            hint = "See that it runs and can be reached from here. What waits stays in the queue until it does."
            self._trouble, pause = ClusterUnavailable(what, hint), RETRY_SECONDS
        else:
            self._meet(client, {address: one for address, one in known.items() if one["resources"].get(RESOURCE, 0) >= 1})
        self._next_look = time.monotonic() + pause

    def _connect(self) -> Client:
        from distributed import Client

        client = Client(self._address, timeout=ANSWER_SECONDS, set_as_default=False, name="quantscope")
        client.subscribe_topic(self._topic, lambda event: self._told.put(event[1]))
        return client

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        self._hosts.clear()
        if client is not None:
            with suppress(OSError, TimeoutError):
                client.close(timeout=ANSWER_SECONDS)

    def _meet(self, client: Client, offered: Mapping[str, Mapping[str, Any]]) -> None:
        """Keeps to the Dask workers that serve: new ones are looked at, lost ones forgotten."""
        for address in self._hosts.keys() - offered.keys():
            del self._hosts[address]
        for address, worker in offered.items():
            if address not in self._hosts:
                looking = client.submit(dask_task.look, self._seat, workers=[address], allow_other_workers=False, pure=False)
                self._hosts[address] = _Host(worker["nthreads"], looking)
        crowded = {name for name, number in Counter(one["host"] for one in offered.values()).items() if number > 1}
        for address, host in self._hosts.items():
            _settle(host, offered[address]["host"] if offered[address]["host"] in crowded else None)
        self._trouble = self._problem()

    def _problem(self) -> QuantScopeError | None:
        """Why no job can start; None as long as there is a place, or may be one soon."""
        if self.slots or self._tasks or any(host.problem is None for host in self._hosts.values()):
            return None
        if self._hosts:
            return next(host.problem for host in self._hosts.values())
        return ClusterUnavailable(
            f"No Dask worker of the scheduler at {self._address} offers to run trials.",
            f'Start one on each host with: --no-nanny --resources "{RESOURCE}=1".',
        )

    def _load(self, address: str) -> float:
        """How busy a Dask worker is with this worker's jobs; 1: nothing more should start there."""
        threads = self._hosts[address].threads
        here = [job for job, task in self._tasks.items() if task.address == address]
        return sum(1.0 if job.phase is Phase.LATENCY else 1 / threads for job in here)

    # ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _hear(self) -> None:
        """Takes in what the tasks have told."""
        jobs = {task.key: job for job, task in self._tasks.items()}
        with suppress(Empty):
            while True:
                told = self._told.get_nowait()
                job = jobs.get(told["key"])
                if job is None:
                    continue
                task = self._tasks[job]
                task.starts += "started" in told
                task.code = told.get("code", task.code)
                if "log" in told:
                    path = self._store.log_path(job.run_ids[0])
                    path.parent.mkdir(exist_ok=True)
                    with path.open("ab") as log:
                        log.write(told["log"])

    def _exit(self, job: Job, task: _Task) -> Exit | None:
        if task.code is not None:
            return Exit(job, task.code)
        # Begun twice: its Dask worker was lost, and another one has come up at the same address.
        if task.address not in self._hosts or task.starts > 1:
            task.future.cancel()
            return Exit(job, None)
        if task.future.status == "error":
            print(f"Job {task.key} on {task.address}: {task.future.exception()!r}", file=sys.stderr)
            return Exit(job, ends.CANNOT_KEEP)
        if task.gone_by is not None and time.monotonic() > task.gone_by:
            return Exit(job, None)
        return None


def _settle(host: _Host, crowded: str | None) -> None:
    """Says whether jobs can run on a Dask worker, once that is known; `crowded`: its host when another serves there too."""
    if crowded is not None:
        host.place = None
        host.problem = ClusterUnavailable(
            f"Several Dask workers of host {crowded} offer “{RESOURCE}”: latency would not be alone there.",
            "Start one Dask worker a host, with as many threads as trials may be quantized there at once.",
        )
    elif host.place is None and host.looking.status == "finished":
        host.place, host.problem = host.looking.result(), None
    elif host.looking.status == "error":
        error = host.looking.exception()
        host.problem = error if isinstance(error, QuantScopeError) else _unprepared(error)


def _unprepared(error: BaseException | None) -> ClusterUnavailable:
    return ClusterUnavailable(
        f"A Dask worker cannot run trials: {error!r}",
        "Start Dask workers from the folder of this project, with its own Python environment.",
    )
