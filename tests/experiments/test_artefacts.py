"""Kept files: whole or not there, what was put or an error; in a folder, or at a URL with the folder as its cache."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from experiments.store.artefacts import PART, ArtefactStore
from quantizers.errors import ArtefactDamaged, InputError, MissingExtra, StoreFull, StoreUnavailable, UnknownName

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["folder", "file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    """Where artefacts lie: None for the folder alone."""
    match request.param:
        case "folder":
            yield None
        case "file":
            yield f"file://{tmp_path / 'share'}"
        case "memory":
            yield "memory://artefacts/of/tests"
            fsspec.filesystem("memory").rm("/artefacts", recursive=True)


@pytest.fixture
def artefacts(url: str | None, tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(tmp_path / "kept", url)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "model.tflite").write_bytes(os.urandom(3_000_000))
    return tmp_path / "model.tflite"


def whole_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != PART]


def test_what_is_put_is_read(artefacts: ArtefactStore, source: Path) -> None:
    key = artefacts.put(source)
    assert key.endswith(".tflite")
    assert artefacts.path(key).read_bytes() == source.read_bytes()
    assert artefacts.holds(key)
    assert not artefacts.holds("0" * 64 + ".tflite")


def test_equal_bytes_are_kept_once(artefacts: ArtefactStore, source: Path, tmp_path: Path) -> None:
    (tmp_path / "other.tflite").write_bytes(source.read_bytes())
    assert artefacts.put(source) == artefacts.put(tmp_path / "other.tflite")
    assert len({kept.key for kept in artefacts.kept()}) == 1
    assert not list((tmp_path / "kept").rglob(f"*{PART}"))


def test_another_machine_reads_what_lies_at_the_url(url: str | None, source: Path, tmp_path: Path) -> None:
    if url is None:
        url = f"file://{tmp_path / 'elsewhere'}"
    key = ArtefactStore(tmp_path / "kept", url).put(source)
    elsewhere = ArtefactStore(tmp_path / "cache", url)
    assert elsewhere.path(key).is_relative_to(tmp_path / "cache")
    assert elsewhere.path(key).read_bytes() == source.read_bytes()
    assert elsewhere.location(key) == f"{url}/{key[:2]}/{key}"


def test_a_lost_file_is_named(artefacts: ArtefactStore, source: Path) -> None:
    key = artefacts.put(source)
    artefacts.remove([key])
    artefacts.remove([key])
    with pytest.raises(UnknownName, match=f"{key} is no longer in the store"):
        artefacts.path(key)


def test_a_damaged_file_is_refused(tmp_path: Path, source: Path) -> None:
    artefacts = ArtefactStore(tmp_path / "kept")
    key = artefacts.put(source)
    with artefacts.path(key).open("r+b") as content:
        content.seek(1_000_000)
        content.write(b"?" * 100)
    with pytest.raises(ArtefactDamaged, match=f"{key} is damaged"):
        artefacts.path(key)
    artefacts.put(source)
    assert artefacts.path(key).read_bytes() == source.read_bytes()


def test_a_damaged_copy_is_fetched_again(tmp_path: Path, source: Path) -> None:
    artefacts = ArtefactStore(tmp_path / "kept", f"file://{tmp_path / 'share'}")
    key = artefacts.put(source)
    artefacts.path(key).write_bytes(b"")
    assert artefacts.path(key).read_bytes() == source.read_bytes()


def test_a_file_that_is_damaged_at_the_url_is_refused(tmp_path: Path, source: Path) -> None:
    artefacts = ArtefactStore(tmp_path / "kept", f"file://{tmp_path / 'share'}")
    key = artefacts.put(source)
    (tmp_path / "share" / key[:2] / key).write_bytes(b"something else")
    with pytest.raises(ArtefactDamaged, match="damaged"):
        ArtefactStore(tmp_path / "cache", f"file://{tmp_path / 'share'}").path(key)


FILL = """
import pathlib, sys
from experiments.store.artefacts import ArtefactStore
from quantizers.errors import StoreFull
folder, large, small = map(pathlib.Path, sys.argv[1:])
artefacts = ArtefactStore(folder)
try:
    artefacts.put(large)
except StoreFull as error:
    print(error.code, [path.name for path in folder.rglob("*") if path.is_file()])
print(artefacts.path(artefacts.put(small)).read_text())
"""


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path, source: Path) -> None:
    """On a file system of 1 MB, mounted in a namespace that ends with the process that writes to it."""
    unshare = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system lets nobody make a mount namespace")
    (tmp_path / "disk").mkdir()
    (tmp_path / "small.txt").write_text("the next one fits")
    paths = [str(tmp_path / "disk"), str(source), str(tmp_path / "small.txt")]
    mount = 'mount -t tmpfs -o size=1m tmpfs "$4" && exec "$@"'
    command = [*unshare, "sh", "-c", mount, "sh", sys.executable, "-c", FILL, *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["store_full []", "the next one fits"], done.stderr


def test_a_crash_midway_leaves_no_file_under_a_name(tmp_path: Path, source: Path) -> None:
    code = """
import os, pathlib, sys
from experiments.store import artefacts
os.fsync = lambda _file: os.kill(os.getpid(), 9)
artefacts.ArtefactStore(pathlib.Path(sys.argv[1])).put(pathlib.Path(sys.argv[2]))
"""
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "kept"), str(source)], cwd=ROOT, timeout=60, check=False
    )
    assert killed.returncode == -9
    assert whole_files(tmp_path / "kept") == []
    (left,) = ArtefactStore(tmp_path / "kept").kept()
    ArtefactStore(tmp_path / "kept").remove([left.key])
    assert list(ArtefactStore(tmp_path / "kept").kept()) == []


def test_an_upload_that_breaks_off_leaves_no_file_under_a_name(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = tmp_path / "share"
    artefacts = ArtefactStore(tmp_path / "kept", f"file://{share}")

    def break_off(_self: object, _local: str, remote: str) -> None:
        Path(remote).write_bytes(source.read_bytes()[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.put_file", break_off)
    with pytest.raises(StoreFull, match="no room is left"):
        artefacts.put(source)
    assert [path for path in share.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_written_to_is_an_error_of_ours(tmp_path: Path, source: Path) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        ArtefactStore(tmp_path / "kept").put(source)


def test_urls_that_cannot_be_opened_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="does not hold a URL"):
        ArtefactStore(tmp_path, "nonsense://bucket")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtra) as refused:
        ArtefactStore(tmp_path, "s3://bucket/quantscope")
    assert 'pip install "s3fs"' in refused.value.hint
