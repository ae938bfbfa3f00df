"""Compare: the address says what is compared, and whatever it says the page has an answer."""

import pytest
from stored_runs import open_page
from streamlit.testing.v1 import AppTest


def headline(page: AppTest) -> list[str]:
    return list(page.table[0].value.index)


def test_a_link_restores_runs_baseline_and_layer(examples: list[str]) -> None:
    half, full = examples[-1], examples[1]
    page = open_page("compare", runs=f"{half},{full}", baseline=half, layer="conv2")
    assert not page.exception
    assert headline(page) == ["▲ TFLite · Float16", "● PyTorch · Full int8"]
    assert "measured apart" in page.markdown[0].value
    assert page.selectbox(key="compare_layer").value == "conv2"
    assert any("weights of conv2" in text.value for text in page.markdown)
    assert len(page.get("plotly_chart")) == 4


def test_the_worst_layer_is_chosen_when_the_link_names_none(examples: list[str]) -> None:
    page = open_page("compare", runs=",".join(examples[:2]), layer="no such layer")
    assert not page.exception
    assert page.selectbox(key="compare_layer").value == "dense"


def test_choosing_a_layer_changes_the_address(examples: list[str]) -> None:
    page = open_page("compare", runs=",".join(examples[:2]))
    page.selectbox(key="compare_layer").set_value("conv1").run()
    assert page.query_params["layer"] == "conv1"
    assert any("weights of conv1" in text.value for text in page.markdown)


def test_adding_a_run_changes_the_address(examples: list[str]) -> None:
    page = open_page("compare", runs=examples[0])
    page.selectbox(key="compare_add").set_value(examples[3]).run()
    assert page.query_params["runs"] == f"{examples[0]},{examples[3]}"
    assert len(headline(page)) == 2


def test_a_link_restores_the_axes(examples: list[str]) -> None:
    page = open_page("compare", runs=",".join(examples), compare_x="latency", compare_y="sqnr")
    assert not page.exception
    assert page.selectbox(key="compare_x_choice").value == "latency"
    assert page.selectbox(key="compare_y_choice").value == "sqnr"


def test_a_budget_names_what_fits(examples: list[str]) -> None:
    page = open_page("compare", runs=",".join(examples), compare_max_size="100", compare_min_change="-0.1")
    assert not page.exception
    assert any(text.value.startswith("Fits your budget") for text in page.markdown)


def test_searching_the_parameters(examples: list[str]) -> None:
    page = open_page("compare", runs=examples[1], compare_scope="the whole model", compare_search="conv1 weight")
    (table,) = page.dataframe
    assert set(table.value["layer"]) == {"conv1"}
    assert set(table.value["tensor"]) == {"weight"}


def test_unknown_runs_are_named_and_the_others_shown(examples: list[str]) -> None:
    page = open_page("compare", runs=f"nonsense,{examples[0]}")
    assert not page.exception
    assert "nonsense" in page.warning[0].proto.title
    assert len(headline(page)) == 1


def test_at_most_eight_are_shown(examples: list[str]) -> None:
    others = [run_id.replace("fashion", "mnist") for run_id in examples]
    page = open_page("compare", runs=",".join([*examples, *others]))
    assert len(headline(page)) == 8
    assert page.caption[0].value == "Showing the first 8 of 14 runs."


@pytest.mark.parametrize("runs", ["", "nonsense"])
def test_with_nothing_to_show_the_examples_are_offered(examples: list[str], runs: str) -> None:
    page = open_page("compare", **({"runs": runs} if runs else {}))
    assert not page.exception
    labels = [link.proto.label for link in page.get("page_link")]
    assert labels == ["Fashion CNN, examples (7 runs)", "MNIST CNN, examples (7 runs)"]


def test_without_any_run_there_is_one_action() -> None:
    page = open_page("compare")
    assert not page.exception
    assert len(page.get("page_link")) == 1
