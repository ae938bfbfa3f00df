"""Figures draw the data they were given: every mark, line, bar and label is where the run says it is."""

import numpy as np
import plotly.graph_objects as go
import pytest
from made_runs import LAYERS, make_run

from pages._ui import charts_layers, charts_tradeoff
from pages._ui import format as fmt
from pages._ui.charts_histogram import Histogram, grid, histograms
from pages._ui.charts_layers import LayerErrors, Order, Part
from pages._ui.metrics import METRICS
from pages._ui.theme import DARK, LIGHT
from quantizers.schema import Backend

MADE = {
    f"{backend}-{code}": make_run(f"{backend}-{code}", backend, code)
    for backend, code in (
        ("tflite", "float32"),
        ("tflite", "static_wi8_ai8"),
        ("tflite", "float16"),
        ("pytorch", "weight_only_wi8"),
    )
}
RUNS = [run for run, _ in MADE.values()]
NAMES = fmt.run_names(RUNS)
SIZE, LATENCY, CHANGE = METRICS["size"], METRICS["latency"], METRICS["change"]


def marks(figure: go.Figure) -> dict[str, go.Scatter]:
    """The traces that stand for one run, by run id."""
    return {trace.customdata[0]: trace for trace in figure.data if trace.customdata is not None}


# ── trade-off ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_measured_run_has_its_mark() -> None:
    drawn = marks(charts_tradeoff.tradeoff(RUNS, NAMES, SIZE, CHANGE, LIGHT))
    assert set(drawn) == set(MADE)
    for run in RUNS:
        mark = drawn[run["run_id"]]
        assert mark.x[0] == pytest.approx(run["size"]["bytes"] / 1000)
        assert mark.y[0] == -run["quality"]["drop_pp"]
        low, high = run["quality"]["drop_pp_ci95"]
        assert mark.error_y.array[0] == pytest.approx(-low - mark.y[0])
        assert mark.error_y.arrayminus[0] == pytest.approx(mark.y[0] + high)


def test_colour_is_the_backend_and_grey_is_float() -> None:
    drawn = marks(charts_tradeoff.tradeoff(RUNS, NAMES, SIZE, CHANGE, DARK))
    assert drawn["tflite-float16"].marker.color == DARK.backend[Backend.TFLITE]
    assert drawn["pytorch-weight_only_wi8"].marker.color == DARK.backend[Backend.PYTORCH]
    assert drawn["tflite-float32"].marker.color == DARK.reference


def test_simulated_is_hollow_and_says_so() -> None:
    mark = marks(charts_tradeoff.tradeoff(RUNS, NAMES, SIZE, CHANGE, LIGHT))["pytorch-weight_only_wi8"]
    assert mark.marker.symbol.endswith("-open")
    assert "Simulated" in mark.hovertemplate


def test_what_cannot_be_shown_is_said() -> None:
    assert set(marks(charts_tradeoff.tradeoff(RUNS, NAMES, LATENCY, CHANGE, LIGHT))) == set(MADE) - {"pytorch-weight_only_wi8"}
    words = charts_tradeoff.unmeasured(RUNS, NAMES, LATENCY, CHANGE)
    assert words == "Not shown: PyTorch · Weight-only int8 (simulated: activations stay float32)."


def test_nothing_measured_draws_nothing() -> None:
    assert not charts_tradeoff.tradeoff([MADE["pytorch-weight_only_wi8"][0]], NAMES, LATENCY, CHANGE, LIGHT).data


def test_a_difference_within_noise_puts_nothing_on_the_frontier() -> None:
    smaller, larger = make_run("smaller", "tflite", "static_wi8_ai16")[0], MADE["tflite-float16"][0]
    assert larger["quality"]["drop_pp"] < smaller["quality"]["drop_pp"]
    points = charts_tradeoff.measured([smaller, larger], SIZE, CHANGE)
    assert [point.run["run_id"] for point in charts_tradeoff.best(points, SIZE, CHANGE)] == ["smaller"]


def test_a_wide_range_of_costs_is_logarithmic_and_its_limit_is_drawn() -> None:
    slow = MADE["tflite-float16"][0] | {
        "run_id": "slow",
        "latency": {**RUNS[0]["latency"], "p50_ms": 20.0, "p50_ci95_ms": [19, 21]},
    }
    figure = charts_tradeoff.tradeoff([*RUNS, slow], NAMES | {"slow": "Slow"}, LATENCY, CHANGE, LIGHT, {"latency": 1.0})
    assert figure.layout.xaxis.type == "log"
    low, high = figure.layout.xaxis.range
    assert low < np.log10(0.0947)
    assert high > np.log10(21)
    assert any(shape.x0 == 1.0 and shape.x1 == 1.0 for shape in figure.layout.shapes)


def test_title_names_the_best_without_measurable_loss() -> None:
    runs = [MADE["tflite-float32"][0], MADE["tflite-float16"][0]]
    assert charts_tradeoff.title(runs, NAMES, SIZE, CHANGE) == "TFLite · Float16 is the smallest without measurable loss"


def test_description_reads_every_mark() -> None:
    words = charts_tradeoff.description(RUNS, NAMES, SIZE, CHANGE)
    assert all(f"{name}: {fmt.size(run['size']['bytes'])}" in words for name, run in zip(NAMES.values(), RUNS, strict=True))


# ── layers ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_layer_errors_are_those_of_the_runs() -> None:
    errors = LayerErrors.of(RUNS, Part.OUTPUT)
    assert errors.layers == tuple(LAYERS)
    for column, run in enumerate(RUNS):
        for row, layer in enumerate(run["layers"]):
            expected = layer["output"]["sqnr_db"]
            assert errors.level[row, column] == expected or (expected is None and np.isnan(errors.level[row, column]))
    assert errors.reasons[0][0] == "exact"


def test_worst_first_puts_the_lowest_sqnr_on_top_and_loses_nothing() -> None:
    errors = LayerErrors.of(RUNS, Part.WEIGHT)
    ranked = errors.sorted(Order.WORST)
    lowest = np.nanmin(ranked.level, axis=1)
    assert list(lowest) == sorted(lowest)
    assert set(ranked.layers) == set(errors.layers)
    assert errors.worst() is not None
    assert ranked.layers[0] == errors.worst()[0]  # type: ignore[index]


def test_layers_of_other_models_are_not_mixed_up() -> None:
    other = RUNS[1] | {"run_id": "other", "layers": [RUNS[1]["layers"][0] | {"name": "elsewhere"}]}
    errors = LayerErrors.of([RUNS[1], other], Part.OUTPUT)
    assert errors.reasons[errors.layers.index("elsewhere")] == ("no such layer", "")


def test_lines_leave_out_runs_without_error_and_mark_the_chosen_layer() -> None:
    figure = charts_layers.error_lines(LayerErrors.of(RUNS, Part.OUTPUT), NAMES, LIGHT, "conv2")
    assert [trace.name for trace in figure.data] == [NAMES[run["run_id"]] for run in RUNS[1:]]
    assert all(list(trace.customdata) == list(LAYERS) for trace in figure.data)
    (shade,) = figure.layout.shapes
    assert (shade.x0, shade.x1) == (0.5, 1.5)


def test_lines_stop_at_the_ceiling_and_say_the_figure() -> None:
    high = RUNS[1]["layers"][0] | {"output": {"sqnr_db": 139.7}}
    errors = LayerErrors.of([RUNS[1] | {"layers": [high, *RUNS[1]["layers"][1:]]}], Part.OUTPUT)
    figure = charts_layers.error_lines(errors, NAMES, LIGHT, None)
    assert figure.data[0].y[0] == charts_layers.CEILING
    assert figure.data[0].text[0] == "139.7 dB"
    assert "above 80 dB" in charts_layers.caption(errors)
    assert "above" not in charts_layers.caption(LayerErrors.of(RUNS[:2], Part.OUTPUT))


def test_heat_map_shows_every_figure_once_and_carries_its_layer() -> None:
    errors = LayerErrors.of(RUNS, Part.OUTPUT)
    figure = charts_layers.heat_map(errors, NAMES, LIGHT, None)
    colours, cells = figure.data
    np.testing.assert_array_equal(colours.z, errors.level)
    shown = {(cells.customdata[i], round(cells.x[i])): text for i, text in enumerate(cells.text) if text}
    assert shown["conv2", 1] == f"{errors.level[1, 1]:.1f}"
    assert len(shown) == errors.level.size


def test_titles_of_nothing_lost() -> None:
    errors = LayerErrors.of(RUNS[:1], Part.OUTPUT)
    assert errors.worst() is None
    assert "No layer" in charts_layers.title(errors, NAMES)


# ── histograms ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def histogram(run_id: str, layer: int = 1) -> Histogram:
    run, arrays = MADE[run_id]
    found = Histogram.of(run, "name", run["layers"][layer], arrays)
    assert found is not None
    return found


def test_histogram_holds_all_weights_before_and_after() -> None:
    row = histogram("tflite-static_wi8_ai8")
    assert row.before.sum() == pytest.approx(100)
    assert row.after.sum() == pytest.approx(100)
    assert row.clip is not None
    described = MADE["tflite-static_wi8_ai8"][0]["layers"][1]["weight"]
    assert row.clip[1] == pytest.approx(127 * max(described["scale"]))


def test_float_has_no_clip_marks_and_an_unknown_part_no_histogram() -> None:
    assert histogram("tflite-float16").clip is None
    run, arrays = MADE["tflite-float16"]
    assert Histogram.of(run, "name", run["layers"][0], arrays, "output") is None


def test_grid_is_known_only_for_few_levels_that_all_channels_share() -> None:
    four_bit = {"scale": [0.5], "zero_point": [1], "qmin": -8, "qmax": 7}
    levels = grid(four_bit)
    assert levels is not None
    assert (levels[0], levels[-1], len(levels)) == (-4.5, 3.0, 16)
    assert grid(four_bit | {"scale": [0.5, 0.6]}) is None
    assert grid(four_bit | {"qmin": -128, "qmax": 127}) is None


def test_small_multiples_share_one_axis() -> None:
    figure = histograms([histogram("tflite-static_wi8_ai8"), histogram("tflite-float16")], LIGHT)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    lines = [trace for trace in figure.data if trace.type == "scatter"]
    assert (len(bars), len(lines)) == (2, 2)
    assert figure.layout.xaxis.matches == "x2"
    assert lines[0].line.color == LIGHT.backend[Backend.TFLITE]
    dashed = [shape for shape in figure.layout.shapes if shape.line.dash == "dash"]
    assert len(dashed) == 2
