"""The parts of the sensitivity page: what is asked, an analysis under way or done, layers by their loss, each mode's price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from benchmarks.sensitivity.report import Metric, Mode
from experiments.analysis import Analyses, AnalysisSpec, State
from models import catalogue, zoo
from pages._ui import format as fmt
from pages._ui import sensitivity as words
from pages._ui import sensitivity_charts as drawn
from pages._ui import url_state
from pages._ui.charts import show
from pages._ui.charts_layers import Order
from pages._ui.errors import show_error
from pages._ui.fragments import fragment
from pages._ui.sensitivity import Request
from pages._ui.theme import palette
from quantizers.errors import UnknownName
from quantizers.schema import Status

POLL = "0.5s"
MODEL, LAYER = "sens_model", "layer"
WIDTHS = ("2", "3", "4", "5", "6", "8", "16")
USUAL_WIDTHS = ("4", "8")


def ask(last: AnalysisSpec | None) -> Request:
    """Draws the choices, which begin with those of the last analysis there is.

    Raises:
        UnknownName: the address names no model of the zoo.
    """
    titles = {info.id: info.title for info in zoo.catalogue() if info.available}
    first = last.model if last and last.model in titles else next(iter(titles))
    wanted = st.query_params.get(MODEL, first)
    if wanted not in titles:
        raise UnknownName.of("model with weights here", wanted, titles)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        url_state.follow("sens_model_choice", MODEL, list(titles), first)
        st.selectbox(
            "Model", list(titles), format_func=lambda name: titles[name], key="sens_model_choice", on_change=_model, width=220
        )
        metric = st.selectbox(
            "Loss",
            list(Metric),
            list(Metric).index(last.metric if last else Metric.SQNR),
            format_func=lambda one: words.METRIC_TITLES[Metric(one)],
            key="sens_metric",
            bind="query-params",
            help=words.METRIC_MEANINGS,
            width=200,
        )
        mode = st.segmented_control(
            "Mode",
            list(Mode),
            default=last.mode if last else Mode.FAST,
            required=True,
            key="sens_mode",
            bind="query-params",
            help="  \n".join(f"**{one}** {meaning}." for one, meaning in words.MODE_MEANINGS.items()),
        )
        kept = [str(bits) for bits in last.bits] if last else list(USUAL_WIDTHS)
        chosen = st.pills("Bits", WIDTHS, selection_mode="multi", default=kept, key="sens_bits", bind="query-params")
    data = catalogue.info(wanted).datasets[0]
    bits = tuple(sorted(map(int, chosen))) or tuple(map(int, USUAL_WIDTHS))
    return Request(wanted, data, Mode(mode or Mode.FAST), Metric(metric or Metric.SQNR), bits)


def _model() -> None:
    url_state.choose("sens_model_choice", MODEL)
    url_state.write(LAYER, None)


def document_of(analyses: Analyses, spec: AnalysisSpec, sentence: str, label: str, key: str) -> Mapping[str, Any] | None:
    """The document of an analysis that is done; else what can be done to have it, which is drawn."""
    state = analyses.state(spec)
    if state.status is Status.RUNNING:
        fragment(_progress, every=POLL)(analyses, spec, key)
    elif state.document is None:
        _offer(analyses, spec, state, sentence, label, key)
    return state.document


def _offer(analyses: Analyses, spec: AnalysisSpec, state: State, sentence: str, label: str, key: str) -> None:
    if state.error:
        show_error(state.error)
        label, sentence = "Try again", "The choices above stay as they are."
    with st.container(border=True, horizontal_alignment="center", gap="medium"):
        st.space("small")
        st.markdown(sentence, text_alignment="center", width="content")
        pressed = st.button(label, key=f"{key}_start", type="primary", icon=":material/play_arrow:")
        st.space("small")
    if pressed:
        analyses.start(spec, anew=True)
        st.rerun()


def _progress(analyses: Analyses, spec: AnalysisSpec, key: str) -> None:
    state = analyses.state(spec)
    if state.status is not Status.RUNNING:
        st.rerun()
    left, right = st.columns([6, 1], vertical_alignment="center")
    left.progress(state.fraction, text=state.words.capitalize())
    if right.button("Cancel", key=f"{key}_cancel", icon=":material/cancel:"):
        analyses.stop(spec)
        st.rerun()


def show_layers(analyses: Analyses, request: Request, document: Mapping[str, Any]) -> str:
    """What matters most, drawn both ways; returns the layer that is chosen."""
    metric, there = Metric(document["metric"]), words.widths(document)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        bits = _width(there)
        order = st.segmented_control(
            "Order", list(Order), default=Order.WORST, required=True, key="sens_order", bind="query-params"
        )
        ranked = words.ranked(document, bits)
        layer = _choose_layer([name for name, _ in words.ranked(document, bits, by_loss=False)], ranked[0][0])
    st.markdown(words.finding(document, bits))
    losses = words.ranked(document, bits, by_loss=order == Order.WORST)
    draw = drawn.ranked_bars if order == Order.WORST else drawn.in_order
    show(
        draw(losses, metric, palette(), layer),
        title=f"What rounding each layer alone to {bits} bits costs",
        caption="Click a bar to choose its layer. " + words.agreement_words(document),
        meaning=words.METRIC_MEANINGS,
        alt=f"Loss of every layer at {bits} bits",
        key="sens_bars",
        on_select=partial(url_state.choose_clicked, "sens_bars", LAYER),
    )
    _chosen(document, layer)
    _prices(analyses, request, document)
    return layer


def _width(there: Sequence[int]) -> int:
    """Which of the widths of the analysis is shown; the address keeps it."""
    options = [str(bits) for bits in there]
    url_state.follow("sens_shown_choice", "sens_shown", options, options[0])
    on_change = partial(url_state.choose, "sens_shown_choice", "sens_shown")
    shown = st.segmented_control("Bits shown", options, required=True, key="sens_shown_choice", on_change=on_change)
    return int(shown or options[0])


def _choose_layer(layers: Sequence[str], worst: str) -> str:
    url_state.follow("sens_layer", LAYER, layers, worst)
    return str(
        st.selectbox("Layer", layers, key="sens_layer", on_change=partial(url_state.choose, "sens_layer", LAYER), width=220)
    )


def _chosen(document: Mapping[str, Any], layer: str) -> None:
    """The chosen layer at every width."""
    rows = [row for row in document["layers"] if row["name"] == layer]
    told = [f"{words.loss_words(document, row['loss'])} at {row['bits']} bits" for row in rows]
    st.caption(f"**{layer}** rounded alone: {', '.join(told)}.")


def _prices(analyses: Analyses, request: Request, document: Mapping[str, Any]) -> None:
    """What each mode costs on this model: measured where it has been run, an upper bound elsewhere."""
    most = len(document["layers"])
    bounds = {Mode.FAST: "a few passes", Mode.BALANCED: f"at most {most / 4:.0f} passes", Mode.EXACT: f"at most {most} passes"}
    lines = []
    for mode, bound in bounds.items():
        spec = Request(request.model, request.data, mode, request.metric, request.bits).sensitivity
        found = analyses.state(spec).document
        price = words.cost_words(found) if found else f"{bound}, not run here yet"
        lines.append(f"**{mode}** {words.MODE_MEANINGS[mode]}: {price}.")
    st.caption("  \n".join(lines))


def empty_words(title: str) -> str:
    return f"No analysis of {title} with these choices yet: it rounds each layer alone and tells what that does to the output."


def title_of(model: str) -> str:
    return fmt.SPACE.join(catalogue.info(model).title.split())
