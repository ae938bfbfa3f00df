"""Tables say what the runs say, and their CSVs carry plain numbers."""

import math

from made_runs import LAYERS, make_run

from pages._ui import format as fmt
from pages._ui import tables
from pages._ui.comparison import relatives

RUNS = [make_run(code, "tflite", code)[0] for code in ("float32", "static_wi8_ai8")]
RUNS.append(make_run("weight_only_wi8", "pytorch", "weight_only_wi8")[0])
NAMES = fmt.run_names(RUNS)
RELATIVES = relatives(RUNS, None)


def test_headline_carries_figure_interval_and_verdict() -> None:
    row = tables.headline(RUNS, NAMES, RELATIVES).loc["● TFLite · Full int8"]
    assert row["Size"] == "50.7\u202fKB"
    assert row["Change, points"] == "−0.21 [−0.33, −0.09]  \n:red[less accurate]"
    assert row["Speed-up"] == "1.90× [1.82, 1.98]  \n:green[faster]"
    assert row["Layers quantized"] == "5 of 5"


def test_what_was_not_measured_is_a_dash() -> None:
    table = tables.headline(RUNS, NAMES, RELATIVES)
    assert table.loc["▼ PyTorch · Weight-only int8", "Speed-up"] == "–"
    assert table.loc["○ TFLite · Float32", "Change, points"] == "–"


def test_headline_figures_are_numbers() -> None:
    figures = tables.headline_figures(RUNS, NAMES, RELATIVES).set_index("run_id")
    full = figures.loc["static_wi8_ai8"]
    assert full["bytes"] == RUNS[1]["size"]["bytes"]
    assert full["change_pp_low"] == -RUNS[1]["quality"]["drop_pp_ci95"][1]
    assert math.isnan(figures.loc["weight_only_wi8", "p50_ms"])


def test_parameters_list_every_channel_of_every_run() -> None:
    table = tables.parameters(RUNS[1:], NAMES)
    weights = table[(table["tensor"] == "weight") & (table["run"] == NAMES["static_wi8_ai8"])]
    assert len(weights) == sum(shape[0] for shape in LAYERS.values())
    scales = weights[weights["layer"] == "conv2"].sort_values("channel")["scale"]
    assert list(scales) == RUNS[1]["layers"][1]["weight"]["scale"]


def test_parameters_of_one_layer() -> None:
    table = tables.parameters(RUNS[1:], NAMES, "dense")
    assert set(table["layer"]) == {"dense"}
    assert list(table.columns[:3]) == ["run", "layer", "tensor"]


def test_search_needs_every_word_and_takes_them_literally() -> None:
    table = tables.parameters(RUNS[:2], NAMES)
    assert set(tables.search(table, "CONV2 weight")["layer"]) == {"conv2"}
    assert set(tables.search(table, "CONV2 weight")["tensor"]) == {"weight"}
    assert tables.search(table, "conv.*").empty
    assert len(tables.search(table, "")) == len(table)
