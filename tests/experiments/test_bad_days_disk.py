"""Days on which the disk is full or may not be written to, on a small disk of its own that a test mounts."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from workers import statuses, trials, wait_until_ended, working

from experiments.jobs.local import ROOT
from experiments.jobs.worker import ensure_worker
from experiments.store.store import Store
from quantizers.errors import StoreUnavailable

pytestmark = pytest.mark.adapter

DISK_BYTES = 24 << 20
LEFT_BYTES = 128 << 10


@dataclass(frozen=True)
class Disk:
    """A folder with a data directory in it; `refusal` says why it is not a file system of its own, None if it is."""

    folder: Path
    refusal: str | None

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def protect(self, *, writable: bool) -> None:
        """Makes it read-only or not: for everybody when it was mounted, else for this person, who is then not root."""
        if self.refusal is None:
            mode = "rw" if writable else "ro"
            subprocess.run(["mount", "-o", f"remount,{mode}", str(self.folder)], check=True)
        elif os.getuid() == 0:
            pytest.skip(f"root may write everywhere, and may not mount here: {self.refusal}")
        else:
            self.home.chmod(0o755 if writable else 0o555)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    made = Disk(folder, mounted.stderr.strip() if mounted.returncode else None)
    made.home.mkdir()
    monkeypatch.setenv("QUANTSCOPE_HOME", str(made.home))
    yield made
    if made.refusal is None:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_up_fails_the_trial_clearly_and_the_next_runs(disk: Disk) -> None:
    if disk.refusal:
        pytest.skip(f"no disk can be mounted here ({disk.refusal}); test_bad_days limits the size of files instead")
    store, filler = Store(disk.home), disk.folder / "filler"
    with working(disk.home):
        experiment_id = store.submit(trials("float32"))
        with filler.open("wb") as file:
            file.write(bytes(shutil.disk_usage(disk.folder).free - LEFT_BYTES))
        (run,) = wait_until_ended(store, experiment_id)
        filler.unlink()
        (next_run,) = wait_until_ended(store, store.submit(trials("static_wi8_ai8")))
    assert (run["status"], run["error"]["code"]) == ("failed", "store_full"), store.log_tail(run["run_id"])
    assert "disk is full" in run["error"]["message"]
    assert run["artefact"] is None
    assert statuses([next_run]) == ["done"]


def test_a_read_only_directory_is_named_before_anything_starts(disk: Disk) -> None:
    assert command_line("list").returncode == 0
    disk.protect(writable=False)
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        ensure_worker(disk.home)
    asked = command_line("run", "--model", "mnist-mlp", "--backend", "onnxruntime", "--technique", "float32", "--no-latency")
    disk.protect(writable=True)
    assert asked.returncode == 4, asked.stderr
    assert json.loads(asked.stdout)["error"]["code"] == "store_unavailable"
    assert "Traceback" not in asked.stderr
    store = Store(disk.home)
    with working(disk.home):
        (run,) = wait_until_ended(store, store.submit(trials("float32")))
    assert run["status"] == "done"


def command_line(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments", *words, "--json"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
