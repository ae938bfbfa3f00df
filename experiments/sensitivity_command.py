"""The subcommands `sensitivity` and `frontier`: analyses of a float model, followed at the terminal."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from benchmarks.sensitivity.report import Metric, Mode
from experiments import console
from experiments.analysis import FRONTIER_BITS, Analyses, AnalysisSpec, FrontierOptions
from experiments.command import CANCELLED, Json, guarded
from experiments.frontier import Objective
from experiments.store.store import Store
from quantizers.errors import InputError
from quantizers.schema import Status

POLL_SECONDS = 0.1
_METRICS = {Metric.SQNR: "noise-to-signal ratio of the output", Metric.KL: "KL, nats", Metric.DROP: "accuracy drop, points"}

Model = Annotated[str, typer.Option(help="A model of the catalogue.")]
Data = Annotated[str | None, typer.Option(help="A dataset; default: the model's own.")]
LossMetric = Annotated[Metric, typer.Option(help="What counts as loss.")]
Samples = Annotated[int | None, typer.Option(help="Default: 256, or all there are to calibrate on.")]
Threads = Annotated[int, typer.Option()]
Seed = Annotated[int, typer.Option()]


def sensitivity(
    model: Model,
    mode: Annotated[Mode, typer.Option(help="fast estimates; exact measures; balanced measures on fewer samples.")] = Mode.FAST,
    bits: Annotated[str, typer.Option(help="Widths from 2 to 16, with commas.")] = "4,8",
    samples: Samples = None,
    metric: LossMetric = Metric.SQNR,
    data: Data = None,
    seed: Seed = 0,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Rank layers by what rounding each alone costs at the model's output."""

    def work() -> None:
        choices = {"metric": metric, "samples": samples, "seed": seed, "threads": threads}
        spec = AnalysisSpec.of(model, data, mode=mode, bits=_widths(bits), **choices)
        console.show(_follow(spec), as_json, _sensitivity_table)

    guarded(work, as_json)


def frontier(
    model: Model,
    points: Annotated[int, typer.Option(help="Budgets from the least to the largest cost.")] = 10,
    verify: Annotated[bool, typer.Option("--verify", help="Really round and run every point.")] = False,
    mode: Annotated[Mode, typer.Option(help="How the losses of single layers are found.")] = Mode.BALANCED,
    bits: Annotated[str, typer.Option(help="Widths out of 2, 4, 8 and 16.")] = ",".join(map(str, FRONTIER_BITS)),
    objective: Annotated[Objective, typer.Option(help="What a budget limits.")] = Objective.BYTES,
    at: Annotated[list[int] | None, typer.Option(help="A budget to find the best point for; may be repeated.")] = None,
    samples: Samples = None,
    metric: LossMetric = Metric.SQNR,
    data: Data = None,
    seed: Seed = 0,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Find mixed precision: for each budget the widths of least predicted loss."""

    def work() -> None:
        options = FrontierOptions(points, verify, objective, tuple(at or ()))
        choices = {"metric": metric, "samples": samples, "seed": seed, "threads": threads}
        spec = AnalysisSpec.of(model, data, mode=mode, bits=_widths(bits), frontier=options, **choices)
        console.show(with_runs(_follow(spec), Store()), as_json, _frontier_table)

    guarded(work, as_json)


def with_runs(document: dict[str, Any], store: Store) -> dict[str, Any]:
    """A frontier's document with the newest finished run of each point that has one."""
    runs = reversed(store.runs(model=document["model"], status=Status.DONE))
    newest = {run["technique"]: run["run_id"] for run in runs}

    def completed(point: dict[str, Any]) -> dict[str, Any]:
        run_id = newest.get(point["technique"])
        return point | ({"run_id": run_id, "run_id_why_not": None} if run_id else {})

    return document | {name: [completed(point) for point in document[name]] for name in ("points", "uniform", "equal", "at")}


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise InputError(f"“{text}” is not a list of widths.", "Write numbers with commas, for example 4,8.") from error


def _follow(spec: AnalysisSpec) -> dict[str, Any]:
    """Runs an analysis anew and waits for its document, with a bar on standard error; Ctrl-C ends it."""
    analyses = Analyses()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("starting", total=1.0)
        try:
            analyses.start(spec, anew=True)
            while (state := analyses.state(spec)).status is Status.RUNNING:
                bars.update(task, completed=state.fraction, description=state.words)
                time.sleep(POLL_SECONDS)
            bars.update(task, completed=1.0, description="done" if state.document else "failed")
        except KeyboardInterrupt:
            raise typer.Exit(CANCELLED) from None
        finally:
            analyses.stop(spec)
    if state.error:
        raise state.error
    assert state.document is not None
    return state.document


def _sensitivity_table(document: dict[str, Any]) -> Group:
    rows = sorted(document["layers"], key=lambda row: row["loss"], reverse=True)
    table = console.table(
        ("layer", "bits", _METRICS[Metric(document["metric"])], "SQNR"),
        [
            (row["name"], str(row["bits"]), f"{row['loss']:.3g}", console.number(row["losses"]["sqnr_db"], "{:.1f} dB"))
            for row in rows
        ],
    )
    took = f"{document['mode']}: {document['cost_passes']:.1f} evaluation passes, {document['seconds']:.1f} s"
    lines = [f"{took}, {document['samples']} samples."]
    if check := document["agreement"]:
        rank = console.number(check["spearman"], "{:.2f}")
        lines.append(f"Rank correlation with an exact run on {check['samples']} samples at {check['bits']} bits: {rank}.")
    return Group(table, *map(Text, lines))


def _frontier_table(document: dict[str, Any]) -> Group:
    rows = [
        (
            f"{point['bytes'] / 1000:.1f} KB",
            f"{point['predicted_loss']:.3g}",
            console.number(point["measured_loss"], "{:.3g}"),
            console.number((point["measured"] or {}).get("agreement"), "{:.1%}"),
            point["technique"],
        )
        for point in [*document["points"], *document["at"]]
    ]
    headings = ("size", "predicted loss", "measured loss", "agreement", "technique")
    took = f"Loss: {_METRICS[Metric(document['metric'])]}. {document['seconds']:.1f} s in all."
    return Group(console.table(headings, rows), Text(took))
