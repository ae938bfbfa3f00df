"""Looks into a model file that nobody vouches for, in a limited process of its own that dies with whatever the file does to it.

`look` is the caller's side and reads no byte of the file; `main` is the process: it says what kind the file is, unpacks an
archive, and hands the file to the inspector of its kind, a private module with `inspect(path, request) -> Inspection` that may
import its framework. Question and answer are JSON files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from models import file_kind, limits
from models.float_model import Kind
from models.inspection import Converted, Inspection, Shapes
from quantizers import errors
from quantizers.errors import BadModel, QuantScopeError, Unsupported

SECONDS = 30
PROGRAM_SECONDS = 240
"""For programs that a person trusts, which are run and whose graph is looked for."""
MEMORY_BYTES = {
    Kind.ONNX: 4 << 30,
    Kind.TFLITE: 4 << 30,
    Kind.KERAS: 12 << 30,
    Kind.SAFETENSORS: 4 << 30,
    Kind.TORCH: 8 << 30,
    Kind.PT2: 12 << 30,
    Kind.TORCHSCRIPT: 12 << 30,
}
"""Address space, of which a framework's own libraries take the larger part."""
UNPACKED = "unpacked"
NOT_TRUSTED = (
    "The file holds more than tensors: loading it would run code of its own.",
    "If you trust whoever made it, say so: tick “I trust these files” in My models, or run with --trust. "
    "Or bring the weights alone: safetensors.torch.save_file(model.state_dict(), …).",
)
"""What happens to a program that nobody vouches for, and what to do."""
_ROOT = Path(__file__).parents[1]
_ERRORS = {kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, QuantScopeError)}
_LONGEST_LOG = 2000


@dataclass(frozen=True, slots=True)
class Request:
    """What to look at: a file, or a folder of one model and its own files.

    Attributes:
        shapes: shapes given to inputs with free axes.
        architecture: the zoo's architecture that a file of bare weights belongs to; None to find out.
        trusted: whether a person lets the file run code of its own.
    """

    path: Path
    shapes: Shapes = field(default_factory=dict)
    architecture: str | None = None
    trusted: bool = False

    @property
    def seconds(self) -> int:
        """When looking is stopped."""
        return PROGRAM_SECONDS if self.trusted else SECONDS


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found: the kind, the model's file relative to the folder it lies in, and what it holds."""

    kind: Kind
    file: str
    inspection: Inspection


def look(request: Request, seconds: int | None = None) -> Answer:
    """Inspects a file in a process of its own.

    Args:
        seconds: None for as long as the request says.

    Raises:
        BadModel: the file cannot be read, or reading it takes too long, too much memory or the process down.
        Unsupported: it is of a kind that cannot be used here.
    """
    seconds = request.seconds if seconds is None else seconds
    with tempfile.TemporaryDirectory(prefix="quantscope-look-") as name:
        question, answer, log = (Path(name) / part for part in ("question.json", "answer.json", "log.txt"))
        question.write_text(json.dumps({**asdict(request), "path": str(request.path.resolve())}), "utf-8")
        command = [sys.executable, "-m", "models.inspect_process", str(question), str(answer)]
        with log.open("wb") as sink:
            code = _run(command, sink, seconds)
        if not answer.exists():
            raise BadModel(_how_it_died(code, seconds), _end_of(log))
        told = json.loads(answer.read_text("utf-8"))
    if "error" in told:
        raise _ERRORS.get(told["error"]["code"], BadModel)(told["error"]["message"], told["error"]["hint"])
    return Answer(Kind(told["kind"]), told["file"], Inspection.from_dict(told["inspection"]))


def _run(command: list[str], sink: Any, seconds: int) -> int | None:
    """The exit code; None when it took too long."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(_ROOT)}
    process = subprocess.Popen(
        command, cwd=_ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        process.kill()
        process.wait()


def _how_it_died(code: int | None, seconds: int) -> str:
    if code is None:
        return f"Reading the file took longer than {seconds} s and was stopped."
    if code < 0:
        return f"Reading the file brought its process down (signal {-code})."
    return f"Reading the file ended its process with code {code}."


def _end_of(log: Path) -> str:
    words = log.read_text("utf-8", "replace").strip()[-_LONGEST_LOG:]
    return words.splitlines()[-1] if words else "The file is damaged, or made to exhaust whoever reads it."


def main(question: Path, answer: Path) -> None:
    asked = json.loads(question.read_text("utf-8"))
    shapes = {name: tuple(shape) for name, shape in asked["shapes"].items()}
    request = Request(Path(asked["path"]), shapes, asked["architecture"], asked["trusted"])
    _write(answer, _guarded(request))


def _write(answer: Path, told: Mapping[str, Any]) -> None:
    whole = answer.with_suffix(".part")
    whole.write_text(json.dumps(told, allow_nan=False), "utf-8")
    whole.rename(answer)


def _guarded(request: Request) -> dict[str, Any]:
    try:
        return inspect(request)
    except QuantScopeError as error:
        return {"error": error.to_dict()}
    except MemoryError:
        traceback.print_exc()
        return {"error": BadModel("Reading the file takes more memory than is allowed.", "The file may be damaged.").to_dict()}
    except Exception as error:  # a broken file makes a framework raise whatever it likes
        traceback.print_exc()
        words = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return {"error": BadModel(f"The file cannot be read: {words[:500]}", "It may be damaged.").to_dict()}


def inspect(request: Request) -> dict[str, Any]:
    """Kind, file and inspection of what lies at the request's path; limits this process for good.

    Raises:
        QuantScopeError: it cannot be used.
    """
    folder = request.path if request.path.is_dir() else request.path.parent
    path = file_kind.main_file(folder) if request.path.is_dir() else request.path
    kind = file_kind.detect(path)
    if kind is None:
        folder = folder / UNPACKED
        folder.mkdir()
        file_kind.unpack(path, folder)
        path.unlink()
        path = file_kind.main_file(folder)
        kind = file_kind.detect(path)
        if kind is None:
            raise BadModel("The archive holds another archive.", "Put the model itself into the .zip.")
    if kind.is_program and not request.trusted:
        raise Unsupported(*NOT_TRUSTED)
    limits.limit(MEMORY_BYTES[kind], round(time.process_time()) + request.seconds)
    inspector = import_module(f"models._inspect_{kind}")
    inspection: Inspection | Converted = inspector.inspect(path, request)
    if isinstance(inspection, Converted):
        path, kind, inspection = inspection.path, inspection.kind, inspection.inspection
    return {"kind": kind.value, "file": str(path.relative_to(request.path.parent)), "inspection": inspection.to_dict()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
