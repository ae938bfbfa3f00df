"""Results as they come: one JSON document a line, flushed at once, so that a run that is stopped can be resumed.

A line holds the side, the round, what it found or why it did not, and, of a search, what the widths it chose are worth.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.adapter import Found
from benchmarks.peers.limits import Stopped

Picks = Mapping[str, Mapping[str, Any]]
_PATTERN = "results-*.jsonl"


@dataclass(frozen=True)
class Record:
    """One round of one side.

    Attributes:
        picks: bytes, SQNR and agreement of widths, by the title of the side whose bytes they keep to.
    """

    side: str
    round: int
    result: Found | Stopped
    picks: Picks


class Results:
    """A file of records, in the order of their making."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def begun(cls, folder: Path) -> Results:
        """A new file."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder / time.strftime("results-%Y%m%d-%H%M%S.jsonl"))

    @classmethod
    def latest(cls, folder: Path) -> Results:
        """The newest file, or a new one where there is none."""
        paths = sorted(folder.glob(_PATTERN))
        return cls(paths[-1]) if paths else cls.begun(folder)

    def records(self) -> dict[tuple[str, int], Record]:
        """All of them, by side and round."""
        if not self.path.is_file():
            return {}
        records = [_record(json.loads(line)) for line in self.path.read_text(encoding="utf-8").splitlines()]
        return {(record.side, record.round): record for record in records}

    def add(self, record: Record) -> None:
        """Appends a record."""
        failed = isinstance(record.result, Stopped)
        outcome = {"error": str(record.result)} if failed else {"found": vars(record.result)}
        line = {"side": record.side, "round": record.round, "picks": record.picks, **outcome}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _record(line: Mapping[str, Any]) -> Record:
    result = Found(**line["found"]) if "found" in line else Stopped(line["error"])
    return Record(line["side"], line["round"], result, line["picks"])
