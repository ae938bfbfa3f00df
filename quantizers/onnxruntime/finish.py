"""The last steps of a conversion: a file, read back and checked, and beside a better rounded one a plainly rounded one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from quantizers.adapter import Batch
from quantizers.onnxruntime.convert import NEAREST, Job, convert
from quantizers.onnxruntime.describe import describe
from quantizers.onnxruntime.model import OnnxModel, check
from quantizers.onnxruntime.prepare import compare_size, save


def finish(job: Job, path: Path, sample: Batch | None) -> OnnxModel:
    """Converts into the file at `path`.

    Args:
        sample: [1, …] that the float model computes finite numbers on; None when there is none.

    Raises:
        QuantScopeError: what `convert.convert` and `model.check` raise.
    """
    plain = None
    if job.request.options.get("rounding", NEAREST) != NEAREST:
        request = replace(job.request, options={**job.request.options, "rounding": NEAREST})
        plain = finish(replace(job, request=request, steps=[*job.steps]), path.with_name(f"plain-{path.name}"), sample)
    save(convert(job), path)
    job.report(0.9, "Reading the converted file")
    records = describe(path, job.float_ops, job.request, job.folder)
    job.steps.append(compare_size(job.path, path))
    quantized = OnnxModel(path, records, job.request.technique, job.steps, plain=plain)
    check(quantized, job.request.technique, sample)
    return quantized
