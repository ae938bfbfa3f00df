"""The playground of one tensor: its controls, and what follows from them, drawn anew at every movement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from pages._ui import format as fmt
from pages._ui import url_state
from pages._ui.charts import show as show_chart
from pages._ui.drag import answer_quickly, figures, histogram, moved, slider
from pages._ui.errors import show_error
from pages._ui.fragments import fragment
from pages._ui.inspector_charts import Channels, channels_figure, channels_finding
from pages._ui.playground_answers import FLOAT_BYTES, Axis, Grain, drawing, finding, finer, projected_bytes
from pages._ui.theme import palette
from quantizers.errors import QuantScopeError
from quantizers.numerics import WHOLE_RANGE, covered
from quantizers.schema import Scheme
from quantizers.sketch import Clip, Estimate, Question, Sketch, estimate
from quantizers.sketch_clipping import Clipping, best_clip
from quantizers.sketch_file import SketchFile, TensorSummary

BITS = (1, 16)
PERCENTILES = ("99", "99.9", "99.99", "99.999")
BY_HAND = "by_hand"
RULES = {
    Clipping.MIN_MAX.value: "Whole range",
    Clipping.MSE.value: "Least MSE",
    Clipping.ENTROPY.value: "Least KL divergence",
    **{f"percentile_{percent}": f"Percentile {percent}" for percent in PERCENTILES},
    BY_HAND: "By hand",
}
RULES_MEANING = (
    "Which part of the range the grid covers. KL: divergence in nats of the rounded histogram from the clipped one. "
    "By hand: drag the dashed marks, or move them with the arrow keys."
)
NOTABLE_DB = 0.05
MAX_CHANNELS_DRAWN = 256
_MARKS, _BITS = "play_marks", "play_bits_slider"


def show(file: SketchFile, name: str, run: Mapping[str, Any] | None) -> None:
    """Everything about one tensor; `run` is where the choices begin, and what they are compared with."""
    summary = _summary(file.path, name)
    layer = next((layer for layer in run["layers"] if layer["name"] == name), None) if run else None
    weight = layer["weight"] if layer and layer["quantized"] else {}
    grain, scheme = _choose_grid(summary, weight)
    st.caption(_describe(summary, run, weight))
    fragment(_live)(file.path, summary, grain, scheme, int(weight.get("bits") or 8))
    left, right = st.columns(2)
    with left:
        _channels(summary)
    with right:
        _every_width(summary)
    answer_quickly()


def _choose_grid(summary: TensorSummary, weight: Mapping[str, Any]) -> tuple[Grain, Scheme]:
    grains = [grain for grain in Grain if grain.key(Scheme.SYMMETRIC) in summary.sketches]
    begin = Grain.of(weight.get("granularity"), weight.get("group_size"))
    with st.container(horizontal=True):
        _segments("One scale", "play_grain", {grain.value: grain.words for grain in grains}, begin.value)
        _segments(
            "Scheme",
            "play_scheme",
            {s.value: s.value.capitalize() for s in Scheme},
            weight.get("scheme") or Scheme.SYMMETRIC.value,
        )
    return Grain(st.session_state["play_grain_choice"]), Scheme(st.session_state["play_scheme_choice"])


def _segments(label: str, parameter: str, options: Mapping[str, str], default: str) -> None:
    key = f"{parameter}_choice"
    first = default if default in options else next(iter(options))
    url_state.follow(key, parameter, list(options), first)
    st.segmented_control(
        label,
        list(options),
        key=key,
        format_func=lambda o: options[o],
        on_change=url_state.choose,
        args=(key, parameter),
        required=True,
    )


def _describe(summary: TensorSummary, run: Mapping[str, Any] | None, weight: Mapping[str, Any]) -> str:
    text = f"{' × '.join(map(str, summary.shape))}, batch norms folded in. Groups are consecutive weights of an output channel."
    if run and weight.get("sqnr_db") is not None:
        text += f" {fmt.run_name(run)} measured {fmt.decibels(weight['sqnr_db'])} on it."
    return text


def _live(path: Path, summary: TensorSummary, grain: Grain, scheme: Scheme, first_bits: int) -> None:
    """What is drawn anew while a person drags: nothing else of the page is."""
    bits = _bits(first_bits)
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with right:
        rule = _choose_clipping()
    try:
        question = Question(bits, scheme, _clip(path, summary.name, grain, scheme, bits, rule))
        _answer(path, summary, grain, question)
    except QuantScopeError as error:
        show_error(error)
    # The controls come last, and with them word that a movement is answered: by then the figures are drawn.
    with left:
        slider("Bits", "Width of the integers the weights are stored in.", bits, BITS, "bit", key=_BITS, on_move=_bits_moved)


def _choose_clipping() -> str:
    url_state.follow("play_rule_choice", "play_rule", list(RULES), Clipping.MIN_MAX.value)
    st.selectbox(
        "Clipping",
        list(RULES),
        key="play_rule_choice",
        format_func=lambda rule: RULES[rule],
        help=RULES_MEANING,
        on_change=url_state.choose,
        args=("play_rule_choice", "play_rule"),
    )
    return str(st.session_state["play_rule_choice"])


def _answer(path: Path, summary: TensorSummary, grain: Grain, question: Question) -> None:
    """Finding, histogram, figures and suggestion."""
    sketch = _sketch(path, summary.name, grain.key(question.scheme))
    axis = Axis.of(sketch, grain, question.scheme)
    now = estimate(sketch, question)
    other = finer(grain, summary, question.scheme)
    there = other and estimate(
        _sketch(path, summary.name, other.key(question.scheme)), Question(question.bits, question.scheme)
    )
    st.markdown(finding(summary.name, grain, question, now, (other, there) if other and there else None))
    place = st.container()
    st.caption(_axis_words(grain))
    _figures(summary, grain, question, now)
    _suggestion(path, summary.name, grain, question, now)
    with place:
        histogram(drawing(sketch, axis, question), key=_MARKS, on_move=lambda: _marks_moved(axis))


def _axis_words(grain: Grain) -> str:
    sharing = "group" if grain.group_size else "channel"
    values = "Weight value" if grain is Grain.TENSOR else f"Weights as parts of the range of their own {sharing}"
    return f"{values}; height: how many, on a log scale. Dashed: the clip marks. Thin lines: the grid, up to 32 levels."


def _bits(first: int) -> int:
    written = st.session_state.get("play_bits") or st.query_params.get("play_bits", "")
    return min(max(int(written), BITS[0]), BITS[1]) if str(written).isdigit() else first


def _bits_moved() -> None:
    if done := moved(_BITS):
        st.session_state["play_bits"] = int(done.value)
        if done.released:
            url_state.write("play_bits", str(done.value))


def _marks_moved(axis: Axis) -> None:
    if done := moved(_MARKS):
        below, above = axis.clip((float(done.value[0]), float(done.value[1])))
        st.session_state["play_clip"] = below, above
        if st.query_params.get("play_rule") != BY_HAND:
            url_state.write("play_rule", BY_HAND)
        if done.released:
            url_state.write("play_clip", f"{below:.5g},{above:.5g}")


def _clip(path: Path, name: str, grain: Grain, scheme: Scheme, bits: int, rule: str) -> Clip:
    if rule == BY_HAND:
        return st.session_state.get("play_clip") or _written_clip()
    kind, _, percentile = rule.partition("_") if rule.startswith("percentile") else (rule, "", "99.9")
    return _best_clip(path, name, grain.key(scheme), bits, scheme, Clipping(kind), float(percentile))


def _written_clip() -> Clip:
    """The parts the address holds; the whole range when it holds nothing that makes sense."""
    try:
        below, above = (float(part) for part in st.query_params.get("play_clip", "").split(","))
    except ValueError:
        return WHOLE_RANGE
    return (below, above) if 0 < below <= 1 and 0 < above <= 1 else WHOLE_RANGE


def _figures(summary: TensorSummary, grain: Grain, question: Question, now: Estimate) -> None:
    size, before = projected_bytes(summary, grain, question), summary.size * FLOAT_BYTES
    rows = (
        (
            "SQNR",
            "exact" if now.exact else fmt.decibels(now.sqnr_db),
            "Power of the weights over that of their error; 6 dB is one bit.",
        ),
        ("RMSE / step", fmt.number(now.rmse_per_step), "Ideal rounding gives 0.289; clipping more, unused range less."),
        ("Clipping share", fmt.percent(now.clipping_share), "Of the squared error; the rest is rounding."),
        ("Cosine similarity", fmt.fixed(now.cosine, 5), "1: the weights point the same way."),
        ("MSE", fmt.number(now.mse), "Mean squared difference of the weights from what they would become."),
        ("Levels used", fmt.percent(now.levels_used), "Distinct codes that occur, of all there are; up to 8 bits."),
        (
            "Projected size",
            fmt.size(size),
            f"Packed codes and their scales; {fmt.size(before)} as float32. Projected: nothing is written.",
        ),
        ("Times smaller", fmt.times(before / size), "Than as float32; of this tensor alone."),
    )
    figures([(title, text, f"{meaning} From the tensor's sketch.") for title, text, meaning in rows], key="play_figures")


def _suggestion(path: Path, name: str, grain: Grain, question: Question, now: Estimate) -> None:
    """What the best clip would change, and one press to take it."""
    clip = _best_clip(path, name, grain.key(question.scheme), question.bits, question.scheme, Clipping.MSE, 0.0)
    best = estimate(_sketch(path, name, grain.key(question.scheme)), Question(question.bits, question.scheme, clip))
    if best.sqnr_db is None or now.sqnr_db is None or best.sqnr_db - now.sqnr_db < NOTABLE_DB:
        st.caption("No other clipping has a notably smaller error at this width.")
        return
    below, above = covered(question.scheme, clip)
    parts = fmt.percent(above) if below == above else f"{fmt.percent(below)} below and {fmt.percent(above)} above zero"
    with st.container(horizontal=True, vertical_alignment="center"):
        gain = fmt.decibels(best.sqnr_db - now.sqnr_db)
        st.markdown(f"The smallest error comes from covering {parts} of the range: :green[{gain} better].", width="content")
        st.button("Use it", key="play_use", icon=":material/content_cut:", on_click=_use_best)


def _use_best() -> None:
    url_state.write("play_rule", Clipping.MSE.value)


def _channels(summary: TensorSummary) -> None:
    """Ranges of the channels with those that stand out; of very many, these and others evenly spaced."""
    low, high = (side.astype(np.float64) for side in (summary.channel_low, summary.channel_high))
    channels = Channels(low, high, None, None, None)
    caption = "Bars: from the smallest to the largest weight of each channel."
    shown = np.arange(len(low))
    if len(low) > MAX_CHANNELS_DRAWN:
        spaced = np.linspace(0, len(low) - 1, MAX_CHANNELS_DRAWN).astype(int)
        outliers = np.flatnonzero(channels.outliers)[:MAX_CHANNELS_DRAWN]
        shown = np.union1d(spaced, outliers)
        caption += f" Drawn are {fmt.count(len(shown))} of them, those that stand out among them."
    colours = palette()
    figure = channels_figure(Channels(low[shown], high[shown], None, None, None), colours.accent, colours)
    names = [str(number) for number in shown]
    figure.for_each_trace(lambda trace: trace.update(x=[names[place] for place in trace.x]))
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=names, nticks=8)
    alt = f"Range of each output channel of {summary.name}, outliers marked"
    show_chart(figure, title=channels_finding(channels), alt=alt, key="play_channels", caption=caption)


def _every_width(summary: TensorSummary) -> None:
    """The exact figures of every width over the whole range, measured when the tensor was read."""
    st.markdown(
        "#### What does each bit bring?", help="SQNR over the whole range, symmetric: measured exactly on every weight."
    )
    st.caption("SQNR over the whole range, symmetric; exact, from every weight.")
    rows = [
        ["exact" if mse == 0 else fmt.decibels(float(db)) for db, mse in zip(*pair, strict=True)]
        for pair in zip(summary.sqnr_db, summary.mse, strict=True)
    ]
    frame = pd.DataFrame({"Bits": list(summary.bits), "Per tensor": rows[0], "Per channel": rows[1]})
    st.dataframe(
        frame, hide_index=True, key="play_widths", alt=f"SQNR of {summary.name} at each bit width, per tensor and per channel"
    )


@st.cache_resource(max_entries=64, show_spinner=False)
def _summary(path: Path, name: str) -> TensorSummary:
    """A file is called by what it holds, and never changes."""
    return SketchFile(path).summary(name)


@st.cache_resource(max_entries=64, show_spinner=False)
def _sketch(path: Path, name: str, key: str) -> Sketch:
    return SketchFile(path).sketch(name, key)


@st.cache_data(max_entries=512, show_spinner=False)
def _best_clip(path: Path, name: str, key: str, bits: int, scheme: Scheme, rule: Clipping, percentile: float) -> Clip:
    return best_clip(_sketch(path, name, key), bits, scheme, rule, percentile=percentile)
