"""Runs made up for tests of pages: the shape of real ones, weights drawn at random and really quantized, figures invented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantizers.numerics import dequantize, min_max_params, quantization_error, quantize
from quantizers.schema import Granularity, Technique

LAYERS = {
    "conv1": (16, 1, 3, 3),
    "conv2": (32, 16, 3, 3),
    "depthwise": (32, 1, 3, 3),
    "pointwise": (64, 32, 1, 1),
    "dense": (10, 256),
}
BITS = {"float32": 32, "float16": 16}
SPEED = {"float32": 1.0, "float16": 0.98, "dynamic_wi8": 0.8, "static_wi8_ai8": 1.9, "static_wi8_ai16": 0.6}
DROP = {"float32": 0.0, "float16": 0.0, "dynamic_wi8": -0.04, "static_wi8_ai8": 0.21, "static_wi8_ai16": 0.02}
FLOAT_BYTES = 183_412
Arrays = dict[str, NDArray[Any]]


def make_run(
    run_id: str, backend: str, technique: str, model: str = "fashion-cnn", per_channel: bool = True
) -> tuple[dict[str, Any], Arrays]:
    """A finished run and its arrays."""
    arrays: Arrays = {}
    layers = [_layer(name, shape, technique, per_channel, arrays) for name, shape in LAYERS.items()]
    simulated = technique == "weight_only_wi8"
    ratio = {32: 1.0, 16: 1.98, 8: 3.62}[BITS.get(technique, 8)]
    run = {
        "schema": 1,
        "run_id": run_id,
        "experiment_id": f"experiment-{model}",
        "status": "done",
        "model": model,
        "backend": backend,
        "technique": technique,
        "options": {"per_channel": per_channel} if technique == "static_wi8_ai8" else {},
        "keep_float": [],
        "measurement": {
            "data": "fashion-mnist",
            "calibration_samples": 200,
            "eval_samples": 10_000,
            "seed": 0,
            "threads": 1,
            "latency": "quick",
        },
        "stage": "",
        "progress": 1.0,
        "error": None,
        "created": 1.79e9,
        "started": 1.79e9,
        "finished": 1.79e9 + 20,
        "execution": "simulated" if simulated else "native",
        "layers_total": len(layers),
        "layers_quantized": sum(layer["quantized"] for layer in layers),
        "artefact": {"path": "model.tflite", "sha256": "0" * 64},
        "size": {
            "bytes": int(FLOAT_BYTES / ratio),
            "float_bytes": FLOAT_BYTES,
            "ratio": ratio,
            "effective_bits_per_weight": 32 / ratio,
        },
        "quality": _quality(technique),
        "latency": None if simulated else _latency(backend, technique),
        "latency_why_not": "simulated: activations stay float32." if simulated else None,
        "memory": {"peak_rss_bytes": 31_000_000, "runtime_baseline_bytes": 24_000_000},
        "provenance": {
            "versions": {"python": "3.11"},
            "cpu": "Test CPU",
            "isa": ["avx2"],
            "threads": 1,
            "seed": 0,
            "model_sha256": "2" * 64,
            "dataset": {"id": "fashion-mnist", "sha256": "1" * 64},
            "seconds": {"quantize": 1.0},
        },
        "layers": layers,
    }
    return run, arrays


def write_examples(folder: Path, runs: list[tuple[dict[str, Any], Arrays]]) -> None:
    """An examples folder as `make examples` leaves one."""
    for run, arrays in runs:
        target = folder / f"{run['model']}--{run['backend']}--{run['technique']}"
        target.mkdir(parents=True)
        (target / "run.json").write_text(json.dumps(run), encoding="utf-8")
        np.savez_compressed(target / "details.npz", **arrays)


def _quality(technique: str) -> dict[str, Any]:
    drop = DROP.get(technique, 0.05)
    top1 = 0.8982 - drop / 100
    interval = [drop - 0.12, drop + 0.12] if technique != "float32" else [0.0, 0.0]
    return {
        "n": 10_000,
        "top1": top1,
        "top1_ci95": [top1 - 0.006, top1 + 0.006],
        "float_top1": 0.8982,
        "drop_pp": drop,
        "drop_pp_ci95": interval,
        "within_noise": interval[0] <= 0 <= interval[1],
        "f1_macro": top1,
        "precision_macro": top1,
        "recall_macro": top1,
        "agreement": 0.992,
        "flips": {"right_to_wrong": 30, "wrong_to_right": 12, "wrong_to_other": 5},
        "output_sqnr_db": 28.4,
    }


def _latency(backend: str, technique: str) -> dict[str, Any]:
    base = {"pytorch": 0.41, "tflite": 0.18, "onnxruntime": 0.2}[backend]
    speedup = SPEED.get(technique, 1.1)
    p50 = base / speedup
    interval = [speedup * 0.96, speedup * 1.04]
    verdict = "no_measurable_difference" if interval[0] <= 1 <= interval[1] else "faster" if speedup > 1 else "slower"
    return {
        "threads": 1,
        "batch": 1,
        "n": 1500,
        "p50_ms": p50,
        "p90_ms": p50 * 1.1,
        "p99_ms": p50 * 1.4,
        "iqr_ms": p50 * 0.03,
        "p50_ci95_ms": [p50 * 0.99, p50 * 1.01],
        "throughput_per_s": 1000 / p50,
        "noisy": False,
        "repeated_blocks": 2,
        "baseline": "float32",
        "float_p50_ms": base,
        "eager_p50_ms": None,
        "speedup_vs_eager": None,
        "speedup": speedup,
        "speedup_ci95": interval,
        "verdict": verdict,
        "load_ms": 2.0,
        "first_ms": 0.6,
    }


def _layer(name: str, shape: tuple[int, ...], technique: str, per_channel: bool, arrays: Arrays) -> dict[str, Any]:
    rng = np.random.default_rng(sum(map(ord, name)))
    spread = rng.lognormal(-2.5, 0.7, size=(shape[0], *[1] * (len(shape) - 1)))
    weight = (rng.standard_normal(shape) * spread).astype(np.float32)
    edges = np.linspace(float(weight.min()) * 1.05, float(weight.max()) * 1.05, 129)
    key = f"{name}|weight"
    arrays[f"{key}|edges"] = edges
    arrays[f"{key}|float"] = np.histogram(weight, edges)[0].astype(np.int64)
    described, restored = _quantized(weight, technique, per_channel, arrays, key)
    arrays[f"{key}|quantized"] = np.histogram(np.clip(restored, edges[0], edges[-1]), edges)[0].astype(np.int64)
    described["shape"] = list(shape)
    integer = described["scale"] is not None
    activation = Technique.parse(technique).activation if integer else None
    return {
        "name": name,
        "native_name": f"model/{name}",
        "op": "DENSE" if len(shape) == 2 else "CONV_2D",
        "quantized": technique != "float32",
        "why_not": "float32 quantizes nothing" if technique == "float32" else None,
        "runs_in": activation.replace("i", "int") if activation else "float32",
        "weight": described,
        "bias": None,
        "inputs": [],
        "output": _output(technique, activation, sum(map(ord, name)) % 9),
    }


def _quantized(
    weight: NDArray[np.float32], technique: str, per_channel: bool, arrays: Arrays, key: str
) -> tuple[dict[str, Any], NDArray[Any]]:
    absent = dict.fromkeys(
        ("bits", "scheme", "granularity", "axis", "scale", "zero_point", "qmin", "qmax", "sqnr_db", "mse", "cosine", "max_abs")
    )
    absent |= dict.fromkeys(("rmse_per_step", "clipping_share", "levels_used"))
    if technique in BITS:
        stored = weight.astype(np.float16 if technique == "float16" else np.float32)
        return absent | {
            "dtype": technique,
            "bits": BITS[technique],
            "sqnr_db": 74.2 if technique == "float16" else None,
        }, stored.astype(np.float32)
    params = min_max_params(weight, 8, granularity=Granularity.PER_CHANNEL if per_channel else Granularity.PER_TENSOR)
    codes = quantize(weight, params)
    error = quantization_error(weight, codes, params)
    arrays[f"{key}|codes"] = np.bincount(codes.ravel() - params.qmin, minlength=255).astype(np.int64)
    rows = weight.reshape(weight.shape[0], -1)
    arrays[f"{key}|channel_min"], arrays[f"{key}|channel_max"] = rows.min(axis=1), rows.max(axis=1)
    bounds = params.scale * params.qmin, params.scale * params.qmax
    if per_channel:
        arrays[f"{key}|clip_low"], arrays[f"{key}|clip_high"] = bounds
    else:
        arrays[f"{key}|clip"] = np.array([bounds[0][0], bounds[1][0]])
    described = {
        "dtype": "int8",
        "bits": 8,
        "scheme": params.scheme.value,
        "granularity": params.granularity.value,
        "axis": params.axis,
        "scale": params.scale.tolist(),
        "zero_point": params.zero_point.tolist(),
        "qmin": params.qmin,
        "qmax": params.qmax,
        "sqnr_db": error.sqnr_db,
        "mse": error.mse,
        "cosine": error.cosine,
        "max_abs": error.max_abs,
        "rmse_per_step": error.rmse_per_step,
        "clipping_share": error.clipping_share,
        "levels_used": error.levels_used,
    }
    return described, dequantize(codes, params)


def _output(technique: str, activation: str | None, wobble: int) -> dict[str, Any]:
    if technique == "float32":
        return {
            "dtype": "float32",
            "scale": None,
            "zero_point": None,
            "sqnr_db": None,
            "sqnr_db_why_not": "exact",
            "mse": 0.0,
            "cosine": 1.0,
        }
    sqnr = {"float16": 66.0, "static_wi8_ai16": 41.0, "static_wi8_ai8": 29.0}.get(technique, 37.0) - wobble
    grid = {"scale": [0.021], "zero_point": [-128]} if activation else {"scale": None, "zero_point": None}
    return {
        "dtype": activation.replace("i", "int") if activation else "float32",
        "sqnr_db": sqnr,
        "mse": 0.001,
        "cosine": 0.999,
    } | grid
