"""The choice of techniques lives in the address."""

from pages._ui.matrix import possible, presets, read, why_not, write
from quantizers.schema import Backend


def test_an_address_brings_its_choice_back() -> None:
    chosen = [(Backend.TFLITE, "float16"), (Backend.PYTORCH, "float32")]
    assert read(write(chosen)) == (chosen, [])


def test_no_address_means_the_quick_look_and_an_empty_one_nothing() -> None:
    assert read(None)[0] == presets()["Quick look"]
    assert read("") == ([], [])


def test_what_cannot_run_is_told_apart() -> None:
    chosen, unknown = read("tflite:float32,tflite:bfloat16,moon:int8,tflite:float32")
    assert chosen == [(Backend.TFLITE, "float32")]
    assert unknown == ["tflite:bfloat16", "moon:int8"]


def test_presets_hold_only_what_is_possible() -> None:
    everything = set(possible())
    for pairs in presets().values():
        assert set(pairs) <= everything
    backends = {backend for backend, _ in everything}
    same = presets()["Same technique everywhere"]
    assert {backend for backend, _ in same} == backends
    assert len(same) % len(backends) == 0


def test_few_bits_are_few() -> None:
    codes = {code for _, code in presets()["4-bit and below"]}
    assert {"weight_only_wi4", "binary", "ternary"} <= codes
    assert not codes & {"float32", "float16", "weight_only_wi8", "static_wi8_ai16"}


def test_an_impossible_cell_has_its_reason() -> None:
    assert "bfloat16 kernels" in (why_not(Backend.TFLITE, "bfloat16") or "")
    assert "not offered" in (why_not(Backend.PYTORCH, "dynamic_wi4") or "")
    assert why_not(Backend.TFLITE, "float16") is None
