"""How long latency is measured: the rules, apart from the machinery that follows them."""

from __future__ import annotations

from dataclasses import dataclass

BLOCKS = 10
"""Blocks each candidate runs in at least: what the intervals are bootstrapped from, so more than a handful."""
WARM_UP_RUNS = 10
WARM_UP_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Protocol:
    """Each candidate runs until it has `runs` and `seconds`, or until `limit_seconds` of its own running time."""

    runs: int
    seconds: float
    limit_seconds: float

    @property
    def block_runs(self) -> int:
        return -(-self.runs // BLOCKS)

    @property
    def block_seconds(self) -> float:
        return self.seconds / BLOCKS

    @property
    def block_limit_seconds(self) -> float:
        return self.limit_seconds / BLOCKS

    def satisfied(self, runs: int, seconds: float) -> bool:
        return (runs >= self.runs and seconds >= self.seconds) or seconds >= self.limit_seconds


QUICK = Protocol(runs=100, seconds=3.0, limit_seconds=60.0)
STANDARD = Protocol(runs=1000, seconds=30.0, limit_seconds=600.0)
PROTOCOLS = {"quick": QUICK, "standard": STANDARD}
