import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.engine import Engine
from benchmarks.sensitivity.analyse import analyse, rank_correlation, round_weights
from benchmarks.sensitivity.report import NO_LABELS, Metric, Mode, Sensitivity
from models import datasets, zoo
from quantizers.errors import BadData, QuantizationError, Unsupported

N = 64


def run(engine: Engine, bits: tuple[int, ...] = (4, 8), **choices: Any) -> Sensitivity:
    return analyse(
        engine,
        bits,
        **{"mode": Mode.EXACT, "metric": Metric.SQNR, "labels": None, "seed": 0, "report": lambda _f, _w: None} | choices,
    )


@pytest.fixture(scope="module")
def labels() -> Tensor:
    y = datasets.load("fashion-mnist").split("calibration").take(N).y
    assert y is not None
    return torch.from_numpy(y)


@pytest.fixture(scope="module")
def engine() -> Engine:
    model = zoo.load("fashion-resnet")
    x = model.info.preprocess(datasets.load("fashion-mnist").split("calibration").take(N).x)
    return Engine(model.torch_module(), torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1))))


@pytest.fixture(scope="module")
def measured(engine: Engine, labels: Tensor) -> Sensitivity:
    return run(engine, labels=labels)


def test_exact_losses_are_those_of_whole_runs(engine: Engine, labels: Tensor, measured: Sensitivity) -> None:
    reference = engine.run().double()
    rounded = round_weights(engine, (4, 8))
    assert len(measured.layers) == 2 * len(engine.layers)
    for row in measured.layers:
        output = engine.run({row.name: rounded[row.name, row.bits].values}).double()
        ratio = float((reference - output).square().sum() / reference.square().sum())
        assert row.loss == pytest.approx(ratio, rel=1e-9)
        assert row.losses.sqnr_db == pytest.approx(-10 * math.log10(ratio))
        right = [(one.argmax(1) == labels).double().mean().item() for one in (reference, output)]
        assert row.losses.drop_pp == pytest.approx(100 * (right[0] - right[1]))
        assert row.losses.agreement == (reference.argmax(1) == output.argmax(1)).double().mean().item()
        assert row.losses.kl_nats is not None
        assert row.losses.kl_nats >= 0


def test_the_estimate_ranks_layers_as_the_exact_run_does(engine: Engine, measured: Sensitivity) -> None:
    fast = run(engine, mode=Mode.FAST)
    assert [(row.name, row.bits) for row in fast.layers] == [(row.name, row.bits) for row in measured.layers]
    for bits in (4, 8):
        exact, estimate = (list(found.losses(bits).values()) for found in (measured, fast))
        assert (rank_correlation(estimate, exact) or 0) >= 0.8
        # Not only the order: the size as well, within a few dB.
        assert abs(10 * np.median(np.log10(np.array(estimate) / exact))) < 3
    assert fast.agreement is not None
    assert (fast.agreement.bits, fast.agreement.layers, fast.agreement.samples) == (4, len(engine.layers), N // 8)
    assert (fast.agreement.spearman or 0) > 0.7


def test_the_estimate_of_kl_tends_to_the_exact_one(engine: Engine, measured: Sensitivity) -> None:
    # Few of the answers drawn for 48 samples are surprising, and those matter most: one seed says little.
    drawn = [run(engine, (8,), mode=Mode.FAST, metric=Metric.KL, seed=seed, check=False).losses(8) for seed in range(12)]
    estimate = [float(np.mean([one[name] for one in drawn])) for name in drawn[0]]
    exact = [row.losses.of(Metric.KL) for row in measured.layers if row.bits == 8]
    assert (rank_correlation(estimate, exact) or 0) >= 0.8


def test_the_estimate_is_seeded(engine: Engine) -> None:
    one, same, other = (run(engine, mode=Mode.FAST, seed=seed, check=False).losses(4) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_balanced_run_is_an_exact_one_on_fewer_samples(engine: Engine, measured: Sensitivity) -> None:
    balanced = run(engine, mode=Mode.BALANCED)
    assert balanced.samples == N // 4
    assert (rank_correlation(list(balanced.losses(4).values()), list(measured.losses(4).values())) or 0) > 0.8


def test_costs_and_reasons_are_told_in_json(measured: Sensitivity, engine: Engine) -> None:
    assert measured.cost_passes == pytest.approx(measured.seconds / measured.pass_seconds)
    assert measured.cost_passes > 1
    assert measured.agreement is None
    assert measured.agreement_why_not
    unlabelled = run(engine, bits=(8,))
    document = json.loads(json.dumps(asdict(unlabelled), allow_nan=False))
    assert document["layers"][0]["losses"]["drop_pp_why_not"] == NO_LABELS


def test_losses_rank_by_bits(measured: Sensitivity) -> None:
    assert all(measured.losses(8)[name] < loss for name, loss in measured.losses(4).items())


def small(weight: Tensor, bias: Tensor | None = None) -> Engine:
    layer = nn.Linear(weight.shape[1], len(weight))
    layer.weight.data, layer.bias.data = weight, torch.zeros(len(weight)) if bias is None else bias
    return Engine(nn.Sequential(layer), torch.linspace(-1, 1, 8 * weight.shape[1]).reshape(8, -1))


def test_one_layer_has_a_loss_and_no_order() -> None:
    torch.manual_seed(0)
    found = run(small(torch.randn(3, 5)), mode=Mode.FAST)
    assert all(row.loss > 0 for row in found.layers)
    assert found.agreement is not None
    assert found.agreement.spearman is None
    assert found.agreement.spearman_why_not


@pytest.mark.parametrize("mode", Mode)
def test_weights_on_the_grid_lose_nothing(mode: Mode) -> None:
    found = run(small(torch.zeros(3, 5), torch.ones(3)), mode=mode)
    assert [row.loss for row in found.layers] == [0, 0]
    assert found.layers[0].losses.sqnr_db is None
    assert found.layers[0].losses.sqnr_db_why_not == "exact"


def test_an_output_of_zeros_or_nan_is_refused() -> None:
    with pytest.raises(QuantizationError, match="all zero"):
        run(small(torch.zeros(3, 5)))
    with pytest.raises(QuantizationError, match="NaN"):
        run(small(torch.full((3, 5), torch.nan)))


def test_impossible_requests_are_refused(engine: Engine, labels: Tensor) -> None:
    with pytest.raises(BadData, match="needs labels"):
        run(engine, metric=Metric.DROP)
    with pytest.raises(Unsupported, match="gradient"):
        run(engine, metric=Metric.DROP, labels=labels, mode=Mode.FAST)
    with pytest.raises(BadData, match="No width"):
        run(engine, bits=())
