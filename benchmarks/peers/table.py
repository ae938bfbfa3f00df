"""What the sides of a comparison did, as rows for JSON and as a table for people. Ratios are against ours in the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.peers.adapter import Found, Peer, Task, layer_name
from benchmarks.peers.limits import Stopped
from benchmarks.peers.ours import OURS

REFERENCE, YARDSTICK = "exact", {Task.SENSITIVITY: "fast"}
"""Of ours: the ranking that the others are held against, and the job that costs are, where there are several."""


@dataclass
class Side:
    """One job of one peer over all rounds.

    Attributes:
        error: why there is no figure; of the newest round that failed.
        pick: bytes, SQNR and agreement of the widths it chose; `ours` is the same of our choice within as many bytes.
    """

    peer: Peer
    job: str
    task: Task
    found: list[Found] = field(default_factory=list)
    error: str | None = None
    pick: Mapping[str, Any] | None = None
    ours: Mapping[str, Any] | None = None

    @property
    def title(self) -> str:
        return f"{self.peer.title} ({self.job})"

    @property
    def bits(self) -> Mapping[str, int]:
        return self.found[-1].bits if self.found else {}

    def add(self, result: Found | Stopped) -> None:
        """Takes in one round."""
        if isinstance(result, Stopped):
            self.error = str(result)
        else:
            self.found.append(result)


def rows(sides: Sequence[Side]) -> list[dict[str, Any]]:
    """One for each side; what does not exist is None."""
    return [_row(side, sides) for side in sides]


def _row(side: Side, sides: Sequence[Side]) -> dict[str, Any]:
    seconds, peak = _medians(side)
    ours = _medians(_yardstick(side.task, sides))
    last = side.found[-1] if side.found else None
    return {
        "task": side.task.value,
        "side": side.title,
        "seconds": seconds,
        "bytes": peak,
        "times_our_seconds": _ratio(seconds, ours[0]),
        "times_our_bytes": _ratio(peak, ours[1]),
        "layers": last.layers if last else None,
        "spearman": _spearman(side, sides),
        "pick": side.pick,
        "ours_at_its_bytes": side.ours,
        "note": last.note if last else "",
        "rounds": len(side.found),
        "error": side.error,
    }


def _yardstick(task: Task, sides: Sequence[Side]) -> Side | None:
    ours = [side for side in sides if side.peer is OURS and side.task is task]
    return next((side for side in ours if side.job == YARDSTICK.get(task, side.job)), None)


def _medians(side: Side | None) -> tuple[float | None, float | None]:
    if side is None or not side.found:
        return None, None
    return median(one.seconds for one in side.found), median(one.bytes for one in side.found)


def _ratio(value: float | None, ours: float | None) -> float | None:
    return None if value is None or not ours else value / ours


def _spearman(side: Side, sides: Sequence[Side]) -> float | None:
    """Rank correlation with our exact losses over the layers that both name; None with fewer than three."""
    from scipy.stats import spearmanr

    exact = next((one for one in sides if one.peer is OURS and one.job == REFERENCE and one.found), None)
    if exact is None or not side.found or not side.found[-1].ranking:
        return None
    reference, found = ({layer_name(name): loss for name, loss in one.found[-1].ranking.items()} for one in (exact, side))
    shared = [name for name in reference if name in found]
    if len(shared) < 3:
        return None
    return float(spearmanr([reference[name] for name in shared], [found[name] for name in shared]).statistic)


def text(document: Mapping[str, Any]) -> str:
    """The rows task by task, with the load of the machine at the end of the run."""
    load = ", ".join(f"{value:.1f}" for value in document["load_average"])
    lines = [f"{document['threads']} thread(s) a side; load average {load}; × is against ours in this run"]
    task = None
    for row in document["rows"]:
        if row["task"] != task:
            task = row["task"]
            lines += ["", task, f"  {'':<44}{'seconds':>9}{'×':>8}{'peak MB':>10}{'×':>8}"]
        lines.append(_line(row))
    return "\n".join(lines)


def _line(row: Mapping[str, Any]) -> str:
    if row["seconds"] is None:
        return f"  {row['side']:<44} {row['error']}"
    cells = f"{row['seconds']:>9.2f}{_times(row['times_our_seconds']):>8}"
    cells += f"{row['bytes'] / 1e6:>10.0f}{_times(row['times_our_bytes']):>8}"
    return f"  {row['side']:<44}{cells}  {'; '.join(_remarks(row))}".rstrip()


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.3g}×"


def _remarks(row: Mapping[str, Any]) -> list[str]:
    remarks = [f"{row['layers']} layers or tensors"] if row["layers"] is not None else []
    if row["spearman"] is not None:
        remarks.append(f"Spearman {row['spearman']:.3f}")
    if row["pick"]:
        remarks.append(_loss(row["pick"]))
    if row["ours_at_its_bytes"]:
        remarks.append(f"ours: {_loss(row['ours_at_its_bytes'])}")
    if row["note"]:
        remarks.append(row["note"])
    return remarks + ([f"a round failed: {row['error']}"] if row["error"] else [])


def _loss(pick: Mapping[str, Any]) -> str:
    sqnr = "no noise" if pick["sqnr_db"] is None else f"{pick['sqnr_db']:.2f} dB"
    return f"{pick['bytes'] / 1e6:.3f} MB, {sqnr}, agreement {pick['agreement']:.3f}"
