"""What nobody can reach any more is removed: runs deleted long ago, and files of no run.

Safe beside running workers. A file younger than the grace period is left alone, because its run may not name it yet. An older
one can still be named at any moment (the same bytes put again), so files are removed in short steps that hold runs still while
they look; whoever keeps a run then looks whether its files are there (`Queue.keep`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, delete, select, text

from experiments.store.artefacts import ArtefactStore, Kept
from experiments.store.tables import experiments, run_layers, run_tags, runs
from quantizers.schema import Status

DELETED_KEPT_SECONDS = 30 * 86_400.0
"""How long a deleted run can be restored."""
GRACE_SECONDS = 3_600.0
"""How old a file must be before it can be garbage."""
_STEP = 100
NEEDS_SHARED_WORK = (Status.QUEUED, Status.RUNNING, Status.INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed; `bytes` are those of the files."""

    runs: int
    files: int
    bytes: int
    folders: int


def purge(connection: Connection, before: float) -> int:
    """Forgets runs that were deleted before a moment, with everything about them, and returns how many there were."""
    gone = runs.c.deleted.is_not(None) & (runs.c.deleted < before) & (runs.c.status != Status.RUNNING.value)
    # Locked first, so that none of them is restored between two of the deletions.
    ids = list(connection.execute(select(runs.c.id).where(gone).with_for_update()).scalars())
    for start in range(0, len(ids), _STEP):
        step = ids[start : start + _STEP]
        for column in (run_layers.c.run_id, run_tags.c.run_id, runs.c.id):
            connection.execute(delete(column.table).where(column.in_(step)))
    connection.execute(delete(experiments).where(experiments.c.id.not_in(select(runs.c.experiment_id))))
    return len(ids)


def remove_files(engine: Engine, artefacts: ArtefactStore, now: float, grace: float) -> tuple[int, int]:
    """Removes artefacts that no run names and that were put longer ago than `grace`; returns how many, and their bytes."""
    with engine.connect().execution_options(writes=False) as connection:
        named = _named(connection)
    old = [kept for kept in artefacts.kept() if kept.key not in named and now - kept.modified > _grace(kept, grace)]
    removed: list[Kept] = []
    for start in range(0, len(old), _STEP):
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("LOCK TABLE run IN EXCLUSIVE MODE"))
            named = _named(connection)
            garbage = [kept for kept in old[start : start + _STEP] if kept.key not in named]
            artefacts.remove(kept.key for kept in garbage)
            removed += garbage
    return len(removed), sum(kept.bytes for kept in removed)


def _grace(kept: Kept, grace: float) -> float:
    # A file that is being written and one that a crash left half-written differ in nothing but their age.
    return max(grace, GRACE_SECONDS) if kept.half else grace


def remove_folders(engine: Engine, shared: Path, logs: Path, before: float) -> int:
    """Removes the shared work of experiments that have nothing left to run, and the logs of runs that do not exist."""
    with engine.connect().execution_options(writes=False) as connection:
        waiting = runs.c.status.in_([status.value for status in NEEDS_SHARED_WORK]) & runs.c.deleted.is_(None)
        needed = set(connection.execute(select(runs.c.experiment_id).where(waiting)).scalars())
        known = set(connection.execute(select(runs.c.id)).scalars())
    for log in _old(logs, before):
        if log.stem not in known:
            log.unlink(missing_ok=True)
    dead = [folder for folder in _old(shared, before) if folder.name not in needed]
    for folder in dead:
        shutil.rmtree(folder, ignore_errors=True)
    return len(dead)


def _named(connection: Connection) -> set[str]:
    """The keys of all files that runs have, those of deleted runs that can be restored too."""
    files = connection.execute(select(runs.c.files).where(runs.c.files.is_not(None))).scalars()
    return {key for named in files for key in (named or {}).values()}


def _old(folder: Path, before: float) -> Iterator[Path]:
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                yield path
