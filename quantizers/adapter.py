"""The contract a backend meets: `Adapter` turns a float model into a `QuantizedModel`; `Session` is what latency times.

Batches are float32, channels last ([N, H, W, C] for images), already preprocessed; outputs are logits [N, classes]. An adapter
converts to its own layout and integer types itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from quantizers.errors import BadData
from quantizers.schema import Backend, Execution, Options, QuantizedLayer, Technique

if TYPE_CHECKING:
    from models.float_model import FloatModel

Batch = NDArray[np.float32]
Report = Callable[[float, str], None]
"""Progress of a stage: a fraction in [0, 1] and what is happening in plain words."""


@dataclass(frozen=True, eq=False)
class Training:
    """Labelled samples to train on, x [N, …] preprocessed and y [N], and others, never trained on, for the learning curve."""

    x: Batch
    y: NDArray[np.int64]
    evaluation_x: Batch
    evaluation_y: NDArray[np.int64]


class Arm(StrEnum):
    """Which network an epoch trained: the quantization-aware one, or the control with the same budget in float."""

    QAT = "qat"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training samples, counted from 1: mean loss over it, top-1 accuracy (0 to 1) after it."""

    arm: Arm
    epoch: int
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Trained:
    """How a model was trained, and its `control`: the float model trained as long, then quantized without training."""

    history: tuple[Epoch, ...]
    control: QuantizedModel
    seconds: float


def _unheard(_epoch: Epoch) -> None: ...


@dataclass(frozen=True, slots=True)
class Request:
    """One quantization to do.

    Attributes:
        calibration: preprocessed samples [N, …] or None when the technique needs none.
        options: complete, as `capabilities.resolve_options` gives them.
        keep_float: layer names that stay in float.
        workdir: an empty folder that the adapter may fill; the artefact is left in it.
        shared: a folder of the trials of one model × data × seed, for what is expensive and depends on nothing else; use it
            through `quantizers.shared.once`. None: nothing is shared.
        training: what to train on; None unless the technique needs training.
        on_epoch: called after every epoch of training.
    """

    technique: Technique
    options: Options
    calibration: Batch | None
    workdir: Path
    keep_float: tuple[str, ...] = ()
    seed: int = 0
    shared: Path | None = None
    training: Training | None = None
    on_epoch: Callable[[Epoch], None] = _unheard

    def labelled(self) -> Training:
        """What to train on.

        Raises:
            BadData: there is nothing.
        """
        if self.training is None or len(self.training.x) == 0 or len(self.training.evaluation_x) == 0:
            raise BadData(
                "Quantization-aware training needs labelled samples, and there are none.", "Choose a dataset with labels."
            )
        return self.training


@dataclass(frozen=True, slots=True)
class Step:
    """What was done on the way to a quantized model, for a person to read: its name, and what came of it in words.

    A `QuantizedModel` whose backend has such to tell has them as `steps`.
    """

    name: str
    outcome: str


class QuantizedModel(Protocol):
    """A quantized model on disk and in memory."""

    @property
    def path(self) -> Path:
        """The file one would ship."""

    @property
    def execution(self) -> Execution: ...

    @property
    def execution_why(self) -> str | None:
        """Why the execution is only simulated; None when it is native."""

    @property
    def training(self) -> Trained | None:
        """How it was trained; None when it was not."""

    def layers(self) -> Sequence[QuantizedLayer]:
        """The weighted layers in execution order, with their quantization parameters."""

    def predict(self, batch: Batch) -> Batch:
        """Logits [N, classes] of a batch of any size."""

    def activations(self, batch: Batch) -> Mapping[str, Batch]:
        """The output of every weighted layer as float32, by layer name; same layout as the same backend's float32 model."""


@runtime_checkable
class Improvable(Protocol):
    """What a `QuantizedModel` also is where its backend has better ways to round than each weight to the nearest code."""

    @property
    def plain(self) -> QuantizedModel | None:
        """The same technique without the improvements that were asked for; None when there were none."""


@runtime_checkable
class MayNotRun(Protocol):
    """What a `QuantizedModel` also is where its backend takes weights that nothing can run."""

    @property
    def not_run(self) -> str | None:
        """Why `predict` and `activations` have no answer, and only weights can be judged; None when they have."""


def not_run(model: QuantizedModel) -> str | None:
    """Why a model has no answers, in words; None when it runs."""
    return model.not_run if isinstance(model, MayNotRun) else None


class Session(Protocol):
    """A loaded artefact, ready to be timed."""

    def prepare(self, batch: Batch) -> Any:
        """The batch in the runtime's own layout and type: done once, outside the clock."""

    def run(self, prepared: Any) -> Any:
        """One inference with the output fetched."""


class Adapter(Protocol):
    """One backend. Creating it is cheap: heavy libraries are imported inside the methods."""

    backend: Backend
    runtime: str
    """The module `open` needs, importable by itself: the memory it takes is the runtime's own and not the model's."""

    def quantize(self, model: FloatModel, request: Request, report: Report) -> QuantizedModel:
        """Quantizes `model`.

        Raises:
            NothingQuantized: the backend left every layer in float although the technique quantizes.
            ConversionFailed: the backend refused the model.
            BadData: the calibration samples are unusable.
        """

    def open(self, artefact: Path, options: Options, threads: int) -> Session:
        """Loads an artefact of this adapter for timing, in a process that does nothing else."""

    def versions(self) -> Mapping[str, str]:
        """Versions of the libraries whose behaviour the result depends on."""
