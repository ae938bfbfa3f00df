"""One layer changed: what each technique can express, and the experiment that comes of it."""

from __future__ import annotations

from typing import Any

import pytest
from made_runs import make_run

from experiments.spec import TrialSpec, plan
from pages._ui.closed_loop import Change, experiment, possible
from pages._ui.comparison import layer_words
from quantizers.capabilities import resolve_options
from quantizers.schema import Backend, Technique


def run(backend: str, technique: str, model: str = "mnist-cnn") -> dict[str, Any]:
    made = make_run("r", backend, technique, model)[0]
    return made | {"options": resolve_options(Backend(backend), Technique.parse(technique), {})}


def code(old: dict[str, Any], change: Change) -> str:
    ((_, technique),) = experiment(old, change).techniques
    return technique


def test_keeping_a_layer_float_changes_nothing_else() -> None:
    old = run("onnxruntime", "weight_only_wi8")
    new = experiment(old, Change("conv2", keep_float=True))
    before = TrialSpec.from_dict(old)
    assert new.keep_float == ("conv2",)
    assert (new.model, new.measurement, new.options) == (before.model, before.measurement, before.options)
    assert new.techniques == ((before.backend, before.technique),)


@pytest.mark.parametrize("backend", ["pytorch", "tflite", "onnxruntime"])
def test_more_bits_turns_a_static_technique_into_mixed_precision(backend: str) -> None:
    old = run(backend, "static_wi8_ai8")
    assert possible(old, "conv2").bits == (8, 16)
    new = experiment(old, Change("conv2", more_bits=True))
    assert code(old, Change("conv2", more_bits=True)) == 'mixed:{"conv2":16,"*":8}'
    assert new.options
    assert new.options.items() <= old["options"].items()
    assert [trial.options for trial in plan(new).trials] == [dict(new.options)]


def test_what_was_kept_float_stays_float_in_mixed_precision() -> None:
    old = run("tflite", "static_wi8_ai8") | {"keep_float": ["dense"]}
    widths = Technique.parse(code(old, Change("conv1", more_bits=True))).bits_by_layer(["conv1", "conv2", "dense"])
    assert widths == {"conv1": 16, "conv2": 8, "dense": 0}


def test_in_mixed_precision_a_layer_steps_up_or_becomes_float() -> None:
    old = run("onnxruntime", "static_wi8_ai8") | {"technique": 'mixed:{"conv1":4,"*":8}', "options": {}}
    names = ["conv1", "conv2"]
    assert possible(old, "conv1").bits == (4, 8)
    assert Technique.parse(code(old, Change("conv1", more_bits=True))).bits_by_layer(names)["conv1"] == 8
    assert Technique.parse(code(old, Change("conv1", keep_float=True))).bits_by_layer(names) == {"conv1": 0, "conv2": 8}


def test_other_clipping_offers_what_is_not_chosen_yet() -> None:
    old = run("pytorch", "static_wi8_ai8")
    can = possible(old, "conv1")
    assert ("weight_range", "mse") in can.clipping
    assert ("weight_range", "minmax") not in can.clipping
    new = experiment(old, Change("conv1", clipping=("weight_range", "mse")))
    assert new.options == dict(old["options"]) | {"weight_range": "mse"}


def test_what_cannot_be_done_says_why() -> None:
    dynamic = possible(run("tflite", "dynamic_wi8"), "conv1")
    assert "one width for all layers" in str(dynamic.more_bits_why_not)
    assert "one way to find ranges" in str(dynamic.clipping_why_not)
    assert "imitates a whole integer model" in str(possible(run("tflite", "qat_wi8_ai8"), "conv1").keep_float_why_not)
    assert not possible(run("tflite", "float32"), "conv1").anything
    kept = run("tflite", "static_wi8_ai8")
    kept["layers"][0] |= {"quantized": False}
    assert "in float already" in str(possible(kept, "conv1").keep_float_why_not)


def test_old_and_new_are_told_in_a_sentence() -> None:
    old, new = run("tflite", "static_wi8_ai8"), run("tflite", "static_wi8_ai16")
    before, after = (one["layers"][0]["output"]["sqnr_db"] for one in (old, new))
    words = layer_words(old, new, "conv1")
    assert words == f"Output SQNR of **conv1**: {before:.1f}\u202fdB before, now {after:.1f}\u202fdB."
    assert "now exact" in str(layer_words(old, run("tflite", "float32"), "conv1"))
    assert layer_words(old, new, "no such layer") is None
