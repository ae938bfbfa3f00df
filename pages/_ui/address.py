"""The address of a new experiment that asks for what stored runs were asked for, so that every page can offer it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models import catalogue
from pages._ui import mixed
from pages._ui.matrix import PARAMETER, Pair, write
from pages._ui.options import off_default
from quantizers.schema import Backend, Mode, Technique

Query = dict[str, str | list[str]]


def address_of(runs: Sequence[Mapping[str, Any]]) -> Query:
    """The parameters of the new-experiment page for runs of one experiment; only one choice of mixed precision is kept."""
    first = runs[0]
    measurement = first["measurement"]
    query: Query = {"new_model": first["model"], "new_data": measurement["data"]}
    pairs: list[Pair] = []
    for run in runs:
        technique = Technique.parse(run["technique"])
        if technique.mode is Mode.MIXED:
            query |= mixed.parameters(technique, catalogue.layer_names(first["model"]))
        pairs.append((Backend(run["backend"]), mixed.CODE if technique.mode is Mode.MIXED else technique.code))
    query |= {PARAMETER: write(list(dict.fromkeys(pairs)))}
    conditions = {
        "new_calibration": measurement["calibration_samples"],
        "new_evaluation": measurement["eval_samples"],
        "new_seed": measurement["seed"],
        "new_threads": measurement["threads"],
        "new_latency": measurement["latency"],
    }
    conditions |= {f"new_option_{name}": value for run in runs for name, value in off_default(run).items()}
    return (
        query | {name: str(value).lower() for name, value in conditions.items()} | {"new_keep_float": list(first["keep_float"])}
    )
