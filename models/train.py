"""Trains the zoo's own networks: python -m models.train [ids] [--check].

Seeded and deterministic: on one machine the same weights come out every time; on another, floating-point sums may differ in
their last bits and the accuracy with them, within TOLERANCE. Each run writes weights/<id>.safetensors and weights/<id>.json
with the accuracy it measured. --check trains again without writing and compares.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models import datasets, zoo
from models.datasets import Samples, Split

if TYPE_CHECKING:
    from torch import Tensor

    from models.torch_form import TorchForm

SEED = 0
THREADS = 2
TOLERANCE = 0.01
"""How far a retrained model's top-1 accuracy may lie from the stated one (0 to 1)."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """AdamW with a one-cycle learning rate; batches are shifted by up to `shift` pixels, and images mirrored or not."""

    dataset: str
    epochs: int
    rate: float
    shift: int = 2
    mirror: bool = False
    batch: int = 64
    decay: float = 0.01


RECIPES = {
    "mnist-mlp": Recipe("mnist-5k", epochs=30, rate=2e-3),
    "mnist-cnn": Recipe("mnist-5k", epochs=30, rate=5e-3),
    "fashion-cnn": Recipe("fashion-mnist", epochs=24, rate=1e-2, mirror=True),
    "fashion-resnet": Recipe("fashion-mnist", epochs=24, rate=1e-2, mirror=True),
}


def train(model_id: str) -> tuple[TorchForm, dict[str, Any]]:
    """The trained module and the record of its training, which holds the accuracy on the test split."""
    import torch

    from models.torch_form import TorchForm

    recipe, start = RECIPES[model_id], time.perf_counter()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    data = datasets.load(recipe.dataset)
    module = TorchForm(zoo.design(model_id))
    _fit(module, recipe, *_tensors(model_id, data.split(Split.TRAIN)))
    test = data.split(Split.TEST)
    record = {
        "top1": accuracy(module.eval(), *_tensors(model_id, test)),
        "n": len(test),
        "dataset": recipe.dataset,
        "dataset_digest": data.info.digest,
        "seed": SEED,
        "epochs": recipe.epochs,
        "seconds": round(time.perf_counter() - start, 1),
    }
    return module, record


def accuracy(module: TorchForm, x: Tensor, y: Tensor, batch: int = 500) -> float:
    """Top-1 accuracy, 0 to 1."""
    import torch

    starts = range(0, len(x), batch)
    with torch.inference_mode():
        right = [int((module(x[i : i + batch]).argmax(1) == y[i : i + batch]).sum()) for i in starts]
    return sum(right) / len(y)


def _tensors(model_id: str, samples: Samples) -> tuple[Tensor, Tensor]:
    """Preprocessed images [N, C, H, W] and labels."""
    import torch

    info = next(info for info in zoo.catalogue() if info.id == model_id)
    assert samples.y is not None
    return torch.from_numpy(info.preprocess(samples.x).transpose(0, 3, 1, 2).copy()), torch.from_numpy(samples.y)


def _fit(module: TorchForm, recipe: Recipe, x: Tensor, y: Tensor) -> None:
    import torch

    steps = -(-len(x) // recipe.batch)
    optimizer = torch.optim.AdamW(module.parameters(), recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, epochs=recipe.epochs, steps_per_epoch=steps)
    module.train()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(x))
        for start in range(0, len(x), recipe.batch):
            rows = order[start : start + recipe.batch]
            loss: Any = torch.nn.functional.cross_entropy(module(_augmented(x[rows], recipe)), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _augmented(images: Tensor, recipe: Recipe) -> Tensor:
    """The batch shifted as a whole, and each image mirrored or not."""
    import torch

    down, right = (int(shift) for shift in torch.randint(-recipe.shift, recipe.shift + 1, (2,)))
    if recipe.mirror:
        images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(3), images)
    return torch.nn.functional.pad(images, (right, -right, down, -down))


def write(model_id: str, module: TorchForm, record: dict[str, Any]) -> None:
    from safetensors.numpy import save

    from models.torch_form import canonical_weights

    weights: dict[str, NDArray[np.float32]] = canonical_weights(module)
    (zoo.WEIGHTS / f"{model_id}.safetensors").write_bytes(save(weights))
    (zoo.WEIGHTS / f"{model_id}.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def check(model_id: str, record: dict[str, Any]) -> bool:
    """Whether the retrained accuracy is the stated one within TOLERANCE."""
    stated = json.loads((zoo.WEIGHTS / f"{model_id}.json").read_text("utf-8"))
    return abs(float(stated["top1"]) - float(record["top1"])) <= TOLERANCE


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m models.train", description=__doc__.splitlines()[0])
    parser.add_argument("ids", nargs="*", metavar="ID", help=f"models to train, all by default: {', '.join(RECIPES)}")
    parser.add_argument("--check", action="store_true", help=f"write nothing; fail if top-1 moves by more than {TOLERANCE:.0%}")
    options = parser.parse_args(arguments)
    if unknown := set(options.ids) - RECIPES.keys():
        parser.error(f"no recipe for {', '.join(sorted(unknown))}; there are: {', '.join(RECIPES)}")
    failed = False
    for model_id in options.ids or RECIPES:
        module, record = train(model_id)
        verdict = ""
        if options.check:
            good = check(model_id, record)
            failed, verdict = failed or not good, ", as stated" if good else ", not what is stated"
        else:
            write(model_id, module, record)
        print(f"{model_id}: top-1 {record['top1']:.2%} of {record['n']:,} in {record['seconds']} s{verdict}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
