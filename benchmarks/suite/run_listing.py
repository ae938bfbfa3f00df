"""How long the server takes to list runs when there are 10,000: each filter, search, order and a late page.

The documents are those of the bundled examples, over and over, so that they have the sizes of real ones. On SQLite, and on
PostgreSQL where it is installed.
"""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.postgres_server import binaries, postgres_server
from benchmarks.suite.figure import Figure, Figures

if TYPE_CHECKING:
    from experiments.library import Library

RUNS = 10_000
PER_EXPERIMENT = 20
PAGE = 50
OFFERED = 200
"""As many finished runs, whole, as Compare and Layers offer to choose from."""
REPEATS = 15
TARGET_MS = 300.0


def run() -> Figures:
    """The median and the 95th percentile of every way to list, in milliseconds."""
    # A benchmark of the store itself: the floors let nothing here import it at the top.
    from experiments.library import Library
    from experiments.store.database import URL_VARIABLE
    from experiments.store.store import Store

    figures: Figures = {"runs": Figure(RUNS, "runs")}
    engines = ("sqlite", "postgresql") if binaries() else ("sqlite",)
    outer = os.environ.pop(URL_VARIABLE, None)
    try:
        for engine in engines:
            with ExitStack() as stack:
                if engine == "postgresql":
                    os.environ[URL_VARIABLE] = stack.enter_context(postgres_server())
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="quantscope-bench-"))
                library = Library(Store(Path(folder)))
                _fill(library)
                for name, ask in _questions(library).items():
                    p50, p95 = np.percentile([_milliseconds(ask) for _ in range(REPEATS)], (50, 95))
                    figures[f"{engine}_{name}_p50"] = Figure(float(p50), "ms")
                    figures[f"{engine}_{name}_p95"] = Figure(float(p95), "ms", TARGET_MS)
    finally:
        os.environ.pop(URL_VARIABLE, None)
        if outer is not None:
            os.environ[URL_VARIABLE] = outer
    return figures


def _questions(library: Library) -> Mapping[str, Callable[[], object]]:
    from experiments.store.listing import Filters, Order
    from quantizers.schema import Backend, Status

    ask = library.store.summaries
    return {
        "list": ask,
        "by_status": lambda: ask(Filters(statuses=[Status.DONE])),
        "by_model": lambda: ask(Filters(models=["fashion-resnet"])),
        "by_backend": lambda: ask(Filters(backends=[Backend.TFLITE])),
        "by_technique": lambda: ask(Filters(techniques=["static_wi8_ai8"])),
        "by_tag": lambda: ask(Filters(tags=["tenth"])),
        "by_all": lambda: ask(
            Filters([Status.DONE], ["fashion-cnn"], [Backend.TFLITE], ["dynamic_wi8", "float16"], ["tenth"], "cnn")
        ),
        "search": lambda: ask(Filters(search="resnet note")),
        "search_nothing": lambda: ask(Filters(search="absent")),
        "sorted_by_p50": lambda: ask(order=Order.P50, descending=False),
        "sorted_by_model": lambda: ask(order=Order.MODEL),
        "page_100": lambda: ask(limit=PAGE, offset=99 * PAGE),
        "page_100_by_top1": lambda: ask(order=Order.TOP1, limit=PAGE, offset=99 * PAGE),
        "facets": library.store.facets,
        "offered": lambda: library.store.runs(status=Status.DONE, limit=OFFERED),
        "with_examples": library.summaries,
        "with_examples_page_100_by_size": lambda: library.summaries(order=Order.SIZE, limit=PAGE, offset=99 * PAGE),
    }


def _fill(library: Library) -> None:
    """Stores finished runs in experiments of a few, every tenth tagged and noted."""
    from sqlalchemy import insert

    from experiments.store.database import open_database
    from experiments.store.tables import experiments, run_tags, runs

    rows = list(_rows(library))
    made = [{"id": one, "created": 0.0} for one in dict.fromkeys(row["experiment_id"] for row in rows)]
    with open_database(library.store.home).begin() as connection:
        connection.execute(insert(experiments), made)
        connection.execute(insert(runs), rows)
        connection.execute(insert(run_tags), [{"run_id": row["id"], "tag": "tenth"} for row in rows[::10]])


def _rows(library: Library) -> Iterator[dict[str, Any]]:
    from experiments.store.store import SECTIONS

    examples = [library.run(run["run_id"]) for run in library.examples()]
    for index in range(RUNS):
        run = examples[index % len(examples)]
        spec = {name: run[name] for name in ("schema", "model", "backend", "technique", "measurement", "options", "keep_float")}
        head = {name: run[name] for name in ("model", "backend", "technique", "status")}
        yield head | {
            "id": uuid.uuid4().hex[:12],
            "experiment_id": f"experiment-{index // PER_EXPERIMENT}",
            "position": index % PER_EXPERIMENT,
            "created": float(index // PER_EXPERIMENT),
            "spec": spec,
            "digest": uuid.uuid4().hex,
            "cancel": False,
            "result": {name: run[name] for name in SECTIONS if name in run},
            "files": {"artefact": f"{index:064x}.tflite"},
            "notes": "A note on this run." if index % 10 == 0 else "",
        }


def _milliseconds(ask: Callable[[], object]) -> float:
    began = time.perf_counter()
    ask()
    return (time.perf_counter() - began) * 1000
