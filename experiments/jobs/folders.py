"""Folders of a data directory that last only as long as the work in them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.store.store import Store


def shared_folder(store: Store, experiment_id: str) -> Path:
    """What the trials of an experiment compute once for all of them."""
    return store.home / "shared" / experiment_id


@contextmanager
def work_folder(store: Store, run_id: str) -> Iterator[Path]:
    """An empty folder for a trial, on the disk of the store; gone afterwards, so that a disk it filled has room again."""
    folder = store.home / "work" / run_id
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear(store: Store, run_id: str) -> None:
    """Removes what a trial left behind that could not do so itself."""
    shutil.rmtree(store.home / "work" / run_id, ignore_errors=True)


def clear_all(store: Store) -> None:
    """Removes what trials left behind, and what experiments share that have ended; for the only worker of the directory."""
    shutil.rmtree(store.home / "work", ignore_errors=True)
    for folder in (store.home / "shared").glob("*"):
        clear_shared(store, folder.name)


def clear_shared(store: Store, experiment_id: str) -> None:
    """Removes what an experiment shares, once none of its trials will need it, not even when it is resumed."""
    if not store.unfinished(experiment_id):
        shutil.rmtree(shared_folder(store, experiment_id), ignore_errors=True)
