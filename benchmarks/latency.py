"""Latency that can be trusted: every candidate alone in a fresh process, blocks interleaved in random order, raw samples kept.

Interleaving makes drift of the machine hit all candidates alike, and the ratio to the baseline is bootstrapped over blocks that
lie side by side in time, so its interval holds what two measurements apart would call a difference.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._session import SessionProcess, open_session
from benchmarks.protocol import BLOCKS, Protocol
from quantizers.adapter import Batch, Report
from quantizers.schema import Backend, Options


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

    Of a block with very many runs the samples are an even selection. `load_ms` covers opening, compiling and preparing the
    input; `first_ms` is the first inference. `peak_rss_bytes` is the most memory the process held while it loaded and warmed
    up, `runtime_baseline_bytes` what the runtime alone held before the artefact was opened.
    """

    samples_ns: NDArray[np.int64]
    blocks: NDArray[np.int64]
    load_ms: float
    first_ms: float
    peak_rss_bytes: int
    runtime_baseline_bytes: int


@dataclass
class _Runner:
    """A candidate's process and what it has measured so far, one array of samples a block."""

    process: SessionProcess
    samples: list[NDArray[np.int64]] = field(default_factory=list)
    runs: int = 0
    seconds: float = 0.0

    def run_block(self, protocol: Protocol) -> None:
        answer = self.process.block(protocol.block_runs, protocol.block_seconds, protocol.block_limit_seconds)
        self.samples.append(np.array(answer["samples_ns"], np.int64))
        self.runs += answer["runs"]
        self.seconds += answer["seconds"]

    def timing(self) -> Timing:
        blocks = np.repeat(np.arange(len(self.samples)), [len(block) for block in self.samples])
        return Timing(np.concatenate(self.samples), blocks, **self.process.opened)


def measure(
    candidates: Sequence[Candidate], batch: Batch, protocol: Protocol, threads: int, seed: int, report: Report
) -> dict[str, Timing]:
    """Times `candidates` on one `batch` side by side; blocks of one number lie side by side in time.

    Raises:
        QuantScopeError: what opening an artefact raised.
        BackendCrashed: a candidate's process died; the hint holds its last words.
        TrialTimeout: a candidate's process stopped answering.
    """
    with ExitStack() as stack:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quantscope-latency-"))) / "batch.npy"
        np.save(file, batch)
        runners = {}
        for one in candidates:
            report(0.0, f"Loading and warming up: {one.key}")
            process = stack.enter_context(open_session(one.backend, one.artefact, one.options, file, threads))
            runners[one.key] = _Runner(process)
        _interleave(runners, protocol, np.random.default_rng(seed), report)
        return {key: runner.timing() for key, runner in runners.items()}


def _interleave(runners: Mapping[str, _Runner], protocol: Protocol, order: np.random.Generator, report: Report) -> None:
    """Rounds of one block each in random order: at least BLOCKS, and on until every candidate has enough."""
    everyone, rounds = list(runners.values()), 0
    while rounds < BLOCKS or not all(protocol.satisfied(one.runs, one.seconds) for one in everyone):
        report(min(rounds / BLOCKS, 1.0), f"Measuring latency, round {rounds + 1} of {max(BLOCKS, rounds + 1)}")
        for index in order.permutation(len(everyone)):
            everyone[index].run_block(protocol)
        rounds += 1
    report(1.0, "Latency measured")
