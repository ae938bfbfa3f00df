"""Where trials run: `Executor` is what the worker asks of a place, be it this machine or a cluster.

A job is one process, `python -m experiments.jobs.child`, that reads what to do from the store and writes there how it ended.
An executor starts it, sees that it ends, and knows nothing of runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from experiments.store.queue import Phase
from quantizers.errors import QuantScopeError


@dataclass(frozen=True, slots=True)
class Job:
    """One phase of one run, or the latency of several side by side, on lease to the worker `owner`.

    `threads`: the cores it may count on, for the libraries that would take all of them; 0 leaves that to them.
    """

    phase: Phase
    run_ids: tuple[str, ...]
    owner: str
    threads: int = 0

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "experiments.jobs.child", self.phase.value, self.owner, *self.run_ids]


@dataclass(frozen=True, slots=True)
class Exit:
    """How a job's process ended: its exit code, negative for a signal, or None when the machine it ran on was lost."""

    job: Job
    code: int | None


class Executor(Protocol):
    """Runs jobs, `slots` at once. A job that is cancelled is polled as well, once it is gone, within three seconds."""

    @property
    def slots(self) -> int:
        """How many jobs may be submitted at once; 0 while there is nowhere to run one."""

    @property
    def trouble(self) -> QuantScopeError | None:
        """What keeps it from running anything, if something does."""

    @property
    def isolates_latency(self) -> bool:
        """Whether it sees to it itself that latency is measured alone on its machine."""

    def waits(self, job: Job, /) -> bool:
        """Whether a submitted job still waits for its machine, so that its time has not begun."""

    def submit(self, job: Job) -> None:
        """Starts a job; returns at once."""

    def poll(self) -> Sequence[Exit]:
        """The jobs that ended since this was last asked; returns at once."""

    def cancel(self, job: Job) -> None:
        """Begins to end a job; returns at once."""

    def close(self) -> None:
        """Ends all jobs, and returns when they are gone."""
