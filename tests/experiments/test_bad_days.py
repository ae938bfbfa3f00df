"""Days on which processes die, hang and devour memory: no result is lost or made up, and the next trial runs."""

import json
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from workers import (
    FAULTS,
    child_of,
    children_of,
    command_of,
    detached_workers,
    kill_workers,
    serving,
    start_server,
    statuses,
    trials,
    wait_for,
    wait_until_ended,
    working,
)

from experiments.spec import Plan
from experiments.store.store import Store
from quantizers.schema import Status

pytestmark = pytest.mark.adapter

KILLS = 30
SEED = 20
TECHNIQUES = ("float32", "dynamic_wi8", "static_wi8_ai8", "weight_only_wi8")


@pytest.fixture(autouse=True)
def nobody_left_behind(home: Path) -> Iterator[None]:
    yield
    kill_workers(home)


class Witness:
    """Sees to it, between any two kills, that what was done stays done and has everything, and that nothing is done twice."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._done: dict[str, tuple[Any, ...]] = {}

    def look(self) -> None:
        runs = {run["run_id"]: run for run in self._store.runs()}
        for run_id, seen in self._done.items():
            assert self._facts(runs[run_id]) == seen
        for run_id, run in runs.items():
            if run["status"] == Status.DONE and run_id not in self._done:
                self._check_complete(run)
                self._done[run_id] = self._facts(run)
        at_work = [command[-1] for process in self._children() if (command := command_of(process))]
        assert len(at_work) == len(set(at_work))

    def _facts(self, run: dict[str, Any]) -> tuple[Any, ...]:
        return run["status"], run["finished"], run["artefact"]["sha256"], json.dumps(run["quality"])

    def _check_complete(self, run: dict[str, Any]) -> None:
        assert self._store.run(run["run_id"])["layers"]
        for role in ("artefact", "details"):
            assert self._store.file(run["run_id"], role).stat().st_size > 0
        assert 0 <= run["quality"]["top1"] <= 1

    def _children(self) -> list[psutil.Process]:
        return [child for worker in detached_workers(self._store.home) for child in children_of(worker.pid)]


def sweep(seed: int) -> Plan:
    """Trials that are all different, so that each can be told from the others."""
    plan = trials(*TECHNIQUES)
    return Plan(tuple(replace(one, measurement=replace(one.measurement, seed=seed)) for one in plan.trials), ())


def test_kill_9_of_servers_workers_and_trials_at_thirty_moments(store: Store, home: Path) -> None:
    chance, witness = random.Random(SEED), Witness(store)
    victims = [kind for kind in ("server", "worker", "child") for _ in range(KILLS // 3)]
    chance.shuffle(victims)
    experiments = [store.submit(sweep(0))]
    servers = [start_server(home) for _ in range(2)]
    try:
        for number, kind in enumerate(victims):
            if number % 6 == 0:
                wait_for_another_end(store, experiments[-1])
            time.sleep(chance.uniform(0.0, 1.0))
            kill_one(kind, servers, home, chance, lambda: keep_busy(store, experiments))
            witness.look()
        finish(store, experiments, witness)
    finally:
        for server in servers:
            server.kill()
            server.wait()
    runs = [run for experiment_id in experiments for run in store.runs(experiment_id=experiment_id)]
    assert len(runs) == len(experiments) * len(TECHNIQUES)
    failed = [run for run in runs if run["status"] != Status.DONE]
    assert 0 < len(failed) <= victims.count("child")
    assert all(run["status"] == Status.FAILED and "SIGKILL" in run["error"]["message"] for run in failed)
    assert not list((home / "work").iterdir())


def wait_for_another_end(store: Store, experiment_id: str) -> None:
    """Lets a trial finish now and then, so that there is something to lose."""
    before = statuses(store.runs(experiment_id=experiment_id)).count("done")

    def look() -> bool:
        return statuses(store.runs(experiment_id=experiment_id)).count("done") > before or not store.active(experiment_id)

    wait_for(look, "a finished trial")


def keep_busy(store: Store, experiments: list[str]) -> None:
    """Submits the next experiment once the last one has ended."""
    if not store.active(experiments[-1]):
        experiments.append(store.submit(sweep(len(experiments))))


def kill_one(
    kind: str, servers: list[subprocess.Popen[bytes]], home: Path, chance: random.Random, busy: Callable[[], None]
) -> None:
    busy()
    if kind == "server":
        index = chance.randrange(len(servers))
        servers[index].kill()
        servers[index].wait()
        servers[index] = start_server(home)
        return

    def trials_at_work() -> list[psutil.Process]:
        busy()  # the last trial may have ended a moment ago
        return children_somewhere(home)

    while True:
        worker = chance.choice(wait_for(lambda: detached_workers(home), "a worker"))
        victim = worker if kind == "worker" else chance.choice(wait_for(trials_at_work, "a trial"))
        with suppress(psutil.NoSuchProcess):  # it ended by itself in this moment: another one, so that all kills happen
            victim.kill()
            return


def children_somewhere(home: Path) -> list[psutil.Process]:
    return [child for worker in detached_workers(home) for child in children_of(worker.pid)]


def finish(store: Store, experiments: Sequence[str], witness: Witness) -> None:
    """Resumes until nothing is interrupted any more: once is enough, for nobody kills any more."""
    for experiment_id in experiments:
        wait_until_ended(store, experiment_id)
    for experiment_id in experiments:
        store.resume(experiment_id)
    for experiment_id in experiments:
        wait_until_ended(store, experiment_id)
    witness.look()


def test_a_trial_that_goes_wild_fails_clearly_and_the_next_runs(store: Store, home: Path) -> None:
    faults = {
        "float32": "allocate_without_end",
        "dynamic_wi8": "never_return",
        "weight_only_wi8": "die",
        "weight_only_wi4": "write_no_large_file",
    }
    limits = {"QUANTSCOPE_MEMORY_LIMIT": "3", "QUANTSCOPE_TRIAL_LIMIT": "25", "QUANTSCOPE_CHILDREN": "2"}
    with working(home, PYTHONPATH=FAULTS, QUANTSCOPE_TEST_FAULTS=json.dumps(faults), **limits):
        runs = wait_until_ended(store, store.submit(trials(*faults, "static_wi8_ai8", "float16")))
    assert statuses(runs) == ["failed"] * 4 + ["done"] * 2, [run["error"] for run in runs]
    memory, time_, crash, disk = (run["error"] for run in runs[:4])
    assert (memory["code"], time_["code"], crash["code"]) == ("out_of_memory", "timeout", "backend_crashed")
    assert "limit of 3 GB" in memory["message"]
    assert "25 seconds" in time_["message"]
    assert signal.SIGSEGV.name in crash["message"]
    # Whether the trial or, because the trial could not even say so, the worker tells it.
    assert disk["code"] in ("store_full", "store_failed")
    assert all(error["hint"] for error in (memory, time_, crash, disk))


def test_a_clock_that_jumps_back_again_and_again_changes_nothing(store: Store, home: Path) -> None:
    with working(home, PYTHONPATH=FAULTS, QUANTSCOPE_TEST_CLOCK="backwards"):
        runs = wait_until_ended(store, store.submit(trials("float32", "static_wi8_ai8")))
    assert statuses(runs) == ["done", "done"]
    assert all(run["finished"] >= run["started"] for run in runs)
    assert all(seconds >= 0 for run in runs for seconds in run["provenance"]["seconds"].values())


def test_two_servers_on_one_directory_share_one_worker(store: Store, home: Path) -> None:
    with serving(home), serving(home):
        experiment_id = store.submit(trials("float32", "static_wi8_ai8"))
        busy = set()
        while store.active(experiment_id):
            # A worker too many ends as soon as it finds the lock taken; it never has a trial.
            busy |= {worker.pid for worker in detached_workers(home) if children_of(worker.pid)}
            time.sleep(0.1)
        runs = store.runs(experiment_id=experiment_id)
    assert statuses(runs) == ["done", "done"]
    assert len(busy) == 1
    assert len(store.beats()) == 1


def test_a_database_that_is_locked_for_three_seconds_costs_nothing_but_time(store: Store, home: Path) -> None:
    experiment_id = store.submit(trials("float32", "static_wi8_ai8"))
    with working(home) as worker:
        child_of(worker)
        other = sqlite3.connect(home / "quantscope.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(3.0)
        other.execute("COMMIT")
        other.close()
        runs = wait_until_ended(store, experiment_id)
        assert worker.poll() is None
    assert statuses(runs) == ["done", "done"]
