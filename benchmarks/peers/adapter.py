"""What a peer is, and the half of the protocol that runs in its process. Needs the standard library and psutil alone.

A job is a function from the work folder to what it found. It times its own work with `measured`, so that importing a library
and reading files count for nobody; the result is the last line of standard output, whatever a library prints before.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Images = NDArray[np.float32]

T = TypeVar("T")
TORCH = "torch==2.13.0+cpu"
"""PyTorch's build without CUDA, which no index but PyTorch's own offers: a plain version would pull gigabytes."""
OLD_TORCHVISION = "torchvision==0.15.2"
"""The newest that can be imported where its compiled operators, which PyPI has for CUDA alone, cannot be loaded."""
MODEL_TORCH, MODEL_ONNX, PHOTOS, CALIBRATION = "model.pt", "model.onnx", "test.npy", "calibration.npy"
"""The files of a work folder; photos are preprocessed, float32 [64, 3, 224, 224]."""
BITS = 4
"""Of the weights in a sensitivity analysis."""
BATCH = 16
THREADS = 1


class Task(StrEnum):
    """A kind of work; the value is what the table calls it."""

    ACTIVATIONS = "per-layer activation error"
    SENSITIVITY = "per-layer sensitivity"
    SEARCH = "mixed-precision search"
    WEIGHTS = "weight error, 109 M weights"


@dataclass(frozen=True)
class Found:
    """What a job took and gave.

    Attributes:
        bytes: peak of resident memory above what the process held when the work began.
        layers: how many layers or tensors it speaks of.
        ranking: the loss that rounding each layer alone causes, by layer name.
        bits: the width chosen for each layer, by layer name.
        note: what else the reader has to know.
    """

    seconds: float
    bytes: int
    layers: int | None = None
    ranking: Mapping[str, float] = field(default_factory=dict)
    bits: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


Job = Callable[[Path], Found]


@dataclass(frozen=True)
class Peer:
    """A library and the jobs it does. Without `requirements` it runs in this project's own environment.

    Attributes:
        module: that holds it, by its full name.
        jobs: the task of each job, by the job's name.
        requirements: for pip, with exact versions.
        without_dependencies: for pip as well, but without what they ask for.
    """

    name: str
    title: str
    module: str
    jobs: Mapping[str, Task]
    requirements: tuple[str, ...] = ()
    without_dependencies: tuple[str, ...] = ()


def serve(jobs: Mapping[str, Job]) -> None:
    """Does the job that the command line names, in the folder that it names, and prints what it found as the last line."""
    name, folder = sys.argv[1:]
    found = jobs[name](Path(folder))
    print("\n" + json.dumps(vars(found)), flush=True)


def measured(work: Callable[[], T]) -> tuple[T, float, int]:
    """What `work` gives, its seconds, and its peak of resident memory above that before it, in bytes."""
    from benchmarks import _memory

    held = _memory.resident_bytes()
    _memory.forget_peak()
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    return result, seconds, _memory.peak_bytes() - held


def torch_model(folder: Path) -> Any:
    """The float model as a torch.fx GraphModule of PyTorch's own layers, in eval mode."""
    import torch

    torch.set_num_threads(THREADS)
    # Written by `material` a moment ago, into a folder of this benchmark's own.
    return torch.load(folder / MODEL_TORCH, weights_only=False).eval()


def batches(folder: Path, name: str = PHOTOS) -> list[Any]:
    """Photos as torch tensors of BATCH samples."""
    import numpy as np
    import torch

    return list(torch.split(torch.from_numpy(np.load(folder / name)), BATCH))


def noise_ratio(reference: Images, estimate: Images) -> float:
    """Σ(y−ŷ)² ÷ Σy², the loss that this project ranks layers by."""
    return float(((reference - estimate) ** 2).sum() / (reference**2).sum())


def layer_name(name: str) -> str:
    """A layer of the project by the name that a library gave it.

    Dots may have become underscores, a prefix been added; OpenVINO appends what it split an operation into, and MCT names a
    layer after the batch norm folded into it as well.
    """
    return name.split("/")[0].replace(".", "_").removeprefix("model_").removesuffix("_bn").removesuffix("_conv")
