"""Colour, and what it means: one palette per appearance, and the Plotly template made of it.

A colour always means the same thing. Grey is the float reference. One hue is one backend: Okabe and Ito's colour-blind safe
vermillion, bluish green and blue, darkened or lightened until text in them has a contrast of 4.5 : 1. Green and red are
verdicts and come with a word. Purple is the size of an error, dark = worse. Techniques of one backend differ by their mark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import plotly.graph_objects as go
import streamlit as st

from quantizers.schema import Backend

FONT = "Inter, sans-serif"


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of one appearance as hex strings. `error` runs from small to large error."""

    background: str
    surface: str
    text: str
    muted: str
    grid: str
    reference: str
    better: str
    worse: str
    accent: str
    backend: Mapping[Backend, str]
    error: tuple[str, ...]


LIGHT = Palette(
    background="#FCFCFB",
    surface="#F2F2EF",
    text="#1B1D21",
    muted="#62666D",
    grid="#E6E6E1",
    reference="#85898F",
    better="#1B7A3D",
    worse="#B3261E",
    accent="#4A4E9E",
    backend=MappingProxyType({Backend.PYTORCH: "#BD4B00", Backend.TFLITE: "#007D5C", Backend.ONNXRUNTIME: "#0068A8"}),
    error=("#F3F1F8", "#DADAEB", "#BCBDDC", "#9E9AC8", "#807DBA", "#6A51A3", "#54278F", "#3F007D"),
)
DARK = Palette(
    background="#14161A",
    surface="#1E2126",
    text="#E9E9E6",
    muted="#9BA0A8",
    grid="#2A2E35",
    reference="#878C94",
    better="#62CF8B",
    worse="#FF8A80",
    accent="#6C70D8",
    backend=MappingProxyType({Backend.PYTORCH: "#F08A4B", Backend.TFLITE: "#2CC498", Backend.ONNXRUNTIME: "#5CB0EA"}),
    error=("#E4DFF3", "#CBC8E4", "#ADA9D3", "#908BC2", "#7569AE", "#5E4A98", "#48307F", "#331766"),
)

_SYMBOLS = MappingProxyType(
    {
        "float32": ("circle-open", "○"),
        "static_wi8_ai8": ("circle", "●"),
        "dynamic_wi8": ("square", "■"),
        "static_wi8_ai16": ("diamond", "◆"),
        "float16": ("triangle-up", "▲"),
        "weight_only_wi8": ("triangle-down", "▼"),
    }
)
_OTHER = ("star", "★")


def palette() -> Palette:
    """The palette of the appearance this visitor sees."""
    return DARK if st.context.theme.type == "dark" else LIGHT


def mark(technique: str) -> str:
    """Plotly's name of the mark that stands for a technique in every chart."""
    return _SYMBOLS.get(technique, _OTHER)[0]


def glyph(technique: str) -> str:
    """The same mark as a character, for text beside charts."""
    return _SYMBOLS.get(technique, _OTHER)[1]


def backend_colour(backend: str, colours: Palette) -> str:
    return colours.backend[Backend(backend)]


def template(colours: Palette) -> go.layout.Template:
    """The look of every figure: quiet axes, tabular figures, nothing that does not carry data."""
    axis = {
        "gridcolor": colours.grid,
        "linecolor": colours.grid,
        "zeroline": False,
        "ticks": "",
        "tickfont": {"color": colours.muted, "size": 12},
        "title": {"font": {"color": colours.muted, "size": 12}, "standoff": 8},
        "automargin": True,
    }
    layout = go.Layout(
        font={"family": FONT, "color": colours.text, "size": 13},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 8, "t": 24, "b": 8},
        xaxis=axis,
        yaxis=axis,
        hoverlabel={
            "bgcolor": colours.surface,
            "bordercolor": colours.grid,
            "font": {"family": FONT, "color": colours.text, "size": 13},
            "align": "left",
        },
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        colorway=list(colours.backend.values()),
        dragmode=False,
    )
    return go.layout.Template(layout=layout)
