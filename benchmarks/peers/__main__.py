"""`python -m benchmarks.peers [NAME[.JOB] …] [--rounds N] [--seconds S] [--resume] [--json]`: peers and ours on the same work.

Every job runs in a process of its own; the sides of a task take turns, so that whatever else the machine does hits all alike.
Figures are medians of the rounds. Environments, and each result as soon as it is there, are kept in the user's cache or in
$QUANTSCOPE_PEERS. Exit codes: 0 done, 2 no such peer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks._stdout import claimed_stdout
from benchmarks.peers import environment, limits, table
from benchmarks.peers.adapter import THREADS, Found, Peer, Task
from benchmarks.peers.judge import PICKS
from benchmarks.peers.limits import Stopped
from benchmarks.peers.ours import CHOSEN, JUDGED, OURS
from benchmarks.peers.registry import PEERS
from benchmarks.peers.results import Picks, Record, Results
from benchmarks.peers.table import Side
from benchmarks.sensitivity.report import MALLOC
from quantizers.errors import InputError, UnknownName

ROOT = Path(__file__).parents[2]
SECONDS = 300.0
BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the comparison and prints it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="Compare with other libraries.")
    parser.add_argument("names", nargs="*", metavar="NAME[.JOB]", help=f"out of: {', '.join(PEERS)} (all)")
    parser.add_argument("--rounds", type=int, default=1, metavar="N")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help="limit on each job (%(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on with the newest results: only what they lack is run")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print exactly one JSON document")
    given = parser.parse_args(arguments)
    with claimed_stdout() as out:
        try:
            peers = chosen(given.names)
        except InputError as error:
            document: dict[str, Any] = {"error": error.to_dict()}
            print(json.dumps(document) if given.as_json else f"{error.to_dict()['message']}", file=out)
            return BAD_INPUT
        results = (Results.latest if given.resume else Results.begun)(environment.folder())
        _progress(f"results are kept in {results.path}")
        sides = compare(peers, max(given.rounds, 1), given.seconds, results)
        document = {"load_average": list(os.getloadavg()), "threads": THREADS, "rows": table.rows(sides)}
        print(json.dumps(document) if given.as_json else table.text(document), file=out)
    return 0


def chosen(names: Sequence[str]) -> list[Peer]:
    """The peers of these names, each with the jobs that were named, or all with all.

    Raises:
        UnknownName: there is no such peer, or it has no such job.
    """
    if not names:
        return list(PEERS.values())
    jobs: dict[str, set[str]] = {}
    for name, _, job in (one.partition(".") for one in names):
        if name not in PEERS:
            raise UnknownName.of("peer", name, PEERS)
        if job and job not in PEERS[name].jobs:
            raise UnknownName.of("job", job, PEERS[name].jobs)
        jobs.setdefault(name, set()).update([job] if job else PEERS[name].jobs)
    return [
        replace(peer, jobs={job: task for job, task in peer.jobs.items() if job in jobs[name]})
        for name, peer in PEERS.items()
        if name in jobs
    ]


def compare(peers: Sequence[Peer], rounds: int, seconds: float, results: Results) -> list[Side]:
    """Every job of every peer and of ours, in turns; ours last in a task, because it picks at the bytes of the peers."""
    sides = [Side(peer, name, task) for peer in [*peers, OURS] for name, task in peer.jobs.items()]
    tasks = {side.task for side in sides if side.peer is not OURS}
    sides = [side for task in Task if task in tasks for side in sides if side.task is task]
    recorded = results.records()
    pythons = {peer.name: _python(peer) for peer in [*peers, OURS]}
    with tempfile.TemporaryDirectory(prefix="quantscope-peers-") as place:
        folder = Path(place)
        _prepare(folder, tasks)
        for number in range(rounds):
            fresh: set[Task] = set()
            for side in sides:
                record = recorded.get((side.title, number))
                # Ours runs beside whatever runs, and picks at the bytes of all.
                if record is None or (side.peer is OURS and side.task in fresh):
                    _progress(f"{side.task}: {side.title}")
                    record = _round(side, number, pythons[side.peer.name], folder, seconds, sides)
                    results.add(record)
                    fresh.add(side.task)
                _take(record, side, sides)
    return sides


def _round(side: Side, number: int, python: Path | Stopped, folder: Path, seconds: float, sides: Sequence[Side]) -> Record:
    """Does a side's job; judges the widths it chose, if it did."""
    judged = {other.title: other.pick for other in sides if other.pick}
    (folder / JUDGED).write_text(json.dumps(judged), encoding="utf-8")
    (folder / CHOSEN).unlink(missing_ok=True)
    result = _attempt(side, python, folder, seconds)
    choices: dict[str, Any] = {}
    if isinstance(result, Found):
        choices = {side.title: dict(result.bits)} if result.bits else {}
        if (folder / CHOSEN).is_file():
            choices = json.loads((folder / CHOSEN).read_text(encoding="utf-8"))
    try:
        return Record(side.title, number, result, _judged(folder, choices) if choices else {})
    except Stopped as error:
        return Record(side.title, number, Stopped(f"its choice cannot be judged: {error}"), {})


def _take(record: Record, side: Side, sides: Sequence[Side]) -> None:
    """Hands a record to its side; what ours chose at the bytes of others, to those."""
    side.add(record.result)
    for other in sides:
        if other.title in record.picks:
            if side.peer is OURS:
                other.ours = record.picks[other.title]
            else:
                other.pick = record.picks[other.title]


def _python(peer: Peer) -> Path | Stopped:
    _progress(f"environment of {peer.title}")
    try:
        return environment.python_of(peer, environment.folder())
    except Stopped as error:
        return error


def _prepare(folder: Path, tasks: set[Task]) -> None:
    modules = [["benchmarks.peers.material"]]
    if Task.ACTIVATIONS in tasks:
        modules.append(["benchmarks.suite._fidelity_process", "prepare"])
    for module in modules:
        subprocess.run([sys.executable, "-m", *module, str(folder)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def _attempt(side: Side, python: Path | Stopped, folder: Path, seconds: float) -> Found | Stopped:
    if isinstance(python, Stopped):
        return python
    alike = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(THREADS)) | {"OMP_WAIT_POLICY": "PASSIVE"}
    command = [str(python), "-m", side.peer.module, side.job, str(folder)]
    try:
        printed = limits.run(command, seconds=seconds, cwd=ROOT, environment=os.environ | MALLOC | alike)
        return Found(**json.loads(limits.last_line(printed)))
    except Stopped as error:
        return error
    except (ValueError, TypeError):
        return Stopped("it printed no result")


def _judged(folder: Path, choices: dict[str, Any]) -> Picks:
    (folder / PICKS).write_text(json.dumps(choices), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.peers.judge", str(folder)]
    picks: Picks = json.loads(limits.last_line(limits.run(command, seconds=SECONDS, cwd=ROOT)))
    return picks


def _progress(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
