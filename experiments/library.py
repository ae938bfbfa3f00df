"""Every run a person can look at: those of the store and the bundled examples, behind one reading interface."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.export import export_run
from experiments.store import listing
from experiments.store.listing import NO_FILTERS, Filters, Listing, Order
from experiments.store.store import RunDocument, Store
from quantizers.errors import UnknownName

EXAMPLES = Path(__file__).parents[1] / "examples"
EXAMPLE_PREFIX = "example-"


class Library:
    """Reads runs wherever they are. An example's id starts with "example-"; its document has `example` set to True."""

    def __init__(self, store: Store | None = None, examples: Path = EXAMPLES) -> None:
        self.store = store or Store()
        self._examples = examples

    def examples(self) -> list[RunDocument]:
        """The bundled runs without their layers."""
        return [{name: value for name, value in run.items() if name != "layers"} for run in _read_examples(self._examples)]

    def summaries(
        self,
        filters: Filters = NO_FILTERS,
        order: Order = Order.CREATED,
        *,
        descending: bool = True,
        limit: int = 50,
        offset: int = 0,
    ) -> Listing:
        """A page of rows for a table, runs and examples in one order."""
        examples = [row for row in map(_example_row, self.examples()) if filters.match(row)]
        # So many stored rows before the page that the examples cannot fill the gap, wherever among all rows they belong.
        first = max(0, offset - len(examples))
        length = offset + limit - first
        stored = self.store.summaries(filters, order, descending=descending, limit=length, offset=first)
        merged = listing.ordered([*stored.rows, *examples], order, descending=descending)
        return Listing(merged[offset - first : length], stored.total + len(examples))

    def facets(self) -> dict[str, Counter[str]]:
        """For status, model, backend, technique and tag: the values there are, with the number of runs that have each."""
        facets = self.store.facets()
        for name in listing.PROPERTIES:
            facets[name] += Counter(run[name] for run in self.examples())
        return facets

    def runs(self, ids: Iterable[str]) -> list[RunDocument]:
        """The runs of these ids that exist, in the order asked for, without layers."""
        wanted = list(dict.fromkeys(ids))
        found = {run["run_id"]: run for run in [*self.store.runs(ids=wanted), *self.examples()]}
        return [found[run_id] for run_id in wanted if run_id in found]

    def run(self, run_id: str) -> RunDocument:
        """One run with its layers.

        Raises:
            UnknownName: there is none of that id.
        """
        if not run_id.startswith(EXAMPLE_PREFIX):
            return self.store.run(run_id)
        for run in _read_examples(self._examples):
            if run["run_id"] == run_id:
                return run
        raise UnknownName(f"There is no example “{run_id}”.", "Open the overview to see the examples there are.")

    def file(self, run_id: str, role: str) -> Path:
        """A kept file of a finished run: "artefact", "details" (arrays of its layers) or "samples" (raw latency samples)."""
        if not run_id.startswith(EXAMPLE_PREFIX):
            return self.store.file(run_id, role)
        run = self.run(run_id)
        folder = self._examples / run_id.removeprefix(EXAMPLE_PREFIX)
        return folder / run["artefact"]["path"] if role == "artefact" else folder / f"{role}.npz"

    def details(self, run_id: str) -> dict[str, NDArray[Any]]:
        """Histograms and per-channel figures of a finished run; keys as in `benchmarks.distribution`."""
        with np.load(self.file(run_id, "details"), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def export(self, run_id: str, folder: Path, roles: Sequence[str] = ("artefact", "details", "samples")) -> list[Path]:
        """Writes a finished run and those of its files that it has into `folder`."""
        run = self.run(run_id)
        files = {role: self.file(run_id, role) for role in roles if role != "samples" or self._has_samples(run)}
        return export_run(run, files, folder)

    def _has_samples(self, run: RunDocument) -> bool:
        return self.file(run["run_id"], "samples").exists() if run.get("example") else bool(run["latency"])


def _example_row(run: RunDocument) -> listing.Row:
    return listing.cut(run) | {"example": True}


@lru_cache(maxsize=4)
def _read_examples(folder: Path) -> tuple[RunDocument, ...]:
    documents = []
    for path in sorted(folder.glob("*/run.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        documents.append(document | {"run_id": EXAMPLE_PREFIX + path.parent.name, "example": True})
    return tuple(documents)
