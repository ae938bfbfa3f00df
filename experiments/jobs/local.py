"""Jobs on this machine: each a process in a session of its own, on a leash, with a log file per run."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from experiments.jobs import isolation
from experiments.jobs.executor import Exit, Job
from experiments.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
TERM_SECONDS = 1.0
"""How long a process may take to end by itself."""
POLL_SECONDS = 0.05


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    kill_at: float | None = None


class LocalExecutor:
    """An `Executor` of child processes. Not safe to share between threads."""

    trouble = None
    isolates_latency = False

    def __init__(self, store: Store, slots: int) -> None:
        self._store, self._slots = store, slots
        self._children: dict[Job, _Child] = {}

    @property
    def slots(self) -> int:
        return self._slots

    def waits(self, _job: Job) -> bool:
        return False

    def submit(self, job: Job) -> None:
        log_path = self._store.log_path(job.run_ids[0])
        log_path.parent.mkdir(exist_ok=True)
        environment = os.environ | {"QUANTSCOPE_HOME": str(self._store.home)}
        if job.threads:
            environment |= isolation.thread_limits(job.threads)
        with log_path.open("ab") as log:
            # The pipe to the child's standard input is its leash: it closes with this process, and the child then ends itself.
            process = subprocess.Popen(
                job.command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children[job] = _Child(process)

    def poll(self) -> list[Exit]:
        exits = []
        for job, child in list(self._children.items()):
            code = child.process.poll()
            if code is not None:
                assert child.process.stdin is not None
                child.process.stdin.close()
                del self._children[job]
                exits.append(Exit(job, code))
            elif child.kill_at is not None and time.monotonic() > child.kill_at:
                isolation.interrupt(child.process, force=True)
        return exits

    def cancel(self, job: Job) -> None:
        child = self._children.get(job)
        if child is not None and child.kill_at is None:
            child.kill_at = time.monotonic() + TERM_SECONDS
            isolation.interrupt(child.process)

    def close(self) -> None:
        for job in list(self._children):
            self.cancel(job)
        while self._children:
            self.poll()
            time.sleep(POLL_SECONDS)
