"""How long latency is measured: the rules, apart from the machinery that follows them."""

from __future__ import annotations

from dataclasses import dataclass

BLOCKS = 30
"""Blocks each candidate runs in at least. Many short ones meet what comes and goes on a machine equally often as those beside
them: with something else at work for a third of the time, ratios of repeated measurements scattered by 5.5 % in 10 blocks and
by 1.3 % in 30 of the same total length.
"""
FEWEST_PROCESSES, MOST_PROCESSES = 2, 5
"""A model is a little faster or slower in every new process, by where its memory happens to lie: measured 0.3 to 0.6 % between
processes, against 0.2 % within one. An interval that knows only one process calls a model faster than itself (Mytkowicz et
al. 2009, Producing Wrong Data Without Doing Anything Obviously Wrong).
"""
DISTURBED = 1.25
"""How many times longer than at best a fixed piece of work takes when something else is at work on the same core."""
WARM_UP_RUNS = 10
WARM_UP_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Protocol:
    """Each candidate runs until it has `runs` and `seconds`, or until about `limit_seconds` of its own running time.

    Blocks that are repeated, on a machine with other work, take up to `seconds` more. About `opening_seconds` are spent on
    loading each candidate anew.
    """

    runs: int
    seconds: float
    limit_seconds: float
    opening_seconds: float

    @property
    def block_runs(self) -> int:
        return -(-self.runs // BLOCKS)

    @property
    def block_seconds(self) -> float:
        return self.seconds / BLOCKS

    @property
    def block_limit_seconds(self) -> float:
        return self.limit_seconds / BLOCKS

    def processes(self, opening_seconds: float) -> int:
        """How many processes each candidate gets, one after the other, where loading one takes so long."""
        return min(MOST_PROCESSES, max(FEWEST_PROCESSES, int(self.opening_seconds / opening_seconds)))

    def satisfied(self, runs: int, seconds: float) -> bool:
        return (runs >= self.runs and seconds >= self.seconds) or seconds >= self.limit_seconds


QUICK = Protocol(runs=100, seconds=3.0, limit_seconds=60.0, opening_seconds=7.5)
STANDARD = Protocol(runs=1000, seconds=30.0, limit_seconds=600.0, opening_seconds=60.0)
PROTOCOLS = {"quick": QUICK, "standard": STANDARD}
