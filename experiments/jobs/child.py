"""A job's own process: `python -m experiments.jobs.child PHASE OWNER RUN_ID…`. Everything heavy happens here and dies with it.

It writes to the store how its runs ended. Only when it cannot, its exit code has to say so, and the worker writes it.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy.exc import OperationalError

from experiments.jobs import ends, isolation
from experiments.jobs.folders import shared_folder, work_folder
from experiments.jobs.settings import Settings
from experiments.spec import LatencyProtocol
from experiments.store.queue import QUANTIZE_SHARE, Phase
from experiments.store.store import Store
from quantizers.errors import StoreError
from quantizers.schema import Mode, Status, Technique

REPORT_EVERY_SECONDS = 0.25


def main(phase: Phase, owner: str, run_ids: Sequence[str]) -> None:
    """Runs one job and records how its runs ended."""
    isolation.hold_leash()
    settings = Settings.read()
    isolation.limit_memory(settings.memory_bytes)
    if phase is Phase.QUANTIZE:
        isolation.step_back()
    work = _quantize if phase is Phase.QUANTIZE else _measure
    try:
        store = Store()
        try:
            with work_folder(store, run_ids[0]) as folder:
                work(store, owner, run_ids, folder)
        except Exception as error:
            traceback.print_exc()
            for run_id in run_ids:
                store.end(run_id, Status.FAILED, ends.raised(error, settings), owner=owner)
    except (StoreError, OperationalError):
        traceback.print_exc()
        sys.exit(ends.CANNOT_KEEP)


def _quantize(store: Store, owner: str, run_ids: Sequence[str], folder: Path) -> None:
    (run_id,) = run_ids
    spec = store.spec(run_id)
    if Technique.parse(spec.technique).mode is Mode.QAT:
        # Threads decide in which order is added up: on one, a seed trains the same network whatever else runs.
        os.environ.update(isolation.thread_limits(1))
    from experiments.trial import awaits_latency, quantize_trial

    timed_later = spec.measurement.latency is not LatencyProtocol.NONE
    reporter = _Reporter(store, owner, run_ids, 0.0, QUANTIZE_SHARE if timed_later else 1.0)
    finished = quantize_trial(spec, folder, reporter, _shared(store, run_id), reporter.show)
    store.keep(run_id, finished, awaits_latency=awaits_latency(finished.result), owner=owner)


def _measure(store: Store, owner: str, run_ids: Sequence[str], folder: Path) -> None:
    from experiments.trial import Waiting, measure_latency

    waiting = [Waiting(run_id, store.spec(run_id), store.file(run_id, "artefact")) for run_id in run_ids]
    reporter = _Reporter(store, owner, run_ids, QUANTIZE_SHARE, 1.0)
    for run_id, timed in measure_latency(waiting, folder, reporter, _shared(store, run_ids[0])).items():
        files = {"samples": timed.samples} if timed.samples else {}
        store.keep_latency(run_id, timed.added_to, files, owner=owner)


def _shared(store: Store, run_id: str) -> Path:
    return shared_folder(store, store.experiment_of(run_id))


class _Reporter:
    """Writes progress between `start` and `end`, and live data, to the store: the newest of them, a few times a second."""

    def __init__(self, store: Store, owner: str, run_ids: Sequence[str], start: float, end: float) -> None:
        self._store, self._owner, self._run_ids = store, owner, run_ids
        self._start, self._end = start, end
        self._progress: tuple[float, str] = (start, "Starting")
        self._live: Mapping[str, Any] | None = None
        self._written = 0.0

    def __call__(self, fraction: float, stage: str) -> None:
        self._progress = self._start + fraction * (self._end - self._start), stage
        self._write()

    def show(self, live: Mapping[str, Any]) -> None:
        self._live = live
        self._write()

    def _write(self) -> None:
        if time.monotonic() - self._written < REPORT_EVERY_SECONDS:
            return
        self._written = time.monotonic()
        # A trial does not fail because nobody can be told how far it is.
        with suppress(OperationalError):
            for run_id in self._run_ids:
                self._store.report(run_id, *self._progress, self._live, owner=self._owner)


if __name__ == "__main__":
    main(Phase(sys.argv[1]), sys.argv[2], sys.argv[3:])
