"""What a person may set about running trials, through environment variables.

| variable | meaning | default |
|---|---|---|
| `QUANTSCOPE_CHILDREN` | how many trials are quantized at once | the cores this program may use |
| `QUANTSCOPE_MEMORY_LIMIT` | address space a trial may take, in GB; 0: no limit | the machine's memory, at least 8 |
| `QUANTSCOPE_TRIAL_LIMIT` | seconds a phase of a trial may take | 3600 |
| `QUANTSCOPE_SCHEDULER` | the Dask scheduler whose workers run trials, e.g. tcp://host:8786 | none: this machine |

They are read by the worker when it starts, and by each trial's process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeVar

from experiments.jobs import isolation
from quantizers.errors import InputError, MissingExtra
from quantizers.processors import processors

GB = 10**9
LEAST_MEMORY = 8 * GB
"""Frameworks reserve far more address space than they ever fill: TensorFlow takes 3 GB of it for the smallest model."""
SCHEDULER_VARIABLE = "QUANTSCOPE_SCHEDULER"
ADDRESS = re.compile(r"(tcp|tls|ws|wss)://[^\s/]+:\d+/?")
DISTRIBUTED = "distributed==2026.8.0"
Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Settings:
    """How trials are run here. `memory_bytes` None: without a limit."""

    children: int
    memory_bytes: int | None
    trial_seconds: float
    scheduler: str | None = None

    @classmethod
    def read(cls) -> Settings:
        """The settings of this process's environment.

        Raises:
            InputError: a variable does not hold a number that makes sense, or no address.
            MissingExtra: a scheduler is named, and the package to reach it is not installed.
        """
        memory = _number("QUANTSCOPE_MEMORY_LIMIT", float, max(isolation.machine_memory(), LEAST_MEMORY) / GB, least=0.0)
        return cls(
            children=_number("QUANTSCOPE_CHILDREN", int, processors(), least=1),
            memory_bytes=int(memory * GB) or None,
            trial_seconds=_number("QUANTSCOPE_TRIAL_LIMIT", float, 3600.0, least=1.0),
            scheduler=_scheduler(os.environ.get(SCHEDULER_VARIABLE, "").strip()),
        )


def _scheduler(address: str) -> str | None:
    if not address:
        return None
    if not ADDRESS.fullmatch(address):
        raise InputError(
            f"{SCHEDULER_VARIABLE} is “{address}”.", "Give it an address such as tcp://host:8786, or unset it for this machine."
        )
    if find_spec("distributed") is None:
        raise MissingExtra.of(f"{SCHEDULER_VARIABLE}={address}", DISTRIBUTED)
    return address


def _number(variable: str, kind: Callable[[str], Number], default: Number, least: Number) -> Number:
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not value >= least:
        raise InputError(f"{variable} is “{text}”.", f"Give it a number of at least {least:g}, or unset it.")
    return value
