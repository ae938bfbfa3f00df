"""Overview: finished examples, measured and bundled, so that the first visit shows the whole story without a click."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from models import zoo
from pages._ui import charts, charts_tradeoff, findings, reading, url_state
from pages._ui import format as fmt
from pages._ui.cards import best, best_by_backend, card
from pages._ui.charts_histogram import Histogram, histograms
from pages._ui.comparison import against_float
from pages._ui.errors import show_empty
from pages._ui.metrics import METRICS
from pages._ui.theme import glyph, palette
from quantizers.schema import Backend

Run = Mapping[str, Any]
MOST = 8
MODEL, CHOICE = "overview_model", "overview_model_choice"


def head(runs: Sequence[Run], title: str) -> None:
    """The finding, what one sees, and the two things to do next."""
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        st.title(finding(runs, title), anchor=False)
        st.markdown(sentence(runs, title))
    wanted = ",".join(f"{run['backend']}:{run['technique']}" for run in runs)
    with right, st.container(horizontal_alignment="right", gap="xsmall"):
        if st.button("Run this on my machine", type="primary", icon=":material/play_arrow:", key="overview_run"):
            st.switch_page("new_experiment.py", query_params={"new_model": runs[0]["model"], "new_techniques": wanted})
        st.page_link("new_experiment.py", label="Start with my model", icon=":material/arrow_forward:")


def finding(runs: Sequence[Run], title: str) -> str:
    """What the best technique of all gains."""
    winner = best(runs)
    if winner is None:
        return f"{title}, quantized"
    relative = against_float(winner)
    gains = [fmt.smaller(relative.ratio)]
    gains += [fmt.faster(relative.speedup)] if relative.speed in (fmt.FASTER, fmt.SLOWER) else []
    return f"{title}: {' and '.join(gains)} with {fmt.run_name(winner)}"


def sentence(runs: Sequence[Run], title: str) -> str:
    """What one sees on this page."""
    present = {run["backend"] for run in runs}
    *others, last = (fmt.backend_name(backend) for backend in Backend if backend in present)
    backends = f"{', '.join(others)} and {last}" if others else last
    quantized = sum(run["technique"] != "float32" for run in runs)
    n = (runs[0].get("quality") or {}).get("n")
    return (
        f"{title} quantized {quantized} ways by {backends}, each measured against float32 of the same backend on "
        f"{fmt.count(n)} test images. Below, the best of each backend, then all of them."
    )


def trade_offs(runs: Sequence[Run]) -> None:
    """Accuracy against size, and against latency, on the same scale."""
    colours, names = palette(), fmt.run_names(runs)
    change = METRICS["change"]
    for column, x in zip(st.columns(2), (METRICS["size"], METRICS["latency"]), strict=True):
        with column:
            charts.show(
                charts_tradeoff.tradeoff(runs, names, x, change, colours),
                title=charts_tradeoff.title(runs, names, x, change),
                alt=charts_tradeoff.description(runs, names, x, change),
                key=f"overview_{x.id}",
            )
    absent = charts_tradeoff.unmeasured(runs, names, METRICS["latency"], change)
    st.caption(f"{key_of_marks(runs)} Bars are 95 % intervals; the line joins what nothing else beats on both axes. {absent}")


def key_of_marks(runs: Sequence[Run]) -> str:
    """Shape is the technique; colour, shown by the labels in the charts, is the backend."""
    codes = dict.fromkeys(run["technique"] for run in runs)
    return " · ".join(f"{glyph(code)} {fmt.technique_name(code)}" for code in codes) + "."


def inside(run: Run) -> None:
    """One layer of the best run, before and after."""
    layers = reading.with_layers(run["run_id"])["layers"]
    layer = findings.weakest(layers) or layers[0]
    row = Histogram.of(run, fmt.run_name(run), layer, reading.arrays(run["run_id"]))
    if row is None:
        return
    weight = layer["weight"]
    charts.show(
        histograms([row], palette()),
        title=f"What happened inside: the weights of {layer['name']}, before and after",
        caption=(
            "Grey: float32. Line: the values its integer codes stand for. Dashed: the representable range. Weight SQNR "
            f"{fmt.decibels(weight.get('sqnr_db'))}; {fmt.percent(weight.get('levels_used'), 0)} of the levels are used."
        ),
        alt=f"Histogram of {layer['name']}'s weights in float32 and dequantized, {fmt.run_name(run)}",
        key="overview_inside",
    )


def provenance(runs: Sequence[Run]) -> None:
    """Where and when the examples were measured, and the way to the figures themselves."""
    first, conditions = runs[0]["provenance"], runs[0]["measurement"]
    quality = runs[0].get("quality") or {}
    threads = f"{first['threads']} thread{'s' if first['threads'] > 1 else ''}"
    st.caption(
        f"Measured on {first['cpu']} ({threads}, batch 1) on {fmt.day(runs[0].get('finished'))}, "
        f"{fmt.count(quality.get('n'))} samples of {conditions['data']}, with make examples. "
        "Speed will differ on yours: run it to see."
    )


library = reading.library()
examples = library.examples()
if not examples:
    st.title("Overview", anchor=False)
    show_empty(
        "No examples are bundled here. Measure your own: it takes about two minutes.", "new_experiment.py", "New experiment"
    )
    st.stop()

titles = {info.id: info.title for info in zoo.catalogue()}
models = list(dict.fromkeys(run["model"] for run in examples))
url_state.follow(CHOICE, MODEL, models, models[0])
model = st.segmented_control(
    "Example model",
    models,
    required=True,
    format_func=lambda model_id: titles.get(model_id, model_id),
    key=CHOICE,
    on_change=partial(url_state.choose, CHOICE, MODEL),
    label_visibility="collapsed",
)
shown = [run for run in examples if run["model"] == model]
head(shown, titles.get(str(model), str(model)))
chosen = best_by_backend(shown)
for column, run in zip(st.columns(max(len(chosen), 1)), chosen, strict=False):
    with column:
        card(run)
trade_offs(shown)
if chosen:
    inside(winner := best(shown) or chosen[0])
    with st.container(horizontal=True):
        ids = ",".join(run["run_id"] for run in shown[:MOST])
        st.page_link(
            "compare.py", label="Compare them figure by figure", icon=":material/compare_arrows:", query_params={"runs": ids}
        )
        st.page_link("layers.py", label="Inspect its layers", icon=":material/layers:", query_params={"run": winner["run_id"]})
provenance(shown)
