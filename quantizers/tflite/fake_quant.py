"""The Keras layers of quantization-aware training: they round as the quantized file will, and let the gradient through.

`tf.quantization.fake_quant_with_min_max_vars` rounds to the grid of a range; its gradient is that of the identity within the
range (the straight-through estimator of Jacob et al. 2018, arXiv:1712.05877). TensorFlow's converter reads these operations as
the quantization of what they round. Imported where TensorFlow is, never elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

ACTIVATION_BITS = 8
_MOMENTUM = 0.99
_SMALLEST = 1e-6
_GEOMETRY = ("strides", "padding", "data_format", "dilation_rate")


class Weighted(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types.
    """A convolution or dense layer whose kernel is rounded whenever it is used; `bits` of None rounds nothing.

    One scale per output channel; one per tensor in dense layers, because the converter cannot take a MatMul's per-channel
    ranges. Kernel and bias are those of `original` with the batch norm after it folded in. `rescales` says that sums are
    rounded as 4-bit convolutions do; the converter must not meet that.
    """

    def __init__(self, original: Any, arrays: Sequence[NDArray[np.float32]], bits: int | None, activation: str) -> None:
        super().__init__(name=original.name)
        self.kind, self._bits = type(original).__name__, bits
        self.rescales = bits == 4 and self.kind != "Dense"  # XNNPACK has a 4-bit kernel for dense layers, which rounds once.
        # Not the layer itself: Keras would count its weights to this one's.
        self._geometry = {key: getattr(original, key) for key in _GEOMETRY if self.kind != "Dense"}
        self._activation = keras.activations.get(activation)
        self.kernel, self.bias = (
            self.add_weight(name=name, shape=values.shape, initializer=lambda *_, values=values, **__: tf.constant(values))
            for name, values in zip(("kernel", "bias"), arrays, strict=True)
        )

    def lies_between(self, source: Range, target: Range) -> None:
        """Says on which grids input and output lie: the grid of the bias is the input's step times the kernel's."""
        # Methods, because a layer as attribute would lend its weights to this one.
        self._input_step, self._output_step = source.step, target.step

    def call(self, values: Any) -> Any:
        kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        if self._bits is None:
            return self._activation(self._multiplied(values, kernel) + bias)
        limit = self._limit(kernel)
        step = self._input_step() * limit / (2 ** (self._bits - 1) - 1)
        values = self._multiplied(values, self._rounded_kernel(kernel, limit, self._bits)) + _rounded(bias, step)
        return self._activation(self._rescaled(values, step) if self.rescales else values)

    def _rescaled(self, values: Any, step: Any) -> Any:
        """Sums as TFLite's 4-bit convolutions rescale them to the output's grid: rounded first to a fraction 2⁻ⁿ of its step.

        Source: MultiplyByQuantizedMultiplier in tflite/kernels/internal/common.cc; the 8-bit kernels of XNNPACK round once.
        """
        output_step = tf.maximum(self._output_step(), _SMALLEST)
        exponent = tf.minimum(tf.floor(tf.math.log(step / output_step) / np.log(2.0)) + 1, 0.0)
        return _rounded(values, output_step * 2.0**exponent)

    def _limit(self, kernel: Any) -> Any:
        """The largest |weight|: of the tensor, or [channels]."""
        sizes = tf.abs(tf.stop_gradient(kernel))
        axes = {"Dense": None, "DepthwiseConv2D": [0, 1]}.get(self.kind, [0, 1, 2])
        return tf.maximum(tf.reshape(tf.reduce_max(sizes, axis=axes), [] if axes is None else [-1]), _SMALLEST)

    def _rounded_kernel(self, kernel: Any, limit: Any, bits: int) -> Any:
        if self.kind == "Dense":
            return tf.quantization.fake_quant_with_min_max_vars(kernel, -limit, limit, bits, narrow_range=True)
        channels = tf.reshape(kernel, (*kernel.shape[:2], -1)) if self.kind == "DepthwiseConv2D" else kernel
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(channels, -limit, limit, bits, narrow_range=True)
        return tf.reshape(rounded, kernel.shape)

    def _multiplied(self, values: Any, kernel: Any) -> Any:
        if self.kind == "Dense":
            return tf.matmul(values, kernel)
        convolve = keras.ops.depthwise_conv if self.kind == "DepthwiseConv2D" else keras.ops.conv
        return convolve(values, kernel, **self._geometry)


class Range(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types.
    """Rounds activations to 8 bits between a lowest and a highest value: moving averages of those it met in training."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.widens = False
        """Whether every value met is to lie within the range, as in calibration."""
        self.low = self.add_weight(name="low", shape=(), initializer="zeros", trainable=False)
        self.high = self.add_weight(name="high", shape=(), initializer="zeros", trainable=False)

    def call(self, values: Any, training: bool | None = None) -> Any:
        if training or self.widens:
            self._look(values)
        return tf.quantization.fake_quant_with_min_max_vars(
            values, tf.convert_to_tensor(self.low), tf.convert_to_tensor(self.high), ACTIVATION_BITS
        )

    def step(self) -> Any:
        """The scale of the grid."""
        return (self.high - self.low) / (2**ACTIVATION_BITS - 1)

    def _look(self, values: Any) -> None:
        """Widens the range to hold `values`, or moves it towards theirs; zero is always in it."""
        low, high = tf.minimum(tf.reduce_min(values), 0.0), tf.maximum(tf.reduce_max(values), 0.0)
        if self.widens:
            self.low.assign(tf.minimum(self.low, low))
            self.high.assign(tf.maximum(self.high, high))
        else:
            self.low.assign(_MOMENTUM * self.low + (1 - _MOMENTUM) * low)
            self.high.assign(_MOMENTUM * self.high + (1 - _MOMENTUM) * high)


class UnitRange(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types.
    """Rounds probabilities to the grid that TFLite gives every int8 softmax: a scale of 1/256 from 0."""

    def call(self, values: Any) -> Any:
        return tf.quantization.fake_quant_with_min_max_args(values, 0.0, 255 / 256, ACTIVATION_BITS)


def _rounded(values: Any, step: Any) -> Any:
    """`values` on a grid too wide to clip them, with the gradient of the identity."""
    return values + tf.stop_gradient(tf.floor(values / step + 0.5) * step - values)
