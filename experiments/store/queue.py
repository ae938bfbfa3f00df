"""The queue: which runs wait, which one is whose, and how each ends. A mixin of the Store; every method is one transaction."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select, update

from experiments.spec import Plan, TrialSpec
from experiments.store.artefacts import ArtefactStore
from experiments.store.tables import experiments, run_layers, runs
from quantizers.errors import QuantScopeError, UnknownName
from quantizers.schema import Status


class Phase(StrEnum):
    """The two parts of a trial: everything up to accuracy, which may overlap, and latency, which is alone on the machine."""

    QUANTIZE = "quantize"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Finished:
    """What a trial leaves behind: the RUN's measured sections, its layers, and files by role ("artefact", "details").

    With `awaits_latency` the run is queued once more, for its latency; its latency and memory sections then say that they wait.
    """

    result: Mapping[str, Any]
    layers: Sequence[Mapping[str, Any]]
    files: Mapping[str, Path]
    awaits_latency: bool = False


class Queue:
    """What pages, command line, worker and trials do to runs that have not ended."""

    artefacts: ArtefactStore
    _engine: Engine

    def submit(self, plan: Plan) -> str:
        """Stores every trial of a plan, the impossible ones too, and returns the experiment's id."""
        experiment_id, now = uuid.uuid4().hex[:12], time.time()
        shared = {"experiment_id": experiment_id, "created": now, "stage": "", "progress": 0.0, "cancel": False}
        measurement = plan.trials[0].measurement
        model = plan.trials[0].model
        rows: list[tuple[TrialSpec, Status, dict[str, str] | None]]
        rows = [(trial, Status.QUEUED, None) for trial in plan.trials]
        rows += [
            (TrialSpec(model, one.backend, one.technique, measurement), Status.UNAVAILABLE, one.error.to_dict())
            for one in plan.impossible
        ]
        with self._engine.begin() as connection:
            connection.execute(insert(experiments).values(id=experiment_id, created=now))
            connection.execute(
                insert(runs),
                [
                    shared | _identity(trial) | {"position": position, "status": status.value, "error": error}
                    for position, (trial, status, error) in enumerate(rows)
                ],
            )
        return experiment_id

    def claim(self, pid: int) -> str | None:
        """Takes the oldest queued run for the process `pid`; None when nothing is queued."""
        with self._engine.begin() as connection:
            oldest = select(runs.c.id).where(runs.c.status == Status.QUEUED.value, runs.c.deleted.is_(None))
            run_id = connection.execute(oldest.order_by(runs.c.created, runs.c.position).limit(1)).scalar()
            if run_id is not None:
                self._set(connection, run_id, status=Status.RUNNING.value, pid=pid, started=time.time(), stage="Starting")
        return run_id

    def spec(self, run_id: str) -> TrialSpec:
        """What a run was asked to do."""
        with self._reading() as connection:
            stored = connection.execute(select(runs.c.spec).where(runs.c.id == run_id)).scalar()
        if stored is None:
            raise UnknownName(f"There is no run “{run_id}”.")
        return TrialSpec.from_dict(stored)

    def report(self, run_id: str, fraction: float, stage: str) -> None:
        """Progress of a running trial."""
        with self._engine.begin() as connection:
            self._set(connection, run_id, progress=min(max(fraction, 0.0), 1.0), stage=stage)

    def finish(self, run_id: str, finished: Finished) -> None:
        """Keeps a trial's files and result and marks it done, in that order: a run that is done has everything."""
        files = {role: self.artefacts.put(path) for role, path in finished.files.items()}
        with self._engine.begin() as connection:
            connection.execute(delete(run_layers).where(run_layers.c.run_id == run_id))
            connection.execute(insert(run_layers).values(run_id=run_id, layers=list(finished.layers)))
            done = {"status": Status.DONE.value, "progress": 1.0, "stage": "", "finished": time.time()}
            self._set(connection, run_id, result=dict(finished.result), files=files, **done)

    def end(self, run_id: str, status: Status, error: QuantScopeError | None = None) -> None:
        """Ends a run that did not finish; does nothing to one that already ended."""
        with self._engine.begin() as connection:
            current = connection.execute(select(runs.c.status).where(runs.c.id == run_id)).scalar()
            if current is not None and Status(current).active:
                detail = error.to_dict() if error else None
                self._set(connection, run_id, status=status.value, error=detail, finished=time.time(), stage="")

    def end_orphans(self) -> None:
        """Marks running trials interrupted; called by the one worker when it starts, so nobody can be running them."""
        with self._engine.begin() as connection:
            stale = runs.c.status == Status.RUNNING.value
            connection.execute(
                update(runs).where(stale).values(status=Status.INTERRUPTED.value, finished=time.time(), stage="")
            )

    def resume(self, experiment_id: str) -> int:
        """Queues the interrupted trials of an experiment again and returns how many there were."""
        with self._engine.begin() as connection:
            interrupted = (runs.c.experiment_id == experiment_id) & (runs.c.status == Status.INTERRUPTED.value)
            values = {"status": Status.QUEUED.value, "cancel": False, "progress": 0.0, "finished": None}
            return connection.execute(update(runs).where(interrupted).values(**values)).rowcount

    def cancel(self, *, run_id: str | None = None, experiment_id: str | None = None) -> None:
        """Ends what is queued at once and asks the worker to stop what is running."""
        chosen = runs.c.id == run_id if run_id else runs.c.experiment_id == experiment_id
        with self._engine.begin() as connection:
            queued = chosen & (runs.c.status == Status.QUEUED.value)
            connection.execute(update(runs).where(queued).values(status=Status.CANCELLED.value, finished=time.time()))
            connection.execute(update(runs).where(chosen & (runs.c.status == Status.RUNNING.value)).values(cancel=True))

    def cancel_requested(self, run_id: str) -> bool:
        with self._reading() as connection:
            return bool(connection.execute(select(runs.c.cancel).where(runs.c.id == run_id)).scalar())

    def _reading(self) -> Connection:
        return self._engine.connect().execution_options(writes=False)

    def _set(self, connection: Connection, run_id: str, **values: Any) -> None:
        connection.execute(update(runs).where(runs.c.id == run_id).values(**values))


def _identity(trial: TrialSpec) -> dict[str, Any]:
    return {
        "id": uuid.uuid4().hex[:12],
        "model": trial.model,
        "backend": trial.backend.value,
        "technique": trial.technique,
        "spec": trial.to_dict(),
        "digest": trial.digest,
    }
