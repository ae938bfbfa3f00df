"""A process that does nothing but load one artefact and run it: `python -m benchmarks._session_process BACKEND ARTEFACT …`.

It speaks JSON lines: commands on standard input, answers on what was standard output. Standard output then becomes standard
error, so that nothing a library prints can be taken for an answer. It ends when standard input closes, which happens when
whoever measures dies.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil

from benchmarks.protocol import WARM_UP_RUNS, WARM_UP_SECONDS
from quantizers import registry
from quantizers.adapter import Session
from quantizers.schema import Backend


def main() -> None:
    """Loads, prepares, warms up, and then runs blocks on command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("backend", type=Backend)
    parser.add_argument("artefact", type=Path)
    parser.add_argument("batch", type=Path)
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--threads", type=int, default=1)
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        _serve(parser.parse_args(), answers)


def _serve(given: argparse.Namespace, answers: IO[str]) -> None:
    adapter = registry.get(given.backend)
    import_module(adapter.runtime)
    runtime_baseline = _peak_rss()
    started = time.perf_counter()
    session = adapter.open(given.artefact, given.options, given.threads)
    prepared = session.prepare(np.load(given.batch))
    loaded = time.perf_counter()
    session.run(prepared)
    first = time.perf_counter()
    _answer(answers, load_ms=(loaded - started) * 1e3, first_ms=(first - loaded) * 1e3, runtime_baseline_bytes=runtime_baseline)
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "warm_up":
            _run(session, prepared, WARM_UP_RUNS, WARM_UP_SECONDS)
            _answer(answers)
        elif command["do"] == "block":
            _answer(answers, samples_ns=_run(session, prepared, command["runs"], command["seconds"]))
        else:
            _answer(answers, peak_rss_bytes=_peak_rss())


def _run(session: Session, prepared: Any, runs: int, seconds: float) -> list[int]:
    """Times single inferences until there are at least `runs`, or `seconds` have passed ten times over."""
    samples: list[int] = []
    clock = time.perf_counter_ns
    began = clock()
    while True:
        before = clock()
        session.run(prepared)
        after = clock()
        samples.append(after - before)
        elapsed = (after - began) / 1e9
        if (elapsed >= seconds and len(samples) >= runs) or elapsed >= 10 * seconds:
            return samples


def _peak_rss() -> int:
    """Most memory this process has held, in bytes; the present amount where the system keeps no peak."""
    memory = psutil.Process().memory_info()
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(getattr(memory, "peak_wset", memory.rss))


def _answer(answers: IO[str], **values: Any) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
