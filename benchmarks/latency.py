"""Latency that can be trusted: every candidate alone in fresh processes, blocks interleaved in random order, raw samples kept.

Interleaving makes drift of the machine hit all candidates alike. Several processes each, because the luck of one process, where
its memory happens to lie, lasts as long as it does. A block during which something else was at work on the same core is
measured again while there is time: that is told, for models of one thread, by a fixed piece of work before and after it, never
by how long the model itself took.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from benchmarks._session import Answer, SessionProcess, open_session
from benchmarks.protocol import BLOCKS, DISTURBED, Protocol
from quantizers.adapter import Batch, Report
from quantizers.errors import QuantScopeError
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
    """What was measured of one candidate: samples [n] in ns, with the block [n] and the process [n] each comes from.

    Of a block with very many runs the samples are an even selection. `repeated` blocks were disturbed by something else and
    left out; of those that are here, it is the share `disturbed`. The rest are medians over the processes: `load_ms` covers
    opening, compiling and preparing the input, `first_ms` is the first inference, `peak_rss_bytes` the most memory held while
    loading and warming up, `runtime_baseline_bytes` what the runtime alone held before the artefact was opened.
    """

    samples_ns: NDArray[np.int64]
    blocks: NDArray[np.int64]
    processes: NDArray[np.int64]
    repeated: int
    disturbed: float
    load_ms: float
    first_ms: float
    peak_rss_bytes: int
    runtime_baseline_bytes: int


class _Watch:
    """Tells blocks that something else disturbed by how long a fixed piece of work took beside them."""

    def __init__(self, threads: int) -> None:
        # A model of several threads has some that spin for a while after a run: they would be taken for somebody else's.
        self._trusted = threads == 1
        self._fastest_ns = sys.maxsize

    def saw(self, probe_ns: int) -> None:
        self._fastest_ns = min(self._fastest_ns, probe_ns)

    def disturbed(self, probe_ns: int) -> bool:
        return self._trusted and probe_ns > DISTURBED * self._fastest_ns


@dataclass
class _Record:
    """What a candidate has measured so far: what each process said of loading, and each block's process and samples."""

    opened: list[Answer] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)
    samples: list[list[int]] = field(default_factory=list)
    probes: list[int] = field(default_factory=list)
    runs: int = 0
    seconds: float = 0.0
    repeated: int = 0
    repeated_seconds: float = 0.0

    def run_block(self, process: SessionProcess, protocol: Protocol, watch: _Watch) -> None:
        while True:
            answer = process.block(protocol.block_runs, protocol.block_seconds, protocol.block_limit_seconds)
            watch.saw(answer["probe_ns"])
            if not watch.disturbed(answer["probe_ns"]) or self.repeated_seconds >= protocol.seconds:
                break
            self.repeated += 1
            self.repeated_seconds += answer["seconds"]
        self.processes.append(len(self.opened) - 1)
        self.samples.append(answer["samples_ns"])
        self.probes.append(answer["probe_ns"])
        self.runs += answer["runs"]
        self.seconds += answer["seconds"]

    def timing(self, watch: _Watch) -> Timing:
        sizes = [len(block) for block in self.samples]
        return Timing(
            samples_ns=np.concatenate(self.samples).astype(np.int64),
            blocks=np.repeat(np.arange(len(sizes)), sizes),
            processes=np.repeat(self.processes, sizes),
            repeated=self.repeated,
            disturbed=float(np.mean([watch.disturbed(probe_ns) for probe_ns in self.probes])),
            load_ms=median(one["load_ms"] for one in self.opened),
            first_ms=median(one["first_ms"] for one in self.opened),
            peak_rss_bytes=int(median(one["peak_rss_bytes"] for one in self.opened)),
            runtime_baseline_bytes=int(median(one["runtime_baseline_bytes"] for one in self.opened)),
        )


Outcome = Timing | QuantScopeError


def measure(
    candidates: Sequence[Candidate], batch: Batch, protocol: Protocol, threads: int, seed: int, report: Report
) -> dict[str, Timing]:
    """Times `candidates` on one `batch` side by side: a block of each in random order, and so on.

    Raises:
        QuantScopeError: what opening an artefact raised.
        BackendCrashed: a candidate's process died; the hint holds its last words.
        TrialTimeout: a candidate's process stopped answering.
    """
    timings = {}
    for key, outcome in measure_each(candidates, batch, protocol, threads, seed, report).items():
        if isinstance(outcome, QuantScopeError):
            raise outcome
        timings[key] = outcome
    return timings


def measure_each(
    candidates: Sequence[Candidate], batch: Batch, protocol: Protocol, threads: int, seed: int, report: Report
) -> dict[str, Outcome]:
    """As `measure`, but a candidate that fails is left out from then on and has its error in the place of its timing."""
    records = {one.key: _Record() for one in candidates}
    failures: dict[str, QuantScopeError] = {}
    order, generation, generations = np.random.default_rng(seed), 0, 1
    watch = _Watch(threads)
    with TemporaryDirectory(prefix="quantscope-latency-") as folder:
        file = Path(folder) / "batch.npy"
        np.save(file, batch)
        while generation < generations and len(failures) < len(candidates):
            report(generation / generations, "Loading and warming up")
            with ExitStack() as stack:
                began = time.monotonic()
                processes = {}
                alive = [one for one in candidates if one.key not in failures]
                for one in alive:
                    with _left_out(one.key, failures):
                        opened = open_session(one.backend, one.artefact, one.options, file, threads)
                        processes[one.key] = stack.enter_context(opened)
                        watch.saw(processes[one.key].opened["probe_ns"])
                if generation == 0:
                    generations = protocol.processes((time.monotonic() - began) / len(alive))
                generation += 1
                report((generation - 0.5) / generations, f"Measuring latency, {generation} of {generations}")
                last = generation == generations
                _interleave(processes, records, failures, protocol, watch, order, -(-BLOCKS // generations), last=last)
    report(1.0, "Latency measured")
    return {key: failures.get(key) or record.timing(watch) for key, record in records.items()}


@contextmanager
def _left_out(key: str, failures: dict[str, QuantScopeError]) -> Iterator[None]:
    """Notes the error that ends the part of one candidate."""
    try:
        yield
    except QuantScopeError as error:
        failures[key] = error


def _interleave(
    processes: Mapping[str, SessionProcess],
    records: Mapping[str, _Record],
    failures: dict[str, QuantScopeError],
    protocol: Protocol,
    watch: _Watch,
    order: np.random.Generator,
    rounds: int,
    *,
    last: bool,
) -> None:
    """Rounds of one block each in random order; the last processes go on until every candidate has enough."""
    for key, process in processes.items():
        records[key].opened.append(process.opened)

    def unsatisfied() -> bool:
        alive = (records[key] for key in processes if key not in failures)
        return any(not protocol.satisfied(one.runs, one.seconds) for one in alive)

    while rounds > 0 or (last and unsatisfied()):
        for key in order.permutation([key for key in processes if key not in failures]):
            with _left_out(key, failures):
                records[key].run_block(processes[key], protocol, watch)
        rounds -= 1
