"""The table of a run's layers: one row a layer, in execution order, from the run's document and its arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from pages._ui import format as fmt

Layer = Mapping[str, Any]
Arrays = Mapping[str, NDArray[Any]]
SPARK_BARS = 32
FIGURES = ("bits", "sqnr_weight", "sqnr_output", "clipping")

_NUMBER = st.column_config.NumberColumn
_TEXT = st.column_config.TextColumn


def frame(layers: Sequence[Layer], arrays: Arrays) -> pd.DataFrame:
    """One row a layer; absent figures are None."""
    return pd.DataFrame([_row(layer, arrays) for layer in layers]).astype(dict.fromkeys(FIGURES, "float64"))


def columns(colour: str) -> dict[str, Any]:
    """How the columns of `frame` are shown, the sparklines in `colour`."""
    return {
        "layer": _TEXT("Layer", pinned=True),
        "weights": st.column_config.AreaChartColumn("Weights", width="small", y_min=0, y_max=1, color=colour),
        "op": _TEXT("Operation"),
        "bits": _NUMBER("Bits", format="%d", help="Bits of one weight"),
        "sqnr_weight": _NUMBER("Weight SQNR, dB", format="%.1f", help="Signal to quantization noise of the weights"),
        "sqnr_output": _NUMBER("Output SQNR, dB", format="%.1f", help="Of its output, with everything before it quantized too"),
        "clipping": _NUMBER("Clipping, %", format="%.1f", help="Part of the weights' squared error that is clipping"),
        "scale": _TEXT("Scale", help="One value, or lowest … highest over the channels"),
        "zero_point": _TEXT("Zero point", help="The integer that stands for 0"),
        "scheme": _TEXT("Scheme"),
        "granularity": _TEXT("Granularity", help="What one scale serves: the tensor, a channel or a group"),
        "runs_in": _TEXT("Runs in", help="The type the runtime computes in"),
    }


def _row(layer: Layer, arrays: Arrays) -> dict[str, Any]:
    weight, output = layer["weight"], layer["output"] or {}
    share = weight.get("clipping_share")
    return {
        "layer": layer["name"],
        "weights": sparkline(arrays, layer["name"]),
        "op": layer["op"],
        "bits": weight.get("bits"),
        "sqnr_weight": weight.get("sqnr_db"),
        "sqnr_output": output.get("sqnr_db"),
        "clipping": None if share is None else 100 * share,
        "scale": span(weight.get("scale"), fmt.number),
        "zero_point": span(weight.get("zero_point"), fmt.count),
        "scheme": _words(weight.get("scheme")),
        "granularity": _words(weight.get("granularity")),
        "runs_in": layer.get("runs_in"),
    }


def _words(code: str | None) -> str | None:
    return code.replace("_", " ") if code else None


def span(values: Sequence[Any] | None, text: Callable[[Any], str]) -> str | None:
    """One value, or "lowest … highest" of several that differ."""
    if not values:
        return None
    low, high = min(values), max(values)
    return text(low) if low == high else f"{text(low)} … {text(high)}"


def sparkline(arrays: Arrays, layer: str) -> list[float] | None:
    """The float weights' histogram in few bars, each 0 to 1 of the tallest; None when it was not kept."""
    counts = arrays.get(f"{layer}|weight|float")
    if counts is None:
        return None
    bars = np.array([part.sum() for part in np.array_split(counts, min(SPARK_BARS, len(counts)))], np.float64)
    heights: list[float] = np.round(bars / max(bars.max(), 1.0), 3).tolist()
    return heights
