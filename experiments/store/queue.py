"""The queue: which runs wait, which one is whose, and how each ends. A mixin of the Store; every method is one transaction.

A running run is on lease to one worker, and whoever writes to it names that worker as `owner`: a worker that was taken for dead
and comes back, or a child that outlives it, finds that its run is no longer its own and changes nothing. No clock decides any
of this, so none that jumps can harm it; times are kept to be shown.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, case, delete, func, insert, or_, select, update

from experiments.spec import Plan, TrialSpec
from experiments.store.artefacts import ArtefactStore
from experiments.store.garbage import NEEDS_SHARED_WORK
from experiments.store.tables import experiments, run_layers, runs, workers
from quantizers.errors import QuantScopeError, UnknownName
from quantizers.schema import Status

MAX_ATTEMPTS = 2
"""How often a phase is begun before a run whose worker keeps dying is left for a person to resume."""
QUANTIZE_SHARE = 0.7
"""The part of a run's progress bar that its first phase fills when latency follows."""
LOG_TAIL_BYTES = 65_536
RUNS_LEARNT_FROM = 200


class Phase(StrEnum):
    """The two parts of a trial: everything up to accuracy, which may overlap, and latency, which is alone on the machine."""

    QUANTIZE = "quantize"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Finished:
    """What a trial leaves behind: the RUN's measured sections, its layers, and files by role ("artefact", "details")."""

    result: Mapping[str, Any]
    layers: Sequence[Mapping[str, Any]]
    files: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Taken:
    """What a finished run has taken: seconds by the name of the stage."""

    backend: str
    technique: str
    latency: str
    seconds: Mapping[str, float]


class Queue:
    """What pages, command line, worker and trials do to runs that have not ended."""

    home: Path
    artefacts: ArtefactStore
    _engine: Engine

    # ── what people ask for ─────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, plan: Plan, *, priority: int = 0) -> str:
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
                    shared
                    | _identity(trial)
                    | {"position": position, "status": status.value, "error": error, "priority": priority}
                    for position, (trial, status, error) in enumerate(rows)
                ],
            )
        return experiment_id

    def cancel(self, *, run_id: str | None = None, experiment_id: str | None = None) -> None:
        """Ends what is queued at once and asks the worker to stop what is running."""
        chosen = runs.c.id == run_id if run_id else runs.c.experiment_id == experiment_id
        with self._engine.begin() as connection:
            self._end_all(connection, chosen & _has(Status.QUEUED), Status.CANCELLED)
            connection.execute(update(runs).where(chosen & _has(Status.RUNNING)).values(cancel=True))

    def resume(self, experiment_id: str) -> int:
        """Queues the interrupted trials of an experiment again, each for the phase it lacks; returns how many there were."""
        with self._engine.begin() as connection:
            interrupted = (runs.c.experiment_id == experiment_id) & _has(Status.INTERRUPTED)
            return connection.execute(_queued_again(interrupted).values(attempts=0)).rowcount

    def log_tail(self, run_id: str, lines: int = 20) -> list[str]:
        """The last lines that the processes of a run have printed; none before it starts."""
        try:
            with self.log_path(run_id).open("rb") as log:
                log.seek(max(0, log.seek(0, 2) - LOG_TAIL_BYTES))
                text = log.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return []
        return list(deque(text.splitlines(), maxlen=lines))

    def log_path(self, run_id: str) -> Path:
        """Where the processes of a run write what its libraries print; those of a joint measurement to the first run's."""
        return self.home / "logs" / f"{run_id}.log"

    # ── what the worker does ────────────────────────────────────────────────────────────────────────────────────────────

    def next_phase(self) -> Phase | None:
        """What the run at the head of the queue waits for; None when nothing is queued.

        An experiment's latencies come after its other trials, and before the next experiment.
        """
        with self._reading() as connection:
            phase = connection.execute(_in_line(runs.c.phase)).scalar()
        return None if phase is None else Phase(phase)

    def claim(self, pid: int, owner: str | None = None) -> str | None:
        """Takes the first run that waits to be quantized for the process `pid`; None when there is none."""
        with self._engine.begin() as connection:
            waiting = _in_line(runs.c.id).where(runs.c.phase == Phase.QUANTIZE.value)
            run_id: str | None = connection.execute(waiting.with_for_update(skip_locked=True)).scalar()
            if run_id is not None:
                self._lease(connection, runs.c.id == run_id, pid, owner)
        return run_id

    def claim_latency(self, pid: int, owner: str | None = None, leaving: Collection[str] = ()) -> list[str]:
        """Takes all runs of one experiment × backend that wait for their latency, to be measured side by side.

        None of them while another run of that experiment × backend has yet to be quantized, or is one of those whose process
        is still `leaving`: with its result kept, but yet to end.
        """
        with self._engine.begin() as connection:
            first = _in_line(runs.c.experiment_id, runs.c.backend).where(runs.c.phase == Phase.LATENCY.value)
            group = connection.execute(first).one_or_none()
            if group is None:
                return []
            alike = (runs.c.experiment_id == group.experiment_id) & (runs.c.backend == group.backend) & runs.c.deleted.is_(None)
            unquantized = (runs.c.phase == Phase.QUANTIZE.value) & (_has(Status.QUEUED) | _has(Status.RUNNING))
            unready = alike & (unquantized | runs.c.id.in_(leaving))
            if connection.execute(select(func.count()).where(unready)).scalar():
                return []
            ready = alike & (runs.c.phase == Phase.LATENCY.value) & _has(Status.QUEUED)
            chosen = select(runs.c.id).where(ready).order_by(runs.c.position).with_for_update(skip_locked=True)
            ids = list(connection.execute(chosen).scalars())
            self._lease(connection, runs.c.id.in_(ids), pid, owner)
        return ids

    def queued(self, phase: Phase) -> int:
        """How many runs wait for a phase."""
        query = select(func.count()).where(_has(Status.QUEUED), runs.c.deleted.is_(None), runs.c.phase == phase.value)
        with self._reading() as connection:
            return connection.execute(query).scalar_one()

    def release(self, run_ids: Sequence[str], owner: str | None = None) -> None:
        """Gives back running runs whose machine was lost; see `dismiss`."""
        with self._engine.begin() as connection:
            for run_id in run_ids:
                self._give_back(connection, _held(run_id, owner))

    def cancel_requests(self, owner: str | None = None) -> set[str]:
        """The running runs of a worker that people want stopped."""
        query = select(runs.c.id).where(_has(Status.RUNNING), runs.c.cancel, runs.c.lease_owner.is_not_distinct_from(owner))
        with self._reading() as connection:
            return set(connection.execute(query).scalars())

    def experiment_of(self, run_id: str) -> str:
        """The experiment a run belongs to."""
        with self._reading() as connection:
            return str(connection.execute(select(runs.c.experiment_id).where(runs.c.id == run_id)).scalar_one())

    def active(self, experiment_id: str) -> bool:
        """Whether any run of an experiment is queued or running."""
        query = select(func.count()).where(runs.c.experiment_id == experiment_id, _has(Status.QUEUED) | _has(Status.RUNNING))
        with self._reading() as connection:
            return bool(connection.execute(query).scalar())

    def unfinished(self, experiment_id: str) -> bool:
        """Whether any run of an experiment is queued, running, or can be resumed."""
        waiting = runs.c.status.in_([status.value for status in NEEDS_SHARED_WORK]) & runs.c.deleted.is_(None)
        query = select(func.count()).where(runs.c.experiment_id == experiment_id, waiting)
        with self._reading() as connection:
            return bool(connection.execute(query).scalar())

    # ── what a trial does ───────────────────────────────────────────────────────────────────────────────────────────────

    def spec(self, run_id: str) -> TrialSpec:
        """What a run was asked to do."""
        with self._reading() as connection:
            stored = connection.execute(select(runs.c.spec).where(runs.c.id == run_id)).scalar()
        if stored is None:
            raise UnknownName(f"There is no run “{run_id}”.")
        return TrialSpec.from_dict(stored)

    def report(
        self, run_id: str, fraction: float, stage: str, live: Mapping[str, Any] | None = None, *, owner: str | None = None
    ) -> None:
        """Progress of a running trial, and what it has to show so far, such as a learning curve."""
        values: dict[str, Any] = {"progress": min(max(fraction, 0.0), 1.0), "stage": stage}
        if live is not None:
            values["live"] = dict(live)
        with self._engine.begin() as connection:
            connection.execute(update(runs).where(_held(run_id, owner)).values(**values))

    def keep(self, run_id: str, finished: Finished, *, awaits_latency: bool = False, owner: str | None = None) -> None:
        """Keeps a trial's files and result, then says that it is done, or queues it once more, for its latency.

        In that order: a run that is done has everything. A run that is no longer its worker's is left as it is.
        """
        files = {role: self.artefacts.put(path) for role, path in finished.files.items()}
        with self._engine.begin() as connection:
            cancelled = connection.execute(select(runs.c.cancel).where(_held(run_id, owner)).with_for_update()).scalar()
            if cancelled is None:
                return
            self.artefacts.put_missing(finished.files, files)
            connection.execute(delete(run_layers).where(run_layers.c.run_id == run_id))
            connection.execute(insert(run_layers).values(run_id=run_id, layers=list(finished.layers)))
            this = runs.c.id == run_id
            connection.execute(update(runs).where(this).values(result=dict(finished.result), files=files, live=None))
            if not awaits_latency:
                self._end_all(connection, this, Status.DONE)
                return
            connection.execute(update(runs).where(this).values(phase=Phase.LATENCY.value))
            if cancelled:
                self._end_all(connection, this, Status.CANCELLED)
            else:
                connection.execute(_queued_again(this).values(attempts=0))

    def keep_latency(
        self,
        run_id: str,
        complete: Callable[[Mapping[str, Any]], dict[str, Any]],
        files: Mapping[str, Path],
        *,
        owner: str | None = None,
    ) -> None:
        """Completes the result of a run that waited for its latency, keeps the files it adds, and says that it is done."""
        kept = {role: self.artefacts.put(path) for role, path in files.items()}
        with self._engine.begin() as connection:
            query = select(runs.c.result, runs.c.files).where(_held(run_id, owner)).with_for_update()
            found = connection.execute(query).one_or_none()
            if found is not None:
                self.artefacts.put_missing(files, kept)
                values = {"result": complete(found.result), "files": found.files | kept}
                connection.execute(update(runs).where(runs.c.id == run_id).values(**values))
                self._end_all(connection, runs.c.id == run_id, Status.DONE)

    def end(self, run_id: str, status: Status, error: QuantScopeError | None = None, *, owner: str | None = None) -> None:
        """Ends a run that did not finish; does nothing to one that already ended, or that is no longer its worker's."""
        active = (runs.c.id == run_id) & (_has(Status.QUEUED) | _has(Status.RUNNING))
        with self._engine.begin() as connection:
            self._end_all(connection, active if owner is None else _held(run_id, owner), status, error)

    def seconds_taken(self, model: str) -> list[Taken]:
        """How long each stage of the newest finished runs of a model took."""
        columns = (
            runs.c.backend,
            runs.c.technique,
            runs.c.spec["measurement"]["latency"].as_string(),
            runs.c.result["provenance"]["seconds"].label("seconds"),
        )
        newest = select(*columns).where(runs.c.model == model, _has(Status.DONE)).order_by(runs.c.finished.desc())
        with self._reading() as connection:
            found = connection.execute(newest.limit(RUNS_LEARNT_FROM)).all()
        return [Taken(*row) for row in found if row.seconds]

    # ── workers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def register(self, seat: str) -> str:
        """Makes a worker of the only process that may work on `seat` now, and returns its id.

        Its predecessors on that seat are dead, or it would not be there; what they were doing is given back.
        """
        worker = uuid.uuid4().hex[:12]
        with self._engine.begin() as connection:
            connection.execute(delete(workers).where(workers.c.seat == seat))
            connection.execute(insert(workers).values(id=worker, seat=seat, beat=0))
            self._give_back(connection, _nobodys())
        return worker

    def beat(self, worker: str) -> bool:
        """A sign of life; False when the worker has been taken for dead, and its runs are no longer its own."""
        with self._engine.begin() as connection:
            return (
                connection.execute(update(workers).where(workers.c.id == worker).values(beat=workers.c.beat + 1)).rowcount == 1
            )

    def beats(self) -> dict[str, int]:
        """The count of every worker's signs of life."""
        with self._reading() as connection:
            return {row.id: row.beat for row in connection.execute(select(workers.c.id, workers.c.beat))}

    def dismiss(self, worker: str) -> None:
        """Ends a worker that left, or that has given no sign of life for too long, and gives back what it was doing."""
        with self._engine.begin() as connection:
            connection.execute(delete(workers).where(workers.c.id == worker))
            self._give_back(connection, _nobodys())

    # ── the statements they share ───────────────────────────────────────────────────────────────────────────────────────

    def _give_back(self, connection: Connection, chosen: ColumnElement[bool]) -> None:
        """Queues running runs again; those begun too often are interrupted, for a person to resume."""
        chosen &= _has(Status.RUNNING)
        self._end_all(connection, chosen & runs.c.cancel, Status.CANCELLED)
        self._end_all(connection, chosen & (runs.c.attempts >= MAX_ATTEMPTS), Status.INTERRUPTED)
        connection.execute(_queued_again(chosen))

    def _lease(self, connection: Connection, chosen: ColumnElement[bool], pid: int, owner: str | None) -> None:
        now = time.time()
        values: dict[str, Any] = {
            "pid": pid,
            "lease_owner": owner,
            "phase_started": now,
            "started": func.coalesce(runs.c.started, now),
        }
        values |= {"status": Status.RUNNING.value, "stage": "Starting", "attempts": runs.c.attempts + 1}
        connection.execute(update(runs).where(chosen).values(**values))

    def _end_all(
        self, connection: Connection, chosen: ColumnElement[bool], status: Status, error: QuantScopeError | None = None
    ) -> None:
        now = time.time()
        # A clock that was set back must not make a run end before it began.
        moment = case((runs.c.started > now, runs.c.started), else_=now)
        values: dict[str, Any] = {"status": status.value, "finished": moment, "stage": "", "lease_owner": None, "live": None}
        values["error"] = error.to_dict() if error else None
        if status is Status.DONE:
            values["progress"] = 1.0
        connection.execute(update(runs).where(chosen).values(**values))

    def _reading(self) -> Connection:
        return self._engine.connect().execution_options(writes=False)


def _has(status: Status) -> ColumnElement[bool]:
    return runs.c.status == status.value


def _held(run_id: str, owner: str | None) -> ColumnElement[bool]:
    return (runs.c.id == run_id) & _has(Status.RUNNING) & runs.c.lease_owner.is_not_distinct_from(owner)


def _nobodys() -> ColumnElement[bool]:
    """Runs on lease to no worker that lives."""
    return or_(runs.c.lease_owner.is_(None), runs.c.lease_owner.not_in(select(workers.c.id)))


def _in_line(*columns: Any) -> Any:
    """The run at the head of the queue."""
    order = runs.c.priority.desc(), runs.c.created, case((runs.c.phase == Phase.QUANTIZE.value, 0), else_=1), runs.c.position
    return select(*columns).where(_has(Status.QUEUED), runs.c.deleted.is_(None)).order_by(*order).limit(1)


def _queued_again(chosen: ColumnElement[bool]) -> Any:
    timed = runs.c.phase == Phase.LATENCY.value
    begun = {"progress": case((timed, QUANTIZE_SHARE), else_=0.0), "started": case((timed, runs.c.started), else_=None)}
    values = {"status": Status.QUEUED.value, "cancel": False, "stage": "", "finished": None, "lease_owner": None, "live": None}
    return update(runs).where(chosen).values(**begun, **values)


def _identity(trial: TrialSpec) -> dict[str, Any]:
    return {
        "id": uuid.uuid4().hex[:12],
        "model": trial.model,
        "backend": trial.backend.value,
        "technique": trial.technique,
        "spec": trial.to_dict(),
        "digest": trial.digest,
    }
