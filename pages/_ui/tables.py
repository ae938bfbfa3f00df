"""Tables of runs and of quantization parameters: numbers that sort, written as a person reads them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from experiments.export import layers_csv
from pages._ui import format as fmt
from pages._ui.comparison import Relative
from pages._ui.metrics import METRICS
from pages._ui.theme import Palette, glyph

Run = Mapping[str, Any]
Frame = pd.DataFrame

SIZE, RATIO, ACCURACY, HALF, CHANGE, VERDICT = "Size", "Smaller", "Top-1", "±", "Change", "Accuracy"
LATENCY, SPEEDUP, SPEED, MEMORY, LAYERS = "p50", "Speed-up", "Speed", "Memory", "Layers"
_COLUMNS = {
    SIZE: "Bytes of the file one would ship.",
    RATIO: "Baseline bytes ÷ bytes.",
    ACCURACY: "Share of right answers on the test data.",
    HALF: "Half the width of the 95 % interval (Wilson), in points.",
    CHANGE: "Accuracy less the baseline's, in percentage points.",
    VERDICT: "By the 95 % interval of the change: one that holds 0 is within noise.",
    LATENCY: "Median time of one inference, measured alone in a fresh process.",
    SPEEDUP: "Baseline p50 ÷ p50.",
    SPEED: "By the 95 % interval of the speed-up: one that holds 1 is no measurable difference.",
    MEMORY: "Peak resident memory of the isolated process less what the runtime itself takes.",
    LAYERS: "Layers quantized: those whose weights are stored in fewer bits, of all that have weights.",
}
_FORMATS: dict[Any, str | Callable[[Any], str] | None] = {
    SIZE: fmt.size,
    RATIO: fmt.times,
    ACCURACY: lambda value: fmt.percent(value, 2),
    HALF: lambda value: fmt.fixed(value, 2),
    CHANGE: lambda value: fmt.fixed(value, 2, signed=True),
    LATENCY: fmt.milliseconds,
    SPEEDUP: lambda value: f"{fmt.fixed(value, 2)}×",
    MEMORY: METRICS["memory"].text,
}


def headline(runs: Sequence[Run], names: Mapping[str, str], relatives: Sequence[Relative], colours: Palette) -> Styler:
    """One row a run, indexed by its name; verdicts carry a colour, a word and their interval."""
    rows = [_figures(run, relative) for run, relative in zip(runs, relatives, strict=True)]
    labels = pd.Index([f"{glyph(run['technique'])} {names[run['run_id']]}" for run in runs], name="Run")
    inks = {fmt.Tone.BETTER: colours.better, fmt.Tone.WORSE: colours.worse, fmt.Tone.NEUTRAL: colours.muted}
    styler = Frame(rows, index=labels, columns=list(_COLUMNS)).style.format(_FORMATS, na_rep=fmt.MISSING)
    for column, verdicts in ((VERDICT, [r.accuracy for r in relatives]), (SPEED, [r.speed for r in relatives])):
        styles = [f"color: {inks[verdict.tone]}" if verdict else "" for verdict in verdicts]
        styler = styler.apply(lambda _cells, styles=styles: styles, subset=[column])
    return styler


def headline_columns() -> dict[str, Any]:
    """What each column of the headline table means, for whoever points at its title."""
    columns: dict[str, Any] = {name: st.column_config.Column(name, help=meaning) for name, meaning in _COLUMNS.items()}
    return columns | {"Run": st.column_config.Column("Run", pinned=True)}


def _figures(run: Run, relative: Relative) -> dict[str, Any]:
    size, quality, latency = (run.get(section) or {} for section in ("size", "quality", "latency"))
    low, high = quality.get("top1_ci95") or (None, None)
    return {
        SIZE: size.get("bytes"),
        RATIO: relative.ratio,
        ACCURACY: quality.get("top1"),
        HALF: 50 * (high - low) if low is not None else None,
        CHANGE: relative.change,
        VERDICT: _judged(relative.accuracy, fmt.interval(relative.change_bounds, signed=True)),
        LATENCY: latency.get("p50_ms"),
        SPEEDUP: relative.speedup,
        SPEED: _judged(relative.speed, fmt.interval(relative.speedup_bounds)),
        MEMORY: METRICS["memory"].value(run),
        LAYERS: f"{run['layers_quantized']} of {run['layers_total']}" if run.get("layers_total") else None,
    }


def _judged(verdict: fmt.Verdict | None, bounds: str) -> str | None:
    return f"{verdict.words} {bounds}" if verdict else None


def parameters(runs: Sequence[Run], names: Mapping[str, str], layer: str | None = None) -> Frame:
    """Every scale and zero point of runs that carry their layers, a row a tensor or channel; of one layer if it is named."""
    frames = [_parameters(run).assign(run=names[run["run_id"]]) for run in runs]
    table = pd.concat(frames, ignore_index=True)
    table.insert(0, "run", table.pop("run"))
    return table if layer is None else table[table["layer"] == layer].reset_index(drop=True)


def _parameters(run: Run) -> Frame:
    whole = dict.fromkeys(("channel", "bits", "axis", "zero_point", "qmin", "qmax"), "Int64")
    return pd.read_csv(io.StringIO(layers_csv(dict(run))), dtype=whole)


def search(table: Frame, text: str) -> Frame:
    """The rows in which every word of `text` occurs in some column of text, whatever its case."""
    words = table.select_dtypes(include=["object", "string"]).astype("string").fillna("")
    rows = words.apply(lambda column: column + " ").sum(axis=1).astype("string").str.lower()
    keep = pd.Series(True, index=table.index)
    for word in text.lower().split():
        keep &= rows.str.contains(word, regex=False)
    return table[keep]


def parameter_columns() -> dict[str, Any]:
    """How the columns of `parameters` are written: scales with the digits they need, errors in their units."""
    numbers = {"scale": "%.6g", "sqnr_db": "%.1f", "mse": "%.3g", "cosine": "%.5f", "max_abs": "%.4g", "rmse_per_step": "%.3f"}
    numbers |= {"clipping_share": "%.3f", "levels_used": "%.3f"}
    columns: dict[str, Any] = {name: st.column_config.NumberColumn(name, format=how) for name, how in numbers.items()}
    return columns | {"run": st.column_config.Column("run", pinned=True)}
