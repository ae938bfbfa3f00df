"""Trials that have been run before: recognised by the digest of their spec, and by all else that a figure depends on.

A spec names a model and data; what lies behind the names may have changed since, and so may the libraries or the machine. A run
is offered again only if its provenance says that none of it has. Weights and samples are read in a process of their own, since
some come with packages that a page must not import.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from sqlalchemy import select

from benchmarks import machine
from experiments.spec import TrialSpec
from experiments.store.database import open_database
from experiments.store.store import RunDocument, Store
from experiments.store.tables import runs
from models import catalogue, datasets
from quantizers import registry
from quantizers.schema import Status

ROOT = Path(__file__).parents[1]
READING_SECONDS = 120.0


def finished_by_digest(store: Store, digests: Iterable[str]) -> dict[str, list[str]]:
    """Ids of the finished runs of each spec, newest first; specs that have none are missing."""
    found: dict[str, list[str]] = {}
    done = (runs.c.status == Status.DONE.value) & runs.c.deleted.is_(None) & runs.c.digest.in_(list(digests))
    query = select(runs.c.digest, runs.c.id).where(done).order_by(runs.c.finished.desc())
    with open_database(store.home).connect().execution_options(writes=False) as connection:
        for digest, run_id in connection.execute(query):
            found.setdefault(digest, []).append(run_id)
    return found


def reusable(store: Store, trials: Sequence[TrialSpec]) -> dict[str, RunDocument]:
    """By the digest of each of `trials` that need not run again: the newest run, measured as it would be here and now."""
    candidates = finished_by_digest(store, (trial.digest for trial in trials))
    documents = {run["run_id"]: run for run in store.runs(ids=[one for ids in candidates.values() for one in ids])}
    reused = {}
    for trial in trials:
        for run_id in candidates.get(trial.digest, ()):
            if _timed_alike(documents[run_id]) and _still_true(trial, documents[run_id]["provenance"]):
                reused[trial.digest] = documents[run_id]
                break
    return reused


def _timed_alike(run: RunDocument) -> bool:
    """Whether a latency, if there is one, was measured by today's rules: before them no block was repeated."""
    latency = run.get("latency")
    return not latency or "repeated_blocks" in latency


def _still_true(trial: TrialSpec, provenance: Mapping[str, object]) -> bool:
    here = machine.describe()
    dataset = provenance["dataset"]
    assert isinstance(dataset, Mapping)
    told = {name: provenance[name] for name in ("versions", "cpu", "model_sha256")} | {"data_sha256": dataset["sha256"]}
    now = {"versions": dict(registry.get(trial.backend).versions()), "cpu": here.cpu}
    # The cheap half first: it already rules out most of what does not hold any more.
    return all(told[name] == now[name] for name in now) and told == {**now, **_contents(trial)}


def _contents(trial: TrialSpec) -> Mapping[str, str | None]:
    model, data = trial.model, trial.measurement.data
    return _read_contents(model, data, _changed(model), _changed(data))


def _changed(name: str) -> float | None:
    """When a file of a person's own was last written; None for what has a name in the zoo."""
    path = Path(name).expanduser()
    return path.stat().st_mtime if path.is_file() else None


@lru_cache(maxsize=32)
def _read_contents(model: str, data: str, *_changed: float | None) -> Mapping[str, str | None]:
    """Digests of weights and samples; none when they cannot be read, so that no run counts as the same."""
    command = [sys.executable, "-m", "experiments.reuse", model, data]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=READING_SECONDS)
    except subprocess.SubprocessError:
        return {}
    found: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(model_id: str, data: str) -> None:
    """Prints the digests of a model's weights and of the samples of data that fits it."""
    model = catalogue.load(model_id)
    print(json.dumps({"model_sha256": model.digest, "data_sha256": datasets.load(data, model.info).info.digest}))


if __name__ == "__main__":
    main(*sys.argv[1:])
