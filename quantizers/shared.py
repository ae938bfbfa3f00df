"""Work done once: what is expensive and equal for several trials is computed by the first that needs it, and read by the rest.

An entry is a folder named after the SHA-256 of everything its content depends on. It is filled under another name and renamed
when complete, with the digest of every file beside them, so that a process that dies leaves nothing that looks finished, and
an entry that was damaged since is computed anew. A file lock lets two processes that ask at once compute it once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

MANIFEST = "manifest.json"


def once(folder: Path, kind: str, depends_on: Mapping[str, Any], compute: Callable[[Path], None]) -> Path:
    """The folder of an entry, computed unless it is there already.

    Args:
        folder: where the entries of the trials that share them lie; created when missing.
        kind: what it is, in a word; part of the key and of the folder's name.
        depends_on: everything the content depends on, JSON-ready.
        compute: fills an empty folder. What it raises is passed on, and nothing is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(json.dumps([kind, depends_on], sort_keys=True).encode()).hexdigest()
    entry = folder / f"{kind}-{key[:32]}"
    with FileLock(f"{entry}.lock"):
        if not _intact(entry):
            half = entry.with_name(f"{entry.name}.half")
            for left in (half, entry):
                shutil.rmtree(left, ignore_errors=True)
            half.mkdir()
            compute(half)
            (half / MANIFEST).write_text(json.dumps(_digests(half)), encoding="utf-8")
            half.rename(entry)
    return entry


def _intact(entry: Path) -> bool:
    try:
        written = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(written == _digests(entry))


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of an entry but its manifest, by its path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): _digest(path) for path in files}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
