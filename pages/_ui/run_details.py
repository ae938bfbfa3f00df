"""The drawer of one run: what was asked for, what came out or went wrong, where it was measured, and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from experiments.library import Library
from experiments.store.store import RunDocument
from pages._ui import format as fmt
from pages._ui.downloads import downloads
from pages._ui.errors import show_error
from pages._ui.outcome import error_words, result_words
from pages._ui.rounding_gain import show_gain
from pages._ui.training import show_training
from pages._ui.upload import plain
from quantizers.errors import InputError, QuantScopeError
from quantizers.schema import Status

PARAMETER = "runs_open"
LOG_LINES = 40


def open_details(run_id: str) -> None:
    """Has the next run of the page show the drawer; the address names the run, so that a link opens it too."""
    st.query_params[PARAMETER] = run_id


def show_details(library: Library) -> None:
    """Shows the drawer of the run that the address names, if it names one."""
    run_id = st.query_params.get(PARAMETER)
    if not run_id:
        return
    found = library.runs([run_id])
    title = f"{found[0]['model']} · {fmt.run_name(found[0])}" if found else "Run details"
    st.dialog(title, position="right", width="medium", on_dismiss=_close)(_body)(library, run_id)


def _close() -> None:
    st.query_params.pop(PARAMETER, None)


def _body(library: Library, run_id: str) -> None:
    try:
        run = library.run(run_id)
    except QuantScopeError as error:
        show_error(error)
        return
    done = run["status"] == Status.DONE.value
    st.markdown(result_words(run) if done else error_words(run))
    if done:
        query = {"run": run_id}
        st.page_link("layers.py", label="Inspect its layers", icon=":material/layers:", query_params=query)
    if done and run.get("training"):
        st.markdown("**Training**")
        show_training(run["training"], f"runs_training_{run_id}")
    if done:
        show_gain(run)
    if not run.get("example"):
        _labels(library, run)
    _table("Asked for", _asked(run))
    _steps(run)
    _table("Latency and memory", _timed(run))
    _table("Measured on", _measured(run))
    if done:
        st.markdown("**Files**")
        downloads(library, run, key="runs_details")
    _log(library, run)


def _table(title: str, rows: Mapping[str, str]) -> None:
    if rows:
        st.markdown(f"**{title}**")
        st.table(dict(rows), border="horizontal", alt=title)


def _asked(run: RunDocument) -> dict[str, str]:
    measurement = run["measurement"]
    rows = {"Technique": f"`{run['technique']}`", "Data": measurement["data"]}
    rows |= {_words(name): str(value).lower() for name, value in run["options"].items()}
    rows |= {"Kept in float": ", ".join(run["keep_float"])} if run["keep_float"] else {}
    rows |= {
        "Calibration samples": fmt.count(measurement["calibration_samples"]),
        "Evaluation samples": fmt.count(measurement["eval_samples"]),
        "Seed": str(measurement["seed"]),
        "Threads": str(measurement["threads"]),
        "Latency": measurement["latency"],
        "Run": f"`{run['run_id']}`",
    }
    return rows


def _timed(run: RunDocument) -> dict[str, str]:
    """What the cards leave out: the tail, starting up, throughput, memory, and how quiet the machine was."""
    latency, memory = run.get("latency"), run.get("memory")
    rows: dict[str, str] = {}
    if latency:
        of_n = f"median of {fmt.count(latency['n'])} samples"
        rows = {
            "p50": f"{fmt.milliseconds(latency['p50_ms'])} {fmt.interval(latency['p50_ci95_ms'], fmt.number)}, {of_n}",
            "p90": fmt.milliseconds(latency["p90_ms"]) if latency["p90_ms"] else latency["p90_ms_why_not"],
            "p99": fmt.milliseconds(latency["p99_ms"]) if latency["p99_ms"] else latency["p99_ms_why_not"],
            "Middle half spans": fmt.milliseconds(latency["iqr_ms"]),
            "Throughput": f"{fmt.number(latency['throughput_per_s'])} samples/s in batches of {latency['batch']}",
            "Loading": fmt.milliseconds(latency["load_ms"]),
            "First inference": fmt.milliseconds(latency["first_ms"]),
            "Machine": _quiet(latency),
        }
    if memory:
        own = memory["peak_rss_bytes"] - memory["runtime_baseline_bytes"]
        rows["Peak memory"] = f"{fmt.size(own)} above the {fmt.size(memory['runtime_baseline_bytes'])} of the runtime alone"
    return rows


def _quiet(latency: Mapping[str, Any]) -> str:
    words = "noisy: times scatter or drift, or something else was at work" if latency["noisy"] else "quiet"
    repeated = latency.get("repeated_blocks")  # older runs do not have it
    return words + (f"; blocks measured again because something else was at work: {fmt.count(repeated)}" if repeated else "")


def _measured(run: RunDocument) -> dict[str, str]:
    provenance = run.get("provenance") or {}
    rows = {"When": fmt.moment(run.get("finished") or run.get("created"))}
    if not provenance:
        return rows
    rows |= {"CPU": provenance["cpu"], "Instructions": ", ".join(provenance["isa"]) or fmt.MISSING}
    rows |= provenance["versions"]
    stages = ", ".join(f"{_words(name).lower()} {fmt.seconds(value)}" for name, value in provenance["seconds"].items())
    rows |= {"Commit": f"`{provenance['git_commit'][:12]}`"} if provenance.get("git_commit") else {}
    return rows | {"Dataset digest": f"`{provenance['dataset']['sha256'][:16]}…`", "Time spent": stages}


def _steps(run: RunDocument) -> None:
    """How the model came into a form that can be quantized, and why not in a better one."""
    if steps := run.get("steps"):
        st.markdown("**How the model was taken**")
        st.markdown("  \n".join(f"{plain(step['name'])}: {plain(step['outcome'])}" for step in steps))


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _labels(library: Library, run: RunDocument) -> None:
    """Tags and notes, kept as soon as they are changed."""
    run_id = run["run_id"]
    known = sorted({*library.facets()["tag"], *run["tags"]})
    tags = st.multiselect("Tags", known, run["tags"], key=f"runs_tags_{run_id}", accept_new_options=True, placeholder="None")
    notes = st.text_area("Notes", run["notes"], key=f"runs_notes_{run_id}", placeholder="What was it for?", height="content")
    try:
        if set(tags) != set(run["tags"]):
            library.store.tag([run_id], add=_without(tags, run["tags"]), remove=_without(run["tags"], tags))
        if notes != run["notes"]:
            library.store.note(run_id, notes)
    except InputError as error:
        show_error(error)


def _without(tags: Sequence[str], others: Sequence[str]) -> list[str]:
    return [tag for tag in tags if tag not in others]


def _log(library: Library, run: RunDocument) -> None:
    lines = library.store.log_tail(run["run_id"], LOG_LINES)
    if lines:
        with st.expander(f"Last {len(lines)} lines of the log", expanded=run["status"] == Status.FAILED.value):
            st.code("\n".join(lines), language=None, wrap_lines=True)
