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


class LayerOutputs:
    """Collects errors and histograms of every layer's output, then reports on the layers."""

    def __init__(self, layers: Sequence[QuantizedLayer], threads: int = 1) -> None:
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

        list(self._pool.map(add_layer, self._errors))

    def reports(self) -> list[LayerReport]:
        """One report a layer, in execution order, after at least one batch."""
        return [layer_report(layer, self._errors[layer.name].figures()) for layer in self._layers]

    def arrays(self) -> Arrays:
        """The histograms, under the keys that `benchmarks.distribution` describes."""
        return {
            f"{name}|output|{what}": array
            for name, histogram in self._histograms.items()
            for what, array in histogram.arrays().items()
        }
