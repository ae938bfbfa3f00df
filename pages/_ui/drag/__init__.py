"""Controls that answer while they are dragged, which `st.slider` does not, and the figures that follow them.

Each is a small component of plain JavaScript without a build step. It sends the value it has, Python computes and draws, and
the redraw carries back the number of the value it answers; only then is the next one sent, always the latest. So nothing queues
up, however fast the mouse and however slow the machine, and there is one implementation of the mathematics, in Python.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).parent
Marks = tuple[float, float]


def _read(*names: str) -> str:
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)


_slider = st.components.v2.component(
    "quantscope_slider",
    html='<div><span></span>\n<output></output><input type="range" step="1"></div>',
    css=_read("slider.css"),
    js=_read("sender.js", "slider.js"),
)
_histogram = st.components.v2.component(
    "quantscope_histogram",
    html=_read("histogram.html"),
    css=_read("histogram.css"),
    js=_read("sender.js", "histogram.js"),
)


_figures = st.components.v2.component(
    "quantscope_figures", html=_read("figures.html"), css=_read("figures.css"), js=_read("figures.js")
)


@dataclass(frozen=True, slots=True)
class Moved:
    """What a person did: the value now, and whether they let go."""

    value: Any
    released: bool


@dataclass(frozen=True, eq=False)
class Drawing:
    """A histogram as shares of the width and height.

    Attributes:
        bars: (left, width, height) of each.
        ticks: position and label.
        levels: where the grid's values are.
        zero: where zero is.
        marks: where the clip marks are, and what they say to those who cannot see them.
        limits: least and most position of either.
        mirrored: whether moving one moves the other.
    """

    bars: Sequence[tuple[float, float, float]]
    ticks: Sequence[tuple[float, str]]
    levels: Sequence[float]
    zero: float
    marks: Marks
    words: tuple[str, str]
    limits: tuple[Marks, Marks]
    mirrored: bool


def slider(
    label: str, meaning: str, value: int, bounds: tuple[int, int], unit: str, *, key: str, on_move: Callable[[], None]
) -> None:
    """A slider over whole numbers; `moved` says what was done when `on_move` is called."""
    data = {"label": label, "meaning": meaning, "min": bounds[0], "max": bounds[1], "value": value, "unit": unit}
    _slider(key=key, data=data | {"sequence": _sequence(key)}, on_moved_change=on_move)


def histogram(drawing: Drawing, *, key: str, on_move: Callable[[], None]) -> None:
    """A histogram with two marks to drag; their positions are the value that `moved` gives."""
    data = {name: getattr(drawing, name) for name in Drawing.__dataclass_fields__}
    _histogram(key=key, data=data | {"sequence": _sequence(key)}, on_moved_change=on_move, height=248)


def figures(rows: Sequence[tuple[str, str, str]], *, key: str) -> None:
    """Cards of a title, a figure with its unit, and what it means."""
    _figures(key=key, data={"figures": rows})


def moved(key: str) -> Moved | None:
    """What a person last did with the control; None before they did anything."""
    state = _state(key)
    return Moved(state["value"], bool(state["released"])) if state else None


@st.cache_resource(show_spinner=False)
def answer_quickly() -> None:
    """Takes what is loaded by now out of the garbage collector's sight, once.

    Streamlit collects all garbage after every run of a script: with hundreds of thousands of objects of libraries to look at,
    that is most of the time between a movement and its answer.
    """
    gc.collect()
    gc.freeze()


def _sequence(key: str) -> int | None:
    state = _state(key)
    return state["sequence"] if state else None


def _state(key: str) -> Any:
    return (st.session_state.get(key) or {}).get("moved")
