"""Content-addressed files: the same bytes are kept once, under the SHA-256 of what they hold, and never change.

They lie in a folder of the data directory. With a URL that fsspec understands (`s3://…`, `gs://…`, `file:///mnt/share`) they
lie there, and the folder is a cache of what was read or written here. A file gets its name only once it is whole, and what is
read is compared with its name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from quantizers.errors import (
    ArtefactDamaged,
    InputError,
    MissingExtra,
    QuantScopeError,
    StoreFull,
    StoreUnavailable,
    UnknownName,
)

URL_VARIABLE = "QUANTSCOPE_ARTEFACTS_URL"
PART = ".part"
"""The suffix of a file that is still being written; what a crash leaves of it is garbage."""
_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of the store; `modified` is seconds since the epoch."""

    key: str
    bytes: int
    modified: float

    @property
    def half(self) -> bool:
        """Whether nobody has finished writing it."""
        return self.key.endswith(PART)


class ArtefactStore:
    """The files under `folder`, or at `url` with `folder` as their cache."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self._remote = _Remote(url) if url else None

    def put(self, source: Path) -> str:
        """Copies a file in and returns its key, "<sha256><suffix>".

        Raises:
            StoreFull: no room is left; nothing was kept.
            StoreUnavailable: the folder or the URL cannot be written to; nothing was kept.
        """
        digest = hashlib.sha256()
        with _explained("The data directory", "written"), source.open("rb") as content, self._part() as half:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
                half.write(chunk)
            key = digest.hexdigest() + source.suffix
            self._name(half, key)
        if self._remote:
            self._remote.upload(self._place(key), key)
        return key

    def put_missing(self, sources: Mapping[str, Path], keys: Mapping[str, str]) -> None:
        """Puts those files again, by role, that were collected as garbage after `put` and before a run named them."""
        for role, key in keys.items():
            if not self.holds(key):
                self.put(sources[role])

    def path(self, key: str) -> Path:
        """A local file with the content of `key`.

        Raises:
            UnknownName: it is not here.
            ArtefactDamaged: it is here, and its bytes are not those that were put.
        """
        target = self._place(key)
        if target.is_file() and _holds(target, key):
            return target
        if self._remote:
            self._fetch(self._remote, key)
        elif not target.is_file():
            raise _lost(key)
        if not _holds(target, key):
            raise ArtefactDamaged(
                f"The kept file {key} is damaged: its SHA-256 is not its name any more.", "Run the trial again."
            )
        return target

    def location(self, key: str) -> str:
        """Where a file is kept, for people to read: a path, or a URL."""
        return self._remote.location(key) if self._remote else str(self._place(key))

    def holds(self, key: str) -> bool:
        """Whether the file is kept, unread."""
        return self._remote.holds(key) if self._remote else self._place(key).is_file()

    def kept(self) -> Iterator[Kept]:
        """Every file of the store, of its cache, and half-written ones that nobody finished."""
        for path in filter(Path.is_file, self.folder.rglob("*")):
            with suppress(FileNotFoundError):
                found = path.stat()
                yield Kept(path.name, found.st_size, found.st_mtime)
        if self._remote:
            yield from self._remote.kept()

    def remove(self, keys: Iterable[str]) -> None:
        """Forgets files, here and at the URL; those that are gone already are no error."""
        for key in keys:
            self._place(key).unlink(missing_ok=True)
            if self._remote:
                self._remote.remove(key)

    def _fetch(self, remote: _Remote, key: str) -> None:
        with _explained("The data directory", "written"), self._part() as half:
            remote.download(key, half)
            self._name(half, key)

    @contextmanager
    def _part(self) -> Iterator[IO[bytes]]:
        """A file to write to, which is gone afterwards unless it was given a name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=PART, delete=False) as half:
            try:
                yield half
            finally:
                Path(half.name).unlink(missing_ok=True)

    def _name(self, half: IO[bytes], key: str) -> None:
        half.flush()
        os.fsync(half.fileno())
        target = self._place(key)
        target.parent.mkdir(exist_ok=True)
        Path(half.name).replace(target)

    def _place(self, key: str) -> Path:
        return self.folder / _relative(key)


class _Remote:
    """The same files on a file system that fsspec opens. Whatever such a file system raises is told as ours."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self._url = url.rstrip("/")
        try:
            self._files, self._root = url_to_fs(self._url)
        except ImportError as error:
            protocol = self._url.partition("://")[0]
            raise MissingExtra.of(f"{URL_VARIABLE}={self._url}", {"gs": "gcsfs"}.get(protocol, f"{protocol}fs")) from error
        except ValueError as error:
            raise InputError(
                f"{URL_VARIABLE} does not hold a URL: {error}", "Give one such as s3://bucket/quantscope."
            ) from error

    def upload(self, source: Path, key: str) -> None:
        part, target = f"{self._root}/{uuid.uuid4().hex}{PART}", self._place(key)
        with self._explained("written"):
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            try:
                self._files.put_file(str(source), part)
                self._files.mv(part, target)
            finally:
                self._forget(part)

    def download(self, key: str, half: IO[bytes]) -> None:
        with self._explained("read"):
            if not self._files.isfile(self._place(key)):
                raise _lost(key)
            with self._files.open(self._place(key), "rb") as content:
                shutil.copyfileobj(content, half, _CHUNK)

    def location(self, key: str) -> str:
        return f"{self._url}/{_relative(key)}"

    def holds(self, key: str) -> bool:
        with self._explained("read"):
            return bool(self._files.isfile(self._place(key)))

    def kept(self) -> Iterator[Kept]:
        with self._explained("read"):
            found = self._files.find(self._root, detail=True) if self._files.exists(self._root) else {}
            for name, entry in found.items():
                yield Kept(name.rpartition("/")[2], int(entry["size"]), self._files.modified(name).timestamp())

    def remove(self, key: str) -> None:
        with self._explained("written"):
            self._forget(self._place(key))

    def _forget(self, path: str) -> None:
        if self._files.exists(path):
            self._files.rm(path)

    def _place(self, key: str) -> str:
        return f"{self._root}/{_relative(key)}"

    def _explained(self, done: str) -> AbstractContextManager[None]:
        # Each file system has exceptions of its own (botocore's, Google's), which share no base class.
        return _explained(self._url, done, Exception)


@contextmanager
def _explained(where: str, done: str, kinds: type[Exception] = OSError) -> Iterator[None]:
    """Tells what went wrong with files as one of our errors."""
    try:
        yield
    except QuantScopeError:
        raise
    except kinds as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise StoreFull(f"{where}: no room is left on the disk.", "Free some, then run again.") from error
        raise StoreUnavailable(f"{where} cannot be {done}: {error}", "See that it exists and that you may use it.") from error


def _holds(path: Path, key: str) -> bool:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == key.partition(".")[0]


def _relative(key: str) -> str:
    return key if key.endswith(PART) else f"{key[:2]}/{key}"


def _lost(key: str) -> UnknownName:
    return UnknownName(f"The file {key} is no longer in the store.", "Run the trial again.")
