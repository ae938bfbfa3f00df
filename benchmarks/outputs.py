"""What there is to say of every layer's output, from one pass over float and quantized model side by side.

Batches stream through: of each only sums and counts are kept, so memory does not grow with the data. The quantized model runs
as it is, so the error of an output is the cumulative one, of everything quantized up to and including the layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.distribution import Arrays, GrowingHistogram
from benchmarks.fidelity import ErrorSums, LayerReport, layer_report
from quantizers.adapter import Batch
from quantizers.schema import QuantizedLayer

FLOAT, QUANTIZED = "float", "quantized"
DIVERGED = "the way through the model depends on the sample, and not every sample takes it along this layer"


class LayerOutputs:
    """Collects errors and histograms of every layer's output, then reports on the layers.

    A layer that one of the models leaves out of a batch has no error, as has every layer without a batch; `absent` says why.
    """

    def __init__(self, layers: Sequence[QuantizedLayer], threads: int = 1, absent: str = DIVERGED) -> None:
        self._absent = absent
        self._compared: Sequence[str] = ()
        self._batches = 0
        self._layers = layers
        self._errors = {layer.name: ErrorSums() for layer in layers}
        self._histograms = {
            layer.name: GrowingHistogram((FLOAT, QUANTIZED), layer.output.params if layer.output else None) for layer in layers
        }
        self._pool = ThreadPoolExecutor(threads)

    def add(self, reference: Mapping[str, Batch], estimate: Mapping[str, Batch]) -> None:
        """Takes in one batch: the outputs of float and of quantized model, by layer name; raises what `ErrorSums.add` does."""

        def add_layer(name: str) -> None:
            low, high = self._errors[name].add(reference[name], estimate[name], f"The output of {name}")
            self._histograms[name].add({FLOAT: reference[name], QUANTIZED: estimate[name]}, low, high)

        before = self._compared if self._batches else list(self._errors)
        self._compared = [name for name in before if name in reference and name in estimate]
        self._batches += 1
        list(self._pool.map(add_layer, self._compared))

    def reports(self) -> list[LayerReport]:
        """One report a layer, in execution order."""
        found = {name: self._errors[name].figures() for name in self._compared}
        return [layer_report(layer, found.get(layer.name), self._absent) for layer in self._layers]

    def arrays(self) -> Arrays:
        """The histograms, under the keys that `benchmarks.distribution` describes."""
        return {
            f"{name}|output|{what}": array for name in self._compared for what, array in self._histograms[name].arrays().items()
        }
