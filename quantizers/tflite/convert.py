"""Keras → .tflite bytes: one recipe per technique for tf.lite.TFLiteConverter. The only module that imports TensorFlow.

The converter is trusted with nothing: an empty or all-NaN representative dataset makes it return a float model without an
error, so samples are checked before; and it writes to stdout from C++ and Python, which a caller may need for its own output.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantizers.adapter import Batch, Report
from quantizers.errors import ConversionFailed
from quantizers.schema import Mode, Options, Technique

if TYPE_CHECKING:
    import keras


def convert(network: keras.Model, technique: Technique, options: Options, samples: Batch | None, report: Report) -> bytes:
    """The .tflite file of `network`.

    Args:
        network: takes [N, H, W, C] (or [N, features]) float32, N free.
        samples: calibration samples [N, …], needed by the static techniques and checked already.
        report: called for every calibration sample.

    Raises:
        ConversionFailed: the converter refused the model.

    Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_quantization
    """
    with _stdout_to_stderr(), warnings.catch_warnings():
        # Said of every model with integer input; the statistics it misses are those of quantization-aware training.
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs were expected", category=UserWarning)
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_keras_model(network)
        _configure(tf, converter, technique, options)
        if samples is not None:
            converter.representative_dataset = lambda: _representative(samples, report)
        try:
            file: bytes = converter.convert()
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ConversionFailed(f"The TFLite converter refused the model: {reason}", "The log has the details.") from error
    return file


def _configure(tf: Any, converter: Any, technique: Technique, options: Options) -> None:
    """Sets the converter up for one technique; untouched, it converts to float32."""
    if technique.mode is Mode.FLOAT32:
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if technique.mode is Mode.QAT:
        converter.inference_input_type = converter.inference_output_type = tf.int8
    elif technique.mode is Mode.FLOAT16:
        converter.target_spec.supported_types = [tf.float16]
    elif technique.activation == "i16":
        ops = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [ops]
    elif technique.activation == "i8":
        # Operations without an integer kernel stay float all the same; `integer_only` looks for them.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = getattr(tf, str(options["io"]))
        # The converter has no public switch for one scale per tensor.
        converter._experimental_disable_per_channel = not options["per_channel"]
        converter._experimental_disable_per_channel_quantization_for_dense_layers = not options["per_channel"]


def _representative(samples: Batch, report: Report) -> Iterator[list[Batch]]:
    for index in range(len(samples)):
        report(0.4 + 0.4 * index / len(samples), f"Calibrating: sample {index + 1} of {len(samples)}")
        yield [samples[index : index + 1]]


def kernels(network: keras.Model) -> Mapping[str, NDArray[np.float32]]:
    """The raw kernels of the weighted layers by layer name, in the layout a .tflite uses: OHWI, 1HWC or OI.

    Raises:
        ConversionFailed: a kernel holds NaN or infinity.
    """
    found = {}
    for name, kind, values in _weighted(network):
        kernel = np.asarray(values, np.float32)
        if not np.isfinite(kernel).all():
            raise ConversionFailed(f"The weights of {name} hold NaN or infinity.", "Train the model again.")
        if kind == "Conv2D":
            kernel = kernel.transpose(3, 0, 1, 2)
        elif kind == "DepthwiseConv2D":
            kernel = kernel.reshape(1, *kernel.shape[:2], -1)
        else:
            kernel = kernel.T
        found[name] = kernel
    return found


def _weighted(network: keras.Model) -> Iterator[tuple[str, str, Any]]:
    """Name, kind and kernel of every convolution and dense layer; a separable convolution is two of them."""
    for layer in network.layers:
        kind = getattr(layer, "kind", type(layer).__name__)
        if kind == "SeparableConv2D":
            yield f"{layer.name}/depthwise", "DepthwiseConv2D", layer.depthwise_kernel
            yield f"{layer.name}/pointwise", "Conv2D", layer.pointwise_kernel
        elif kind in ("Conv2D", "DepthwiseConv2D", "Dense"):
            yield layer.name, kind, layer.kernel


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Sends what Python and C++ print to the file descriptor of stderr, which is a run's log."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
