"""What kind of model a file is, by what it holds and not by its name; and the unpacking of archives, none of them trusted."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from models.float_model import Kind
from quantizers.errors import BadModel, Unsupported

MAX_UNPACKED = 4 << 30
MAX_MEMBERS = 100_000
_ZIP, _HDF5, _PICKLE = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x80"
_MAX_HEADER = 100 << 20
"""The longest header that safetensors itself reads."""


def unpack(archive: Path, folder: Path) -> None:
    """Extracts a zip into `folder`, a new one.

    Raises:
        BadModel: it is broken, leads out of the folder, holds links, or unpacks to more than the limits.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            for member in members:
                _check_member(member)
            if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > MAX_UNPACKED:
                raise BadModel(
                    f"The archive unpacks to more than {MAX_UNPACKED >> 30} GiB or {MAX_MEMBERS:,} files.",
                    "Leave out the rest.",
                )
            for member in members:  # zipfile stops reading a member where its stated size ends, so sizes are as checked.
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, target.open("xb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except BadModel:
        raise
    except Exception as error:  # a broken archive makes zipfile and zlib raise whatever they like
        raise BadModel(f"The archive cannot be unpacked: {error}", "Make the .zip again.") from error


def _check_member(member: zipfile.ZipInfo) -> None:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise BadModel(f"The archive holds {member.filename}, which leads out of its folder.", "Make the .zip from a folder.")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise BadModel(f"The archive holds {member.filename}, a link.", "Put the file itself into the .zip.")


def detect(path: Path) -> Kind | None:
    """The kind of a model file; None for an archive of several files, which has to be unpacked.

    Raises:
        Unsupported: it is a kind that running would be needed to read, or data.
    """
    with path.open("rb") as file:
        head = file.read(16)
    if head[4:8] == b"TFL3":
        return Kind.TFLITE
    if head.startswith(_HDF5):
        return Kind.KERAS
    if head.startswith(_ZIP):
        return _archive_kind(path)
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= _MAX_HEADER:
        return Kind.SAFETENSORS
    if head.startswith(_PICKLE):
        return Kind.TORCH
    return Kind.ONNX  # The one format that no magic number announces: reading it tells.


def _archive_kind(path: Path) -> Kind | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [PurePosixPath(name) for name in archive.namelist()]
    except Exception as error:  # as in `unpack`
        raise BadModel(f"The file is a broken archive: {error}", "Save it again.") from error
    flat = {name.name for name in names}
    if {"config.json", "metadata.json"} <= {str(name) for name in names}:
        return Kind.KERAS
    if flat & {"archive_format", "serialized_exported_program.json"}:
        return Kind.PT2
    if "constants.pkl" in flat and any("code" in name.parts for name in names):
        return Kind.TORCHSCRIPT
    if "data.pkl" in flat:
        return Kind.TORCH
    if "saved_model.pb" in flat:
        raise Unsupported("A SavedModel runs code of its own when it is loaded.", "Save the model as .keras or .tflite.")
    if names and all(name.suffix == ".npy" for name in names):
        raise Unsupported("This is an .npz of arrays: data, not a model.", "Add it as data.")
    return None


def main_file(folder: Path) -> Path:
    """The one model among the files of an unpacked archive.

    Raises:
        BadModel: there is none, or several.
    """
    suffixes = {".onnx", ".tflite", ".keras", ".h5", ".safetensors"}
    found = sorted(path for path in folder.rglob("*") if path.suffix in suffixes and path.is_file())
    if len(found) != 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found[:5]) or "none"
        raise BadModel(f"The archive must hold one model; it holds {names}.", "Put one model and its own files into the .zip.")
    return found[0]
