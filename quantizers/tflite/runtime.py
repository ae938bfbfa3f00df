"""Inference with LiteRT: the one way predictions, activations and latency are run, so that they are of the same computation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from quantizers.adapter import Batch
from quantizers.numerics import integer_range, quantize, to_float
from quantizers.schema import QuantParams


@contextmanager
def quiet_about_kept_tensors() -> Iterator[None]:
    """Hides what the interpreter warns of, the memory that keeping every tensor takes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Warning: Enabling `experimental_preserve_all_tensors`", category=UserWarning)
        yield


class LiteRTSession:
    """A loaded .tflite (a path, or the file's bytes) with the default delegate, XNNPACK; meets `quantizers.adapter.Session`.

    With `every_tensor` the values between the operations can be read after a run: the delegate then keeps them, and computes
    the same bits as without (tested), at the cost of memory.
    """

    def __init__(self, artefact: Path | bytes, threads: int = 1, *, every_tensor: bool = False) -> None:
        model = {"model_content": artefact} if isinstance(artefact, bytes) else {"model_path": str(artefact)}
        with quiet_about_kept_tensors():
            self._interpreter = Interpreter(**model, num_threads=threads, experimental_preserve_all_tensors=every_tensor)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._outputs = self._interpreter.get_output_details()
        self._shape = tuple(self._input["shape"])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape that the input has now, batch first; 1 sample after loading."""
        return self._shape

    def prepare(self, batch: Batch) -> NDArray[Any]:
        """`batch` in the model's input type; the interpreter is resized to its number of samples."""
        if batch.shape != self._shape:
            self._interpreter.resize_tensor_input(self._input["index"], batch.shape)
            self._interpreter.allocate_tensors()
            self._shape = batch.shape
        params = _params(self._input)
        return batch.astype(self._input["dtype"]) if params is None else quantize(batch, params).astype(params.dtype)

    def run(self, prepared: NDArray[Any]) -> NDArray[Any] | list[NDArray[Any]]:
        """One inference; the output as the model gives it, in its own type; all of them where it has several."""
        self._interpreter.set_tensor(self._input["index"], prepared)
        self._interpreter.invoke()
        found = [self.tensor(output["index"]) for output in self._outputs]
        return found[0] if len(found) == 1 else found

    def tensor(self, index: int) -> NDArray[Any]:
        """A copy of a tensor's values after a run."""
        values: NDArray[Any] = self._interpreter.get_tensor(index)
        return values

    def logits(self, output: NDArray[Any] | list[NDArray[Any]]) -> Batch:
        """What `run` gave, as float32 [N, values]: all outputs of a sample laid flat."""
        found = output if isinstance(output, list) else [output]
        reals = [to_float(values, _params(details)) for values, details in zip(found, self._outputs, strict=True)]
        samples = self._shape[0] if self._shape else 1
        return np.concatenate([values.reshape(samples, -1) for values in reals], axis=1)


def _params(details: dict[str, Any]) -> QuantParams | None:
    """Parameters of the model's input or output, None when it is float."""
    dtype = np.dtype(details["dtype"])
    if dtype.kind == "f":
        return None
    scale, zero_point = details["quantization"]
    if scale == 0:  # Integers that stand for themselves.
        return None
    qmin, qmax = integer_range(dtype.itemsize * 8, signed=dtype.kind == "i")
    return QuantParams(np.array([scale]), np.array([zero_point]), qmin, qmax, dtype.name)
