"""A real Dask cluster on loopback, for tests: a scheduler and workers, each a process, each worker on its own host address."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60.0
OFFER = ("--resources", "quantscope-host=1")


@dataclass
class Cluster:
    """A scheduler, and the workers that were started for it."""

    folder: Path
    scheduler: subprocess.Popen[bytes]
    address: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add_worker(
        self, host: str, *, threads: int = 1, offer: Sequence[str] = OFFER, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a worker on a loopback address: 127.0.0.1, 127.0.0.2, … are hosts of their own to Dask."""
        command = ["worker", self.address, "--no-nanny", "--nthreads", str(threads), "--host", host, *offer]
        command += ["--no-dashboard", "--local-directory", str(self.folder)]
        self.workers.append(_start(command, self.folder / f"worker-{len(self.workers)}.log", environment or {}))
        return self.workers[-1]

    def close(self) -> None:
        """Ends all of it by force."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@contextmanager
def dask_cluster(folder: Path, port: int = 0) -> Iterator[Cluster]:
    """A scheduler without workers, at `port` or any free one; everything has ended when the context does."""
    told = folder / "scheduler.json"
    told.unlink(missing_ok=True)
    command = ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--scheduler-file", str(told)]
    cluster = Cluster(folder, _start(command, folder / "scheduler.log", {}), "")
    try:
        cluster.address = _address(told)
        yield cluster
    finally:
        cluster.close()


def _start(command: Sequence[str], log_path: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with log_path.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *command], cwd=ROOT, env=os.environ | environment, stdout=log, stderr=log
        )


def _address(told: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if told.exists() and (text := told.read_text(encoding="utf-8")):
            return str(json.loads(text)["address"])
        time.sleep(0.1)
    raise TimeoutError("the Dask scheduler did not start")
