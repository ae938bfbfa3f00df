"""Float .tflite → quantized .tflite with litert-quantizer: the techniques TensorFlow's converter does not have, and 4 bits.

The library rewrites a file in milliseconds and needs no TensorFlow. It skips in silence what its policy does not list (2-bit
weights, 4-bit depthwise convolutions), so the result is read back and checked like any other. Its default calibration is a
moving average of the samples' ranges, which clips: the plain minimum and maximum over all samples are asked for instead.

Source: https://github.com/google-ai-edge/ai-edge-quantizer
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from quantizers.adapter import Batch, Report
from quantizers.errors import ConversionFailed
from quantizers.schema import NO_OPTIONS, Mode, Options, Technique
from quantizers.tflite.describe import DYNAMIC_RANGE_MINIMUM
from quantizers.tflite.reader import signature
from quantizers.tflite.runtime import quiet_about_kept_tensors

_EVERYTHING = ".*"


def covers(technique: Technique) -> bool:
    """Whether only this engine makes `technique`; TensorFlow's converter makes the others from a Keras model."""
    narrow = technique.weight == "i4" and technique.mode is not Mode.QAT
    return narrow or technique.mode in (Mode.WEIGHT_ONLY, Mode.MIXED) or technique.group_size is not None


def quantize(
    float_file: bytes,
    technique: Technique,
    samples: Batch | None,
    kept: Collection[str],
    report: Report,
    options: Options = NO_OPTIONS,
    widths: Mapping[str, int] = MappingProxyType({}),
) -> bytes:
    """The quantized form of a float .tflite, one scale per output channel where nothing else is asked for.

    Args:
        samples: checked calibration samples [N, …], needed by the static techniques.
        kept: output tensors of the operations that stay in float.
        widths: mixed precision: 4, 8 or 16 bits by output tensor.

    Raises:
        ConversionFailed: the library refused the model.
    """
    from litert_quantizer.quantizer import Quantizer

    recipe = _Recipe(technique, options).build(kept, widths)
    content = bytearray(float_file)
    try:
        with quiet_about_kept_tensors():
            ranges = None if samples is None else _ranges(content, recipe, samples, options, report)
            result = Quantizer(content, recipe.get_quantization_recipe()).quantize(ranges, enable_progress_report=False)
    except Exception as error:
        raise ConversionFailed(f"litert-quantizer refused the model: {error}", "The log has the details.") from error
    return bytes(result.quantized_model)


class _Recipe:
    """What is done to which operation, as litert-quantizer's rules: a later one wins."""

    def __init__(self, technique: Technique, options: Options) -> None:
        from litert_quantizer.qtyping import QuantGranularity, TFLOperationName
        from litert_quantizer.recipe_manager import AlgorithmName, RecipeManager

        self._rules, self._every, self._ops, self._algorithms = (
            RecipeManager(),
            TFLOperationName.ALL_SUPPORTED,
            TFLOperationName,
            AlgorithmName,
        )
        self._technique, self._options = technique, options
        scale = "CHANNELWISE" if options.get("per_channel", True) else "TENSORWISE"
        self._granularity = QuantGranularity(f"BLOCKWISE_{technique.group_size}" if technique.group_size else scale)
        self._best_range = options.get("weight_range", "minmax") == "octav"

    def build(self, kept: Collection[str], widths: Mapping[str, int]) -> Any:
        """The rules; those of single operations come last."""
        mode, weight, activation = self._technique.mode, self._technique.weight_bits, self._technique.activation_bits
        if mode in (Mode.STATIC, Mode.MIXED):
            self._static(_EVERYTHING, activation or 8, weight or 8)
            self._io()
        elif mode is Mode.DYNAMIC:
            self._dynamic(weight or 8)
        elif mode is Mode.FLOAT16:
            self._halved(_EVERYTHING)
        else:
            self._rules.add_weight_only_config(_EVERYTHING, self._every, weight, self._granularity, self._algorithm)
        for tensor, bits in widths.items():
            self._halved(_scope(tensor)) if bits == 16 else self._static(_scope(tensor), 8, bits)
        for tensor in kept:
            self._rules.add_quantization_config(_scope(tensor), self._every, algorithm_key=self._algorithms.NO_QUANTIZE)
        return self._rules

    @property
    def _dense(self) -> Any:
        """What blocks of weights can have scales of their own in: dense layers alone."""
        return self._ops.FULLY_CONNECTED if self._technique.group_size else self._every

    @property
    def _algorithm(self) -> Any:
        return self._algorithms.OCTAV if self._best_range else self._algorithms.MIN_MAX_UNIFORM_QUANT

    def _dynamic(self, bits: int) -> None:
        """Small weights stay float as in TensorFlow's converter, so that keeping a layer float changes that layer alone."""
        self._rules.add_dynamic_config(_EVERYTHING, self._dense, bits, self._granularity, self._algorithm)
        if bits == 8:
            (rule,) = self._rules.get_quantization_recipe()
            rule["op_config"]["min_weight_elements"] = DYNAMIC_RANGE_MINIMUM
            self._rules.load_quantization_recipe([rule])

    def _static(self, scope: str, activation: int, weight: int) -> None:
        self._rules.add_static_config(scope, self._every, activation, weight, self._granularity, self._algorithm)

    def _halved(self, scope: str) -> None:
        # The operation is never computed in fewer bits, and what a rule for everything said of it is taken back first.
        self._rules.add_quantization_config(scope, self._every, algorithm_key=self._algorithms.NO_QUANTIZE)
        for kind in (self._ops.CONV_2D, self._ops.DEPTHWISE_CONV_2D, self._ops.FULLY_CONNECTED):
            self._rules.add_weight_only_config(scope, kind, 16, algorithm_key=self._algorithms.FLOAT_CASTING)

    def _io(self) -> None:
        """The type of the model's input and output where it is another than the activations'."""
        io = self._options.get("io", "int8")
        for port in () if io == "int8" else (self._ops.INPUT, self._ops.OUTPUT):
            if io == "float32":
                self._rules.add_quantization_config(_EVERYTHING, port, algorithm_key=self._algorithms.NO_QUANTIZE)
            else:
                self._rules.add_quantization_config(_EVERYTHING, port, _unsigned())


def _unsigned() -> Any:
    """8-bit unsigned activations, which the library has for inputs and outputs only."""
    from litert_quantizer.qtyping import (
        ComputePrecision,
        OpQuantizationConfig,
        QuantGranularity,
        TensorDataType,
        TensorQuantizationConfig,
    )

    return OpQuantizationConfig(
        activation_tensor_config=TensorQuantizationConfig(8, symmetric=False, dtype=TensorDataType.UINT),
        weight_tensor_config=TensorQuantizationConfig(8, symmetric=True, granularity=QuantGranularity.CHANNELWISE),
        compute_precision=ComputePrecision.INTEGER,
    )


def _scope(tensor: str) -> str:
    """Of one operation: the name of its output tensor and a semicolon."""
    return f"^{re.escape(tensor)};$"


def _ranges(content: bytearray, recipe: Any, samples: Batch, options: Options, report: Report) -> dict[str, Any]:
    """The range of every activation: smallest and largest value over all samples, or the library's moving average of both."""
    from litert_quantizer.calibrator import Calibrator
    from litert_quantizer.utils.qsv_utils import min_max_update, moving_average_update

    report(0.5, f"Calibrating on {len(samples)} samples")
    name, source = signature(bytes(content))
    update = moving_average_update if options.get("calibrator") == "moving_average" else min_max_update
    calibrator = Calibrator(content, num_threads=1, qsv_update_func=update)
    calibrator.calibrate({name: [{source: samples[i : i + 1]} for i in range(len(samples))]}, recipe)
    ranges: dict[str, Any] = calibrator.get_model_qsvs()
    return ranges
