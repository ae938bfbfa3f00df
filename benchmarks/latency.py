"""Latency that can be trusted: every candidate alone in a fresh process, blocks interleaved in random order, raw samples kept.

Interleaving makes drift of the machine hit all candidates alike, and the ratio to the baseline is bootstrapped over blocks that
lie side by side in time, so its interval holds what two measurements apart would call a difference.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.protocol import BLOCKS, Protocol
from quantizers.adapter import Batch, Report
from quantizers.errors import BackendCrashed, TrialTimeout
from quantizers.schema import Backend, Options

ROOT = Path(__file__).parents[1]
ANSWER_SECONDS = 600.0
STDERR_TAIL = 2000
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An artefact to time, under a name of the caller's."""

    key: str
    backend: Backend
    artefact: Path
    options: Options


@dataclass(frozen=True, eq=False)
class Timing:
    """What was measured of one candidate: samples [n] in ns with the block [n] each lies in, and its process's memory.

    `load_ms` covers opening, compiling and preparing the input; `first_ms` is the first inference. `peak_rss_bytes` is the most
    the process ever held, `runtime_baseline_bytes` what the runtime alone held before the artefact was opened.
    """

    samples_ns: NDArray[np.int64]
    blocks: NDArray[np.int64]
    load_ms: float
    first_ms: float
    peak_rss_bytes: int
    runtime_baseline_bytes: int


class _Session:
    """One candidate's process, from this side of the pipe."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors
        self.opened = self._answer()
        self.samples: list[int] = []
        self.blocks: list[int] = []

    @property
    def seconds(self) -> float:
        return sum(self.samples) / 1e9

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the process died: the missing answer says so
        return self._answer()

    def run_block(self, number: int, protocol: Protocol) -> None:
        samples = self.ask(do="block", runs=protocol.block_runs, seconds=protocol.block_seconds)["samples_ns"]
        self.samples += samples
        self.blocks += [number] * len(samples)

    def timing(self) -> Timing:
        peak = self.ask(do="peak")["peak_rss_bytes"]
        return Timing(np.array(self.samples), np.array(self.blocks), peak_rss_bytes=peak, **self.opened)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        try:
            returncode = self._process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise TrialTimeout("A timed process stopped answering.", "Try again with less else running.") from error
        self._errors.seek(0)
        tail = self._errors.read().decode(errors="replace")[-STDERR_TAIL:]
        raise BackendCrashed(f"The process that timed the model ended with code {returncode}.", f"Its last words: {tail}")


def measure(
    candidates: Sequence[Candidate], batch: Batch, protocol: Protocol, threads: int, seed: int, report: Report
) -> dict[str, Timing]:
    """Times `candidates` on one `batch` side by side.

    Raises:
        BackendCrashed: a candidate's process died; the hint holds its last words.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quantscope-latency-")))
        np.save(folder / "batch.npy", batch)
        sessions = {one.key: stack.enter_context(_session(one, folder / "batch.npy", threads)) for one in candidates}
        for session in sessions.values():
            session.ask(do="warm_up")
        _interleave(sessions, protocol, np.random.default_rng(seed), report)
        return {key: session.timing() for key, session in sessions.items()}


def _interleave(sessions: Mapping[str, _Session], protocol: Protocol, order: np.random.Generator, report: Report) -> None:
    """Rounds of one block each in random order: at least BLOCKS, and on until every candidate has enough."""
    rounds = 0
    while True:
        waiting = [one for one in sessions.values() if not protocol.satisfied(len(one.samples), one.seconds)]
        if rounds >= BLOCKS and not waiting:
            return
        # The baseline keeps running beside a slow candidate, or their blocks would not lie side by side in time.
        for index in order.permutation(len(sessions)):
            list(sessions.values())[index].run_block(rounds, protocol)
        rounds += 1
        report(min(1.0, rounds / BLOCKS), f"Measuring latency, block {rounds} of {max(BLOCKS, rounds)}")


@contextmanager
def _session(candidate: Candidate, batch: Path, threads: int) -> Iterator[_Session]:
    command = [sys.executable, "-m", "benchmarks._session_process", candidate.backend, str(candidate.artefact), str(batch)]
    command += ["--options", json.dumps(dict(candidate.options)), "--threads", str(threads)]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            yield _Session(process, errors)
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
