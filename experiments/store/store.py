"""The one shared state between pages, command line and worker: runs, their results, and their place in the queue."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from experiments.home import home
from experiments.spec import Plan, TrialSpec
from experiments.store.artefacts import ArtefactStore
from experiments.store.database import open_database
from experiments.store.tables import experiments, run_layers, runs
from quantizers.errors import QuantScopeError, UnknownName
from quantizers.schema import Status

RunDocument = dict[str, Any]
"""A RUN as the command line prints it: JSON-ready, absent = None beside NAME_why_not."""

SECTIONS = ("execution", "layers_total", "layers_quantized", "size", "quality", "latency", "memory", "provenance")
"""What only a finished trial has; before that each is None, with the reason beside it."""
_LISTED = [column for column in runs.c if column.name not in ("cancel", "digest")]


@dataclass(frozen=True, slots=True)
class Finished:
    """What a trial leaves behind: the RUN's measured sections, its layers, and files by role ("artefact", "details")."""

    result: Mapping[str, Any]
    layers: Sequence[Mapping[str, Any]]
    files: Mapping[str, Path]


class Store:
    """The store of one data directory. Cheap to create; every method is one transaction."""

    def __init__(self, folder: Path | None = None) -> None:
        self.home = folder or home()
        self.artefacts = ArtefactStore(self.home / "artefacts")
        self._engine = open_database(self.home)

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def runs(
        self,
        *,
        ids: Iterable[str] | None = None,
        experiment_id: str | None = None,
        status: Status | None = None,
        model: str | None = None,
        backend: str | None = None,
    ) -> list[RunDocument]:
        """Runs without their layers, newest experiment first and in the order they were asked for within it."""
        query = select(*_LISTED).where(runs.c.deleted.is_(None))
        wanted = {"experiment_id": experiment_id, "status": status, "model": model, "backend": backend}
        for name, value in wanted.items():
            if value is not None:
                query = query.where(runs.c[name] == str(value))
        if ids is not None:
            query = query.where(runs.c.id.in_(list(ids)))
        with self._reading() as connection:
            rows = connection.execute(query.order_by(runs.c.created.desc(), runs.c.position)).mappings()
            return [self._document(row) for row in rows]

    def run(self, run_id: str) -> RunDocument:
        """One run with its layers.

        Raises:
            UnknownName: there is none of that id.
        """
        found = self.runs(ids=[run_id])
        if not found:
            raise UnknownName(f"There is no run “{run_id}”.", "List the runs there are; it may have been deleted.")
        with self._reading() as connection:
            layers = connection.execute(select(run_layers.c.layers).where(run_layers.c.run_id == run_id)).scalar()
        return found[0] | {"layers": layers or []}

    def file(self, run_id: str, role: str) -> Path:
        """The kept file of a run: role "artefact" or "details".

        Raises:
            UnknownName: the run or the file does not exist.
        """
        with self._reading() as connection:
            files = connection.execute(select(runs.c.files).where(runs.c.id == run_id)).scalar()
        if not files or role not in files:
            raise UnknownName(f"Run {run_id} has no {role}.", "Only finished runs have one.")
        return self.artefacts.path(files[role])

    def log_path(self, run_id: str) -> Path:
        """Where the process of a run writes what its libraries print."""
        return self.home / "logs" / f"{run_id}.log"

    # ── the queue ───────────────────────────────────────────────────────────────────────────────────────────────────────

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

    # ── tidying ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def delete(self, ids: Sequence[str]) -> None:
        """Hides runs, stopping those that are active; `restore` brings them back."""
        for run_id in ids:
            self.cancel(run_id=run_id)
        self._mark_deleted(ids, time.time())

    def restore(self, ids: Sequence[str]) -> None:
        """Undoes `delete`."""
        self._mark_deleted(ids, None)

    def _mark_deleted(self, ids: Sequence[str], moment: float | None) -> None:
        with self._engine.begin() as connection:
            connection.execute(update(runs).where(runs.c.id.in_(list(ids))).values(deleted=moment))

    def _reading(self) -> Connection:
        return self._engine.connect().execution_options(writes=False)

    def _set(self, connection: Connection, run_id: str, **values: Any) -> None:
        connection.execute(update(runs).where(runs.c.id == run_id).values(**values))

    def _document(self, row: RowMapping) -> RunDocument:
        spec = row["spec"]
        head: RunDocument = {"schema": 1, "run_id": row["id"], "experiment_id": row["experiment_id"], "status": row["status"]}
        head |= {name: row[name] for name in ("model", "backend", "technique", "stage", "progress", "error")}
        head |= {name: row[name] for name in ("created", "started", "finished")}
        head |= {"options": spec["options"], "keep_float": spec["keep_float"], "measurement": spec["measurement"]}
        head["artefact"] = self._artefact(row["files"])
        if row["result"] is not None:
            return head | dict(row["result"])
        return head | dict.fromkeys(SECTIONS) | {f"{name}_why_not": f"the run is {row['status']}" for name in SECTIONS}

    def _artefact(self, files: Mapping[str, str] | None) -> dict[str, str] | None:
        if not files:
            return None
        key = files["artefact"]
        return {"path": str(self.artefacts.root / key[:2] / key), "sha256": Path(key).stem}


def _identity(trial: TrialSpec) -> dict[str, Any]:
    return {
        "id": uuid.uuid4().hex[:12],
        "model": trial.model,
        "backend": trial.backend.value,
        "technique": trial.technique,
        "spec": trial.to_dict(),
        "digest": trial.digest,
    }
