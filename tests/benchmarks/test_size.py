from pathlib import Path

import pytest

from benchmarks.size import effective_bits_per_weight, measure, stored_bytes, type_bits
from quantizers.schema import Granularity


@pytest.mark.parametrize(
    ("dtype", "bits"), [("float32", 32), ("bfloat16", 16), ("int8", 8), ("int4", 4), ("int8 (dynamic)", 8)]
)
def test_a_types_name_tells_its_width(dtype: str, bits: int) -> None:
    assert type_bits(dtype) == bits


def test_a_type_without_a_width_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="bool"):
        type_bits("bool")


def test_float_types_take_their_own_width(make_layer) -> None:
    assert effective_bits_per_weight([make_layer(dtype="float32")]) == 32
    assert effective_bits_per_weight([make_layer(dtype="float16")]) == 16


@pytest.mark.parametrize(
    ("granularity", "grids"), [(Granularity.PER_TENSOR, 1), (Granularity.PER_CHANNEL, 5), (Granularity.PER_GROUP, 5 * 4)]
)
def test_every_grid_costs_a_float32_and_an_int64(make_layer, granularity: Granularity, grids: int) -> None:
    weight = make_layer(shape=(5, 10), granularity=granularity).weight
    assert stored_bytes(weight) == 50 + 12 * grids


def test_four_bits_count_half_a_byte(make_layer) -> None:
    layer = make_layer(shape=(5, 10), bits=4, granularity=Granularity.PER_TENSOR)
    assert stored_bytes(layer.weight) == 25 + 12
    assert effective_bits_per_weight([layer]) == 8 * 37 / 50


def test_the_mean_is_over_weights_and_not_over_layers(make_layer) -> None:
    layers = [make_layer("a", (10, 30), dtype="float32"), make_layer("b", (10, 10), dtype="float16")]
    assert effective_bits_per_weight(layers) == 28


def test_sizes_are_those_of_the_files(make_layer, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(bytes(250))
    large.write_bytes(bytes(1000))
    report = measure(small, large, [make_layer(dtype="float32")])
    assert (report.bytes, report.float_bytes, report.ratio) == (250, 1000, 4.0)
    assert measure(large, small, [make_layer(dtype="float32")]).ratio == 0.25
