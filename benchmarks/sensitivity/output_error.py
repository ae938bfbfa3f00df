"""The error of the model's output, as sums over batches: nothing of a batch is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.sensitivity.report import EXACT, NO_LABELS, Losses, sqnr_db
from quantizers.errors import QuantizationError


class OutputError:
    """Collects what float and changed outputs [N, …] of the same samples differ by."""

    def __init__(self) -> None:
        self._noise = self._signal = self._kl = 0.0
        self._same = self._float_right = self._right = self._labelled = self._samples = 0

    def add(self, reference: Tensor, estimate: Tensor, labels: Tensor | None) -> None:
        """Takes in one batch, with its labels [N] if there are any."""
        y, y_hat = reference.flatten(1).double(), estimate.flatten(1).double()
        self._noise += float((y - y_hat).square().sum())
        self._signal += float(y.square().sum())
        log_p, log_q = y.log_softmax(1), y_hat.log_softmax(1)
        self._kl += float((log_p.exp() * (log_p - log_q)).sum())
        answer, other = y.argmax(1), y_hat.argmax(1)
        self._same += int((answer == other).sum())
        self._samples += len(y)
        if labels is not None:
            self._float_right += int((answer == labels).sum())
            self._right += int((other == labels).sum())
            self._labelled += len(y)

    def losses(self) -> Losses:
        """The losses of everything taken in so far: at least one batch, of a signal that is not all zero."""
        ratio = self._noise / self._signal
        return Losses(
            noise_ratio=ratio,
            sqnr_db=sqnr_db(ratio),
            sqnr_db_why_not=None if ratio > 0 else EXACT,
            kl_nats=max(self._kl / self._samples, 0.0),
            drop_pp=100 * (self._float_right - self._right) / self._labelled if self._labelled else None,
            drop_pp_why_not=None if self._labelled else NO_LABELS,
            agreement=self._same / self._samples,
        )


def check_output(output: Tensor) -> None:
    """Stops losses from being made of numbers that are none.

    Raises:
        QuantizationError: an output is NaN or infinite, or all of them are zero.
    """
    if not torch.isfinite(output).all():
        raise QuantizationError("The float model's output holds NaN or infinity.", "Check its weights and its input.")
    if not output.any():
        raise QuantizationError("The float model's output is all zero, so no error can be compared with it.")
