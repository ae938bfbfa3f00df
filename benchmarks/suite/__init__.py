"""The performance benchmarks, by name. Each is a function that measures and returns figures with a unit and a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.suite import (
    better_rounding,
    calibration_memory,
    fidelity_cost,
    latency_noise,
    latency_repeat,
    mixed_precision,
    native_int8,
    onnx_sweep,
    page_switch,
    playground_drag,
    run_listing,
    sensitivity,
    shared_work,
    weight_analysis,
    weight_error,
    what_if,
)
from benchmarks.suite.figure import Figures

BENCHMARKS: Mapping[str, Callable[[], Figures]] = {
    "weight_error": weight_error.run,
    "weight_analysis": weight_analysis.run,
    "what_if": what_if.run,
    "playground_drag": playground_drag.run,
    "latency_noise": latency_noise.run,
    "latency_repeat": latency_repeat.run,
    "native_int8": native_int8.run,
    "better_rounding": better_rounding.run_rounding,
    "trained_rounding": better_rounding.run_training,
    "fidelity_cost": fidelity_cost.run,
    "calibration_memory": calibration_memory.run,
    "onnx_sweep": onnx_sweep.run,
    "shared_work": shared_work.run,
    "ten_techniques": shared_work.run_ten,
    "run_listing": run_listing.run,
    "page_switch": page_switch.run,
    "sensitivity": sensitivity.run,
    "mixed_precision": mixed_precision.run,
}
