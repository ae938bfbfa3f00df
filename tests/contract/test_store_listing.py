"""Listing runs: every filter, word and order gives the same rows in the same order on every engine, and in plain Python."""

from pathlib import Path

import pytest

from experiments.spec import LatencyProtocol, Measurement, Plan, TrialSpec
from experiments.store import listing
from experiments.store.listing import Filters, Order, Row
from experiments.store.store import Finished, Store
from quantizers.schema import Backend, Status

QUICKEST = Measurement("mnist-5k", calibration_samples=20, eval_samples=50, latency=LatencyProtocol.NONE)
FIGURES = (
    ("mnist-mlp", Backend.TFLITE, "static_wi8_ai8", {"size": 100, "top1": 0.97, "p50": 0.20}),
    ("mnist-mlp", Backend.PYTORCH, "static_wi8_ai8", {"size": 120, "top1": 0.96, "p50": None}),
    ("Zebra_net", Backend.TFLITE, "float32", {"size": 400, "top1": None, "p50": 0.35}),
    ("another%net", Backend.TFLITE, "dynamic_wi8", {"size": 100, "top1": 0.91, "p50": 0.20}),
    ("mnist-mlp", Backend.ONNXRUNTIME, "float32", None),
)


@pytest.fixture
def ids(store: Store, tmp_path: Path) -> list[str]:
    """Runs of three experiments, all but the last one done; the first two tagged."""
    (tmp_path / "model.bin").write_bytes(b"model")
    made: list[str] = []
    for group in (FIGURES[:2], FIGURES[2:4], FIGURES[4:]):
        plan = Plan(tuple(TrialSpec(model, backend, code, QUICKEST) for model, backend, code, _ in group), ())
        made += [run["run_id"] for run in store.runs(experiment_id=store.submit(plan))]
    for *_, figures in FIGURES[:4]:
        run_id = store.claim(pid=1)
        assert run_id is not None
        store.keep(run_id, Finished(result(figures), [], {"artefact": tmp_path / "model.bin"}))
    store.tag(made[:2], add=["paper"])
    store.tag(made[:1], add=["Best so far"])
    store.note(made[2], "The stripes matter: 100_000 samples.")
    return made


def result(figures: dict[str, float | None]) -> dict[str, object]:
    return {
        "size": {"bytes": figures["size"], "ratio": 400 / (figures["size"] or 1)},
        "quality": {"top1": figures["top1"], "agreement": 0.9, "drop_pp": 0.1, "n": 50},
        "latency": None if figures["p50"] is None else {"p50_ms": figures["p50"], "speedup": 1.5, "n": 100},
    }


CASES = {
    "everything": (Filters(), [0, 1, 2, 3, 4]),
    "status": (Filters(statuses=[Status.QUEUED, Status.FAILED]), [4]),
    "model": (Filters(models=["Zebra_net", "another%net"]), [2, 3]),
    "backend": (Filters(backends=[Backend.TFLITE]), [0, 2, 3]),
    "technique": (Filters(techniques=["static_wi8_ai8"], backends=[Backend.PYTORCH]), [1]),
    "tag": (Filters(tags=["paper"]), [0, 1]),
    "tags": (Filters(tags=["paper", "Best so far"]), [0]),
    "no such tag": (Filters(tags=["pap"]), []),
    "word": (Filters(search="ZEBRA"), [2]),
    "words": (Filters(search=" tflite  wi8 "), [0, 3]),
    "word of a note": (Filters(search="stripes"), [2]),
    "word of a tag": (Filters(search="best paper"), [0]),
    "wildcards": (Filters(search="r%n"), [3]),
    "underscore": (Filters(search="0_0"), [2]),
}


@pytest.mark.parametrize("name", CASES)
def test_filters_leave_what_fits_in_the_database_and_out_of_it(store: Store, ids: list[str], name: str) -> None:
    filters, wanted = CASES[name]
    found = store.summaries(filters)
    assert {row["run_id"] for row in found.rows} == {ids[index] for index in wanted}
    assert found.total == len(wanted)
    rows = [listing.cut(run) for run in store.runs()]
    assert {row["run_id"] for row in rows if filters.match(row)} == {ids[index] for index in wanted}


def test_a_run_is_found_by_its_id(store: Store, ids: list[str]) -> None:
    assert [row["run_id"] for row in store.summaries(Filters(search=ids[3].upper())).rows] == [ids[3]]


def test_a_row_is_the_document_cut_down(store: Store, ids: list[str]) -> None:
    cut: dict[str, Row] = {run["run_id"]: listing.cut(run) for run in store.runs()}
    assert {row["run_id"]: dict(row) for row in store.summaries().rows} == cut
    assert cut[ids[1]]["latency"] is None
    assert cut[ids[0]]["size"] == {"bytes": 100, "ratio": 4.0}
    assert (cut[ids[4]]["quality"], cut[ids[4]]["tags"]) == (None, [])


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("order", Order)
def test_every_order_is_that_of_python_and_runs_that_lack_the_figure_come_last(
    store: Store, ids: list[str], order: Order, descending: bool
) -> None:
    newest_first = [listing.cut(run) for run in store.runs()]
    expected = listing.ordered(newest_first, order, descending=descending)
    found = store.summaries(order=order, descending=descending).rows
    assert [row["run_id"] for row in found] == [row["run_id"] for row in expected]
    if order in (Order.P50, Order.TOP1):
        assert {row["run_id"] for row in found[-2:]} == {ids[4], ids[1] if order is Order.P50 else ids[2]}


def test_newest_experiments_come_first_each_in_its_own_order(store: Store, ids: list[str]) -> None:
    assert [row["run_id"] for row in store.summaries().rows] == [ids[4], ids[2], ids[3], ids[0], ids[1]]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_pages_together_are_the_whole(store: Store, ids: list[str], limit: int) -> None:
    pages = [store.summaries(order=Order.SIZE, limit=limit, offset=start) for start in range(0, len(ids) + limit, limit)]
    whole = store.summaries(order=Order.SIZE)
    assert [row for page in pages for row in page.rows] == whole.rows
    assert {page.total for page in pages} == {len(ids)}


def test_facets_count_the_runs_of_each_value(store: Store, ids: list[str]) -> None:
    facets = store.facets()
    assert facets["status"] == {"done": 4, "queued": 1}
    assert facets["model"] == {"mnist-mlp": 3, "Zebra_net": 1, "another%net": 1}
    assert facets["backend"] == {"tflite": 3, "pytorch": 1, "onnxruntime": 1}
    assert facets["technique"] == {"static_wi8_ai8": 2, "float32": 2, "dynamic_wi8": 1}
    assert facets["tag"] == {"paper": 2, "Best so far": 1}


def test_deleted_runs_are_neither_listed_nor_counted(store: Store, ids: list[str]) -> None:
    store.delete([ids[0], ids[4]])
    assert {row["run_id"] for row in store.summaries().rows} == {*ids[1:4]}
    assert store.summaries().total == 3
    assert store.facets()["tag"] == {"paper": 1}
    assert store.facets()["status"] == {"done": 3}
