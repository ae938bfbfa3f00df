"""Mixed-precision picks judged alike, whoever made them: `python -m benchmarks.peers.judge FOLDER`.

Reads picks.json, for each name the bits of each layer, and prints what each is worth as its last line. The weights are rounded
as this project stores them and run on the test photos, which no choice was made on; bytes are those of the packed codes. A
layer that a pick does not mention, or wants wider than float16, counts as float16.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.adapter import PHOTOS, THREADS, layer_name

PICKS = "picks.json"
WIDTHS = (2, 4, 8, 16)


def main(folder: Path) -> None:
    """Prints bytes, SQNR in dB and agreement (0 to 1) of each pick."""
    import torch

    from benchmarks.engine import Engine
    from benchmarks.peers.material import MODEL
    from benchmarks.sensitivity.analyse import round_weights
    from benchmarks.sensitivity.mixed import measure_choice, packed_bytes, unquantized_bytes
    from models import catalogue

    torch.set_num_threads(THREADS)
    engine = Engine(catalogue.load(MODEL).torch_module(), torch.from_numpy(np.load(folder / PHOTOS)))
    reference, rounded = engine.run(), round_weights(engine, WIDTHS)
    judged: dict[str, dict[str, Any]] = {}
    for name, bits in json.loads((folder / PICKS).read_text(encoding="utf-8")).items():
        choice = completed(bits, [layer.name for layer in engine.layers])
        losses = measure_choice(engine, reference, rounded, choice, None)
        size = unquantized_bytes(engine) + sum(packed_bytes(rounded[key]) for key in choice.items())
        judged[name] = {"bytes": size, "sqnr_db": losses.sqnr_db, "agreement": losses.agreement}
    print(json.dumps(judged))


def completed(bits: Mapping[str, int], layers: list[str]) -> dict[str, int]:
    """A width out of WIDTHS for each layer: the next wider one.

    Raises:
        ValueError: the pick names a layer that the model has not; judging the rest as float16 would be unjust.
    """
    named = {layer_name(name): width for name, width in bits.items()}
    if unknown := named.keys() - set(layers):
        raise ValueError(f"not layers of the model: {', '.join(sorted(unknown))}")
    return {layer: next((width for width in WIDTHS if width >= named.get(layer, WIDTHS[-1])), WIDTHS[-1]) for layer in layers}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
