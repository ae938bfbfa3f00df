"""Compare: two to eight runs side by side, from the headline down to one layer's weights. The address holds every choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from models import zoo
from pages._ui import charts, charts_layers, charts_tradeoff, comparison, reading, tables, url_state
from pages._ui import format as fmt
from pages._ui.charts_histogram import Histogram, histograms
from pages._ui.charts_layers import Figure, LayerErrors, Order, Part
from pages._ui.closed_loop_view import choose_and_change, wait_for
from pages._ui.errors import show_empty, show_error
from pages._ui.inspector_charts import calibrated_range
from pages._ui.metrics import METRICS, Metric, choose
from pages._ui.theme import glyph, palette
from quantizers.errors import UnknownName

Run = Mapping[str, Any]
RUNS, BASELINE, LAYER = "runs", "baseline", "layer"
MOST = 8
FIRST = 4
FEW = 4
TENSORS = {"weights": "weight", "outputs": "output"}
PARTS = "  \n".join(f"**{part}**: {words}" for part, words in charts_layers.MEANINGS.items())


def chips(runs: Sequence[Run], others: Sequence[Run], names: Mapping[str, str], baseline: Run | None) -> None:
    """The chosen runs, each with what can be done to it, and a way to add another."""
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        for run in runs:
            chip(run, runs, names[run["run_id"]], baseline)
        if others and len(runs) < MOST:
            labels = fmt.run_names([*runs, *others])
            st.selectbox(
                "Add a run",
                [run["run_id"] for run in others],
                index=None,
                format_func=lambda run_id: labels[run_id],
                placeholder="Add a run",
                label_visibility="collapsed",
                width=220,
                key="compare_add",
                on_change=lambda: url_state.write_list(RUNS, [*_ids(runs), st.session_state["compare_add"]]),
            )


def chip(run: Run, runs: Sequence[Run], name: str, baseline: Run | None) -> None:
    is_baseline = baseline is not None and baseline["run_id"] == run["run_id"]
    actions = {
        "Use each backend's float32 as baseline" if is_baseline else "Set as baseline": _set_baseline,
        "Remove": _remove,
        "Inspect its layers": _inspect,
    }
    label = f"{glyph(run['technique'])} {name}" + (" · baseline" if is_baseline else "")
    chosen = st.menu_button(
        label, list(actions), key=f"compare_chip_{run['run_id']}", type="primary" if is_baseline else "secondary"
    )
    if chosen:
        actions[chosen](run, runs, is_baseline)


def _set_baseline(run: Run, _runs: Sequence[Run], is_baseline: bool) -> None:
    url_state.write(BASELINE, None if is_baseline else run["run_id"])
    st.rerun()


def _remove(run: Run, runs: Sequence[Run], is_baseline: bool) -> None:
    url_state.write_list(RUNS, [run_id for run_id in _ids(runs) if run_id != run["run_id"]])
    if is_baseline:
        url_state.write(BASELINE, None)
    st.rerun()


def _inspect(run: Run, _runs: Sequence[Run], _is_baseline: bool) -> None:
    st.switch_page("layers.py", query_params={"run": run["run_id"]})


def _ids(runs: Sequence[Run]) -> list[str]:
    return [run["run_id"] for run in runs]


def headline(runs: Sequence[Run], names: Mapping[str, str], baseline: Run | None) -> None:
    """Every figure of every run against the baseline."""
    against = "**float32 of the same backend**, measured in pairs"
    if baseline:
        against = f"**{names[baseline['run_id']]}**, measured apart"
    relatives = comparison.relatives(runs, baseline)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(
            f"Ratios and changes are against {against}. Intervals are 95\u202f%.", width="content", help=tables.MEANINGS
        )
        download(tables.headline_figures(runs, names, relatives), "comparison.csv", "compare_headline_csv")
    st.table(tables.headline(runs, names, relatives), border="horizontal", alt="Size, accuracy, speed and memory of every run")
    missing = charts_tradeoff.unmeasured(runs, names, METRICS["latency"], METRICS["size"])
    if missing:
        st.caption(missing.replace("Not shown", "Without latency"))


def download(table: pd.DataFrame, name: str, key: str) -> None:
    """A button that makes the CSV when it is pressed."""

    def csv() -> str:
        return table.to_csv(index=False)

    st.download_button("CSV", csv, name, "text/csv", on_click="ignore", icon=":material/download:", key=key)


def trade_off(runs: Sequence[Run], names: Mapping[str, str]) -> None:
    """Any two figures against each other, and what fits a budget."""
    labelled = any(METRICS["accuracy"].value(run) is not None for run in runs)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        x = _axis("Horizontal", ["size", "latency", "memory"], "size", "compare_x")
        y = _axis(
            "Vertical", ["change", "accuracy", "sqnr", "agreement", "latency"], "change" if labelled else "sqnr", "compare_y"
        )
        budget = _budget()
    charts.show(
        charts_tradeoff.tradeoff(runs, names, x, y, palette(), budget=budget),
        title=charts_tradeoff.title(runs, names, x, y),
        caption=charts_tradeoff.unmeasured(runs, names, x, y),
        alt=charts_tradeoff.description(runs, names, x, y),
        key="compare_tradeoff",
    )
    if budget:
        st.markdown(choose(runs, names, budget, x).words)


def _axis(label: str, options: list[str], default: str, parameter: str) -> Metric:
    key = f"{parameter}_choice"
    url_state.follow(key, parameter, options, default)
    chosen = st.selectbox(
        label,
        options,
        format_func=lambda which: METRICS[which].title,
        key=key,
        on_change=partial(url_state.choose, key, parameter),
        width=180,
    )
    return METRICS[chosen]


def _budget() -> dict[str, float]:
    """Limits a person typed, by metric."""
    fields = {
        "size": ("Size at most, KB", "compare_max_size"),
        "latency": ("Latency at most, ms", "compare_max_latency"),
        "change": ("Change at least, points", "compare_min_change"),
    }
    limits = {
        which: st.number_input(label, value=None, key=key, bind="query-params", width=190, placeholder="no limit", format="%g")
        for which, (label, key) in fields.items()
    }
    return {which: float(limit) for which, limit in limits.items() if limit is not None}


def by_layer(runs: Sequence[Run], names: Mapping[str, str]) -> str | None:
    """Error layer by layer as lines and as a heat map; returns the layer that everything below shows."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        part = st.segmented_control(
            "Error of", list(Part), default=Part.OUTPUT, required=True, key="compare_part", bind="query-params", help=PARTS
        )
        figure = st.segmented_control(
            "Figure", list(Figure), default=Figure.SQNR, required=True, key="compare_figure", bind="query-params"
        )
        order = st.segmented_control(
            "Order", list(Order), default=Order.EXECUTION, required=True, key="compare_order", bind="query-params"
        )
        errors = LayerErrors.of(runs, Part(part or Part.OUTPUT), Figure(figure or Figure.SQNR))
        layer = _choose_layer(errors)
    shown = errors.sorted(Order(order or Order.EXECUTION))
    lines, cells = st.columns([3, 2]) if len(runs) <= FEW else (st.container(), st.container())
    with lines:
        charts.show(
            charts_layers.error_lines(errors, names, palette(), layer),
            title=charts_layers.title(errors, names),
            caption=charts_layers.caption(errors),
            meaning=errors.meaning,
            alt=f"{errors.figure} of every layer, one line a run, in execution order",
            key="compare_lines",
            on_select=partial(url_state.choose_clicked, "compare_lines", LAYER),
        )
    with cells:
        charts.show(
            charts_layers.heat_map(shown, names, palette(), layer),
            title="SQNR in dB" if errors.figure is Figure.SQNR else "Cosine",
            caption="Click a cell to choose its layer; what a cell has no room for is told when pointed at.",
            alt=f"Heat map of {errors.figure}, layers down and runs across",
            key="compare_cells",
            on_select=partial(url_state.choose_clicked, "compare_cells", LAYER),
        )
    return layer


def _choose_layer(errors: LayerErrors) -> str | None:
    if not errors.layers:
        return None
    worst = errors.worst()
    url_state.follow("compare_layer", LAYER, errors.layers, worst[0] if worst else errors.layers[0])
    chosen = st.selectbox(
        "Layer", errors.layers, key="compare_layer", on_change=partial(url_state.choose, "compare_layer", LAYER), width=220
    )
    return str(chosen)


def one_layer(runs: Sequence[Run], names: Mapping[str, str], layer: str) -> None:
    """Histograms of one layer's weights or outputs, a row a run."""
    tensor = st.segmented_control(
        "Values of", list(TENSORS), default="weights", required=True, key="compare_tensor", bind="query-params"
    )
    part = TENSORS[tensor or "weights"]
    rows = []
    quantized = [run for run in runs if run["technique"] != "float32"]
    for run in quantized or runs:
        described = next((found for found in run["layers"] if found["name"] == layer), None)
        arrays = reading.arrays(run["run_id"])
        row = Histogram.of(run, names[run["run_id"]], described, arrays, part) if described else None
        if row and described and part == "output":
            row = replace(row, clip=calibrated_range(described["output"]))
        rows += [row] if row else []
    if not rows:
        st.caption(f"None of these runs kept a histogram of the {tensor} of {layer}.")
        return
    dashed = (
        "the range that calibration set" if part == "output" else "the representable range, the widest where channels differ"
    )
    charts.show(
        histograms(rows, palette(), "Weight value" if part == "weight" else "Output value"),
        title=f"What happened to the {tensor} of {layer}",
        caption=f"Grey: float32. Line: dequantized. Dashed: {dashed}.",
        alt=f"Histograms of {layer}'s {tensor}, float and dequantized, one a run",
        key="compare_histograms",
    )


def changed(runs: Sequence[Run], baseline: Run | None, layer: str) -> None:
    """What became of a layer between the baseline and each other run."""
    before = next((run for run in runs if baseline and run["run_id"] == baseline["run_id"]), None)
    others = [run for run in runs if before and run["run_id"] != before["run_id"]]
    if before and len(others) == 1 and (words := comparison.layer_words(before, others[0], layer)):
        st.markdown(words)


def parameters(runs: Sequence[Run], names: Mapping[str, str], layer: str | None) -> None:
    """Every scale and zero point, of one layer or of the whole model."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        scope = st.segmented_control(
            "Scale and zero point of",
            ["this layer", "the whole model"],
            default="this layer",
            required=True,
            key="compare_scope",
            bind="query-params",
        )
        text = st.text_input(
            "Search", type="search", key="compare_search", bind="query-params", placeholder="layer, tensor, dtype …", width=260
        )
        table = tables.search(tables.parameters(runs, names, layer if scope == "this layer" else None), text or "")
        download(table, "scale_zero_point.csv", "compare_csv")
    st.dataframe(
        table,
        column_config=tables.parameter_columns(),
        hide_index=True,
        height=420,
        alt="Scales and zero points",
        placeholder=fmt.MISSING,
        key="compare_parameters",
    )


def offers(everything: Sequence[Run]) -> None:
    """Nothing chosen yet: the newest experiment and the examples are one click away."""
    if not everything:
        show_empty("There is nothing to compare yet.", "new_experiment.py", "Run an experiment")
        return
    st.markdown("Choose two to eight runs to see side by side.")
    groups: dict[str, list[Run]] = {}
    models = {info.id: info.title for info in zoo.catalogue()}
    for run in everything:
        model = models.get(run["model"], run["model"])
        title = f"{model}, examples" if run.get("example") else f"{model}, {fmt.moment(run['created'])}"
        groups.setdefault(title, []).append(run)
    newest = [title for title, runs in groups.items() if not runs[0].get("example")][:FIRST]
    for title in [*newest, *(title for title, runs in groups.items() if runs[0].get("example"))]:
        runs = groups[title][:MOST]
        st.page_link(
            "compare.py",
            label=f"{title} ({len(runs)} runs)",
            icon=":material/compare_arrows:",
            query_params={RUNS: ",".join(_ids(runs))},
        )


library = reading.library()
wanted = url_state.read_list(RUNS)
everything = reading.finished(library, wanted)
found = {run["run_id"]: run for run in everything}
chosen = [found[run_id] for run_id in wanted if run_id in found][:MOST]
st.title("Compare", anchor=False)
stored = {run["run_id"] for run in library.store.runs(ids=wanted)}
wait_for(library, [run_id for run_id in wanted if run_id in stored - found.keys()])
for run_id in wanted:
    if run_id not in found and run_id not in stored:
        show_error(
            UnknownName(f"There is no finished run “{run_id}”.", "It may have been deleted, or was run elsewhere: see Runs.")
        )
if not chosen:
    offers(everything)
    st.stop()
if len(wanted) > MOST:
    st.caption(f"Showing the first {MOST} of {len(wanted)} runs.")

names = fmt.run_names(chosen)
baseline = next((run for run in chosen if run["run_id"] == st.query_params.get(BASELINE)), None)
chips(chosen, [run for run in everything if run["run_id"] not in wanted], names, baseline)
headline(chosen, names, baseline)
trade_off(chosen, names)
detailed = reading.all_with_layers(chosen)
layer = by_layer(detailed, names)
if layer:
    changed(detailed, baseline, layer)
    choose_and_change(library, chosen, layer, "compare")
    one_layer(detailed, names, layer)
parameters(detailed, names, layer)
