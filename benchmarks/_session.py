"""The measuring side of a session process: starting it, asking it, and telling what became of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Any

from quantizers.errors import BackendCrashed, QuantScopeError, TrialTimeout
from quantizers.schema import Backend, Options

ROOT = Path(__file__).parents[1]
ANSWER_SECONDS = 600.0
"""How long a process may take to load, or to run one block."""
STDERR_TAIL = 2000
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
WAIT_POLICY = "OMP_WAIT_POLICY"
"""How threads wait for each other: whoever measures may have chosen, but what is timed runs as its runtime would by itself."""
Answer = Mapping[str, Any]


class SessionProcess:
    """One artefact in a process of its own. `opened` is what it said of loading."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[bytes]) -> None:
        self.process = process
        self._errors = errors
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.opened = self._answer()

    def block(self, runs: int, seconds: float, limit_seconds: float) -> Answer:
        """Runs one block; the answer holds "samples_ns", "runs", "seconds" and "probe_ns".

        Raises:
            BackendCrashed: the process died.
            TrialTimeout: it did not answer in time.
        """
        assert self.process.stdin is not None
        # A process that has died takes no command: its missing answer says so.
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps({"runs": runs, "seconds": seconds, "limit_seconds": limit_seconds}) + "\n")
            self.process.stdin.flush()
        return self._answer()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with suppress(ValueError):  # closed while it was being read: `end` was called
            for line in self.process.stdout:
                self._lines.put(line)
        self._lines.put("")

    def _answer(self) -> Answer:
        try:
            line = self._lines.get(timeout=ANSWER_SECONDS)
        except Empty:
            what = f"The process that times the model has not answered for {ANSWER_SECONDS:g} s."
            raise TrialTimeout(what, self._last_words()) from None
        if not line:
            raise BackendCrashed(f"The process that times the model {_ending(self.process.wait())}.", self._last_words())
        answer: Answer = json.loads(line)
        if "error" in answer:
            raise raised(answer["error"])
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        tail = self._errors.read().decode(errors="replace").strip()[-STDERR_TAIL:]
        return f"Its last words: {tail}" if tail else "It said nothing. Try again with less else running."


@contextmanager
def open_session(backend: Backend, artefact: Path, options: Options, batch: Path, threads: int) -> Iterator[SessionProcess]:
    """A process that has loaded and warmed up `artefact`; it ends with the context, and at once if this process dies.

    Raises:
        QuantScopeError: what opening the artefact raised.
        BackendCrashed: the process died.
        TrialTimeout: it did not get ready in time.
    """
    command = [
        sys.executable,
        "-m",
        "benchmarks._session_process",
        backend.value,
        str(artefact.resolve()),
        str(batch.resolve()),
    ]
    command += ["--options", json.dumps(dict(options)), "--threads", str(threads)]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=_environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
        )
        try:
            yield SessionProcess(process, errors)
        finally:
            _end(process)


def _environment(threads: int) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != WAIT_POLICY}
    return inherited | dict.fromkeys(THREAD_VARIABLES, str(threads))


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(BrokenPipeError):  # a command the process never read
            pipe.close()


def _ending(returncode: int) -> str:
    return f"was ended by {signal.Signals(-returncode).name}" if returncode < 0 else f"ended with code {returncode}"


def raised(described: Mapping[str, str]) -> QuantScopeError:
    """The error that a process reported, as the class it had there."""
    classes, known = [QuantScopeError], {}
    while classes:
        one = classes.pop()
        known[one.code] = one
        classes += one.__subclasses__()
    return known[described["code"]](described["message"], described["hint"])
