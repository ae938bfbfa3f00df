"""Work on an uploaded file, done by a thread that waits for a limited process: a page that is left or reloaded loses nothing.

No byte of a file is parsed here. A visitor has one task of a kind at a time; the page shows how it goes, then its result or its
error.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from models import inspect_process, mine
from models.float_model import ModelInfo
from pages._ui.errors import show_error
from pages._ui.fragments import fragment
from quantizers.errors import BadModel, QuantScopeError

POLL_SECONDS = 0.5
MODEL_SUFFIXES = ("onnx", "tflite", "keras", "h5", "safetensors", "pt", "pth", "pt2", "ts", "zip", "data")
TRUST = "I trust these files: they may run code of their own"
TRUST_HELP = (
    "A .pt2 or TorchScript file is a program. Reading it can do whatever its maker put in, with your rights on this machine: "
    "read, change and send your files. Tick this only when you know who made it. It counts for the files you add next, is "
    "remembered with them, and changes nothing for other kinds of files, which never run code here."
)
_SPECIAL = re.compile(r"([\\`*_\[\]<>#!|~$&]|:(?=\S))")


@dataclass(frozen=True)
class Task:
    """Something that takes a while.

    Attributes:
        title: what happens, in words: "Looking into model.onnx".
        failure: what did not happen if it fails: "model.onnx was not added."
        seconds: when it is stopped.
        then: what the page does with the result.
    """

    title: str
    failure: str
    seconds: int
    started: float
    future: Future[Any]
    then: Callable[[Any], None]


def plain(text: str) -> str:
    """Words out of a file, to be shown as they are: Markdown in them means nothing."""
    return _SPECIAL.sub(r"\\\1", text)


def start(
    kind: str, title: str, failure: str, seconds: int, work: Callable[[], Any], then: Callable[[Any], None] = lambda _: None
) -> None:
    """Begins a task; `show_task` of the same kind follows it."""
    st.session_state[_key(kind)] = Task(title, failure, seconds, time.monotonic(), _threads().submit(work), then)


def show_task(kind: str) -> bool:
    """How the task of this kind goes, or why it failed; whether it is still going."""
    task: Task | None = st.session_state.get(_key(kind))
    if task is None:
        return False
    if not task.future.done():
        fragment(_progress, every=POLL_SECONDS)(task)
        return True
    error = task.future.exception()
    if error is None:
        del st.session_state[_key(kind)]
        task.then(task.future.result())
        st.rerun()
    if not isinstance(error, QuantScopeError):
        del st.session_state[_key(kind)]
        raise error
    with st.container(key=f"{kind}_failure"):
        show_error(type(error)(plain(error.message), f"{plain(error.hint)} {plain(task.failure)}".strip()))
        st.button("Dismiss", key=f"{kind}_dismiss", on_click=lambda: st.session_state.pop(_key(kind), None))
    return False


def _progress(task: Task) -> None:
    if task.future.done():
        st.rerun()
    waited = time.monotonic() - task.started
    words = f"{plain(task.title)}, in a limited process of its own: {waited:.0f} s of at most {task.seconds} s"
    st.progress(min(waited / task.seconds, 1.0), words)


def _key(kind: str) -> str:
    return f"{kind}_task"


@st.cache_resource(show_spinner=False)
def _threads() -> ThreadPoolExecutor:
    """Few: what a file costs is paid by the process that looks into it, and there may be many visitors."""
    return ThreadPoolExecutor(2, "upload")


def drop_model() -> None:
    """Where a model is dropped: one file or archive, or the files of one model together."""
    key = fresh_key("models")
    st.file_uploader(
        "Add a model: .onnx, .tflite, .keras, .h5 or .safetensors; .pt2 and TorchScript if you trust them",
        MODEL_SUFFIXES,
        accept_multiple_files=True,
        key=key,
        on_change=_dropped,
        args=(key,),
        help="A model with files beside it (external data): drop them together, or as one .zip of their folder.",
    )
    st.checkbox(TRUST, key=_trust_key(key), help=TRUST_HELP)


def _trust_key(uploader: str) -> str:
    """Of a box that is empty for every new drop."""
    return f"{uploader}_trust"


def _dropped(key: str) -> None:
    files: Sequence[UploadedFile] = st.session_state[key]
    trusted = bool(st.session_state.get(_trust_key(key)))
    if not files or not used_up("models", key):
        return
    contents = [(file.name, file.getvalue()) for file in files]
    name = next((name for name, _ in contents if not name.endswith(".data")), contents[0][0])
    seconds = inspect_process.PROGRAM_SECONDS if trusted else inspect_process.SECONDS
    work: Callable[[], ModelInfo] = lambda: add(contents, trusted=trusted)  # noqa: E731  # typed for mypy
    start("models", f"Looking into {name}", f"{name} was not added.", seconds, work, _open)


def add(contents: Sequence[tuple[str, bytes]], *, trusted: bool = False) -> ModelInfo:
    """Adds a file, or several as one model with the files beside it, to “My models”.

    Raises:
        BadModel: they cannot be read, or two of them have one name.
        Unsupported: it is of a kind that cannot be used here.
    """
    if len(contents) == 1:
        return mine.add(contents[0][1], contents[0][0], trusted=trusted)
    names = [Path(name.replace("\\", "/")).name for name, _ in contents]
    if len(set(names)) < len(names):
        raise BadModel("Two of the files have the same name.", "Drop the files of one model, or a .zip of its folder.")
    with TemporaryDirectory(prefix="quantscope-drop-") as folder:
        for name, (_, content) in zip(names, contents, strict=True):
            (Path(folder) / name).write_bytes(content)
        return mine.add(Path(folder), next((name for name in names if not name.endswith(".data")), names[0]))


def fresh_key(kind: str) -> str:
    """The key of an empty uploader."""
    return f"upload_{kind}_{st.session_state.setdefault(f'upload_{kind}_number', 0)}"


def used_up(kind: str, key: str) -> bool:
    """Puts an empty uploader in the place of this one; False where that was done, for the browser may tell of a file twice."""
    if key != fresh_key(kind):
        return False
    st.session_state[f"upload_{kind}_number"] += 1
    return True


def _open(info: ModelInfo) -> None:
    st.query_params["model"] = info.id
