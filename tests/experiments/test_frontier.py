from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.frontier import Knapsack, Objective, Width, frontier_at, technique_code
from quantizers.errors import BadData
from quantizers.schema import Technique

BITS = (4, 8, 16)
FIXED = 100


def layer(size: int, loss: float) -> tuple[Width, ...]:
    return tuple(Width(bits, loss * 4.0 ** -(bits - 4), size * bits // 8, 7 * size * bits) for bits in BITS)


def knapsack(*layers: tuple[int, float]) -> Knapsack:
    return Knapsack({f"layer{place}": layer(*one) for place, one in enumerate(layers)}, FIXED)


def brute_force(of: Knapsack, budget: float) -> float:
    """The least predicted loss of all choices there are."""
    fitting = [
        sum(width.loss for width in choice)
        for choice in product(*of.widths.values())
        if FIXED + sum(width.bytes for width in choice) <= budget
    ]
    return min(fitting)


sizes_and_losses = st.tuples(st.integers(2, 5000).map(lambda n: 2 * n), st.floats(1e-9, 1.0))


@settings(max_examples=40, deadline=None)
@given(layers=st.lists(sizes_and_losses, min_size=1, max_size=5), share=st.floats(0, 1))
def test_a_choice_is_the_best_of_all_that_fit(layers: list[tuple[int, float]], share: float) -> None:
    search = knapsack(*layers)
    least, most = (FIXED + sum(size for size, _ in layers) * bits // 8 for bits in (4, 16))
    budget = least + share * (most - least)
    point = search.solve(budget)
    assert point.bytes <= budget
    assert point.predicted_loss == pytest.approx(brute_force(search, budget), rel=1e-5)


def test_a_sweep_rises_in_cost_and_falls_in_loss() -> None:
    search = knapsack((1000, 0.5), (4000, 0.01), (200, 1e-6), (3000, 0.2))
    points = search.sweep(9)
    assert len(points) >= 6
    assert [point.bytes for point in points] == sorted(point.bytes for point in points)
    losses = [point.predicted_loss for point in points]
    assert losses == sorted(losses, reverse=True)
    assert (set(points[0].bits.values()), set(points[-1].bits.values())) == ({4}, {16})


def test_bit_operations_are_a_budget_as_well() -> None:
    search = knapsack((1000, 0.5), (4000, 0.01))
    uniform = search.uniform()[1]
    point = search.solve(uniform.bit_operations, Objective.BIT_OPERATIONS)
    assert point.bit_operations <= uniform.bit_operations
    assert point.predicted_loss <= uniform.predicted_loss


def test_uniform_widths_are_never_better_at_their_own_cost() -> None:
    search = knapsack((1000, 0.5), (4000, 0.01), (600, 0.3))
    assert [set(point.bits.values()) for point in search.uniform()] == [{4}, {8}, {16}]
    for point in search.uniform():
        assert point.uniform
        assert search.solve(point.bytes).predicted_loss <= point.predicted_loss * (1 + 1e-6)


@pytest.mark.parametrize("loss", [0.0, -0.5])
def test_layers_that_lose_nothing_fit_any_budget(loss: float) -> None:
    search = knapsack((1000, loss), (50, loss))
    assert search.solve(FIXED + 1050 // 2).predicted_loss == 0
    assert len(search.sweep(3)) >= 1


def test_too_small_a_budget_is_refused() -> None:
    with pytest.raises(BadData, match="too small"):
        knapsack((1000, 0.1)).solve(FIXED + 499)


def test_a_choice_has_a_code_that_backends_read() -> None:
    bits = {"conv1": 16, "conv2": 4, "dense": 4}
    code = technique_code(bits)
    assert code == 'mixed:{"conv1":16,"*":4}'
    assert Technique.parse(code).bits_by_layer(list(bits)) == bits


def test_a_stored_frontier_answers_for_any_budget() -> None:
    search = knapsack((1000, 0.5), (4000, 0.01))
    stored = {
        "widths": {name: [vars_of(width) for width in widths] for name, widths in search.widths.items()},
        "fixed_bytes": FIXED,
        "objective": "bytes",
    }
    assert frontier_at(stored, 5000) == search.solve(5000)


def vars_of(width: Width) -> dict[str, float]:
    return {"bits": width.bits, "loss": width.loss, "bytes": width.bytes, "bit_operations": width.bit_operations}
