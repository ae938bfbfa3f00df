"""Work done once, by threads and processes that ask at the same time, and after every way for an entry to be damaged."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quantizers.shared import MANIFEST, once

ROOT = Path(__file__).parents[2]
CONTENT = b"measured"


class Work:
    """Fills an entry and counts how often it had to."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, folder: Path) -> None:
        self.times += 1
        (folder / "nested").mkdir()
        (folder / "nested" / "values.bin").write_bytes(CONTENT)


@pytest.fixture
def work() -> Work:
    return Work()


def values(entry: Path) -> Path:
    return entry / "nested" / "values.bin"


def test_the_same_is_computed_once(tmp_path: Path, work: Work) -> None:
    first = once(tmp_path / "shared", "work", {"model": "a", "seed": 0}, work)
    again = once(tmp_path / "shared", "work", {"seed": 0, "model": "a"}, work)
    assert first == again
    assert values(again).read_bytes() == CONTENT
    assert work.times == 1


@pytest.mark.parametrize(("kind", "depends_on"), [("other", {"seed": 0}), ("work", {"seed": 1}), ("work", {"seed": 0, "n": 1})])
def test_what_differs_is_another_entry(tmp_path: Path, work: Work, kind: str, depends_on: dict[str, int]) -> None:
    assert once(tmp_path, "work", {"seed": 0}, work) != once(tmp_path, kind, depends_on, work)
    assert work.times == 2


def _remove(entry: Path) -> None:
    values(entry).unlink()


def _shorten(entry: Path) -> None:
    values(entry).write_bytes(CONTENT[:-1])


def _flip(entry: Path) -> None:
    values(entry).write_bytes(bytes([CONTENT[0] ^ 1]) + CONTENT[1:])


def _add(entry: Path) -> None:
    (entry / "stray").touch()


def _forget(entry: Path) -> None:
    (entry / MANIFEST).unlink()


def _garble(entry: Path) -> None:
    (entry / MANIFEST).write_bytes(b"\xff{")


@pytest.mark.parametrize("damage", [_remove, _shorten, _flip, _add, _forget, _garble])
def test_a_damaged_entry_is_computed_anew(tmp_path: Path, work: Work, damage: Callable[[Path], None]) -> None:
    damage(once(tmp_path, "work", {}, work))
    entry = once(tmp_path, "work", {}, work)
    assert work.times == 2
    assert values(entry).read_bytes() == CONTENT
    assert not (entry / "stray").exists()


def test_work_that_fails_leaves_nothing(tmp_path: Path, work: Work) -> None:
    def fail(folder: Path) -> None:
        work(folder)
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        once(tmp_path, "work", {}, fail)
    assert values(once(tmp_path, "work", {}, work)).read_bytes() == CONTENT
    assert work.times == 2


def test_threads_that_ask_at_once_compute_once(tmp_path: Path, work: Work) -> None:
    with ThreadPoolExecutor(8) as pool:
        entries = set(pool.map(lambda _: once(tmp_path, "work", {}, work), range(8)))
    assert len(entries) == 1
    assert work.times == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from quantizers.shared import once
def work(folder):
    (folder / "values.bin").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
once(Path(sys.argv[1]), "work", {}, work)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_what_a_killed_process_left_half_done_is_computed_anew(tmp_path: Path, work: Work) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False, env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL
    entry = once(tmp_path, "work", {}, work)
    assert values(entry).read_bytes() == CONTENT
    assert not (entry / "values.bin").exists()


COUNTED = """
import sys, time
from pathlib import Path
from quantizers.shared import once
def work(folder):
    with (Path(sys.argv[1]) / "log").open("a") as log:
        log.write("x")
    time.sleep(0.5)
    (folder / "values.bin").write_bytes(b"whole")
print((once(Path(sys.argv[1]) / "shared", "work", {}, work) / "values.bin").read_text())
"""


def test_processes_that_ask_at_once_compute_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COUNTED, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {process.communicate(timeout=60)[0].strip() for process in processes} == {"whole"}
    assert (tmp_path / "log").read_text() == "x"
