"""Quantization-aware training, always beside its equal-budget control.

Both arms begin at the same folded program and see the same batches in the same order, with the same optimizer, for the same
number of epochs; the control trains in float and is then quantized without training. The difference is what training with
rounding gave, and not what more training gave.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch.fx import GraphModule
from torch.nn import functional
from torchao.quantization.pt2e import FakeQuantize
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e

from quantizers.adapter import Arm, Epoch, Report, Request, Trained, Training
from quantizers.capabilities import resolve_options
from quantizers.pytorch.model import TorchModel, to_tensor
from quantizers.pytorch.observers import WeightObserver
from quantizers.pytorch.program import duplicate, float_weights
from quantizers.pytorch.ptq import Source, check_quantized, finish, post_training, quantizer_of
from quantizers.pytorch.rewrite import pack_narrow
from quantizers.schema import Backend, Mode, Technique

BATCH = 64
PATIENCE = 2
"""Epochs without a better accuracy after which training stops."""
_EVALUATION_BATCH = 500


@dataclass(frozen=True, eq=False)
class _Schooling:
    """One arm's training; `fit` leaves its program in the state of its best epoch."""

    arm: Arm
    program: GraphModule
    request: Request
    samples: Training
    report: Report
    history: list[Epoch] = field(default_factory=list)

    def fit(self, epochs: int, patience: int | None) -> tuple[Epoch, ...]:
        """AdamW with a cosine learning rate; the order of the samples depends on the seed alone."""
        x, y = to_tensor(self.samples.x), torch.from_numpy(self.samples.y)
        for parameter in self.program.parameters():
            parameter.requires_grad_()
        optimizer = torch.optim.AdamW(self.program.parameters(), float(self.request.options["learning_rate"]))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(x) // BATCH))
        random = torch.Generator().manual_seed(self.request.seed)
        best, kept, began = -1.0, {}, time.perf_counter()
        for epoch in range(1, epochs + 1):
            loss = self._train(x, y, torch.randperm(len(x), generator=random), optimizer, schedule)
            accuracy = self._accuracy()
            self._tell(Epoch(self.arm, epoch, loss, accuracy, time.perf_counter() - began), epochs)
            if accuracy > best:
                best, since, kept = accuracy, 0, copy.deepcopy(self.program.state_dict())
            else:
                since += 1
            if patience is not None and since >= patience:
                break
        self.program.load_state_dict(kept)
        return tuple(self.history)

    def _tell(self, epoch: Epoch, epochs: int) -> None:
        self.history.append(epoch)
        self.request.on_epoch(epoch)
        self.report(epoch.epoch / epochs, f"{self.arm}: epoch {epoch.epoch} of {epochs}, accuracy {epoch.accuracy:.1%}")

    def _train(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        order: torch.Tensor,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> float:
        """One pass over the samples; returns the mean loss."""
        observe(self.program, activations=True, weights=True)
        total = 0.0
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            loss = functional.cross_entropy(self.program(x[rows]), y[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        return total / len(order)

    def _accuracy(self) -> float:
        """Top-1 on the samples that are not trained on; afterwards the grid of every weight is that of the weight as it is."""
        x, y = to_tensor(self.samples.evaluation_x), torch.from_numpy(self.samples.evaluation_y)
        with torch.no_grad():
            observe(self.program, activations=False, weights=True)
            self.program(x[:1])
            observe(self.program, activations=False, weights=False)
            starts = range(0, len(x), _EVALUATION_BATCH)
            parts = [self.program(x[i : i + _EVALUATION_BATCH]).argmax(1) for i in starts]
        return float((torch.cat(parts) == y).double().mean())


def observe(program: GraphModule, *, activations: bool, weights: bool) -> None:
    """Whether fake quantization follows what it sees; a float program has none."""
    for module in program.modules():
        if isinstance(module, FakeQuantize):
            of_weight = isinstance(module.activation_post_process, WeightObserver)
            module.enable_observer(weights if of_weight else activations)


def quantization_aware(source: Source, request: Request, path: Path, report: Report) -> TorchModel:
    """Trains both arms and quantizes both; the control's artefact lies beside the other.

    Raises:
        BadData: there is nothing to train on.
    """
    samples, began = request.labelled(), time.perf_counter()
    trainee, reasons = prepare(source, request)
    epochs = int(request.options["epochs"])
    schooling = _Schooling(Arm.QAT, trainee, request, samples, lambda done, words: report(0.1 + 0.5 * done, words))
    history = schooling.fit(epochs, PATIENCE)
    control = _control(source, request, samples, len(history), path, lambda done, words: report(0.6 + 0.3 * done, words))
    report(0.9, "converting")
    references = float_weights(trainee)
    converted = pack_narrow(convert_pt2e(trainee))
    model = finish(converted, source, references, reasons, path, seed=request.seed, scales={})
    trained = Trained((*history, *control.history), control.model, time.perf_counter() - began)
    return replace(model, training=trained)


def prepare(source: Source, request: Request) -> tuple[GraphModule, dict[str, str | None]]:
    """A copy of the program with fake quantization that has seen the calibration samples, and why layers have none."""
    quantizer = quantizer_of(request)
    trainee = prepare_qat_pt2e(duplicate(source.program), quantizer)
    check_quantized(request.technique, quantizer.reasons)
    with torch.no_grad():
        for _, batch in source.batches():
            trainee(batch)
    return trainee, quantizer.reasons


@dataclass(frozen=True, eq=False)
class _Control:
    history: tuple[Epoch, ...]
    model: TorchModel


def _control(source: Source, request: Request, samples: Training, epochs: int, path: Path, report: Report) -> _Control:
    program = duplicate(source.program)
    history = _Schooling(Arm.CONTROL, program, request, samples, report).fit(epochs, None)
    program.requires_grad_(False)
    technique = Technique(Mode.STATIC, request.technique.weight, request.technique.activation)
    options = resolve_options(Backend.PYTORCH, technique, request.options)
    asked = replace(request, technique=technique, options=options)
    model = post_training(replace(source, program=program), asked, path.with_name(f"control-{path.name}"), report)
    return _Control(history, model)
