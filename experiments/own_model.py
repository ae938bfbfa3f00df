"""A model named on the command line: an id, or the path of a file of one's own, which joins “My models” on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from models import mine
from models.preprocessing import Preprocessing
from quantizers.errors import InputError
from quantizers.signature import Layout

_LAYOUTS = {"NCHW": Layout.CHANNELS_FIRST, "NHWC": Layout.AS_IT_IS}
_SHAPE_HINT = "Write NAME=1x3x224x224."
_PREPROCESS_HINT = "Write mean=0.485:0.456:0.406,std=0.229:0.224:0.225,layout=NCHW,order=BGR,label_offset=1, or parts of it."


def model_id(
    model: str, shapes: Sequence[str], preprocess: str | None, architecture: str | None, *, trusted: bool = False
) -> str:
    """The id of `model`. A file is added with these choices; added before, it is given them.

    Raises:
        InputError: a choice cannot be read, choices were made for a model that is no file, or the file cannot be used.
    """
    path = Path(model).expanduser()
    if not path.exists() or model in {info.id for info in mine.catalogue()}:
        if shapes or preprocess or architecture or trusted:
            raise InputError(
                f"{model} is no file: shapes, preprocessing and trust belong to files of your own.", "Give a path."
            )
        return model
    chosen = preprocessing(preprocess) if preprocess else None
    given = dict(map(shape, shapes))
    added = mine.add(path, path.name, architecture=architecture, shapes=given, trusted=trusted)
    stored = mine.entry(added.id)
    if (given and given != stored.shapes) or (chosen and chosen != stored.preprocessing):
        mine.update(added.id, preprocessing=chosen, shapes=given or None)
    return added.id


def shape(words: str) -> tuple[str, tuple[int, ...]]:
    """ "x=1x3x224x224" → ("x", (1, 3, 224, 224)); "sr=" is a scalar.

    Raises:
        InputError: it is written in another way.
    """
    name, equals, sizes = words.rpartition("=")
    parts = sizes.split("x") if sizes else []
    if not equals or not name or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"“{words}” is no shape.", _SHAPE_HINT)
    return name, tuple(map(int, parts))


def preprocessing(words: str) -> Preprocessing:
    """Choices written as "mean=127.5,std=127.5,layout=NCHW": mean and std in pixels if any of them is above 1, else of 0 to 1.

    Raises:
        InputError: a choice is unknown or its value cannot be read.
    """
    readers: dict[str, Callable[[str], Any]] = {
        "mean": _numbers,
        "std": _numbers,
        "layout": _LAYOUTS.__getitem__,
        "order": {"RGB": False, "BGR": True}.__getitem__,
        "label_offset": int,
    }
    try:
        pairs = (part.split("=") for part in words.split(","))
        read = {name: readers[name](value) for name, value in pairs}
    except (KeyError, ValueError) as error:
        raise InputError(f"“{words}” cannot be read as preprocessing: {error}.", _PREPROCESS_HINT) from error
    mean, std = read.get("mean", (0.0,)), read.get("std", (1.0,))
    scale = 1.0 if max(*mean, *std, 0.0) > 1 else 255.0
    offset, divisor = (tuple(scale * value for value in values) for values in (mean, std))
    return Preprocessing(offset, divisor, bool(read.get("order")), read.get("layout"), read.get("label_offset", 0))


def _numbers(words: str) -> tuple[float, ...]:
    return tuple(map(float, words.split(":")))
