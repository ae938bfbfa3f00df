"""A run as a folder: run.json, spec.json, layers.csv, details.npz, samples.npz and the artefact.

The bundled examples are such folders.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.store.store import RunDocument

LAYER_COLUMNS = (
    *("layer", "native_name", "op", "tensor", "channel", "dtype", "bits", "scheme", "granularity", "axis", "group_size"),
    *("scale", "zero_point", "qmin", "qmax", "sqnr_db", "mse", "cosine", "max_abs", "rmse_per_step"),
    *("clipping_share", "levels_used", "quantized", "runs_in", "why_not"),
)


def export_run(run: RunDocument, files: Mapping[str, Path], folder: Path) -> list[Path]:
    """Writes a finished run and its files by role into `folder`; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for role, source in files.items():
        written.append(folder / f"{'model' if role == 'artefact' else role}{source.suffix}")
        shutil.copyfile(source, written[-1])
    document = dict(run)
    artefact = next((path for path in written if path.stem == "model"), None)
    if artefact is not None:
        document["artefact"] = dict(run["artefact"]) | {"path": artefact.name}
    spec = {name: run[name] for name in ("schema", "model", "backend", "technique", "options", "keep_float", "measurement")}
    texts = {"run.json": _json(document), "spec.json": _json(spec), "layers.csv": layers_csv(run)}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written


def layers_csv(run: RunDocument) -> str:
    """Every scale and zero point of a run as CSV: a row per tensor, and per channel or group where there are several."""
    text = io.StringIO()
    writer = csv.DictWriter(text, LAYER_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for layer in run["layers"]:
        for tensor, described in _tensors(layer):
            writer.writerows(_rows(layer, tensor, described))
    return text.getvalue()


def _tensors(layer: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "weight", layer["weight"]
    if layer["bias"]:
        yield "bias", layer["bias"]
    for number, described in enumerate(layer["inputs"]):
        yield f"input {number}" if len(layer["inputs"]) > 1 else "input", described
    if layer["output"]:
        yield "output", layer["output"]


def _rows(layer: Mapping[str, Any], tensor: str, described: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    common = {**layer, **described, "layer": layer["name"], "tensor": tensor}
    scales, zero_points = described.get("scale") or [None], described.get("zero_point") or [None]
    for channel, (scale, zero_point) in enumerate(zip(scales, zero_points, strict=True)):
        yield common | {"channel": channel if len(scales) > 1 else None, "scale": scale, "zero_point": zero_point}


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
