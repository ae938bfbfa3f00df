"""ONNX Runtime's qdq_loss_debug. It is one of this project's own libraries and runs in its environment."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.adapter import THREADS, Found, Peer, Task, serve

PEER = Peer("ort_debug", "ONNX Runtime qdq_loss_debug", "benchmarks.peers.ort_debug", {"qdq_loss_debug": Task.ACTIVATIONS})


def qdq_loss_debug(folder: Path) -> Found:
    """Error of every tensor, by the steps of its documentation."""
    from benchmarks.suite import _fidelity_process as process

    found = process._loss_debug(folder, THREADS)
    return Found(found["seconds"], found["bytes"], layers=found["layers"])


if __name__ == "__main__":
    serve({"qdq_loss_debug": qdq_loss_debug})
