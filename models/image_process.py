"""Makes arrays of a zip of images, in a limited process of its own: pictures are decoded by C code, and none is trusted.

`convert` is the caller's side, `main` the process. Labels are the names of the folders that hold the images; without folders,
and without a file y.npy or y.txt beside them, there are none.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import file_kind, limits
from quantizers.errors import BadData, QuantScopeError

SECONDS = 120
MEMORY_BYTES = 4 << 30
MAX_PIXELS = 1 << 30
"""Values of all images together, as own data's limit is."""
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
_ROOT = Path(__file__).parents[1]

Labels = tuple[str, ...] | None


def convert(archive: Path, arrays: Path, size: tuple[int, int] | None) -> Labels:
    """Writes x and, where there are labels, y to the .npz `arrays`. Returns the names of the classes.

    Raises:
        BadData: there are no images, they have several sizes and `size` is None, or they cannot be read.
    """
    answer = arrays.with_suffix(".json")
    question = json.dumps({"archive": str(archive), "arrays": str(arrays), "size": size, "answer": str(answer)})
    command = [sys.executable, "-m", "models.image_process", question]
    try:
        code = _run(command)
    except subprocess.TimeoutExpired as error:
        raise BadData(f"Reading the images took longer than {SECONDS} s.", "Bring fewer or smaller ones.") from error
    if not answer.exists():
        raise BadData(f"Reading the images ended their process (code {code}).", "One of them may be damaged.")
    told = json.loads(answer.read_text("utf-8"))
    answer.unlink()
    if "error" in told:
        raise BadData(told["error"]["message"], told["error"]["hint"])
    return None if told["labels"] is None else tuple(told["labels"])


def _run(command: list[str]) -> int:
    return subprocess.run(
        command, cwd=_ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
    ).returncode


def main(question: str) -> None:
    asked = json.loads(question)
    limits.limit(MEMORY_BYTES, SECONDS)
    told: dict[str, Any]
    try:
        told = {"labels": _convert(Path(asked["archive"]), Path(asked["arrays"]), asked["size"])}
    except QuantScopeError as error:
        told = {"error": error.to_dict()}
    except Exception as error:  # a damaged picture makes its decoder raise whatever it likes
        told = {"error": {"message": f"An image cannot be read: {error}", "hint": "Leave it out."}}
    Path(asked["answer"]).write_text(json.dumps(told), "utf-8")


def _convert(archive: Path, arrays: Path, size: list[int] | None) -> list[str] | None:
    with tempfile.TemporaryDirectory(prefix="quantscope-images-") as name:
        folder = Path(name)
        file_kind.unpack(archive, folder)
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and not _hidden(path, folder))
        if len(paths) < 2:
            raise BadData(f"The archive holds {len(paths)} images.", "Put at least 2 into it, in a folder a class.")
        x = _pixels(paths, size)
        y, labels = _labels(paths, folder)
    if y is None:
        np.savez_compressed(arrays, x=x)
    else:
        np.savez_compressed(arrays, x=x, y=y)
    return labels


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)


def _pixels(paths: list[Path], size: list[int] | None) -> NDArray[np.uint8]:
    """[N, H, W, C] pixels: grey if every image is, else red, green, blue."""
    from PIL import Image

    heads = []
    for path in paths:
        with Image.open(path) as image:
            heads.append((image.size, image.mode))
    sizes = {head[0] for head in heads}
    if size is None and len(sizes) > 1:
        some = ", ".join(f"{height} × {width}" for width, height in sorted(sizes)[:4])
        raise BadData(f"The images have {len(sizes)} sizes: {some}, …", "Say to which size they are to be brought.")
    width, height = next(iter(sizes)) if size is None else (size[1], size[0])
    mode = "L" if {head[1] for head in heads} <= {"L", "1"} else "RGB"
    if len(paths) * width * height * len(mode) > MAX_PIXELS:
        raise BadData(f"{len(paths)} images of {height} × {width} are too many.", "Bring fewer or smaller ones.")
    pixels = [np.asarray(_opened(path, mode, (width, height)), np.uint8) for path in paths]
    return np.stack(pixels).reshape(len(paths), height, width, len(mode))


def _opened(path: Path, mode: str, size: tuple[int, int]) -> object:
    """The image scaled to cover `size` and cut to its middle."""
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        plain = image.convert(mode)
        return plain if plain.size == size else ImageOps.fit(plain, size)


def _labels(paths: list[Path], folder: Path) -> tuple[NDArray[np.int64] | None, list[str] | None]:
    """Class numbers and their names: from y.npy or y.txt (in the order of the images' paths), else from folders' names."""
    given = next((path for name in ("y.npy", "y.txt") for path in folder.rglob(name)), None)
    if given is not None:
        y = np.load(given, allow_pickle=False) if given.suffix == ".npy" else np.loadtxt(given, dtype=np.int64, ndmin=1)
        if y.shape != (len(paths),):
            raise BadData(f"{given.name} has shape {y.shape}, but there are {len(paths)} images.", "Give one label an image.")
        return y.astype(np.int64), None
    parents = [path.parent.name for path in paths]
    names = sorted(set(parents))
    if len(names) < 2:
        return None, None
    return np.array([names.index(parent) for parent in parents], np.int64), names


if __name__ == "__main__":
    main(sys.argv[1])
