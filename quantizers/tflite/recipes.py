"""Float .tflite → quantized .tflite with litert-quantizer: the techniques TensorFlow's converter does not have, and 4 bits.

The library rewrites a file in milliseconds and needs no TensorFlow. It skips in silence what its policy does not list (2-bit
weights, 4-bit depthwise convolutions), so the result is read back and checked like any other. Its default calibration is a
moving average of the samples' ranges, which clips: the plain minimum and maximum over all samples are asked for instead.

Source: https://github.com/google-ai-edge/ai-edge-quantizer
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from quantizers.adapter import Batch, Report
from quantizers.errors import ConversionFailed
from quantizers.schema import Mode, Technique
from quantizers.tflite.reader import signature
from quantizers.tflite.runtime import quiet_about_kept_tensors

_EVERYTHING = ".*"


def covers(technique: Technique) -> bool:
    """Whether this engine makes `technique`; the others are TensorFlow's converter's, or simulated."""
    return technique.mode is Mode.WEIGHT_ONLY or technique.weight == "i4"


def quantize(float_file: bytes, technique: Technique, samples: Batch | None, kept: Collection[str], report: Report) -> bytes:
    """The quantized form of a float .tflite, one scale per output channel.

    Args:
        samples: checked calibration samples [N, …], needed by the static techniques.
        kept: output tensors of the operations that stay in float.

    Raises:
        ConversionFailed: the library refused the model.
    """
    from litert_quantizer.quantizer import Quantizer

    recipe = _recipe(technique, kept)
    content = bytearray(float_file)
    try:
        with quiet_about_kept_tensors():
            ranges = None if samples is None else _ranges(content, recipe, samples, report)
            result = Quantizer(content, recipe.get_quantization_recipe()).quantize(ranges, enable_progress_report=False)
    except Exception as error:
        raise ConversionFailed(f"litert-quantizer refused the model: {error}", "The log has the details.") from error
    return bytes(result.quantized_model)


def _recipe(technique: Technique, kept: Collection[str]) -> Any:
    """What is done to which operation; a later rule wins."""
    from litert_quantizer.qtyping import TFLOperationName
    from litert_quantizer.recipe_manager import AlgorithmName, RecipeManager

    recipe, every = RecipeManager(), TFLOperationName.ALL_SUPPORTED
    if technique.mode is Mode.STATIC:
        recipe.add_static_config(_EVERYTHING, every, technique.activation_bits, technique.weight_bits)
    elif technique.mode is Mode.DYNAMIC:
        recipe.add_dynamic_config(_EVERYTHING, every, technique.weight_bits)
    else:
        recipe.add_weight_only_config(_EVERYTHING, every, technique.weight_bits)
    for tensor in kept:
        # The scope of an operation is the name of its output tensor and a semicolon.
        recipe.add_quantization_config(f"^{re.escape(tensor)};$", every, algorithm_key=AlgorithmName.NO_QUANTIZE)
    return recipe


def _ranges(content: bytearray, recipe: Any, samples: Batch, report: Report) -> dict[str, Any]:
    """The smallest and largest value of every activation over all samples."""
    from litert_quantizer.calibrator import Calibrator
    from litert_quantizer.utils.qsv_utils import min_max_update

    report(0.5, f"Calibrating on {len(samples)} samples")
    name, source = signature(bytes(content))
    calibrator = Calibrator(content, num_threads=1, qsv_update_func=min_max_update)
    calibrator.calibrate({name: [{source: samples[i : i + 1]} for i in range(len(samples))]}, recipe)
    ranges: dict[str, Any] = calibrator.get_model_qsvs()
    return ranges
