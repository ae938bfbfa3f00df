"""Finished runs as runs of MLflow: an optional export, one way, of what was asked, measured and kept.

An MLflow run carries the id of the run it came from, so that exporting twice changes nothing but tags and notes. One that a
crash left half-written is not marked finished; the next export replaces it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from experiments.library import Library
from experiments.store.store import RunDocument
from quantizers.errors import InputError, MissingExtra, StoreUnavailable
from quantizers.schema import Status

if TYPE_CHECKING:
    from mlflow import MlflowClient

REQUIREMENT = "mlflow-skinny==3.17.2"
EXPERIMENT = "quantscope"
RUN_ID = "quantscope.run_id"
_MEASURED = ("size", "quality", "latency", "memory")
_LABEL = "quantscope.tag."
_NOTE = "mlflow.note.content"
_FINISHED = "FINISHED"


@dataclass(frozen=True, slots=True)
class Tracked:
    """Where a run is in MLflow; `added` is False when it was there already."""

    run_id: str
    mlflow_run_id: str
    added: bool


def export_to_mlflow(library: Library, ids: Sequence[str], uri: str, experiment: str = EXPERIMENT) -> list[Tracked]:
    """Exports finished runs to an experiment of the tracking store at `uri`, which MLflow creates when it is missing.

    Raises:
        MissingExtra: mlflow-skinny is not installed.
        UnknownName: one of the runs does not exist.
        InputError: one of them is not finished.
        StoreUnavailable: the tracking store refuses.
    """
    runs = [library.run(run_id) for run_id in ids]
    for run in runs:
        if run["status"] != Status.DONE.value:
            raise InputError(f"Run {run['run_id']} is {run['status']}.", "Only finished runs are exported.")
    # MLflow reports its use to its makers unless told not to, before it is imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ModuleNotFoundError as error:
        raise MissingExtra.of("The export to MLflow", REQUIREMENT) from error
    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(experiment)
        return [_export(client, experiment_id, library, run) for run in runs]
    except MlflowException as error:
        raise StoreUnavailable(f"MLflow at {uri} refuses: {error}", "See that the URI is right and the server runs.") from error


def _export(client: MlflowClient, experiment_id: str, library: Library, run: RunDocument) -> Tracked:
    for earlier in client.search_runs([experiment_id], f"tags.`{RUN_ID}` = '{run['run_id']}'"):
        if earlier.info.status == _FINISHED:
            _label(client, earlier.info.run_id, earlier.data.tags, run)
            return Tracked(run["run_id"], earlier.info.run_id, added=False)
        client.delete_run(earlier.info.run_id)
    started, finished = (None if run[name] is None else int(run[name] * 1000) for name in ("started", "finished"))
    name = f"{run['model']} {run['backend']} {run['technique']}"[:250]
    identity = {RUN_ID: run["run_id"], "quantscope.experiment_id": run["experiment_id"]}
    made = client.create_run(experiment_id, start_time=started, tags=identity, run_name=name).info.run_id
    _log(client, made, run, finished or 0)
    _label(client, made, {}, run)
    with TemporaryDirectory(prefix="quantscope-mlflow-") as folder:
        library.export(run["run_id"], Path(folder))
        client.log_artifacts(made, folder)
    client.set_terminated(made, _FINISHED, finished)
    return Tracked(run["run_id"], made, added=True)


def _log(client: MlflowClient, made: str, run: RunDocument, moment: int) -> None:
    """What was asked for as parameters, every number that was measured as a metric, named as in the RUN document."""
    from mlflow.entities import Metric, Param

    asked = {name: run[name] for name in ("model", "backend", "technique", "execution")}
    asked |= {f"option.{name}": value for name, value in run["options"].items()}
    asked |= {f"measurement.{name}": value for name, value in run["measurement"].items()}
    asked |= {"keep_float": ", ".join(run["keep_float"])}
    metrics = [Metric(name, value, moment, 0) for section in _MEASURED for name, value in _numbers(section, run[section])]
    client.log_batch(made, metrics, [Param(name, str(value)) for name, value in asked.items() if value not in (None, "")])


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """The numbers of a part of a document by their path, an interval as its two ends."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(f"{name}.{key}", inner)
    elif isinstance(value, list) and len(value) == 2:
        yield from _numbers(f"{name}.low", value[0])
        yield from _numbers(f"{name}.high", value[1])
    elif isinstance(value, int | float):
        yield name, float(value)


def _label(client: MlflowClient, made: str, old: Mapping[str, str], run: RunDocument) -> None:
    """Tags and notes as they are now; what was taken off the run since is taken off there."""
    wanted = {f"{_LABEL}{tag}": "true" for tag in run.get("tags", [])}
    if run.get("notes"):
        wanted[_NOTE] = run["notes"]
    for name in old:
        if name not in wanted and (name.startswith(_LABEL) or name == _NOTE):
            client.delete_tag(made, name)
    for name, value in wanted.items():
        client.set_tag(made, name, value)
