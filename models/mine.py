"""“My models”: files that people brought, each in a folder of its own with what was found in it and what they chose.

`<home>/models/<id>/` holds entry.json and the file. A folder gets its name last, by a rename, so that a half-added model is
never seen. No byte of a file is parsed here: `inspect_process` does that.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from models import entry as entries
from models import zoo
from models.entry import PREFIX, Entry
from models.float_model import FloatModel, Kind, ModelInfo, ZooModel
from models.foreign import ForeignModel
from models.home import home
from models.inspect_process import Answer, Request, look
from models.inspection import Shapes
from models.preprocessing import UNIT_RANGE, Preprocessing
from quantizers.errors import BadModel, UnknownName, Unsupported

MAX_BYTES = 4 << 30
_ENTRY = "entry.json"
_STAGING, _REMOVED = ".adding-", ".removed-"
_CHUNK = 1 << 20


def folder() -> Path:
    """Where the models lie, created when missing."""
    path = home() / "models"
    path.mkdir(exist_ok=True)
    return path


def add(
    source: Path | bytes,
    name: str,
    *,
    preprocessing: Preprocessing = UNIT_RANGE,
    shapes: Shapes | None = None,
    labels: tuple[str, ...] | None = None,
    architecture: str | None = None,
    trusted: bool = False,
) -> ModelInfo:
    """Copies a model into the collection and looks into it; adding the same file again gives the entry there is.

    Args:
        source: a file, a folder of one model and its own files, or a file's content.
        name: the file's name, which becomes the title.
        trusted: whether the person lets the file run code of its own, now and in every trial.

    Raises:
        BadModel: it cannot be read.
        Unsupported: it is of a kind that cannot be used here.
    """
    with tempfile.TemporaryDirectory(prefix=_STAGING, dir=folder()) as staging:
        place = Path(staging) / "entry"
        place.mkdir()
        digest, size = _copy(source, place / _safe(name))
        model_id = f"{PREFIX}{_slug(name)}-{digest[:8]}"
        if (folder() / model_id / _ENTRY).exists():
            return entries.info(entry(model_id))
        answer = look(Request(place / _safe(name), shapes or {}, architecture, trusted))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        made = Entry(
            model_id,
            Path(name).name,
            answer.kind,
            answer.file,
            digest,
            size,
            now,
            answer.inspection,
            preprocessing,
            shapes or {},
            labels,
            _architecture(answer),
            trusted and answer.kind.is_program,
        )
        _write(made, place)
        _put(place, model_id)
    return entries.info(made)


def update(
    model_id: str,
    *,
    title: str | None = None,
    preprocessing: Preprocessing | None = None,
    shapes: Shapes | None = None,
    labels: tuple[str, ...] | None = None,
) -> ModelInfo:
    """Remembers other choices; other shapes make the file be looked into again.

    Raises:
        UnknownName: there is no such model.
        BadModel: with these shapes it cannot be read.
    """
    old = entry(model_id)
    new = replace(
        old,
        title=title or old.title,
        preprocessing=preprocessing or old.preprocessing,
        shapes=old.shapes if shapes is None else shapes,
        labels=labels or old.labels,
    )
    if new.shapes != old.shapes:
        new = replace(new, inspection=look(Request(_file(old), new.shapes, old.architecture, old.trusted)).inspection)
    _write(new, folder() / model_id)
    return entries.info(new)


def remove(model_id: str) -> None:
    """Takes a model out of the collection. Its files are kept for `restore` until the next one is removed.

    Raises:
        UnknownName: there is no such model.
    """
    entry(model_id)
    for earlier in folder().glob(f"{_REMOVED}*"):
        shutil.rmtree(earlier, ignore_errors=True)
    (folder() / model_id).rename(folder() / f"{_REMOVED}{model_id}")


def restore(model_id: str) -> None:
    """Brings back the model that was removed last.

    Raises:
        UnknownName: it is not that one.
    """
    kept = [path.name.removeprefix(_REMOVED) for path in folder().glob(f"{_REMOVED}*")]
    if model_id not in kept:
        raise UnknownName.of("removed model", model_id, kept)
    _put(folder() / f"{_REMOVED}{model_id}", model_id)


def catalogue() -> tuple[ModelInfo, ...]:
    """The models there are, the last one added first; reads entries only."""
    return tuple(entries.info(one) for one in sorted(_entries(), key=lambda one: one.added, reverse=True))


def entry(model_id: str) -> Entry:
    """All that is stored of a model.

    Raises:
        UnknownName: there is no such model.
    """
    path = folder() / model_id / _ENTRY
    if not model_id.startswith(PREFIX) or Path(model_id).name != model_id or not path.exists():
        raise UnknownName.of("model", model_id, (one.id for one in _entries()))
    return Entry.from_dict(json.loads(path.read_text("utf-8")))


def layer_names(model_id: str) -> tuple[str, ...]:
    """The layers that can be kept in float, without loading the model.

    Raises:
        UnknownName: there is no such model.
    """
    stored = entry(model_id)
    return stored.inspection.layers if stored.architecture is None else zoo.design(stored.architecture).layer_names


def load(model_id: str) -> FloatModel:
    """A model with its weights; for a trial's own process.

    Raises:
        UnknownName: there is no such model.
        Unsupported: it cannot be used until something is chosen, which the message names.
    """
    stored = entry(model_id)
    info = entries.info(stored)
    if info.why_not:
        raise Unsupported(info.why_not)
    if stored.architecture is None:
        return ForeignModel(info, _file(stored), stored.inspection.layers, stored.digest, stored.shapes)
    from models.state_dict import read

    return ZooModel(info, zoo.design(stored.architecture), read(_file(stored), stored.architecture))


def _file(stored: Entry) -> Path:
    return folder() / stored.id / stored.file


def _architecture(answer: Answer) -> str | None:
    if answer.kind not in (Kind.SAFETENSORS, Kind.TORCH):
        return None
    architecture: str | None = answer.inspection.facts["architecture"]
    return architecture


def _entries() -> Iterator[Entry]:
    for path in folder().glob(f"{PREFIX}*/{_ENTRY}"):
        yield Entry.from_dict(json.loads(path.read_text("utf-8")))


def _put(place: Path, model_id: str) -> None:
    """Gives a folder its name in the collection, unless the same model got there first."""
    try:
        place.rename(folder() / model_id)
    except OSError:
        if not (folder() / model_id / _ENTRY).exists():
            raise
        shutil.rmtree(place)


def _write(made: Entry, place: Path) -> None:
    part = place / f"{_ENTRY}.part"
    part.write_text(json.dumps(made.to_dict(), indent=1), "utf-8")
    part.replace(place / _ENTRY)


def _safe(name: str) -> str:
    """A file name with nothing of a path in it."""
    return re.sub(r"[^\w.-]+", "_", Path(name.replace("\\", "/")).name).strip("._") or "model"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", Path(_safe(name)).stem.lower()).strip("-")[:40] or "model"


def _copy(source: Path | bytes, target: Path) -> tuple[str, int]:
    """Copies a file, a folder's files or bytes. Returns the digest of all content, and its size in bytes."""
    state, size = hashlib.sha256(), 0
    for relative, chunks in _parts(source):
        path = target if relative is None else target / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        state.update(b"" if relative is None else f"{relative}\0".encode())
        with chunks as stream, path.open("xb") as sink:
            while piece := stream.read(_CHUNK):
                size += len(piece)
                if size > MAX_BYTES:
                    what = f"The model is larger than {MAX_BYTES >> 30} GiB."
                    raise BadModel(what, "Quantizing takes about five times its size in memory: bring a smaller one.")
                state.update(piece)
                sink.write(piece)
    return state.hexdigest(), size


def _parts(source: Path | bytes) -> Iterator[tuple[Path | None, BinaryIO]]:
    """The files of a source with their paths inside it; None for the only one."""
    if isinstance(source, bytes):
        yield None, BytesIO(source)
    elif source.is_dir():
        for path in sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink()):
            yield path.relative_to(source), path.open("rb")
    elif source.is_file():
        yield None, source.open("rb")
    else:
        raise BadModel(f"There is no file {source}.", "Look at the path.")
