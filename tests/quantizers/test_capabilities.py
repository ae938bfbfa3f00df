"""The table of what is possible: complete options, reasons for what is impossible, suggestions for what is misspelt."""

import pytest

from quantizers import registry
from quantizers.capabilities import (
    BACKEND_TITLES,
    BACKENDS,
    CAPABILITIES,
    Capability,
    capability,
    check_options,
    needs_calibration,
    parse_backend,
    require,
    resolve_options,
    techniques,
)
from quantizers.errors import InputError, UnknownName, Unsupported
from quantizers.schema import Backend, Technique

POSSIBLE = [cell for cell in CAPABILITIES.values() if cell.available]
IMPOSSIBLE = [cell for cell in CAPABILITIES.values() if not cell.available]
STATIC = Technique.parse("static_wi8_ai8")
FLOAT = Technique.parse("float32")


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_begins_with_its_float_baseline_and_has_an_adapter(backend: Backend) -> None:
    first = techniques(backend)[0]
    assert first.code == "float32"
    assert first.available
    assert BACKEND_TITLES[backend]
    assert registry.get(backend).backend is backend


@pytest.mark.parametrize("cell", POSSIBLE, ids=lambda cell: f"{cell.backend}-{cell.code}")
def test_what_is_possible_has_an_execution_and_defaults_of_its_own_choices(cell: Capability) -> None:
    assert cell.execution is not None
    options = resolve_options(cell.backend, Technique.parse(cell.code), {})
    assert dict(options) == {option.name: option.choices[0] for option in cell.options}
    assert require(cell.backend, Technique.parse(cell.code)) is cell


@pytest.mark.parametrize("cell", IMPOSSIBLE, ids=lambda cell: f"{cell.backend}-{cell.code}")
def test_what_is_impossible_is_refused_with_its_reason(cell: Capability) -> None:
    assert cell.execution is None
    with pytest.raises(Unsupported) as caught:
        require(cell.backend, Technique.parse(cell.code))
    assert cell.why_not in caught.value.message


def test_some_cell_is_impossible() -> None:
    assert IMPOSSIBLE


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_reads_back_from_its_name(backend: Backend) -> None:
    assert parse_backend(backend.value) is backend


def test_a_misspelt_backend_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownName) as caught:
        parse_backend("tflit")
    assert "tflite" in caught.value.hint


def test_a_technique_of_no_backend_is_unknown() -> None:
    with pytest.raises(UnknownName) as caught:
        capability(Backend.TFLITE, Technique.parse("static_wi8_ai4"))
    assert "static_wi8_ai" in caught.value.hint


def test_a_technique_of_another_backend_is_unsupported() -> None:
    elsewhere = {code for _, code in CAPABILITIES} - {cell.code for cell in techniques(Backend.PYTORCH)}
    for code in elsewhere:
        with pytest.raises(Unsupported) as caught:
            capability(Backend.PYTORCH, Technique.parse(code))
        assert "float32" in caught.value.hint
    assert elsewhere


@pytest.mark.parametrize("given", ["false", "False", "FALSE", False])
def test_options_are_read_as_people_write_them(given: object) -> None:
    options = resolve_options(Backend.PYTORCH, STATIC, {"per_channel": given})
    assert options["per_channel"] is False
    assert options["observer"] == "histogram"


def test_an_option_of_another_technique_is_left_out() -> None:
    assert dict(resolve_options(Backend.PYTORCH, FLOAT, {"observer": "minmax"})) == {"lowered": True}


def test_a_value_that_is_no_choice_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownName) as caught:
        resolve_options(Backend.PYTORCH, STATIC, {"observer": "minmx"})
    assert "minmax" in caught.value.hint


def test_an_option_must_fit_one_of_the_techniques() -> None:
    cells = [capability(Backend.PYTORCH, FLOAT), capability(Backend.PYTORCH, STATIC)]
    check_options(cells, {"lowered": "false", "observer": "minmax"})
    with pytest.raises(UnknownName) as caught:
        check_options(cells, {"observr": "minmax"})
    assert "observer" in caught.value.hint
    with pytest.raises(InputError):
        check_options([cells[0]], {"observer": "minmax"})


@pytest.mark.parametrize(
    ("code", "options", "needed"),
    [
        ("weight_only_wi4", {}, False),
        ("weight_only_wi4", {"rounding": "nearest"}, False),
        ("weight_only_wi4", {"rounding": "compensated"}, True),
        ("static_wi8_ai8", {"rounding": "nearest"}, True),
        ("static_wi8_ai8", {}, True),
    ],
)
def test_samples_are_needed_for_ranges_and_for_rounding_that_looks_at_outputs(code, options, needed) -> None:
    assert needs_calibration(Technique.parse(code), options) is needed
