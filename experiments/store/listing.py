"""Listing runs as tables do: filtered, searched, sorted and paged by the database, which reads no document for it.

A row is a RUN document cut down to what tables show. The same filters and order apply to documents that are not in the
database (the bundled examples), so that both can be shown as one list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, collate, func, or_, select

from experiments.store import labels
from experiments.store.tables import FIGURES, run_tags, runs
from quantizers.schema import Backend, Status

Row = dict[str, Any]
"""A RUN document with the sections `size`, `quality` and `latency` cut down to `FIGURES`, each None when it has none."""

PROPERTIES = ("status", "model", "backend", "technique")
"""What a listing can be narrowed to the values of; `tag` is the fifth."""
_SEARCHED = ("model", "backend", "technique", "notes", "id", "experiment_id")
_HEAD = ("experiment_id", *PROPERTIES, "stage", "progress", "phase", "error", "notes", "created", "started", "finished")


class Order(StrEnum):
    """What a listing is sorted by. Runs that lack it come last, and equal ones newest first."""

    CREATED = "created"
    MODEL = "model"
    BACKEND = "backend"
    TECHNIQUE = "technique"
    SIZE = "size_bytes"
    SIZE_RATIO = "size_ratio"
    TOP1 = "top1"
    DROP = "drop_pp"
    P50 = "p50_ms"
    SPEEDUP = "speedup"


@dataclass(frozen=True, slots=True)
class Filters:
    """What a listing is narrowed to: of each property one of the values, none meaning all; every tag; every word of `search`.

    A word is searched in names, notes, tags and ids, whatever its case.
    """

    statuses: Sequence[Status] = ()
    models: Sequence[str] = ()
    backends: Sequence[Backend] = ()
    techniques: Sequence[str] = ()
    tags: Sequence[str] = ()
    search: str = ""

    def wanted(self) -> Iterable[tuple[str, list[str]]]:
        """The properties that are narrowed down, with the values that are wanted."""
        for name, values in zip(PROPERTIES, (self.statuses, self.models, self.backends, self.techniques), strict=True):
            if values:
                yield name, [str(value) for value in values]

    def match(self, row: Row) -> bool:
        """Whether a row that is not in the database fits."""
        text = " ".join([*(str(row.get("run_id" if name == "id" else name) or "") for name in _SEARCHED), *row["tags"]]).lower()
        return (
            all(row[name] in values for name, values in self.wanted())
            and set(self.tags) <= set(row["tags"])
            and all(word in text for word in self.search.lower().split())
        )


NO_FILTERS = Filters()


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of rows, and how many there are on all pages."""

    rows: Sequence[Row]
    total: int


def page(connection: Connection, filters: Filters, order: Order, *, descending: bool, limit: int, offset: int) -> Listing:
    """The rows `offset` to `offset + limit` of what the filters leave."""
    condition = _condition(filters)
    key: ColumnElement[Any] = runs.c[order.value]
    if order.value not in FIGURES and order is not Order.CREATED:
        # Both engines and Python then order text alike, by code point.
        key = collate(key, "C" if connection.dialect.name == "postgresql" else "BINARY")
    sorting = (key.desc() if descending else key.asc()).nulls_last(), runs.c.created.desc(), runs.c.position
    # The page is chosen by its ids first: SQLite computes figures as it reads them, and would for every row it sorts.
    chosen = select(runs.c.id).where(condition).order_by(*sorting).limit(limit).offset(offset)
    columns = [runs.c[name] for name in ("id", *_HEAD, *FIGURES)]
    found = connection.execute(select(*columns).where(runs.c.id.in_(chosen)).order_by(*sorting)).mappings().all()
    tags = labels.tags_of(connection, [row["id"] for row in found])
    total = connection.execute(select(func.count()).select_from(runs).where(condition)).scalar_one()
    return Listing([_row(row, tags.get(row["id"], [])) for row in found], total)


def facets(connection: Connection) -> dict[str, Counter[str]]:
    """For each property, and for "tag", the values that runs have, and how many have each."""
    counts: dict[str, Counter[str]] = {}
    for name in PROPERTIES:
        query = select(runs.c[name], func.count()).where(runs.c.deleted.is_(None)).group_by(runs.c[name])
        counts[name] = Counter(dict(connection.execute(query).all()))
    of_runs = select(run_tags.c.tag, func.count()).join(runs).where(runs.c.deleted.is_(None)).group_by(run_tags.c.tag)
    return counts | {"tag": Counter(dict(connection.execute(of_runs).all()))}


def cut(document: Mapping[str, Any]) -> Row:
    """The row of a whole RUN document."""
    row = {"run_id": document["run_id"]} | {name: document.get(name) for name in _HEAD}
    row |= {"tags": document.get("tags", []), "notes": document.get("notes", "")}
    return row | _sections({name: (document.get(section) or {}).get(key) for name, (section, key) in FIGURES.items()})


def ordered(rows: Iterable[Row], order: Order, *, descending: bool) -> list[Row]:
    """Rows in the order `page` would give them; equal ones stay as they are."""
    section, key = FIGURES.get(order.value, (None, order.value))

    def value(row: Row) -> Any:
        return row[key] if section is None else (row[section] or {}).get(key)

    everything = list(rows)
    present = [row for row in everything if value(row) is not None]
    return sorted(present, key=value, reverse=descending) + [row for row in everything if value(row) is None]


def _condition(filters: Filters) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [runs.c.deleted.is_(None)]
    conditions += [runs.c[name].in_(values) for name, values in filters.wanted()]
    conditions += [labels.tagged(tag) for tag in filters.tags]
    for word in filters.search.split():
        within = [runs.c[name].icontains(word, autoescape=True) for name in _SEARCHED]
        tagged = select(run_tags.c.run_id).where(run_tags.c.tag.icontains(word, autoescape=True))
        conditions.append(or_(*within, runs.c.id.in_(tagged)))
    return and_(*conditions)


def _row(row: RowMapping, tags: list[str]) -> Row:
    return {"run_id": row["id"], "tags": tags} | {name: row[name] for name in _HEAD} | _sections(row)


def _sections(figures: Mapping[str, Any] | RowMapping) -> dict[str, dict[str, Any] | None]:
    sections: dict[str, dict[str, Any]] = {}
    for name, (section, key) in FIGURES.items():
        sections.setdefault(section, {})[key] = figures[name]
    return {name: values if any(value is not None for value in values.values()) else None for name, values in sections.items()}
