"""`python -m benchmarks.peers [NAME …] [--rounds N] [--seconds S] [--json]`: this project beside its peers, on the same work.

Every job runs in a process of its own; the sides of a task take turns, so that whatever else the machine does hits all alike.
Figures are medians of the rounds. Exit codes: 0 done, 2 no such peer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._stdout import claimed_stdout
from benchmarks.peers import limits, table
from benchmarks.peers.adapter import THREADS, Found, Peer, Task
from benchmarks.peers.environment import python_of
from benchmarks.peers.judge import JUDGED, PICKS
from benchmarks.peers.limits import Stopped
from benchmarks.peers.ours import OURS
from benchmarks.peers.registry import PEERS
from benchmarks.peers.table import Side
from benchmarks.sensitivity.report import MALLOC
from quantizers.errors import InputError, UnknownName

ROOT = Path(__file__).parents[2]
SECONDS = 300.0
BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the comparison and prints it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="Compare with other libraries.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"out of: {', '.join(PEERS)} (all)")
    parser.add_argument("--rounds", type=int, default=1, metavar="N")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help="limit on each job (%(default)s)")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print exactly one JSON document")
    given = parser.parse_args(arguments)
    with claimed_stdout() as out:
        try:
            sides = compare(chosen(given.names), max(given.rounds, 1), given.seconds)
        except InputError as error:
            document: dict[str, Any] = {"error": error.to_dict()}
            print(json.dumps(document) if given.as_json else f"{error.to_dict()['message']}", file=out)
            return BAD_INPUT
        document = {"load_average": list(os.getloadavg()), "threads": THREADS, "rows": table.rows(sides)}
        print(json.dumps(document) if given.as_json else table.text(document), file=out)
    return 0


def chosen(names: Sequence[str]) -> list[Peer]:
    """The peers of these names, or all.

    Raises:
        UnknownName: there is no such peer.
    """
    for name in names:
        if name not in PEERS:
            raise UnknownName.of("peer", name, PEERS)
    return [peer for name, peer in PEERS.items() if not names or name in names]


def compare(peers: Sequence[Peer], rounds: int, seconds: float) -> list[Side]:
    """Every job of every peer and of ours, in turns; ours last in a task, because it picks at the bytes of the peers."""
    sides = [Side(peer, name, task) for peer in [*peers, OURS] for name, task in peer.jobs.items()]
    tasks = {side.task for side in sides if side.peer is not OURS}
    sides = [side for task in Task if task in tasks for side in sides if side.task is task]
    pythons = {peer.name: _python(peer) for peer in [*peers, OURS]}
    with tempfile.TemporaryDirectory(prefix="quantscope-peers-") as place:
        folder = Path(place)
        _prepare(folder, tasks)
        for _ in range(rounds):
            for side in sides:
                _progress(f"{side.task}: {side.title}")
                side.add(_attempt(side, pythons[side.peer.name], folder, seconds))
                if side.bits and side.peer is not OURS:
                    _judge(folder, sides)
            _judge_ours(folder, sides)
    return sides


def _python(peer: Peer) -> Path | Stopped:
    _progress(f"environment of {peer.title}")
    try:
        return python_of(peer)
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
    alike = {"OMP_NUM_THREADS": str(THREADS), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [str(python), "-m", side.peer.module, side.job, str(folder)]
    try:
        printed = limits.run(command, seconds=seconds, cwd=ROOT, environment=os.environ | MALLOC | alike)
        return Found(**json.loads(limits.last_line(printed)))
    except Stopped as error:
        return error
    except (ValueError, TypeError):
        return Stopped("it printed no result")


def _judge(folder: Path, sides: Sequence[Side]) -> None:
    """Gives every pick of a peer its bytes and its loss, by our engine."""
    picks = {side.title: side.bits for side in sides if side.bits}
    for side, judged in zip([side for side in sides if side.bits], _judged(folder, picks), strict=True):
        side.pick = judged


def _judge_ours(folder: Path, sides: Sequence[Side]) -> None:
    made = folder / "ours.json"
    if not made.is_file():
        return
    picks = json.loads(made.read_text(encoding="utf-8"))
    for title, judged in zip(picks, _judged(folder, picks), strict=True):
        next(side for side in sides if side.title == title).ours = judged
    made.unlink()


def _judged(folder: Path, picks: dict[str, Any]) -> list[dict[str, Any]]:
    (folder / PICKS).write_text(json.dumps({title: dict(bits) for title, bits in picks.items()}), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "benchmarks.peers.judge", str(folder)], cwd=ROOT, check=True)
    return list(json.loads((folder / JUDGED).read_text(encoding="utf-8")).values())


def _progress(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
