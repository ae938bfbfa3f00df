"""The one shared state between pages, command line and worker: runs and their results.

`queue` has what happens to a run until it ends, `listing` tables of many, `labels` tags and notes, `garbage` what is removed.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, select, update

from experiments.home import home
from experiments.store import garbage, labels, listing
from experiments.store.artefacts import URL_VARIABLE, ArtefactStore
from experiments.store.database import open_database
from experiments.store.garbage import Collected
from experiments.store.listing import NO_FILTERS, Filters, Listing, Order
from experiments.store.queue import Finished, Phase, Queue
from experiments.store.tables import FIGURES, run_layers, runs
from quantizers.errors import UnknownName
from quantizers.schema import Status

__all__ = ["SECTIONS", "Finished", "RunDocument", "Store"]

RunDocument = dict[str, Any]
"""A RUN as the command line prints it: JSON-ready, absent = None beside NAME_why_not."""

SECTIONS = (
    *("execution", "layers_total", "layers_quantized", "size", "quality", "training", "improvement"),
    *("latency", "memory", "provenance"),
)
"""What only a finished trial has; before that each is None, with the reason beside it."""
_LISTED = [column for column in runs.c if column.name not in ("cancel", "digest", *FIGURES)]


class Store(Queue):
    """The store of one data directory. Cheap to create; every method is one transaction."""

    def __init__(self, folder: Path | None = None) -> None:
        self.home = folder or home()
        self.artefacts = ArtefactStore(self.home / "artefacts", os.environ.get(URL_VARIABLE))
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
        tags: Sequence[str] = (),
        limit: int | None = None,
    ) -> list[RunDocument]:
        """Runs without their layers, newest experiment first and in the order they were asked for within it."""
        wanted = {"experiment_id": experiment_id, "status": status, "model": model, "backend": backend}
        conditions: list[ColumnElement[bool]] = [runs.c.deleted.is_(None)]
        conditions += [runs.c[name] == str(value) for name, value in wanted.items() if value is not None]
        conditions += [labels.tagged(tag) for tag in tags]
        if ids is not None:
            conditions.append(runs.c.id.in_(list(ids)))
        with self._reading() as connection:
            query = select(*_LISTED).where(*conditions).order_by(runs.c.created.desc(), runs.c.position).limit(limit)
            rows = connection.execute(query).mappings().all()
            given = labels.tags_of(connection, select(runs.c.id).where(*conditions))
        return [self._document(row, given.get(row["id"], [])) for row in rows]

    def summaries(
        self,
        filters: Filters = NO_FILTERS,
        order: Order = Order.CREATED,
        *,
        descending: bool = True,
        limit: int = 50,
        offset: int = 0,
    ) -> Listing:
        """A page of rows for a table, without reading the documents they are cut from."""
        with self._reading() as connection:
            return listing.page(connection, filters, order, descending=descending, limit=limit, offset=offset)

    def facets(self) -> dict[str, Counter[str]]:
        """For status, model, backend, technique and tag: the values there are, with the number of runs that have each."""
        with self._reading() as connection:
            return listing.facets(connection)

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

    # ── what people write on runs ───────────────────────────────────────────────────────────────────────────────────────

    def tag(self, ids: Sequence[str], *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
        """Gives tags to runs and takes others away.

        Raises:
            UnknownName: one of the runs does not exist.
            InputError: an impossible tag.
        """
        with self._engine.begin() as connection:
            labels.tag(connection, ids, add, remove)

    def note(self, run_id: str, text: str) -> None:
        """Replaces the notes of a run; no text removes them.

        Raises:
            UnknownName: there is no such run.
            InputError: the text is too long.
        """
        with self._engine.begin() as connection:
            labels.note(connection, run_id, text)

    # ── tidying ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def delete(self, ids: Sequence[str]) -> None:
        """Hides runs, stopping those that are active; `restore` brings them back for `garbage.DELETED_KEPT_SECONDS`."""
        for run_id in ids:
            self.cancel(run_id=run_id)
        self._mark_deleted(ids, time.time())

    def restore(self, ids: Sequence[str]) -> int:
        """Undoes `delete` and returns how many runs are back: fewer than asked for when some have been purged."""
        return self._mark_deleted(ids, None)

    def collect_garbage(
        self, *, deleted_kept_seconds: float = garbage.DELETED_KEPT_SECONDS, grace_seconds: float = garbage.GRACE_SECONDS
    ) -> Collected:
        """Purges runs that were deleted long ago and removes what belongs to none; safe while others work."""
        now = time.time()
        with self._engine.begin() as connection:
            purged = garbage.purge(connection, now - deleted_kept_seconds)
        folders = garbage.remove_folders(self._engine, self.home / "shared", self.home / "logs", now - grace_seconds)
        files, size = garbage.remove_files(self._engine, self.artefacts, now, grace_seconds)
        return Collected(purged, files, size, folders)

    def _mark_deleted(self, ids: Sequence[str], moment: float | None) -> int:
        with self._engine.begin() as connection:
            return connection.execute(update(runs).where(runs.c.id.in_(list(ids))).values(deleted=moment)).rowcount

    def _document(self, row: RowMapping, tags: list[str]) -> RunDocument:
        spec = row["spec"]
        head: RunDocument = {"schema": 1, "run_id": row["id"], "experiment_id": row["experiment_id"], "status": row["status"]}
        head |= {name: row[name] for name in ("model", "backend", "technique", "stage", "progress", "error", "phase", "live")}
        head |= {name: row[name] for name in ("created", "started", "finished", "phase_started")}
        head |= {"options": spec["options"], "keep_float": spec["keep_float"], "measurement": spec["measurement"]}
        head |= {"tags": tags, "notes": row["notes"], "artefact": self._artefact(row["files"])}
        if row["result"] is None:
            return head | dict.fromkeys(SECTIONS) | _why_not(SECTIONS, row)
        status = Status(row["status"])
        stopped = row["phase"] == Phase.LATENCY.value and not status.active and status is not Status.DONE
        result = dict(row["result"])
        unknown = [name for name in SECTIONS if name not in result]
        head |= dict.fromkeys(unknown) | {f"{name}_why_not": "not recorded when this was measured" for name in unknown}
        return head | result | (_why_not(("latency", "memory"), row) if stopped else {})

    def _artefact(self, files: Mapping[str, str] | None) -> dict[str, str] | None:
        if not files:
            return None
        key = files["artefact"]
        return {"path": self.artefacts.location(key), "sha256": Path(key).stem}


def _why_not(sections: Iterable[str], row: RowMapping) -> dict[str, str]:
    return {f"{name}_why_not": f"the run is {row['status']}" for name in sections}
