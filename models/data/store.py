"""How a bundled dataset lies on disk: <id>.npz with x, y and one array of rows per split, and <id>.json with its digest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.samples import Rows, Split, content_digest

_FOLDER = Path(__file__).parent


def record(data_id: str) -> tuple[str, Mapping[str, int]]:
    """The digest and the size of each split, written down when the file was made; cheap."""
    written = json.loads((_FOLDER / f"{data_id}.json").read_text("utf-8"))
    return written["digest"], written["splits"]


def read(data_id: str) -> tuple[NDArray[np.uint8], Rows, dict[str, Rows]]:
    """Pixels [N, H, W, 1], labels [N] and the rows of each split."""
    with np.load(_FOLDER / f"{data_id}.npz", allow_pickle=False) as file:
        rows = {split.value: file[split.value].astype(np.int64) for split in Split}
        return file["x"][..., np.newaxis], file["y"].astype(np.int64), rows


def save(data_id: str, x: NDArray[np.uint8], y: Rows, rows: Mapping[str, Rows]) -> None:
    """Writes both files; `x` is [N, H, W]."""
    compact = {name: chosen.astype(np.uint16) for name, chosen in rows.items()}
    np.savez_compressed(_FOLDER / f"{data_id}.npz", x=x, y=y.astype(np.uint8), **compact)  # type: ignore[arg-type]
    sizes = {name: len(chosen) for name, chosen in rows.items()}
    written = {"digest": content_digest(x[..., np.newaxis], y, rows), "splits": sizes}
    (_FOLDER / f"{data_id}.json").write_text(json.dumps(written, indent=2) + "\n", "utf-8")


def deal(y: Rows, per_class: Mapping[Split, int]) -> dict[str, Rows]:
    """Shuffles the rows of each class and deals them out, `per_class` to each split; the splits are disjoint and sorted."""
    random = np.random.default_rng(0)
    parts: dict[str, list[Rows]] = {split.value: [] for split in per_class}
    for label in np.unique(y):
        rows, start = random.permutation(np.flatnonzero(y == label)), 0
        for split, count in per_class.items():
            parts[split.value].append(rows[start : start + count])
            start += count
    return {split: np.sort(np.concatenate(chosen)) for split, chosen in parts.items()}
