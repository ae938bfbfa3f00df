"""The command line, `python -m experiments …`: the pages' engine for scripts and CI.

With `--json` standard output is exactly one JSON document. Exit codes: 0 done, 2 bad input, 4 a trial failed, 130 cancelled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from experiments import console
from experiments.command import Json, guarded
from experiments.job_commands import cancel, resume
from experiments.library import Library
from experiments.own_model import model_id
from experiments.run_command import run_and_show
from experiments.sensitivity_command import frontier, sensitivity
from experiments.spec import ExperimentSpec, LatencyProtocol, Measurement, default_data, plan
from experiments.store_commands import gc, note, tag, track
from models import catalogue
from quantizers.capabilities import BACKENDS, Capability, parse_backend, techniques
from quantizers.errors import InputError
from quantizers.schema import Backend, Mode, Status, Technique

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
app.command()(sensitivity)
app.command()(frontier)
for subcommand in (resume, cancel, tag, note, gc, track):
    app.command()(subcommand)


@app.command("models")
def list_models(as_json: Json = False) -> None:
    """List the zoo and your own models."""

    def work() -> None:
        entries = [
            {
                "id": info.id,
                "task": info.task,
                "source": info.source.value,
                "backends": [backend.value for backend in BACKENDS if info.backends.get(backend) is None],
                "parameters": info.parameters,
                "input_shape": list(info.input_shape),
                "datasets": list(info.datasets),
                "available": info.available,
                "why_not": info.why_not,
            }
            for info in catalogue.catalogue()
        ]
        console.show({"models": entries}, as_json, console.models_table)

    guarded(work, as_json)


@app.command("techniques")
def list_techniques(backend: str | None = None, as_json: Json = False) -> None:
    """List techniques, the impossible ones with their reason."""

    def work() -> None:
        chosen = [parse_backend(backend)] if backend else list(BACKENDS)
        entries = [_technique_entry(cell) for one in chosen for cell in techniques(one)]
        console.show({"techniques": entries}, as_json, console.techniques_table)

    guarded(work, as_json)


@app.command()
def run(
    model: Annotated[str, typer.Option(help="An id, or the path of a model file of your own.")],
    backend: Annotated[list[str], typer.Option(help="May be repeated.")],
    technique: Annotated[list[str], typer.Option(help="A code, or “all”; may be repeated.")],
    data: Annotated[str | None, typer.Option(help="A dataset, or the path of an .npz with x and optional y.")] = None,
    calibration_samples: Annotated[int | None, typer.Option(help="Default: 200, or all there are.")] = None,
    eval_samples: Annotated[int | None, typer.Option(help="Default: the whole test split.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    threads: Annotated[int, typer.Option()] = 1,
    latency: Annotated[LatencyProtocol, typer.Option()] = LatencyProtocol.QUICK,
    no_latency: Annotated[bool, typer.Option("--no-latency", help="The same as --latency none.")] = False,
    keep_float: Annotated[list[str] | None, typer.Option(help="A layer that stays float; may be repeated.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="key=value, e.g. per_channel=false; may be repeated.")] = None,
    input_shape: Annotated[list[str] | None, typer.Option(help="NAME=1x3x224x224, of a file's input; may be repeated.")] = None,
    preprocess: Annotated[str | None, typer.Option(help="mean=…,std=…,layout=NCHW,order=BGR,label_offset=1 of a file")] = None,
    architecture: Annotated[str | None, typer.Option(help="The zoo's architecture that a file of weights belongs to.")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Let a .pt2 or TorchScript file run code of its own.")] = False,
    priority: Annotated[int, typer.Option(help="Higher goes first; equals in the order they were asked for.")] = 0,
    reuse: Annotated[bool, typer.Option("--reuse", help="Take identical finished trials; else all run anew.")] = False,
    as_json: Json = False,
) -> None:
    """Quantize and measure; every trial in a process of its own."""

    def work() -> None:
        chosen_model = model_id(model, input_shape or (), preprocess, architecture, trusted=trust)
        measurement = Measurement(
            data=data or default_data(chosen_model),
            calibration_samples=calibration_samples,
            eval_samples=eval_samples,
            seed=seed,
            threads=threads,
            latency=LatencyProtocol.NONE if no_latency else latency,
        )
        chosen = tuple(pair for name in backend for pair in _expand(parse_backend(name), technique))
        spec = ExperimentSpec(chosen_model, chosen, measurement, _options(option or []), tuple(keep_float or ()))
        run_and_show(plan(spec), reuse=reuse, as_json=as_json, priority=priority)

    guarded(work, as_json)


@app.command("list")
def list_runs(
    status: Annotated[Status | None, typer.Option()] = None,
    model: str | None = None,
    backend: str | None = None,
    tag: Annotated[list[str] | None, typer.Option(help="May be repeated: runs that have them all.")] = None,
    as_json: Json = False,
) -> None:
    """List the runs there are, newest first."""

    def work() -> None:
        runs = Library().store.runs(status=status, model=model, backend=backend, tags=tag or ())
        console.show({"runs": runs}, as_json, console.runs_table)

    guarded(work, as_json)


@app.command()
def show(run_id: str, as_json: Json = False) -> None:
    """Show one run with its layers."""
    guarded(lambda: console.show(Library().run(run_id), as_json, console.run_table), as_json)


@app.command()
def export(run_id: str, to: Annotated[Path, typer.Option(help="A folder.")], as_json: Json = False) -> None:
    """Write a run's artefact, layers.csv, arrays and spec into a folder."""

    def work() -> None:
        written = [str(path) for path in Library().export(run_id, to)]
        console.show({"run_id": run_id, "files": written}, as_json, lambda document: "\n".join(document["files"]))

    guarded(work, as_json)


def _technique_entry(cell: Capability) -> dict[str, Any]:
    return {
        "code": cell.code,
        "backend": cell.backend.value,
        "available": cell.available,
        "why_not": cell.why_not,
        "execution": cell.execution.value if cell.execution else None,
    }


def _expand(backend: Backend, codes: list[str]) -> list[tuple[Backend, str]]:
    """“all” is every technique of the backend except mixed precision, whose layers only a person can choose."""
    every = [cell.code for cell in techniques(backend) if Technique.parse(cell.code).mode is not Mode.MIXED]
    return [(backend, one) for code in codes for one in (every if code == "all" else [code])]


def _options(pairs: list[str]) -> dict[str, str]:
    options = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name or not value:
            raise InputError(f"The option “{pair}” is not of the form key=value.", "For example: --option per_channel=false.")
        options[name] = value
    return options


if __name__ == "__main__":
    app(prog_name="python -m experiments")
