"""Data that people added: an .npz, or a zip of images that was made into one, in `<home>/data/<id>/` with its description."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from models import image_process, own_data
from models.float_model import ModelInfo
from models.home import home
from models.samples import Dataset, LoadedDataset
from quantizers.errors import BadData, UnknownName

PREFIX = "my-"
"""No bundled dataset's id begins with it."""
_ENTRY, _ARRAYS = "entry.json", "data.npz"
_ZIP = b"PK\x03\x04"
SCHEMA = 1


def folder() -> Path:
    """Where the data lies, created when missing."""
    path = home() / "data"
    path.mkdir(exist_ok=True)
    return path


def add(source: Path | bytes, name: str, size: tuple[int, int] | None = None) -> Dataset:
    """Copies an .npz, or a .zip of a folder of images, into the collection; adding the same again gives what there is.

    Args:
        source: the file or its content.
        size: (height, width) that images are brought to; None when all have one size.

    Raises:
        BadData: it cannot be read or used.
    """
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=folder()) as staging:
        place = Path(staging) / "entry"
        place.mkdir()
        upload = place / "upload"
        _copy(source, upload)
        digest = hashlib.sha256(upload.read_bytes() + repr(size).encode()).hexdigest()
        data_id = f"{PREFIX}{_slug(name)}-{digest[:8]}"
        if (folder() / data_id / _ENTRY).exists():
            return _read(folder() / data_id / _ENTRY)
        made = _describe(upload, place / _ARRAYS, replace(_blank(data_id), title=Path(name).name), size)
        upload.unlink(missing_ok=True)
        (place / _ENTRY).write_text(json.dumps({"schema": SCHEMA, **asdict(made)}), "utf-8")
        place.rename(folder() / data_id)
    return made


def remove(data_id: str) -> None:
    """Deletes data that was added.

    Raises:
        UnknownName: there is none of that id.
    """
    known = {data.id for data in catalogue()}
    if data_id not in known:
        raise UnknownName.of("dataset of your own", data_id, known)
    shutil.rmtree(folder() / data_id)


def catalogue() -> tuple[Dataset, ...]:
    """The data that was added; reads descriptions only."""
    return tuple(_entries())


def load(data_id: str, model: ModelInfo | None = None) -> LoadedDataset:
    """The samples of data that was added, which is in the catalogue.

    Raises:
        BadData: its arrays do not fit the inputs of `model`.
    """
    info = _read(folder() / data_id / _ENTRY)
    loaded = own_data.read(folder() / data_id / _ARRAYS, model)
    described = replace(info, shape=loaded.info.shape, splits=loaded.info.splits, digest=loaded.info.digest)
    return replace(loaded, info=described)


def _describe(upload: Path, arrays: Path, blank: Dataset, size: tuple[int, int] | None) -> Dataset:
    """Makes the entry's .npz of an upload and says what is in it."""
    with upload.open("rb") as file:
        zipped = file.read(len(_ZIP)) == _ZIP
    labels = None
    if zipped and not own_data.is_npz(upload):
        labels = image_process.convert(upload, arrays, size)
    else:
        upload.rename(arrays)
    names = own_data.names(arrays)
    if not names:
        raise BadData(f"{blank.title} holds nothing.", "Save x, or one array for each input of the model.")
    if "x" not in names:
        return replace(blank, summary=f"Your own samples of the inputs {', '.join(names)}.")
    loaded = own_data.read(arrays)
    return replace(blank, shape=loaded.info.shape, labels=labels, splits=loaded.info.splits, digest=loaded.info.digest)


def _blank(data_id: str) -> Dataset:
    return Dataset(data_id, data_id, "Your own samples.", "your own", shape=None, labels=None, splits={})


def _entries() -> Iterator[Dataset]:
    for path in sorted(folder().glob(f"{PREFIX}*/{_ENTRY}")):
        yield _read(path)


def _read(path: Path) -> Dataset:
    stored: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if stored.pop("schema") > SCHEMA:
        raise BadData(f"{stored['title']} was added by a later version of the program.", "Update the program.")
    for key in ("shape", "labels"):
        stored[key] = None if stored[key] is None else tuple(stored[key])
    return Dataset(**stored)


def _copy(source: Path | bytes, target: Path) -> None:
    if isinstance(source, bytes):
        target.write_bytes(source)
        return
    if not source.is_file():
        raise BadData(f"There is no file {source}.", "Look at the path.")
    if source.stat().st_size > own_data.MAX_BYTES:
        raise BadData(f"{source.name} is larger than {own_data.MAX_BYTES >> 20} MiB.", "Bring fewer samples.")
    shutil.copyfile(source, target)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", Path(name.replace("\\", "/")).stem.lower()).strip("-")[:40] or "data"
