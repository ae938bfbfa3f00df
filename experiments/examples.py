"""Measures the bundled examples anew, `python -m experiments.examples`: rewrites `examples/` and the README's table.

The trials run through the ordinary queue, in a data directory of their own, so an example is a run like any other.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.follow import follow
from experiments.library import EXAMPLES, Library
from experiments.spec import ExperimentSpec, Measurement, default_data, plan
from experiments.store.store import RunDocument, Store
from quantizers.capabilities import BACKEND_TITLES, BACKENDS, TECHNIQUE_TITLES, techniques
from quantizers.schema import Backend, Status

MODELS = ("fashion-cnn", "fashion-resnet")
TECHNIQUES = (
    "float32",
    "dynamic_wi8",
    "static_wi8_ai8",
    "static_wi8_ai16",
    "float16",
    "weight_only_wi8",
    "weight_only_wi4",
)
"""What people ask for first, of each backend that has it; anything else is one press of Run away."""
README = Path(__file__).parents[1] / "README.md"
TABLE_START, TABLE_END = "<!-- examples: start -->", "<!-- examples: end -->"


def main() -> None:
    """Runs the example techniques on the example models and replaces the bundled results."""
    with tempfile.TemporaryDirectory(prefix="quantscope-examples-") as folder:
        library = Library(Store(Path(folder)))
        runs = [run for model in MODELS for run in _measure(library, model)]
        shutil.rmtree(EXAMPLES, ignore_errors=True)
        for run in runs:
            library.export(run["run_id"], EXAMPLES / folder_name(run), roles=("artefact", "details"))
    README.write_text(with_table(README.read_text(encoding="utf-8"), runs), encoding="utf-8")


def folder_name(run: RunDocument) -> str:
    """The folder, and so the id, of an example."""
    return f"{run['model']}--{run['backend']}--{run['technique']}"


def wanted() -> Iterator[tuple[Backend, str]]:
    """Backend and code of every example of a model."""
    for backend in BACKENDS:
        possible = {cell.code for cell in techniques(backend) if cell.available}
        yield from ((backend, code) for code in TECHNIQUES if code in possible)


def with_table(readme: str, runs: Sequence[RunDocument]) -> str:
    """The README with the table between its two markers replaced."""
    before, _, rest = readme.partition(TABLE_START)
    _, _, after = rest.partition(TABLE_END)
    return f"{before}{TABLE_START}\n{_table(runs)}\n{TABLE_END}{after}"


def _measure(library: Library, model: str) -> list[RunDocument]:
    spec = ExperimentSpec(model, tuple(wanted()), Measurement(data=default_data(model)))
    experiment_id = library.store.submit(plan(spec))
    follow(library.store, experiment_id, quiet=False)
    runs = [library.run(run["run_id"]) for run in library.store.runs(experiment_id=experiment_id)]
    unfinished = [run for run in runs if run["status"] != Status.DONE.value]
    if unfinished:
        raise SystemExit("\n".join(f"{folder_name(run)}: {run['status']}: {run['error']}" for run in unfinished))
    return runs


def _table(runs: Sequence[RunDocument]) -> str:
    provenance = runs[0]["provenance"]
    lines = [
        f"Measured on {provenance['cpu']} ({provenance['threads']} thread, batch 1); intervals are 95 %.",
        "",
        "| model | backend | technique | size | top-1 accuracy | drop, points | p50 latency | speed-up |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(_row, runs)])


def _row(run: RunDocument) -> str:
    size, quality, latency = run["size"], run["quality"], run["latency"]
    low, high = quality["drop_pp_ci95"]
    drop = f"{quality['drop_pp']:.2f} [{low:.2f}, {high:.2f}]"
    cells = [
        run["model"],
        BACKEND_TITLES[Backend(run["backend"])],
        f"`{run['technique']}` {TECHNIQUE_TITLES[run['technique']].lower()}",
        f"{size['bytes'] / 1000:.1f} KB ({size['ratio']:.2f}× smaller)",
        f"{quality['top1']:.2%} [{quality['top1_ci95'][0]:.2%}, {quality['top1_ci95'][1]:.2%}]",
        "baseline" if run["technique"] == "float32" else drop,
    ]
    if run["technique"] == "float32":
        cells += [f"{latency['p50_ms']:.3g} ms", "baseline"]
    elif latency is None:
        cells += ["–", "– (simulated)"]
    else:
        low, high = latency["speedup_ci95"]
        cells += [f"{latency['p50_ms']:.3g} ms", f"{latency['speedup']:.2f}× [{low:.2f}, {high:.2f}]"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
