"""What a model takes: its inputs, and how one float32 batch [N, …] becomes them (adapter pattern).

The whole program hands samples on as one float32 array. A model with one input takes it as it is, with the channels moved where
the model wants them. For a model with several inputs a sample is one row, in which the values of all inputs follow each other;
integers are exact there up to 2²⁴, the last one that float32 can tell from its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantizers.errors import BadData, Unsupported

MAX_EXACT = 1 << 24
Dimension = int | str | None
"""A size; the name of an axis whose size is free; or None where it is free and has no name."""


class Layout(StrEnum):
    CHANNELS_FIRST = "channels_first"
    """The model takes [N, C, …]; samples have their channels last."""
    AS_IT_IS = "as_it_is"


@dataclass(frozen=True, slots=True)
class Input:
    """One input: its type by NumPy's name, and its shape for one sample, batch axis included where it has one."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs of a model.

    Attributes:
        batched: whether axis 0 of every input is a batch of any size; if not, one inference takes one sample.
        layout: where the model wants the channels; matters for a single input only.
    """

    inputs: tuple[Input, ...]
    batched: bool = True
    layout: Layout = Layout.AS_IT_IS

    def __post_init__(self) -> None:
        if not self.inputs:
            raise Unsupported("The model takes no input: there is nothing to measure it on.")
        for one in self.inputs:
            if one.dtype not in _NUMBERS:
                raise Unsupported(
                    f"The input {one.name} takes {one.dtype}, not numbers.",
                    "Only models whose inputs are numbers can be run here: cut off the part that reads text.",
                )

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Signature:
        """Reads what `dataclasses.asdict` gave."""
        inputs = tuple(Input(one["name"], one["dtype"], tuple(one["shape"])) for one in stored["inputs"])
        return cls(inputs, bool(stored["batched"]), Layout(stored["layout"]))

    @property
    def packed(self) -> bool:
        """Whether a sample is a row that holds all inputs; if not, it is the one input without its batch axis."""
        return len(self.inputs) > 1 or self.inputs[0].shape[:1] != (1,) or len(self.inputs[0].shape) == 1

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample, channels last."""
        if self.packed:
            return (sum(one.size for one in self.inputs),)
        shape = self.inputs[0].shape[1:]
        return (*shape[1:], shape[0]) if self.layout is Layout.CHANNELS_FIRST else shape

    def pack(self, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Arrays [N, …] by input name as one batch; each has N and then the input's shape, with or without its batch axis.

        Raises:
            BadData: an input is missing, unknown, of another shape or length, or holds integers beyond 2²⁴.
        """
        wanted = [one.name for one in self.inputs]
        if set(arrays) != set(wanted):
            raise BadData(f"The model takes {', '.join(wanted)}; the data has {', '.join(arrays) or 'nothing'}.", _NAMES)
        if len({len(array) if array.ndim else 0 for array in arrays.values()}) != 1:
            raise BadData("The inputs hold different numbers of samples.", "Give every input one entry a sample.")
        rows = np.concatenate([_rows(one, arrays[one.name]) for one in self.inputs], axis=1)
        if self.packed:
            return rows
        samples = rows.reshape(len(rows), *self.inputs[0].shape[1:])
        return np.ascontiguousarray(np.moveaxis(samples, 1, -1)) if self.layout is Layout.CHANNELS_FIRST else samples

    def unpack(self, batch: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """A batch as the model's inputs by name, in their own types.

        Raises:
            BadData: several samples at once for a model that takes one.
        """
        if not self.batched and len(batch) != 1:
            raise BadData(f"The model takes one sample at a time, not {len(batch)}.", "Run samples one by one.")
        if not self.packed:
            first = self.layout is Layout.CHANNELS_FIRST
            return {self.inputs[0].name: _typed(np.moveaxis(batch, -1, 1) if first else batch, self.inputs[0].dtype)}
        ends = np.cumsum([one.size for one in self.inputs])[:-1]
        parts = zip(self.inputs, np.split(batch, ends, axis=1), strict=True)
        return {one.name: _typed(part.reshape(self._shape(one, len(batch))), one.dtype) for one, part in parts}

    def _shape(self, one: Input, samples: int) -> tuple[int, ...]:
        return (samples, *one.shape[1:]) if self.batched else one.shape


_NUMBERS = {"float16", "float32", "float64", "bool"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_NAMES = "Name the arrays of the .npz like the inputs of the model."


def resolve(name: str, shape: Sequence[Dimension], given: Sequence[int] | None) -> tuple[int, ...]:
    """The shape of an input for one sample: free axes take what is `given`; a free first axis is the batch, 1.

    Raises:
        BadData: an axis stays free, or what is given does not fit the fixed ones.
    """
    if given is not None:
        fits = len(given) == len(shape) and all(
            size >= 1 and (not isinstance(axis, int) or axis < 1 or axis == size)
            for size, axis in zip(given, shape, strict=True)
        )
        if not fits:
            raise BadData(f"{name} has the shape {text(shape)}; {text(given)} does not fit.", "Change the free axes only.")
        return tuple(given)
    sizes = [1 if index == 0 and not isinstance(axis, int) else axis for index, axis in enumerate(shape)]
    if free := [axis for axis in sizes if not isinstance(axis, int) or axis < 1]:
        what = f"The input {name} has the shape {text(shape)}, of which {len(free)} axes are free."
        raise BadData(what, f"Give its shape, e.g. {name}=1x3x224x224.")
    return tuple(axis for axis in sizes if isinstance(axis, int))


def text(shape: Sequence[Dimension]) -> str:
    """ "1 × 3 × height × ?" """
    return " × ".join("?" if axis is None else str(axis) for axis in shape) or "scalar"


def _rows(one: Input, array: NDArray[Any]) -> NDArray[np.float32]:
    """[N, values of the input]"""
    bare = one.shape[1:] if one.shape[:1] == (1,) else one.shape
    if array.shape[1:] not in (one.shape, bare):
        raise BadData(f"{one.name} has samples of {text(array.shape[1:])}; the model takes {text(bare)}.", _NAMES)
    if array.dtype.kind in "iu" and array.size and max(int(array.max()), -int(array.min())) > MAX_EXACT:
        raise BadData(f"{one.name} holds integers beyond {MAX_EXACT:,}, which float32 cannot tell apart.", "Use smaller ones.")
    if array.dtype.kind not in "iufb":
        raise BadData(f"{one.name} holds {array.dtype}, not numbers.", "Save numbers.")
    return np.ascontiguousarray(array.reshape(len(array), -1), np.float32)


def _typed(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    if dtype.startswith(("int", "uint")):
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return np.asarray(values, dtype, order="C")
