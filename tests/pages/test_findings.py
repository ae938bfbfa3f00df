"""What is said of a run's layers follows from their figures."""

from typing import Any

from made_runs import make_run

from pages._ui.findings import find


def layers(technique: str, per_channel: bool = True) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = make_run("r", "tflite", technique, per_channel=per_channel)[0]["layers"]
    return found


def test_the_layer_with_the_lowest_output_sqnr_is_named() -> None:
    run = layers("static_wi8_ai8")
    lowest = min(run, key=lambda layer: layer["output"]["sqnr_db"])
    finding = find(run)
    assert finding.layer == lowest["name"]
    assert f"**{lowest['name']}** has the lowest output SQNR" in finding.text
    assert f"{100 * 10 ** (-lowest['output']['sqnr_db'] / 20):.1f}\u202f% of its signal" in finding.text


def test_a_float_run_has_nothing_to_point_at() -> None:
    finding = find(layers("float32"))
    assert finding.layer is None
    assert "exactly" in finding.text


def test_clipping_is_called_clipping() -> None:
    run = layers("static_wi8_ai8")
    for layer in run:
        layer["weight"]["clipping_share"] = 0.8
    assert "is clipping" in find(run).text


def test_layers_left_in_float_are_counted_with_the_reason() -> None:
    run = layers("dynamic_wi8")
    run[0] |= {"quantized": False, "why_not": "too few weights"}
    assert "1 of 5 layers stay in float: too few weights" in find(run).text


def test_weights_stand_in_where_no_output_was_compared() -> None:
    run = layers("static_wi8_ai8", per_channel=False)
    for layer in run:
        layer["output"] = None
    assert "lowest weight SQNR" in find(run).text
    assert "one scale per channel" in find(run).text
