"""What the command line prints: one JSON document, or a table a person can read."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from quantizers.errors import QuantScopeError

Document = dict[str, Any]
MISSING = "–"


def show(document: Document, as_json: bool, render: Callable[[Document], Any]) -> None:
    """Prints a document as JSON or through `render`."""
    if as_json:
        json.dump(document, sys.stdout, ensure_ascii=False, allow_nan=False)
        sys.stdout.write("\n")
    else:
        Console().print(render(document))


def show_error(error: QuantScopeError, as_json: bool) -> None:
    """Prints what, and what to do, on standard error, or the error document on standard output."""
    if as_json:
        show({"error": error.to_dict()}, True, str)
    else:
        Console(stderr=True).print(f"[bold red]Error:[/] {error.message}\n{error.hint}".rstrip(), highlight=False)


def models_table(document: Document) -> Table:
    return table(
        ("model", "task", "parameters", "input", "data", "available"),
        [
            (
                one["id"],
                one["task"],
                f"{one['parameters']:,}",
                "×".join(map(str, one["input_shape"])),
                ", ".join(one["datasets"]),
                "yes" if one["available"] else f"no: {one['why_not']}",
            )
            for one in document["models"]
        ],
    )


def techniques_table(document: Document) -> Table:
    return table(
        ("backend", "technique", "execution", "available"),
        [
            (one["backend"], one["code"], one["execution"] or MISSING, "yes" if one["available"] else f"no: {one['why_not']}")
            for one in document["techniques"]
        ],
    )


def runs_table(document: Document) -> Table:
    headings = ("run", "model", "backend", "technique", "status", "size", "top-1", "drop, points", "p50", "speed-up")
    return table(headings, [_run_row(run) for run in document["runs"]])


def run_table(run: Document) -> Table:
    rows = [
        (
            layer["name"],
            layer["op"],
            layer["weight"]["dtype"],
            layer["runs_in"],
            number((layer["weight"] or {}).get("sqnr_db"), "{:.1f} dB"),
            number((layer["output"] or {}).get("sqnr_db"), "{:.1f} dB"),
        )
        for layer in run["layers"]
    ]
    layers = table(("layer", "op", "weight", "runs in", "weight SQNR", "output SQNR"), rows)
    layers.title = f"{run['model']} · {run['backend']} · {run['technique']} · {run['status']}"
    return layers


def _run_row(run: Document) -> tuple[str, ...]:
    size, quality, latency = (run.get(part) or {} for part in ("size", "quality", "latency"))
    status = run["status"] if not run.get("error") else f"{run['status']}: {run['error']['message']}"
    interval = quality.get("drop_pp_ci95")
    drop = MISSING if interval is None else f"{quality['drop_pp']:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"
    speed = latency.get("speedup_ci95")
    return (
        run["run_id"],
        run["model"],
        run["backend"],
        run["technique"],
        status,
        MISSING if not size else f"{size['bytes'] / 1000:.1f} KB ({size['ratio']:.2f}× smaller)",
        number(quality.get("top1"), "{:.2%}"),
        drop,
        number(latency.get("p50_ms"), "{:.3g} ms"),
        MISSING if speed is None else f"{latency['speedup']:.2f}× [{speed[0]:.2f}, {speed[1]:.2f}]",
    )


def number(value: float | None, pattern: str) -> str:
    return MISSING if value is None else pattern.format(value)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*headings, box=None, header_style="bold")
    for row in rows:
        table.add_row(*row)
    return table
