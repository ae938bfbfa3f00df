"""The subcommands that keep a store in order: `tag`, `note`, `gc`, and `track`, which exports runs to MLflow."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from experiments import console
from experiments.command import Json, guarded
from experiments.library import Library
from experiments.store.store import Store
from experiments.tracking import EXPERIMENT, export_to_mlflow
from quantizers.errors import InputError
from quantizers.schema import Status

Names = list[str] | None


def tag(
    run_id: str,
    add: Annotated[Names, typer.Option(help="A tag to give; may be repeated.")] = None,
    remove: Annotated[Names, typer.Option(help="A tag to take away; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Give tags to a run, take others away, and print those it has."""

    def work() -> None:
        store = Store()
        store.tag([run_id], add=add or [], remove=remove or [])
        document = {"run_id": run_id, "tags": store.run(run_id)["tags"]}
        console.show(document, as_json, lambda shown: ", ".join(shown["tags"]) or "no tags")

    guarded(work, as_json)


def note(
    run_id: str, text: Annotated[str, typer.Argument(help="Replaces what was there; “” removes it.")], as_json: Json = False
) -> None:
    """Write a note on a run."""

    def work() -> None:
        Store().note(run_id, text)
        console.show({"run_id": run_id, "notes": text}, as_json, lambda shown: shown["notes"] or "no note")

    guarded(work, as_json)


def gc(as_json: Json = False) -> None:
    """Remove runs deleted 30 days ago and files of no run; safe while others run."""

    def work() -> None:
        document = asdict(Store().collect_garbage())
        console.show(
            document,
            as_json,
            lambda shown: (
                f"Removed {shown['runs']} runs, {shown['files']} files of {shown['bytes'] / 1e6:.1f} MB and "
                f"{shown['folders']} folders of shared work."
            ),
        )

    guarded(work, as_json)


def track(
    to: Annotated[str, typer.Option(help="MLflow's tracking URI, e.g. http://localhost:5000 or sqlite:///mlflow.db.")],
    run_id: Annotated[Names, typer.Argument(help="Default: every finished run.")] = None,
    experiment: Annotated[str, typer.Option(help="The experiment there; made when missing.")] = EXPERIMENT,
    as_json: Json = False,
) -> None:
    """Export finished runs to MLflow; those that are there already are not doubled."""

    def work() -> None:
        library = Library()
        ids = run_id or [run["run_id"] for run in library.store.runs(status=Status.DONE)]
        if not ids:
            raise InputError("There is no finished run to export.", "Run something first: python -m experiments run --help.")
        runs = [asdict(one) for one in export_to_mlflow(library, ids, to, experiment)]
        added = sum(one["added"] for one in runs)
        words = f"Exported {added} runs to “{experiment}” at {to}; {len(runs) - added} were there already."
        console.show({"experiment": experiment, "runs": runs}, as_json, lambda _document: words)

    guarded(work, as_json)
