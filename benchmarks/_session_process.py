"""A process that does nothing but load one artefact and run it: `python -m benchmarks._session_process BACKEND ARTEFACT …`.

It speaks JSON lines: commands on standard input, answers on what was standard output. Standard output then becomes standard
error, so that nothing a library prints can be taken for an answer. A thread reads the commands, so that the process ends as
soon as standard input closes, even in the middle of a run: that happens when whoever measures dies.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from queue import Queue
from typing import IO, Any

import numpy as np

from benchmarks import _memory
from benchmarks._stdout import claimed_stdout
from benchmarks.protocol import WARM_UP_RUNS, WARM_UP_SECONDS
from quantizers import registry
from quantizers.adapter import Session
from quantizers.errors import OutOfMemory, QuantScopeError
from quantizers.schema import Backend

ORPHANED = 70
LEAD_IN_RUNS, LEAD_IN_SECONDS = 3, 0.01
"""Untimed runs at the start of a block, for the process that ran before has emptied the caches; one that is long is enough."""
MOST_SAMPLES = 400
"""Samples kept of a block, evenly spread; a model of a few microseconds would give a hundred thousand."""
PROBES, PROBE_RUNS = 5, 4
_probed = np.linspace(-4, 4, 4096, dtype=np.float32)
_answered = np.empty_like(_probed)
Commands = Queue[dict[str, Any]]


def main() -> None:
    """Loads, prepares, warms up, and then runs blocks on command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("backend", type=Backend)
    parser.add_argument("artefact", type=Path)
    parser.add_argument("batch", type=Path)
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    commands: Commands = Queue()
    threading.Thread(target=_listen, args=(commands,), daemon=True).start()
    with claimed_stdout() as answers:
        try:
            _serve(given, commands, answers)
        except QuantScopeError as error:
            _answer(answers, error=error.to_dict())
        except MemoryError:
            _answer(answers, error=OutOfMemory("Loading or running the model took all memory.", "Try a smaller one.").to_dict())


def _listen(commands: Commands) -> None:
    for line in sys.stdin:
        commands.put(json.loads(line))
    os._exit(ORPHANED)


def _serve(given: argparse.Namespace, commands: Commands, answers: IO[str]) -> None:
    adapter = registry.get(given.backend)
    batch = np.load(given.batch)
    probed = probe()
    import_module(adapter.runtime)
    _memory.forget_peak()
    runtime_baseline = _memory.resident_bytes()
    started = time.perf_counter_ns()
    session = adapter.open(given.artefact, given.options, given.threads)
    prepared = session.prepare(batch)
    loaded = time.perf_counter_ns()
    session.run(prepared)
    first = time.perf_counter_ns()
    warm_up(session, prepared)
    _answer(
        answers,
        load_ms=(loaded - started) / 1e6,
        first_ms=(first - loaded) / 1e6,
        runtime_baseline_bytes=runtime_baseline,
        probe_ns=min(probed, probe()),
        # Taken here, since the samples of the blocks to come are no memory of the model's.
        peak_rss_bytes=max(_memory.peak_bytes(), runtime_baseline),
    )
    while True:
        _answer(answers, **run_block(session, prepared, **commands.get()))


def warm_up(session: Session, prepared: Any) -> None:
    runs, began = 0, time.perf_counter()
    while runs < WARM_UP_RUNS or time.perf_counter() - began < WARM_UP_SECONDS:
        session.run(prepared)
        runs += 1


def probe() -> int:
    """Nanoseconds of a fixed piece of work, the fastest of a few.

    Exponentials fill the units that the two threads of a core share. Beside a busy thread they took 1.5 times as long, whoever
    it belonged to, and otherwise 1.0 to 1.15 times.
    """
    clock, fastest = time.perf_counter_ns, sys.maxsize
    for _ in range(PROBES):
        before = clock()
        for _ in range(PROBE_RUNS):
            np.exp(_probed, out=_answered)
        fastest = min(fastest, clock() - before)
    return fastest


def run_block(session: Session, prepared: Any, runs: int, seconds: float, limit_seconds: float) -> dict[str, Any]:
    """Times single inferences until there are `runs` that took `seconds`, or until they took `limit_seconds`.

    "probe_ns" is the slower of the probes before and after.
    """
    clock, run = time.perf_counter_ns, session.run
    began = clock()
    for _ in range(LEAD_IN_RUNS):
        run(prepared)
        if clock() - began > LEAD_IN_SECONDS * 1e9:
            break
    probed = probe()  # not earlier: a core that has been idle takes a moment to get going
    samples: list[int] = []
    spent, enough, limit = 0, int(seconds * 1e9), int(limit_seconds * 1e9)
    gc.collect()
    gc.disable()
    while (spent < enough or len(samples) < runs) and spent < limit:
        before = clock()
        run(prepared)
        took = clock() - before
        samples.append(took)
        spent += took
    gc.enable()
    kept = min(len(samples), MOST_SAMPLES)
    return {
        "samples_ns": [samples[position * len(samples) // kept] for position in range(kept)],
        "runs": len(samples),
        "seconds": spent / 1e9,
        "probe_ns": max(probed, probe()),
    }


def _answer(answers: IO[str], **values: Any) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
