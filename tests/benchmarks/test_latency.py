"""Timing in processes of their own, on a real artefact; no assertion here is about how fast anything is."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks import _session, _session_process
from benchmarks._session import open_session
from benchmarks.latency import Candidate, measure
from benchmarks.latency_report import Verdict, summarise
from benchmarks.protocol import BLOCKS, Protocol
from models import zoo
from quantizers import registry
from quantizers.adapter import Batch, Request
from quantizers.errors import (
    BackendCrashed,
    NothingQuantized,
    OutOfMemory,
    QuantScopeError,
    TrialTimeout,
    Unsupported,
)
from quantizers.schema import NO_OPTIONS, Backend, Mode, Technique

pytestmark = pytest.mark.adapter

SHORT = Protocol(runs=50, seconds=0.1, limit_seconds=5.0, opening_seconds=0.0)
"""No time for loading leaves two processes."""
BATCH = np.zeros((1, 28, 28, 1), np.float32)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    request = Request(Technique(Mode.FLOAT32), NO_OPTIONS, None, tmp_path_factory.mktemp("artefact"))
    return registry.get(Backend.TFLITE).quantize(zoo.load("mnist-mlp"), request, silent).path


@pytest.fixture
def batch_file(tmp_path: Path) -> Path:
    np.save(tmp_path / "batch.npy", BATCH)
    return tmp_path / "batch.npy"


def silent(_fraction: float, _words: str) -> None: ...


def timed(artefact: Path, batch: Batch = BATCH) -> dict[str, object]:
    twins = [Candidate(key, Backend.TFLITE, artefact, NO_OPTIONS) for key in ("one", "other")]
    return measure(twins, batch, SHORT, 1, 0, silent)


def gone(pid: int, within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_candidates_are_timed_side_by_side(artefact: Path) -> None:
    timings = timed(artefact)
    assert list(timings) == ["one", "other"]
    for timing in timings.values():
        assert timing.samples_ns.dtype == np.int64
        assert timing.samples_ns.shape == timing.blocks.shape
        assert (timing.samples_ns > 0).all()
        counts = np.bincount(timing.blocks)
        assert len(counts) >= BLOCKS
        assert (counts >= SHORT.block_runs).all()
        assert (np.diff(timing.blocks) >= 0).all()
        assert np.unique(timing.processes[timing.blocks < BLOCKS // 2]).tolist() == [0]
        assert np.unique(timing.processes[timing.blocks >= BLOCKS // 2]).tolist() == [1]
        assert timing.load_ms > 0
        assert timing.first_ms > 0
        assert timing.peak_rss_bytes >= timing.runtime_baseline_bytes > 10e6
    found = summarise(timings["one"], timings["other"], None, threads=1, batch=1, seed=0)
    assert found.speedup_ci95[0] <= found.speedup <= found.speedup_ci95[1]
    assert found.verdict in Verdict


def test_progress_is_told_in_order(artefact: Path) -> None:
    told: list[tuple[float, str]] = []
    measure(
        [Candidate("only", Backend.TFLITE, artefact, NO_OPTIONS)],
        BATCH,
        SHORT,
        1,
        0,
        lambda fraction, words: told.append((fraction, words)),
    )
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert all(words for _, words in told)


def test_blocks_are_interleaved_in_a_seeded_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The order alone, with a stand-in for the processes."""

    class Instant:
        def __init__(self, path: Path) -> None:
            self.name = path.name
            opened.append(self.name)
            self.opened = {
                "load_ms": float(opened.count(self.name)),
                "first_ms": 1.0,
                "peak_rss_bytes": 2,
                "runtime_baseline_bytes": 1,
                "probe_ns": 100,
            }

        def __enter__(self) -> "Instant":
            return self

        def __exit__(self, *_: object) -> None: ...

        def block(self, runs: int, seconds: float, limit_seconds: float) -> dict[str, object]:
            order.append(self.name)
            # "slow" has enough runs only after twice the least number of rounds.
            enough = runs // 2 if self.name == "slow" else runs
            return {"samples_ns": [5, 5, 5], "runs": enough, "seconds": 1.0, "probe_ns": 120}

    monkeypatch.setattr("benchmarks.latency.open_session", lambda _backend, path, *_: Instant(path))
    orders = []
    for seed in (0, 0, 1):
        order: list[str] = []
        opened: list[str] = []
        both = [Candidate(name, Backend.TFLITE, tmp_path / name, NO_OPTIONS) for name in ("slow", "fast")]
        timings = measure(both, BATCH, Protocol(runs=60, seconds=1.0, limit_seconds=99.0, opening_seconds=0.0), 1, seed, silent)
        orders.append(list(zip(order[::2], order[1::2], strict=True)))
        assert np.bincount(timings["slow"].blocks).tolist() == [3] * 2 * BLOCKS
        # Only the last process runs on until there is enough.
        assert np.bincount(timings["slow"].processes).tolist() == [3 * BLOCKS // 2, 3 * BLOCKS * 3 // 2]
        assert timings["slow"].load_ms == 1.5
    assert orders[0] == orders[1] != orders[2]
    assert len(orders[0]) == 2 * BLOCKS
    assert set(orders[0]) == {("slow", "fast"), ("fast", "slow")}


@pytest.mark.parametrize(("threads", "disturbed", "repeated"), [(1, 7, 7), (1, 10**6, BLOCKS), (2, 7, 0)])
def test_a_block_that_something_else_disturbed_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threads: int, disturbed: int, repeated: int
) -> None:
    """Told by the probe alone, not by the samples; on a machine that is never quiet there is an end."""

    class Busy:
        left = disturbed

        def __init__(self) -> None:
            figures = ("load_ms", "first_ms", "peak_rss_bytes", "runtime_baseline_bytes")
            self.opened = dict.fromkeys(figures, 1) | {"probe_ns": 100}

        def __enter__(self) -> "Busy":
            return self

        def __exit__(self, *_: object) -> None: ...

        def block(self, runs: int, seconds: float, limit_seconds: float) -> dict[str, object]:
            Busy.left -= 1
            quiet = Busy.left < 0
            return {"samples_ns": [9] if quiet else [5], "runs": runs, "seconds": 1.0, "probe_ns": 100 if quiet else 126}

    monkeypatch.setattr("benchmarks.latency.open_session", lambda *_: Busy())
    only = [Candidate("only", Backend.TFLITE, tmp_path, NO_OPTIONS)]
    protocol = Protocol(runs=60, seconds=BLOCKS, limit_seconds=999.0, opening_seconds=0.0)
    timing = measure(only, BATCH, protocol, threads, 0, silent)["only"]
    assert timing.repeated == repeated
    kept = min(BLOCKS, disturbed - repeated)
    assert (timing.samples_ns == 5).sum() == kept
    assert timing.disturbed == (kept / BLOCKS if threads == 1 else 0.0)
    assert len(timing.samples_ns) == BLOCKS


class Sleeper:
    """A session whose every run takes `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.runs = 0

    def prepare(self, batch: Batch) -> Batch:
        return batch

    def run(self, prepared: Batch) -> None:
        self.runs += 1
        time.sleep(self.seconds)


@pytest.mark.parametrize(
    ("each", "runs", "seconds", "limit", "expected", "lead_in"),
    [
        (0.001, 20, 0.0, 5.0, range(20, 21), {1, 2, 3}),
        (0.0, 20, 0.05, 5.0, range(20, 10**6), {1, 2, 3}),
        (0.02, 1000, 0.0, 0.1, range(1, 6), {1}),
    ],
)
def test_a_block_ends_with_enough_runs_and_time_or_at_its_limit(
    each: float, runs: int, seconds: float, limit: float, expected: range, lead_in: set[int]
) -> None:
    session = Sleeper(each)
    answer = _session_process.run_block(session, BATCH, runs, seconds, limit)
    assert answer["runs"] in expected
    assert session.runs - answer["runs"] in lead_in
    assert 0 < len(answer["samples_ns"]) <= min(answer["runs"], _session_process.MOST_SAMPLES)
    if answer["runs"] == len(answer["samples_ns"]):
        assert answer["seconds"] == pytest.approx(sum(answer["samples_ns"]) / 1e9)


def test_of_very_many_runs_an_even_selection_is_kept() -> None:
    answer = _session_process.run_block(Sleeper(0), BATCH, 2500, 0, 5)
    assert answer["runs"] == 2500
    assert len(answer["samples_ns"]) == 400


def test_warming_up_takes_runs_and_time() -> None:
    quick, slow = Sleeper(0.001), Sleeper(0.06)
    began = time.perf_counter()
    _session_process.warm_up(quick, BATCH)
    assert time.perf_counter() - began >= 0.5
    _session_process.warm_up(slow, BATCH)
    assert slow.runs == 10


def test_threads_are_set_for_the_process(artefact: Path, batch_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_session.WAIT_POLICY, "PASSIVE")
    with open_session(Backend.TFLITE, artefact, NO_OPTIONS, batch_file, threads=2) as session:
        environment = psutil.Process(session.process.pid).environ()
    assert _session.WAIT_POLICY not in environment
    assert {environment[name] for name in _session.THREAD_VARIABLES} == {"2"}


def test_a_session_ends_with_its_context(artefact: Path, batch_file: Path) -> None:
    with open_session(Backend.TFLITE, artefact, NO_OPTIONS, batch_file, 1) as session:
        assert session.process.poll() is None
    assert session.process.poll() is not None


def test_a_killed_process_is_a_crash_that_names_the_signal(artefact: Path, batch_file: Path) -> None:
    with open_session(Backend.TFLITE, artefact, NO_OPTIONS, batch_file, 1) as session:
        session.process.kill()
        session.process.wait()
        with pytest.raises(BackendCrashed, match="SIGKILL"):
            session.block(1, 0, 1)


def test_an_artefact_that_cannot_be_loaded_is_a_crash_with_its_last_words(tmp_path: Path) -> None:
    broken = tmp_path / "model.tflite"
    broken.write_bytes(b"no model at all")
    with pytest.raises(BackendCrashed, match="code 1") as caught:
        timed(broken)
    assert "ValueError" in caught.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
def test_a_process_that_stops_answering_times_out(artefact: Path, batch_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_session(Backend.TFLITE, artefact, NO_OPTIONS, batch_file, 1) as session:
        os.kill(session.process.pid, signal.SIGSTOP)
        monkeypatch.setattr(_session, "ANSWER_SECONDS", 0.3)
        with pytest.raises(TrialTimeout, match=r"0\.3 s"):
            session.block(1, 0, 1)
    assert gone(session.process.pid)


@pytest.mark.parametrize("cls", [Unsupported, NothingQuantized, OutOfMemory, QuantScopeError])
def test_an_error_of_the_process_is_raised_as_what_it_was(cls: type[QuantScopeError]) -> None:
    error = _session.raised(cls("what", "do").to_dict())
    assert type(error) is cls
    assert (error.message, error.hint) == ("what", "do")


ORPHAN = """
import sys
from pathlib import Path
from benchmarks._session import open_session
from quantizers.schema import Backend
with open_session(Backend.TFLITE, Path(sys.argv[1]), {}, Path(sys.argv[2]), 1) as session:
    print(session.process.pid, flush=True)
    session.block(runs=1, seconds=300, limit_seconds=300)
"""


def test_a_process_dies_with_whoever_measures_even_during_a_block(artefact: Path, batch_file: Path) -> None:
    command = [sys.executable, "-c", ORPHAN, str(artefact), str(batch_file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert psutil.pid_exists(child)
        parent.kill()
    assert gone(child)


@pytest.fixture
def run_python() -> Callable[[str], subprocess.CompletedProcess[str]]:
    return lambda code: subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)


def test_what_libraries_print_is_no_answer(run_python: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    done = run_python(
        "import os\nfrom benchmarks._stdout import claimed_stdout\n"
        "with claimed_stdout() as out:\n    os.write(1, b'noise'); print('chatter'); out.write('answer')\nprint(' after')"
    )
    assert done.stdout == "answer after\n"
    assert "noise" in done.stderr
    assert "chatter" in done.stderr
