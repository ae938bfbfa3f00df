"""What came out of a run, in words: its status and, when it is done, size, accuracy and speed with their verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.store.queue import Phase
from pages._ui import format as fmt
from quantizers.schema import Mode, Status

Run = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Badge:
    """How a status is written: a word, an icon and one of Streamlit's named colours."""

    word: str
    icon: str
    colour: str

    def markdown(self) -> str:
        return f":{self.colour}[{self.icon} {self.word}]"


WAITING_FOR_LATENCY = "Waiting for latency: measured alone, together with the others"
FLOAT = Mode.FLOAT32.value
BADGES: Mapping[Status, Badge] = {
    Status.QUEUED: Badge("Queued", ":material/schedule:", "gray"),
    Status.RUNNING: Badge("Running", ":material/autorenew:", "violet"),
    Status.DONE: Badge("Done", ":material/check:", "green"),
    Status.FAILED: Badge("Failed", ":material/error:", "red"),
    Status.CANCELLED: Badge("Cancelled", ":material/cancel:", "gray"),
    Status.INTERRUPTED: Badge("Interrupted", ":material/pause_circle:", "orange"),
    Status.UNAVAILABLE: Badge("Not possible", ":material/block:", "gray"),
}


def badge(run: Run) -> Badge:
    return BADGES[Status(run["status"])]


def tally(counts: Mapping[Status, int]) -> str:
    """How the runs of an experiment ended, so far: "2 of 3 done, 1 failed"."""
    others = [status for status in Status if counts.get(status) and status is not Status.DONE and not status.active]
    done = f"{counts.get(Status.DONE, 0)} of {sum(counts.values())} done"
    return ", ".join([done, *(f"{counts[status]} {BADGES[status].word.lower()}" for status in others)])


def stage_words(run: Run) -> str:
    """What an active run is doing, or waits for."""
    if run["status"] == Status.RUNNING.value:
        return run["stage"] or "Starting"
    return WAITING_FOR_LATENCY if run.get("phase") == Phase.LATENCY.value else BADGES[Status(run["status"])].word


def result_words(run: Run) -> str:
    """A finished run in one line of Markdown; what was not measured is left out."""
    size, quality, latency = (run.get(section) or {} for section in ("size", "quality", "latency"))
    if run["technique"] == FLOAT:
        parts = [fmt.size(size.get("bytes")), f"{fmt.accuracy(quality)} top-1", fmt.milliseconds(latency.get("p50_ms"))]
        return " · ".join(["float baseline", *(part for part in parts if fmt.MISSING not in part)])
    parts = [fmt.size(size.get("bytes")), fmt.smaller(size["ratio"]) if size.get("ratio") else ""]
    if quality.get("top1") is not None:
        verdict = fmt.accuracy_verdict(quality)
        parts.append(f"{fmt.accuracy(quality)} top-1" + (f", {verdict.markdown()}" if verdict else ""))
    elif quality.get("agreement") is not None:
        parts.append(f"{fmt.percent(quality['agreement'])} agreement with float")
    parts.append(_speed(latency))
    return " · ".join(part for part in parts if part)


def conditions_words(measurement: Run) -> str:
    """The conditions that the trials of an experiment share."""
    calibration, evaluation = (fmt.count(measurement[f"{which}_samples"]) for which in ("calibration", "eval"))
    threads = f"{measurement['threads']} thread{'s' if measurement['threads'] > 1 else ''}"
    latency = "no latency" if measurement["latency"] == "none" else f"{measurement['latency']} latency protocol"
    samples = f"{calibration} calibration and {evaluation} evaluation samples of {measurement['data']}"
    return f"{samples}, seed {measurement['seed']}, {threads}, {latency}"


def _speed(latency: Run) -> str:
    verdict = fmt.speed_verdict(latency)
    if verdict is None:
        return ""
    if verdict.tone is fmt.Tone.NEUTRAL:
        return f"speed: {verdict.markdown()}"
    return fmt.Verdict(fmt.faster(latency["speedup"]), verdict.tone).markdown()


def error_words(run: Run) -> str:
    """Why a run has no result, in Markdown: its status, what happened and what to do."""
    error = run.get("error") or {}
    hint = f"  \n:small[:gray[{error['hint']}]]" if error.get("hint") else ""
    return f"{badge(run).markdown()} {error.get('message', '')}{hint}"
