"""Tables of runs and of quantization parameters: written as a person reads them, and as plain numbers for a CSV."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from experiments.export import layers_csv
from pages._ui import format as fmt
from pages._ui.comparison import Relative
from pages._ui.metrics import METRICS
from pages._ui.theme import glyph

Run = Mapping[str, Any]
Frame = pd.DataFrame

MEANINGS = """
- **Size**: bytes of the file one would ship. **Smaller**: baseline bytes ÷ bytes.
- **Top-1 accuracy**: share of right answers on the test data, ± half its 95 % interval (Wilson).
- **Change**: accuracy less the baseline's, in percentage points; an interval that holds 0 is within noise.
- **Latency p50**: median time of one inference, alone in a fresh process. **Speed-up**: baseline p50 ÷ p50; an interval that
  holds 1 is no measurable difference.
- **Memory**: peak resident memory of that process less what the runtime itself takes.
- **Layers quantized**: those whose weights are stored in fewer bits, of all that have weights.
"""
PARAMETERS_FIRST = ("run", "layer", "tensor", "channel", "dtype", "bits", "scale", "zero_point", "qmin", "qmax")


def headline(runs: Sequence[Run], names: Mapping[str, str], relatives: Sequence[Relative]) -> Frame:
    """One row a run, cells in Markdown: every figure with its interval and its verdict in colour and words."""
    rows = [_cells(run, names[run["run_id"]], relative) for run, relative in zip(runs, relatives, strict=True)]
    return Frame(rows).set_index("Run")


def _cells(run: Run, name: str, relative: Relative) -> dict[str, str]:
    size, quality, latency = (run.get(section) or {} for section in ("size", "quality", "latency"))
    memory, layers = METRICS["memory"].value(run), run.get("layers_total")
    return {
        "Run": f"{glyph(run['technique'])} {name}",
        "Size": fmt.size(size.get("bytes")),
        "Smaller": fmt.times(relative.ratio),
        "Top-1 accuracy": fmt.accuracy(quality, 2),
        "Change, points": _judged(fmt.difference(relative.change), relative.accuracy, relative.change_bounds, fmt.difference),
        "Latency p50": fmt.milliseconds(latency.get("p50_ms")),
        "Speed-up": _judged(f"{fmt.number(relative.speedup)}×", relative.speed, relative.speedup_bounds, fmt.number),
        "Memory": fmt.MISSING if memory is None else METRICS["memory"].text(memory),
        "Layers quantized": f"{run['layers_quantized']} of {layers}" if layers else fmt.MISSING,
    }


def _judged(figure: str, verdict: fmt.Verdict | None, bounds: tuple[float, float] | None, write: Callable[[float], str]) -> str:
    return fmt.MISSING if verdict is None else f"{figure} {fmt.interval(bounds, write)}  \n{verdict.markdown()}"


def headline_figures(runs: Sequence[Run], names: Mapping[str, str], relatives: Sequence[Relative]) -> Frame:
    """The same as plain numbers with units in their names, for a CSV."""
    return Frame([_figures(run, names[run["run_id"]], relative) for run, relative in zip(runs, relatives, strict=True)])


def _figures(run: Run, name: str, relative: Relative) -> dict[str, Any]:
    size, quality, latency, memory = (run.get(section) or {} for section in ("size", "quality", "latency", "memory"))
    change, speedup = relative.change_bounds or (None, None), relative.speedup_bounds or (None, None)
    top1 = quality.get("top1_ci95") or (None, None)
    return {
        "run_id": run["run_id"],
        "run": name,
        "bytes": size.get("bytes"),
        "size_ratio": relative.ratio,
        "top1": quality.get("top1"),
        "top1_low": top1[0],
        "top1_high": top1[1],
        "change_pp": relative.change,
        "change_pp_low": change[0],
        "change_pp_high": change[1],
        "p50_ms": latency.get("p50_ms"),
        "speedup": relative.speedup,
        "speedup_low": speedup[0],
        "speedup_high": speedup[1],
        "peak_rss_bytes": memory.get("peak_rss_bytes"),
        "runtime_baseline_bytes": memory.get("runtime_baseline_bytes"),
        "layers_quantized": run.get("layers_quantized"),
        "layers_total": run.get("layers_total"),
    }


def parameters(runs: Sequence[Run], names: Mapping[str, str], layer: str | None = None) -> Frame:
    """Every scale and zero point of runs that carry their layers, a row a tensor or channel; of one layer if it is named."""
    frames = [_parameters(run).assign(run=names[run["run_id"]]) for run in runs]
    table = pd.concat(frames, ignore_index=True)
    table = table[[*PARAMETERS_FIRST, *(column for column in table if column not in PARAMETERS_FIRST)]]
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
