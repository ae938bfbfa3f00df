"""What is started when, and what becomes of it: the worker's decisions, one `step` at a time, without a clock of the wall.

Trials are quantized side by side. Latency is measured alone: when it is at the head of the queue nothing else is started, it
waits until the rest has ended, and until no other worker on this machine measures. An executor of several machines sees to that
on each of them, and is given latency like anything else.
"""

from __future__ import annotations

import os
import time
import traceback
from dataclasses import dataclass, field

from filelock import FileLock, Timeout

from experiments.jobs import ends, folders, isolation
from experiments.jobs.executor import Executor, Exit, Job
from experiments.jobs.settings import Settings
from experiments.store.queue import Phase
from experiments.store.store import Store
from quantizers.errors import QuantScopeError
from quantizers.processors import processors
from quantizers.schema import Status

BEAT_SECONDS = 2.0
LEASE_SECONDS = 30.0
"""Another worker whose beat stands still for so long, by this process's own clock, is taken for dead."""


class Superseded(Exception):
    """This worker has been taken for dead: what it does belongs to another one now."""


@dataclass(slots=True)
class _Watch:
    """A running job: when it must have ended, who wants it stopped, and what is said of it once it has."""

    deadline: float
    cancelled: set[str] = field(default_factory=set)
    verdict: tuple[Status, QuantScopeError | None] | None = None


class Dispatcher:
    """Keeps an executor busy with the runs of a store, for one registered worker."""

    def __init__(self, store: Store, executor: Executor, settings: Settings, worker: str) -> None:
        self._store, self._executor, self._settings, self._worker = store, executor, settings, worker
        self._running: dict[Job, _Watch] = {}
        self._exits: list[Exit] = []
        self._machine = FileLock(isolation.machine_lock_path(), timeout=0)
        self._beats: dict[str, tuple[int, float]] = {}
        self._beaten = -BEAT_SECONDS

    def step(self) -> bool:
        """Does what there is to do and returns at once; False when nothing is queued or running.

        Raises:
            Superseded: this worker has to leave.
            OperationalError: the database does not answer; a later step picks up where this one stopped.
        """
        self._beat()
        self._exits += self._executor.poll()
        while self._exits:
            self._settle(self._exits[0])
            del self._exits[0]
        self._stop_cancelled()
        self._stop_overdue()
        waiting = self._start()
        return waiting or bool(self._running)

    # ── starting ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self) -> bool:
        """Starts what may start; True when runs are left waiting."""
        while (phase := self._store.next_phase()) is not None:
            alone = any(job.phase is Phase.LATENCY for job in self._running) and not self._executor.isolates_latency
            if alone or len(self._running) >= self._executor.slots:
                return True
            job = self._quantize() if phase is Phase.QUANTIZE else self._measure()
            if job is None:
                return True
            self._running[job] = _Watch(self._deadline(job))
            try:
                self._executor.submit(job)
            except OSError:
                traceback.print_exc()
                self._exits.append(Exit(job, ends.CANNOT_KEEP))
        return False

    def _deadline(self, job: Job) -> float:
        return time.monotonic() + self._settings.trial_seconds * len(job.run_ids)

    def _quantize(self) -> Job | None:
        side_by_side = min(self._executor.slots, len(self._running) + self._store.queued(Phase.QUANTIZE))
        run_id = self._store.claim(os.getpid(), self._worker)
        threads = max(1, processors() // max(1, side_by_side))
        return Job(Phase.QUANTIZE, (run_id,), self._worker, threads) if run_id else None

    def _measure(self) -> Job | None:
        if not self._executor.isolates_latency and (self._running or not self._take_machine()):
            return None
        leaving = [run_id for job in self._running for run_id in job.run_ids]
        run_ids = self._store.claim_latency(os.getpid(), self._worker, leaving)
        if not run_ids:
            self._machine.release()
            return None
        return Job(Phase.LATENCY, tuple(run_ids), self._worker)

    def _take_machine(self) -> bool:
        try:
            self._machine.acquire()
        except Timeout:
            return False
        return True

    # ── stopping ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _stop_cancelled(self) -> None:
        asked = self._store.cancel_requests(self._worker)
        for job, watch in self._running.items():
            watch.cancelled |= asked.intersection(job.run_ids)
            if len(watch.cancelled) == len(job.run_ids):
                self._stop(job, Status.CANCELLED)
                continue
            # The others of a joint measurement go on, and this one's result will find that it ended.
            for run_id in watch.cancelled & asked:
                self._store.end(run_id, Status.CANCELLED, owner=self._worker)

    def _stop_overdue(self) -> None:
        for job, watch in self._running.items():
            if self._executor.waits(job):
                watch.deadline = self._deadline(job)
            elif time.monotonic() > watch.deadline:
                self._stop(job, Status.FAILED, ends.overdue(self._settings))

    def _stop(self, job: Job, status: Status, error: QuantScopeError | None = None) -> None:
        if self._running[job].verdict is None:
            self._running[job].verdict = status, error
            self._executor.cancel(job)

    # ── afterwards ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _settle(self, exit_: Exit) -> None:
        """Ends the runs that their process has left without an end."""
        job = exit_.job
        verdict = self._running[job].verdict
        if verdict is None and exit_.code in (None, isolation.ORPHANED):
            self._store.release(job.run_ids, owner=self._worker)
        for run_id in job.run_ids:
            status, error = verdict or (Status.FAILED, self._crash(exit_, job.run_ids[0]))
            self._store.end(run_id, status, error, owner=self._worker)
        del self._running[job]
        if job.phase is Phase.LATENCY:
            self._machine.release()
        folders.clear(self._store, job.run_ids[0])
        folders.clear_shared(self._store, self._store.experiment_of(job.run_ids[0]))

    def _crash(self, exit_: Exit, logged: str) -> QuantScopeError:
        return ends.exited(exit_.code or 0, self._store.log_tail(logged), self._settings)

    # ── leases ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _beat(self) -> None:
        """Shows that this worker lives, and takes over from others that no longer do."""
        now = time.monotonic()
        if now - self._beaten < BEAT_SECONDS:
            return
        if not self._store.beat(self._worker):
            raise Superseded
        self._beaten = now
        for worker, beat in self._store.beats().items():
            known, since = self._beats.get(worker, (None, now))
            self._beats[worker] = beat, since if known == beat else now
            if worker != self._worker and now - self._beats[worker][1] > LEASE_SECONDS:
                self._store.dismiss(worker)
