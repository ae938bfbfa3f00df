"""What people write on runs: tags to find them again, and notes. Neither changes what a run is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, Select, delete, insert, select, update

from experiments.store.tables import run_tags, runs
from quantizers.errors import InputError, UnknownName

LONGEST_TAG = 50
LONGEST_NOTE = 10_000


def tags_of(connection: Connection, ids: Sequence[str] | Select[tuple[str]]) -> dict[str, list[str]]:
    """The tags of runs, of whom the ids or a query for them are given, sorted; a run without tags is absent."""
    found = connection.execute(select(run_tags.c.run_id, run_tags.c.tag).where(run_tags.c.run_id.in_(ids)))
    tags: dict[str, list[str]] = {}
    for run_id, tag in sorted(found):
        tags.setdefault(run_id, []).append(tag)
    return tags


def tagged(name: str) -> ColumnElement[bool]:
    """The condition that a run has a tag."""
    return runs.c.id.in_(select(run_tags.c.run_id).where(run_tags.c.tag == name))


def tag(connection: Connection, ids: Sequence[str], add: Iterable[str], remove: Iterable[str]) -> None:
    """Gives tags to runs and takes others away."""
    _require(connection, ids)
    added, removed = {_clean(one) for one in add}, {_clean(one) for one in remove}
    old = run_tags.c.run_id.in_(list(ids)) & run_tags.c.tag.in_(added | removed)
    connection.execute(delete(run_tags).where(old))
    rows = [{"run_id": run_id, "tag": one} for run_id in dict.fromkeys(ids) for one in added]
    if rows:
        connection.execute(insert(run_tags), rows)


def note(connection: Connection, run_id: str, text: str) -> None:
    """Replaces the notes of a run."""
    if len(text) > LONGEST_NOTE:
        raise InputError(f"The note has {len(text):,} characters; at most {LONGEST_NOTE:,} are kept.", "Shorten it.")
    _require(connection, [run_id])
    connection.execute(update(runs).where(runs.c.id == run_id).values(notes=text))


def _require(connection: Connection, ids: Sequence[str]) -> None:
    # Locked, so that none of them is purged between this look and what is written about it.
    query = select(runs.c.id).where(runs.c.id.in_(list(ids)), runs.c.deleted.is_(None)).with_for_update()
    missing = set(ids) - set(connection.execute(query).scalars())
    if missing:
        raise UnknownName(f"There is no run “{min(missing)}”.", "List the runs there are; it may have been deleted.")


def _clean(name: str) -> str:
    words = " ".join(name.split())
    if not words or len(words) > LONGEST_TAG or "," in words or not words.isprintable():
        raise InputError(f"“{name}” cannot be a tag.", f"A tag has 1 to {LONGEST_TAG} characters and no comma.")
    return words
