"""Runs of the store and bundled examples, listed as one: every page is a slice of the one order they have together."""

import json
import sys
from pathlib import Path

import pytest

from experiments.library import Library
from experiments.spec import Plan, TrialSpec
from experiments.store import listing
from experiments.store.listing import Filters, Order
from experiments.store.store import Finished, Store
from quantizers.errors import InputError, MissingExtra, StoreUnavailable
from quantizers.schema import Backend, Status

RUNS = [("tflite", "float32", 3.0), ("tflite", "float16", 1.0), ("pytorch", "float32", None), ("tflite", "dynamic_wi8", 2.0)]
EXAMPLES = [("pytorch", "float16", 2.0), ("tflite", "float32", 0.5), ("onnxruntime", "float32", None), ("tflite", "a", 9.0)]


@pytest.fixture
def library(store: Store, two_trials: Plan, tmp_path: Path) -> Library:
    """Eight runs of the store and four examples, with equal figures among them."""
    (tmp_path / "model.bin").write_bytes(b"model")
    measurement = two_trials.trials[0].measurement
    for backend, code, p50 in RUNS * 2:
        store.submit(Plan((TrialSpec("mnist-mlp", Backend(backend), code, measurement),), ()))
        run_id = store.claim(pid=1)
        assert run_id is not None
        latency = None if p50 is None else {"p50_ms": p50, "speedup": 1.0}
        store.keep(run_id, Finished({"latency": latency}, [], {"artefact": tmp_path / "model.bin"}))
    for number, (backend, code, p50) in enumerate(EXAMPLES):
        folder = tmp_path / "examples" / f"{number}"
        folder.mkdir(parents=True)
        latency = None if p50 is None else {"p50_ms": p50, "speedup": 1.0}
        head = {"model": "fashion-cnn", "backend": backend, "technique": code, "status": "done", "created": float(number)}
        (folder / "run.json").write_text(json.dumps(head | {"experiment_id": "e", "latency": latency, "layers": []}))
    return Library(store, tmp_path / "examples")


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("order", [Order.CREATED, Order.P50, Order.BACKEND, Order.TECHNIQUE, Order.TOP1])
@pytest.mark.parametrize("limit", [1, 5])
def test_pages_are_slices_of_one_order(library: Library, order: Order, descending: bool, limit: int) -> None:
    stored = library.store.summaries(limit=100).rows
    examples = [listing.cut(run) | {"example": True} for run in library.examples()]
    expected = listing.ordered([*stored, *examples], order, descending=descending)
    found = [
        library.summaries(order=order, descending=descending, limit=limit, offset=offset)
        for offset in range(0, 12 + limit, limit)
    ]
    assert [row for page in found for row in page.rows] == expected
    assert {page.total for page in found} == {12}


def test_filters_hold_for_both(library: Library) -> None:
    found = library.summaries(Filters(backends=[Backend.TFLITE], statuses=[Status.DONE], search="float32"))
    assert [(row["technique"], row.get("example", False)) for row in found.rows].count(("float32", True)) == 1
    assert found.total == len(found.rows) == 3
    assert library.summaries(Filters(tags=["paper"])).total == 0


def test_facets_count_both(library: Library) -> None:
    facets = library.facets()
    assert facets["model"] == {"mnist-mlp": 8, "fashion-cnn": 4}
    assert facets["backend"] == {"tflite": 8, "pytorch": 3, "onnxruntime": 1}
    assert library.store.facets()["model"] == {"mnist-mlp": 8}


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("nonsense", InputError, "does not hold a database URL"),
        ("mysql://someone@nowhere/db", InputError, "“mysql” are not supported"),
        ("postgresql://someone:secret@/db?host=/nowhere", StoreUnavailable, "cannot be opened"),
    ],
)
def test_a_database_that_cannot_be_opened_is_named_without_its_password(
    home: Path, monkeypatch: pytest.MonkeyPatch, url: str, error: type[Exception], words: str
) -> None:
    monkeypatch.setenv("QUANTSCOPE_DATABASE_URL", url)
    with pytest.raises(error, match=words) as refused:
        Store(home)
    assert "secret" not in str(refused.value)


def test_without_the_driver_the_error_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSCOPE_DATABASE_URL", "postgresql://someone@/without-a-driver")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra) as refused:
        Store(home)
    assert 'pip install "psycopg[binary]==3.3.9"' in refused.value.hint
