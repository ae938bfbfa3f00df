"""PyTorch's own numeric suite (torch.ao.ns). PyTorch is one of this project's libraries: it runs in its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers.adapter import CALIBRATION, Found, Peer, Task, batches, measured, serve, torch_model

PEER = Peer("numeric_suite", "torch.ao numeric suite", "benchmarks.peers.numeric_suite", {"add_loggers": Task.ACTIVATIONS})


def add_loggers(folder: Path) -> Found:
    """SQNR of every activation it matches, float against static int8."""
    import warnings

    import torch
    from torch.ao.ns import _numeric_suite_fx as suite
    from torch.ao.ns.fx.utils import compute_sqnr
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    warnings.simplefilter("ignore")
    photos = batches(folder)
    prepared = prepare_fx(torch_model(folder), get_default_qconfig_mapping("x86"), (photos[0],))
    with torch.inference_mode():
        for batch in batches(folder, CALIBRATION)[:2]:
            prepared(batch)
    quantized = convert_fx(prepared)

    def work() -> Any:
        both = suite.add_loggers("float", prepared, "int8", quantized, suite.OutputLogger)
        with torch.inference_mode():
            for module in both:
                for batch in photos:
                    module(batch)
        found = suite.extract_logger_info(*both, suite.OutputLogger, "int8")
        suite.extend_logger_results_with_comparison(found, "float", "int8", compute_sqnr, "sqnr")
        return found

    found, seconds, peak = measured(work)
    return Found(seconds, peak, layers=len(found))


if __name__ == "__main__":
    serve({"add_loggers": add_loggers})
