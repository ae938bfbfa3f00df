"""Sketches of models' weights, kept in the data directory: found, built by a process of their own when missing, and watched.

`<data directory>/sketches/<model>.json` names a model's file and what it was made of; the file is called by the digest of the
weights. While one is built, `<model>.building` holds how far the builder is, or how it failed. Nothing heavy is imported here.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from filelock import FileLock, Timeout

from models import catalogue, mine, zoo
from models.entry import PREFIX
from models.home import home
from quantizers.errors import BadData
from quantizers.sketch_file import VERSION, SketchFile

ROOT = Path(__file__).resolve().parents[1]
_builders: dict[str, subprocess.Popen[bytes]] = {}
"""Builders this process started, by model; each ends itself when this process, which holds its standard input, is gone."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far building is (0 to 1), in what words; `error` is what ended it, with a hint."""

    fraction: float
    stage: str
    error: str | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept of a model: its title, the name of its file, and what the file was made of."""

    title: str
    file: str
    made_of: str


def folder() -> Path:
    place = home() / "sketches"
    place.mkdir(exist_ok=True)
    return place


def titles() -> dict[str, str]:
    """Models whose weights can be looked at, by id: the float ones that can be loaded here, then others that are kept."""
    known = {info.id: info.title for info in catalogue.catalogue() if info.available and not info.quantized}
    entries = {path.stem: entry for path in sorted(folder().glob("*.json")) if (entry := _entry(path.stem))}
    return known | {name: entry.title for name, entry in entries.items() if not entry.made_of}


def find(model_id: str) -> SketchFile | None:
    """The sketches of a model; None when there are none, or only of weights it no longer has."""
    entry = _entry(model_id)
    if entry is None or entry.made_of not in ("", made_of(model_id)):
        return None
    return _open(folder() / entry.file)


def keep(model_id: str, title: str, file: Path, made_of: str = "") -> None:
    """Makes a file in `folder()` the sketches of a model; without `made_of` it is never built anew."""
    _write(_place(model_id), json.dumps(asdict(Entry(title, file.name, made_of))))


def ensure(model_id: str) -> None:
    """Starts building a model's sketches unless somebody does, or they failed to build. Returns at once."""
    reap()
    failed = (seen := progress(model_id)) is not None and seen.error is not None
    if failed or model_id in _builders or is_building(model_id):
        return
    with (folder() / "builder.log").open("ab") as log:
        command = [sys.executable, "-m", "experiments.sketch_builder", model_id]
        _builders[model_id] = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log)


def reap() -> None:
    """Forgets builders that are done."""
    for model_id, builder in list(_builders.items()):
        if builder.poll() is not None:
            assert builder.stdin is not None, "it was started with a pipe"
            builder.stdin.close()
            del _builders[model_id]


def is_building(model_id: str) -> bool:
    try:
        with lock(model_id):
            return False
    except Timeout:
        return True


def lock(model_id: str) -> FileLock:
    """Held by whoever builds a model's sketches."""
    return FileLock(folder() / f"{model_id}.lock", timeout=0)


def progress(model_id: str) -> Progress | None:
    """How far building is or how it failed; None when nothing is known of it."""
    try:
        return Progress(**json.loads(_place(model_id, "building").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def report(model_id: str, now: Progress | None) -> None:
    """Writes how far building is; None forgets it."""
    if now is None:
        _place(model_id, "building").unlink(missing_ok=True)
    else:
        _write(_place(model_id, "building"), json.dumps(asdict(now)))


def made_of(model_id: str) -> str:
    """What a model's weights are, without loading them: the digest of their file, or the pinned package they come with.

    Raises:
        UnknownName: it is a file that is no longer there.
    """
    weights = zoo.WEIGHTS / f"{model_id}.safetensors"
    if model_id.startswith(PREFIX):
        content = mine.entry(model_id).digest
    else:
        content = _digest(weights, weights.stat().st_mtime_ns) if weights.exists() else "package"
    return f"{VERSION}:{content}"


@lru_cache(maxsize=16)
def _digest(path: Path, _changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=16)
def _open(path: Path) -> SketchFile | None:
    """A file under its digest never changes."""
    try:
        return SketchFile(path)
    except BadData:
        return None


def _entry(model_id: str) -> Entry | None:
    try:
        return Entry(**json.loads(_place(model_id).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _place(model_id: str, suffix: str = "json") -> Path:
    return folder() / f"{Path(model_id).name}.{suffix}"


def _write(path: Path, text: str) -> None:
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(text, encoding="utf-8")
    half.replace(path)
