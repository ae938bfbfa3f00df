"""Content-addressed files: the same bytes are kept once, under the SHA-256 of what they hold, and never change."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from quantizers.errors import UnknownName


@dataclass(frozen=True, slots=True)
class ArtefactStore:
    root: Path

    def put(self, source: Path) -> str:
        """Copies a file in and returns its key, "<sha256><suffix>"; a crash midway leaves nothing behind under a key."""
        content = source.read_bytes()
        key = hashlib.sha256(content).hexdigest() + source.suffix
        target = self._place(key)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as half:
                half.write(content)
            Path(half.name).replace(target)
        return key

    def path(self, key: str) -> Path:
        """Where a kept file is.

        Raises:
            UnknownName: it is not here.
        """
        target = self._place(key)
        if not target.is_file():
            raise UnknownName(f"The file {key} is no longer in the store.", "Run the trial again.")
        return target

    def _place(self, key: str) -> Path:
        return self.root / key[:2] / key
