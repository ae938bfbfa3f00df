"""The peers, by name. A new one is a file beside this and a name here."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.peers import aimet_onnx, aimet_torch, mct, modelopt, naive, nncf, numeric_suite, ort_debug, ppq
from benchmarks.peers.adapter import Peer

PEERS: Mapping[str, Peer] = {
    one.PEER.name: one.PEER for one in (naive, ort_debug, numeric_suite, mct, ppq, aimet_onnx, aimet_torch, modelopt, nncf)
}
