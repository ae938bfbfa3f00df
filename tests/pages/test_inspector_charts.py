"""Charts of one layer show what the arrays hold."""

from dataclasses import replace

import numpy as np
import pytest
from made_runs import make_run

from pages._ui.charts_histogram import Histogram
from pages._ui.inspector_charts import (
    Channels,
    calibrated_range,
    channels_figure,
    channels_finding,
    codes_figure,
    codes_finding,
    range_finding,
)
from pages._ui.layer_table import frame, sparkline
from pages._ui.theme import LIGHT

COLOUR = "#007D5C"


@pytest.mark.parametrize("per_channel", [True, False])
def test_channels_carry_range_clip_and_scale(per_channel: bool) -> None:
    run, arrays = make_run("r", "tflite", "static_wi8_ai8", per_channel=per_channel)
    layer = run["layers"][0]
    channels = Channels.of(layer, arrays)
    assert channels is not None
    assert channels.clip_low is not None
    assert channels.scale is not None
    assert len(channels.low) == len(channels.clip_low) == len(channels.scale) == layer["weight"]["shape"][0]
    figure = channels_figure(channels, COLOUR, LIGHT)
    drawn = [trace for trace in figure.data if trace.type == "bar"]
    assert sum(len(trace.x) for trace in drawn) == len(channels.low)


def test_outliers_are_counted_named_and_marked() -> None:
    low, high = np.full(8, -1.0), np.full(8, 1.0)
    high[5] = 4.0
    channels = Channels(low, high, None, None, None)
    assert channels_finding(channels) == "1 of 8 channels reaches 3× beyond the median: channel 5"
    marked = [trace for trace in channels_figure(channels, COLOUR, LIGHT).data if trace.name == "outlier channel"]
    assert list(marked[0].x) == [5]
    assert "none" in channels_finding(Channels(low, np.ones(8), None, None, None))


def test_codes_are_counted() -> None:
    codes = np.array([0, 3, 1, 0])
    assert codes_finding(codes).startswith("2 of 4 codes are used")
    bars = codes_figure(codes, -2, COLOUR, LIGHT).data[0]
    assert list(bars.x) == [-2, -1, 0, 1]
    assert list(bars.y) == [0, 3, 1, 0]


def test_the_share_beyond_the_calibrated_range_is_said() -> None:
    output = {"scale": [0.5], "zero_point": [-128], "qmin": -128, "qmax": 127}
    assert calibrated_range(output) == (0.0, 127.5)
    assert calibrated_range({"scale": None}) is None
    data = Histogram("", "tflite", np.array([0.0, 64.0, 127.5, 200.0]), np.array([90.0, 9.5, 0.5]), np.array([90.0, 10.0, 0.0]))
    assert "stay in float" in range_finding(data)
    assert "0.50\u202f% lie beyond" in range_finding(replace(data, clip=(0.0, 127.5)))
    assert "holds them all" in range_finding(replace(data, clip=(-1.0, 200.0)))


def test_a_run_without_arrays_has_no_channels_and_no_sparkline() -> None:
    run, _ = make_run("r", "tflite", "static_wi8_ai8")
    assert Channels.of(run["layers"][0], {}) is None
    assert sparkline({}, "conv1") is None


def test_the_layer_table_keeps_order_and_leaves_out_what_is_absent() -> None:
    run, arrays = make_run("r", "pytorch", "float32")
    table = frame(run["layers"], arrays)
    assert list(table["layer"]) == [layer["name"] for layer in run["layers"]]
    assert table["scale"].isna().all()
    assert table["sqnr_weight"].isna().all()
    quantized, arrays = make_run("r", "pytorch", "static_wi8_ai8")
    assert (frame(quantized["layers"], arrays)["sqnr_weight"] > 30).all()
    assert max(sparkline(arrays, "conv1") or []) == 1.0
