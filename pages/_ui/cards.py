"""Headline cards: of each backend the best technique, as three figures: size, speed, accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import streamlit as st

from pages._ui import format as fmt
from pages._ui.comparison import Relative, against_float
from pages._ui.theme import glyph
from quantizers.schema import Backend, Execution

Run = Mapping[str, Any]
TOLERABLE_POINTS = 1.0
Colour = Literal["green", "red", "gray"]
_COLOURS: Mapping[fmt.Tone, Colour] = {fmt.Tone.BETTER: "green", fmt.Tone.WORSE: "red", fmt.Tone.NEUTRAL: "gray"}


def best(runs: Sequence[Run]) -> Run | None:
    """Of the native techniques that lose at most 1 point, the one with the largest product of size ratio and speed-up."""
    ranked = [(score, run) for run in runs if (score := _score(run)) is not None]
    return max(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _score(run: Run) -> float | None:
    relative = against_float(run)
    if run["technique"] == "float32" or run.get("execution") != Execution.NATIVE or relative.ratio is None:
        return None
    if relative.change is not None and relative.change < -TOLERABLE_POINTS:
        return None
    return relative.ratio * (relative.speedup or 1.0)


def best_by_backend(runs: Sequence[Run]) -> list[Run]:
    """The best run of each backend that has one, backends in their fixed order."""
    chosen = (best([run for run in runs if run["backend"] == backend]) for backend in Backend)
    return [run for run in chosen if run is not None]


def card(run: Run) -> None:
    """One run as three figures with their verdicts."""
    relative = against_float(run)
    with st.container(border=True, height="stretch"):
        st.markdown(
            f"**{fmt.backend_name(run['backend'])}** :gray[{glyph(run['technique'])} {fmt.technique_name(run['technique'])}]",
            help="The best here: of the techniques that lose at most 1 point, the largest product of size ratio and speed-up.",
        )
        _size(run, relative)
        _speed(run, relative)
        _accuracy(run, relative)


def _size(run: Run, relative: Relative) -> None:
    figures = _from_to(fmt.size, run["size"]["float_bytes"], run["size"]["bytes"])
    ratio = relative.ratio or 1.0
    if fmt.EVEN[0] < ratio < fmt.EVEN[1]:
        _figure(fmt.times(ratio), "same size", fmt.Verdict(figures, fmt.Tone.NEUTRAL))
    elif ratio > 1:
        _figure(fmt.times(ratio), "smaller", fmt.Verdict(figures, fmt.Tone.BETTER))
    else:
        _figure(fmt.times(1 / ratio), "larger", fmt.Verdict(figures, fmt.Tone.WORSE))


def _speed(run: Run, relative: Relative) -> None:
    verdict = relative.speed
    if verdict is None or relative.speedup is None:
        _figure(fmt.MISSING, "speed", fmt.Verdict("not measured", fmt.Tone.NEUTRAL), fmt.why_missing(run, "latency"))
        return
    latency = run["latency"]
    figures = _from_to(fmt.milliseconds, latency["float_p50_ms"], latency["p50_ms"])
    meaning = f"{figures}; 95 % interval of the speed-up {fmt.interval(relative.speedup_bounds, fmt.number)}"
    if verdict is fmt.SAME_SPEED:
        _figure(fmt.times(relative.speedup), "speed", verdict, meaning)
    else:
        ratio = relative.speedup if verdict is fmt.FASTER else 1 / relative.speedup
        _figure(fmt.times(ratio), verdict.words, fmt.Verdict(figures, verdict.tone), meaning)


def _accuracy(run: Run, relative: Relative) -> None:
    verdict, quality = relative.accuracy, run.get("quality") or {}
    if not quality:
        _figure(fmt.MISSING, "accuracy", fmt.Verdict("not measured", fmt.Tone.NEUTRAL), fmt.why_missing(run, "quality"))
        return
    if verdict is None:
        _figure(fmt.percent(quality.get("agreement")), "same answer as float", fmt.Verdict("no labels", fmt.Tone.NEUTRAL))
        return
    bounds = fmt.Verdict(f"{fmt.interval(relative.change_bounds, fmt.difference)} points", verdict.tone)
    meaning = (
        f"Top-1 {fmt.accuracy(quality)} on {fmt.count(quality['n'])} images; 95 % interval of the paired difference, in points."
    )
    _figure(fmt.difference(relative.change), f"points, {verdict.words}", bounds, meaning)


def _figure(value: str, label: str, below: fmt.Verdict, meaning: str | None = None) -> None:
    """A large figure with its word, and what it comes from underneath: never cut off, however narrow the card."""
    with st.container(gap=None):
        st.markdown(f"### {value} :{_COLOURS[below.tone]}[{label}]", help=meaning)
        st.caption(below.words)


def _from_to(write: Callable[[float], str], before: float, after: float) -> str:
    return f"{write(before)} → {write(after)}"
