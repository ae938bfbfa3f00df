"""`resume`, `cancel` and `run --priority`, as scripts meet them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from workers import child_of, kill_workers, statuses, trials, working

from experiments.__main__ import app
from experiments.spec import Plan
from experiments.store.store import Store


def ask(*arguments: str, exit_code: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == exit_code, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def interrupted(store: Store, plan: Plan) -> str:
    """An experiment whose first trial two workers have died of."""
    experiment_id = store.submit(plan)
    for _ in range(2):
        store.claim(1, store.register("here"))
    store.register("here")
    return experiment_id


@pytest.mark.parametrize(
    "arguments", [["resume", "nothing"], ["cancel", "nothing"], ["cancel", "--experiment", "nothing"]], ids=" ".join
)
def test_what_does_not_exist_is_exit_2(home: Path, arguments: list[str]) -> None:
    assert ask(*arguments, exit_code=2)["error"]["code"] == "unknown_name"


@pytest.mark.parametrize("arguments", [["cancel"], ["cancel", "a", "--experiment", "b"]], ids=" ".join)
def test_cancel_wants_a_run_or_an_experiment(home: Path, arguments: list[str]) -> None:
    assert ask(*arguments, exit_code=2)["error"]["code"] == "bad_input"


def test_cancelling_what_is_queued_needs_no_worker(store: Store, two_trials: Plan) -> None:
    experiment_id = store.submit(two_trials)
    first, second = (run["run_id"] for run in store.runs(experiment_id=experiment_id))
    assert ask("cancel", second) == {"runs": [{"run_id": second, "status": "cancelled"}]}
    assert ask("cancel", "--experiment", experiment_id) == {"runs": [{"run_id": first, "status": "cancelled"}]}
    assert ask("cancel", first) == {"runs": []}
    assert CliRunner().invoke(app, ["cancel", first]).stdout == "Nothing was active.\n"


@pytest.mark.adapter
def test_cancelling_waits_until_a_running_trial_has_ended(store: Store, home: Path) -> None:
    experiment_id = store.submit(trials("float32"))
    with working(home) as worker:
        child = child_of(worker)
        (run,) = ask("cancel", "--experiment", experiment_id)["runs"]
        assert run["status"] == "cancelled"
        assert not child.is_running()


@pytest.mark.adapter
def test_resuming_runs_only_what_is_missing(store: Store, home: Path) -> None:
    experiment_id = interrupted(store, trials("float32", "dynamic_wi8"))
    last = store.runs(experiment_id=experiment_id)[1]["run_id"]
    store.cancel(run_id=last)
    assert statuses(store.runs(experiment_id=experiment_id)) == ["interrupted", "cancelled"]
    document = ask("resume", experiment_id, exit_code=130)
    kill_workers(home)
    assert document["experiment_id"] == experiment_id
    assert statuses(document["runs"]) == ["done", "cancelled"]


def test_a_run_is_made_anew_unless_reuse_is_asked_for(store: Store, two_trials: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.run_command.follow", lambda *_arguments, **_options: False)
    monkeypatch.setattr("experiments.run_command.reusable", lambda *_: pytest.fail("nobody asked for it"))
    command = ["run", "--model", "mnist-mlp", "--backend", "onnxruntime", "--technique", "float32"]
    ids = [ask(*command, exit_code=4)["runs"][0]["run_id"] for _ in range(2)]
    assert ids[0] != ids[1]
    assert {run["run_id"] for run in store.runs()} == set(ids)


def test_a_run_with_a_higher_priority_goes_first(store: Store, two_trials: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `run --priority` hands on, and that the queue heeds it; nothing is run."""
    store.submit(two_trials)
    monkeypatch.setattr("experiments.run_command.follow", lambda *_arguments, **_options: False)
    command = ["run", "--model", "mnist-mlp", "--backend", "onnxruntime", "--technique", "float32", "--priority", "3"]
    document = ask(*command, exit_code=4)
    assert store.claim(1) == document["runs"][0]["run_id"]
