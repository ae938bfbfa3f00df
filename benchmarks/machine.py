"""What a figure was measured on: a latency without its machine means nothing."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from quantizers.processors import processors

RELEVANT_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
)
"""Instruction sets that decide how fast integers are, as Linux names them (x86 and Arm)."""


@dataclass(frozen=True, slots=True)
class Machine:
    """`memory_bytes` is physical memory; `cores` are logical ones this process may use."""

    cpu: str
    isa: tuple[str, ...]
    cores: int
    memory_bytes: int
    system: str
    python: str


@cache
def describe() -> Machine:
    """This machine. Reads /proc/cpuinfo; elsewhere asks py-cpuinfo, which takes about a second."""
    cpu, flags = from_proc() or _from_library()
    return Machine(
        cpu=cpu,
        isa=tuple(flag for flag in RELEVANT_FLAGS if flag in flags),
        cores=processors(),
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def from_proc(source: Path = Path("/proc/cpuinfo")) -> tuple[str, frozenset[str]] | None:
    """CPU model and flags of the first processor; None where there is no such file, or it lists no flags."""
    if not source.is_file():
        return None
    fields: dict[str, str] = {}
    for line in source.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags") or fields.get("Features")
    return (fields.get("model name", platform.machine()), frozenset(flags.split())) if flags else None


def _from_library() -> tuple[str, frozenset[str]]:
    import cpuinfo

    found = cpuinfo.get_cpu_info()
    return str(found.get("brand_raw", platform.machine())), frozenset(found.get("flags", ()))
