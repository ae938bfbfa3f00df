"""The overview shows the examples without a click, and without examples says what to do."""

from made_runs import make_run
from stored_runs import open_page

from pages._ui.cards import best, best_by_backend


def test_examples_are_shown_at_once(examples: list[str]) -> None:
    page = open_page("overview")
    assert not page.exception
    assert page.title[0].value == "Fashion CNN: 3.6× smaller and 1.9× faster with PyTorch · Full int8"
    assert len(page.get("plotly_chart")) == 3
    figures = [text.value.split()[1] for text in page.markdown if text.value.startswith("### ")]
    assert figures == ["3.6×", "1.9×", "−0.21"] * 2
    assert "Measured on Test CPU (1 thread, batch 1)" in page.caption[-1].value


def test_the_address_chooses_the_model(examples: list[str]) -> None:
    page = open_page("overview", overview_model="mnist-cnn")
    assert page.title[0].value.startswith("MNIST CNN")


def test_an_unknown_model_in_the_address_shows_the_first(examples: list[str]) -> None:
    page = open_page("overview", overview_model="nonsense")
    assert not page.exception
    assert page.title[0].value.startswith("Fashion CNN")


def test_run_this_prefills_a_new_experiment(examples: list[str]) -> None:
    page = open_page("overview")
    page.button(key="overview_run").click().run()
    assert not page.exception
    assert page.title[0].value == "New experiment"
    assert page.query_params["new_model"] == "fashion-cnn"
    assert "tflite:static_wi8_ai16" in page.query_params["new_techniques"].split(",")


def test_without_examples_there_is_one_action() -> None:
    page = open_page("overview")
    assert not page.exception
    assert "No examples are bundled here" in page.markdown[0].value
    assert len(page.get("page_link")) == 1


def test_the_best_is_native_quantized_and_keeps_accuracy() -> None:
    runs = [make_run(code, "tflite", code)[0] for code in ("float32", "float16", "static_wi8_ai8", "weight_only_wi8")]
    chosen = best(runs)
    assert chosen is not None
    assert chosen["run_id"] == "static_wi8_ai8"
    lossy = chosen["quality"] | {"drop_pp": 1.5}
    kept = best([*(run for run in runs if run is not chosen), chosen | {"quality": lossy}])
    assert kept is not None
    assert kept["run_id"] == "float16"
    assert best(runs[:1]) is None
    assert best_by_backend(runs[:1]) == []
