"""The vocabulary: codes that read back, parameters that cannot contradict themselves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.capabilities import CAPABILITIES
from quantizers.errors import UnknownName
from quantizers.schema import Granularity, Mode, QuantParams, Scheme, Status, Technique

PLAIN = [Mode.FLOAT32, Mode.FLOAT16, Mode.BFLOAT16, Mode.BINARY, Mode.TERNARY]
coded = st.builds(
    Technique,
    mode=st.sampled_from([Mode.DYNAMIC, Mode.STATIC, Mode.WEIGHT_ONLY, Mode.HYBRID, Mode.QAT]),
    weight=st.sampled_from(["i8", "i4", "i2", "f16"]),
    activation=st.sampled_from([None, "i8", "i16"]),
    group_size=st.sampled_from([None, 32, 64, 128]),
)
mixed = st.builds(
    Technique,
    mode=st.just(Mode.MIXED),
    layers=st.dictionaries(st.text(min_size=1), st.sampled_from([0, 2, 4, 8, 16]), min_size=1).map(lambda d: tuple(d.items())),
)


@settings(deadline=None)
@given(st.one_of(st.sampled_from(PLAIN).map(Technique), coded, mixed))
def test_a_code_reads_back_as_what_it_was_made_from(technique: Technique) -> None:
    assert Technique.parse(technique.code) == technique


@pytest.mark.parametrize("code", sorted({code for _, code in CAPABILITIES}))
def test_the_codes_on_offer_read_back(code: str) -> None:
    assert Technique.parse(code).code == code


@pytest.mark.parametrize(
    ("code", "mode", "weight_bits", "activation_bits", "group_size"),
    [
        ("float32", Mode.FLOAT32, None, None, None),
        ("dynamic_wi8", Mode.DYNAMIC, 8, None, None),
        ("static_wi8_ai16", Mode.STATIC, 8, 16, None),
        ("weight_only_wi4_g32", Mode.WEIGHT_ONLY, 4, None, 32),
        ("hybrid_wf16_ai8", Mode.HYBRID, 16, 8, None),
    ],
)
def test_a_code_says_mode_and_widths(
    code: str, mode: Mode, weight_bits: int | None, activation_bits: int | None, group_size: int | None
) -> None:
    technique = Technique.parse(code)
    assert (technique.mode, technique.weight_bits, technique.activation_bits) == (mode, weight_bits, activation_bits)
    assert technique.group_size == group_size


@pytest.mark.parametrize("code", ["", "int8", "static", "dynamic_i8", "static_wi8_ai8_", "weight_only_wi4_g", "Float32", "qat"])
def test_what_is_no_code_is_refused(code: str) -> None:
    with pytest.raises(UnknownName) as caught:
        Technique.parse(code)
    assert "static_wi8_ai8" in caught.value.hint


def test_mixed_precision_maps_layers_to_bits() -> None:
    technique = Technique.parse('mixed:{"conv1":8,"dense":"float","*":4}')
    assert technique.layers == (("conv1", 8), ("dense", 0), ("*", 4))
    assert technique.needs_calibration


@pytest.mark.parametrize(
    "choice", ["", "{", "{}", "[]", "8", '{"conv1":3}', '{"conv1":"int8"}', '{"conv1":true}', '{"conv1":0}']
)
def test_mixed_precision_refuses_other_widths(choice: str) -> None:
    with pytest.raises(UnknownName):
        Technique.parse(f"mixed:{choice}")


@pytest.mark.parametrize(
    ("code", "needed"), [("static_wi8_ai8", True), ("qat_wi8_ai8", True), ("dynamic_wi8", False), ("float16", False)]
)
def test_only_techniques_with_fixed_activation_ranges_calibrate(code: str, needed: bool) -> None:
    assert Technique.parse(code).needs_calibration is needed


def params(**changed: object) -> QuantParams:
    given = {"scale": np.ones(1), "zero_point": np.zeros(1), "qmin": -128, "qmax": 127, "dtype": "int8"} | changed
    return QuantParams(**given)  # type: ignore[arg-type]


def test_scalars_become_vectors_and_one_zero_point_serves_all_scales() -> None:
    one = params(scale=np.float32(0.5), zero_point=3)
    assert one.scale.tolist() == [0.5]
    assert one.zero_point.tolist() == [3]
    assert params(scale=np.ones(4), axis=0).zero_point.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("changed", "granularity"),
    [
        ({}, Granularity.PER_TENSOR),
        ({"scale": np.ones(4), "axis": 0}, Granularity.PER_CHANNEL),
        ({"scale": np.ones(4), "group_size": 32}, Granularity.PER_GROUP),
    ],
)
def test_granularity_follows_from_axis_and_group(changed: dict[str, object], granularity: Granularity) -> None:
    assert params(**changed).granularity is granularity


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"axis": 0, "group_size": 32}, "not both"),
        ({"scale": np.ones(2)}, "2 scales need an axis"),
        ({"qmin": 7, "qmax": 7}, "below"),
    ],
)
def test_contradictions_are_refused(changed: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        params(**changed)


def test_zero_points_that_fit_no_scale_are_refused() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        params(scale=np.ones(3), axis=0, zero_point=np.zeros(2))


@pytest.mark.parametrize(
    ("qmin", "qmax", "zero_point", "scheme", "bits"),
    [
        (-128, 127, 0, Scheme.SYMMETRIC, 8),
        (-127, 127, 0, Scheme.SYMMETRIC, 8),
        (-128, 127, 5, Scheme.AFFINE, 8),
        (0, 255, 128, Scheme.SYMMETRIC, 8),
        (0, 255, 0, Scheme.AFFINE, 8),
        (-7, 7, 0, Scheme.SYMMETRIC, 4),
        (-1, 1, 0, Scheme.SYMMETRIC, 2),
        (-32768, 32767, 0, Scheme.SYMMETRIC, 16),
    ],
)
def test_scheme_and_width_follow_from_the_grid(qmin: int, qmax: int, zero_point: int, scheme: Scheme, bits: int) -> None:
    grid = params(qmin=qmin, qmax=qmax, zero_point=zero_point)
    assert grid.scheme is scheme
    assert grid.bits == bits


def test_only_waiting_and_working_runs_are_active() -> None:
    assert {status for status in Status if status.active} == {Status.QUEUED, Status.RUNNING}
