"""Mixed precision in the form: a choice becomes a technique's code, and a stored run fills the form in again."""

from __future__ import annotations

import pytest

from pages._ui import mixed
from pages._ui.address import address_of
from quantizers.errors import InputError
from quantizers.schema import Technique

LAYERS = ("conv1", "conv2", "dense1", "dense2")


def test_a_choice_is_written_in_the_grammar_of_the_command_line() -> None:
    assert mixed.code({"8": ["conv1"], "float": ["dense2"]}, "4") == 'mixed:{"conv1":8,"dense2":"float","*":4}'


def test_a_layer_has_one_width() -> None:
    with pytest.raises(InputError, match="conv1 was given two widths"):
        mixed.code({"8": ["conv1"], "2": ["conv1"]}, "4")


@pytest.mark.parametrize("text", ['mixed:{"conv1":8,"dense2":"float","*":4}', 'mixed:{"conv*":2,"*":"float"}', 'mixed:{"*":8}'])
def test_a_stored_choice_fills_the_form_in(text: str) -> None:
    technique = Technique.parse(text)
    found = mixed.parameters(technique, LAYERS)
    chosen = {width: list(found[f"new_mixed_{width}"]) for width in mixed.WIDTHS}
    again = Technique.parse(mixed.code(chosen, str(found[mixed.REST])))
    assert again.bits_by_layer(LAYERS) == technique.bits_by_layer(LAYERS)


def test_the_address_asks_for_what_runs_were_asked_for() -> None:
    measurement = {
        "data": "mnist-5k",
        "calibration_samples": 50,
        "eval_samples": 100,
        "seed": 3,
        "threads": 1,
        "latency": "none",
    }
    run = {"model": "mnist-cnn", "backend": "tflite", "technique": 'mixed:{"conv1":8,"*":4}', "options": {}, "keep_float": []}
    plain = run | {"technique": "static_wi8_ai8", "options": {"io": "uint8"}}
    query = address_of([one | {"measurement": measurement} for one in (run, plain)])
    assert query["new_techniques"] == "tflite:mixed,tflite:static_wi8_ai8"
    assert (query["new_mixed_8"], query["new_mixed_rest"]) == (["conv1"], "4")
    assert (query["new_option_io"], query["new_seed"], query["new_latency"]) == ("uint8", "3", "none")
