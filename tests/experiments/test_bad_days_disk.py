"""Days on which the disk is full or may not be written to, on a small disk of its own that a test mounts."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
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


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory on a file system of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a disk cannot be mounted here: {mounted.stderr.strip()}")
    (folder / "home").mkdir()
    monkeypatch.setenv("QUANTSCOPE_HOME", str(folder / "home"))
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def remount(disk: Path) -> Callable[[str], None]:
    """Makes the disk read-only ("ro") or not ("rw"), for root as well."""

    def change(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)

    return change


def test_a_disk_that_fills_up_fails_the_trial_clearly_and_the_next_runs(disk: Path) -> None:
    home, filler = disk / "home", disk / "filler"
    store = Store(home)
    with working(home):
        experiment_id = store.submit(trials("float32"))
        with filler.open("wb") as file:
            file.write(bytes(shutil.disk_usage(disk).free - LEFT_BYTES))
        (run,) = wait_until_ended(store, experiment_id)
        filler.unlink()
        (next_run,) = wait_until_ended(store, store.submit(trials("static_wi8_ai8")))
    assert (run["status"], run["error"]["code"]) == ("failed", "store_full"), store.log_tail(run["run_id"])
    assert "disk is full" in run["error"]["message"]
    assert run["artefact"] is None
    assert statuses([next_run]) == ["done"]
    assert not [path for path in (home / "artefacts").rglob("*") if path.is_file() and "tmp" in path.name]


def test_a_read_only_directory_is_named_before_anything_starts(disk: Path, remount: Callable[[str], None]) -> None:
    home = disk / "home"
    assert command_line("list").returncode == 0
    remount("ro")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        ensure_worker(home)
    asked = command_line("run", "--model", "mnist-mlp", "--backend", "onnxruntime", "--technique", "float32", "--no-latency")
    assert asked.returncode == 4, asked.stderr
    assert json.loads(asked.stdout)["error"]["code"] == "store_unavailable"
    assert "Traceback" not in asked.stderr
    remount("rw")
    store = Store(home)
    with working(home):
        (run,) = wait_until_ended(store, store.submit(trials("float32")))
    assert run["status"] == "done"


def command_line(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments", *words, "--json"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
