import json
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks import _memory, machine

CPUINFO = """processor\t: 0
model name\t: Some CPU @ 3 GHz
flags\t\t: fpu sse avx2 avx512f avx512_vnni

processor\t: 1
model name\t: Some CPU @ 3 GHz
flags\t\t: fpu sse avx2 avx512f avx512_vnni
"""


def test_this_machine_is_described_in_json() -> None:
    here = machine.describe()
    assert here.cpu
    assert 1 <= here.cores <= psutil.cpu_count()
    assert here.memory_bytes == psutil.virtual_memory().total
    assert here.python == platform.python_version()
    assert platform.system() in here.system
    assert json.loads(json.dumps(asdict(here)))["isa"] == list(here.isa)


def test_linux_is_read_from_proc(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(CPUINFO, encoding="utf-8")
    assert machine.from_proc(file) == ("Some CPU @ 3 GHz", {"fpu", "sse", "avx2", "avx512f", "avx512_vnni"})


def test_where_proc_says_nothing_the_library_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.from_proc(tmp_path / "absent") is None
    monkeypatch.setattr(machine, "from_proc", lambda: None)
    monkeypatch.setattr("cpuinfo.get_cpu_info", lambda: {"brand_raw": "Other CPU", "flags": ["avx2", "mmx"]})
    machine.describe.cache_clear()
    here = machine.describe()
    machine.describe.cache_clear()
    assert (here.cpu, here.isa) == ("Other CPU", ("avx2",))


def test_the_peak_remembers_what_was_given_back() -> None:
    before = _memory.resident_bytes()
    ballast = np.ones(16_000_000)
    del ballast
    assert _memory.peak_bytes() - before > 100e6


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets")
def test_a_forgotten_peak_starts_anew() -> None:
    ballast = np.ones(16_000_000)
    del ballast
    _memory.forget_peak()
    assert abs(_memory.peak_bytes() - _memory.resident_bytes()) < 20e6


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is that of getrusage")
def test_a_childs_peak_is_not_its_parents() -> None:
    ballast = np.ones(32_000_000)
    code = "from benchmarks import _memory; print(_memory.peak_bytes())"
    root = Path(__file__).parents[2]
    child = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True, timeout=60)
    assert int(child.stdout) < 200e6 < ballast.nbytes
