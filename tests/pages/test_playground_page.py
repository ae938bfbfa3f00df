"""The playground page: a tensor, a choice, and what follows; every choice is in the address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_runs import open_page

from experiments import sketches
from quantizers import sketch_file
from quantizers.numerics import min_max_params, quantization_error, quantize
from quantizers.schema import Granularity, Scheme
from quantizers.sketch_build import build_sketches

WEIGHTS = {
    "conv1": np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32),
    "dense": np.random.default_rng(1).standard_t(3, (20, 300)).astype(np.float32),
    "sparse": np.eye(200, dtype=np.float32)[:3],
}


@pytest.fixture(autouse=True)
def kept(clean_home: Path) -> None:
    """A model of three tensors, already sketched."""
    clean_home.mkdir(exist_ok=True)
    file = sketches.folder() / "made.npz"
    sketch_file.write(file, build_sketches(WEIGHTS))
    sketches.keep("made", "Made here", file)


def figures(test: Any) -> dict[str, str]:
    drawn = [one.proto for one in test.get("bidi_component") if one.proto.component_name == "quantscope_figures"]
    return {title: text for one in drawn for title, text, _ in json.loads(one.json)["figures"]}


def sqnr(name: str, bits: int, **how: Any) -> float:
    x = WEIGHTS[name]
    params = min_max_params(x, bits, **how)
    found = quantization_error(x, quantize(x, params), params).sqnr_db
    assert found is not None
    return found


def test_the_largest_tensor_is_shown_first() -> None:
    test = open_page("playground", play_model="made")
    assert not test.exception
    assert test.selectbox(key="play_tensor_choice").value == "dense"
    assert float(figures(test)["SQNR"].split()[0]) == pytest.approx(sqnr("dense", 8), abs=0.1)
    assert "the error of **dense**" in test.markdown[0].value


@pytest.mark.parametrize(
    ("query", "how"),
    [
        ({"play_grain": "channel", "play_bits": "4"}, {"bits": 4, "granularity": Granularity.PER_CHANNEL}),
        ({"play_scheme": "affine", "play_bits": "3"}, {"bits": 3, "scheme": Scheme.AFFINE}),
        ({"play_grain": "group64"}, {"bits": 8, "granularity": Granularity.PER_GROUP, "group_size": 64}),
        ({"play_rule": "by_hand", "play_clip": "0.25,0.25"}, {"bits": 8, "clip": (0.25, 0.25)}),
    ],
)
def test_the_address_holds_every_choice(query: dict[str, str], how: dict[str, Any]) -> None:
    test = open_page("playground", play_model="made", play_tensor="dense", **query)
    assert not test.exception
    assert float(figures(test)["SQNR"].split()[0]) == pytest.approx(sqnr("dense", **how), abs=0.3)


def test_one_press_takes_the_suggestion() -> None:
    test = open_page("playground", play_model="made", play_tensor="dense", play_bits="3")
    before = float(figures(test)["SQNR"].split()[0])
    test.button(key="play_use").click().run()
    assert not test.exception
    assert test.query_params["play_rule"] == "mse"
    assert float(figures(test)["SQNR"].split()[0]) > before + 1
    assert any("No other clipping" in caption.value for caption in test.caption)


def test_a_senseless_clip_in_the_address_is_the_whole_range() -> None:
    for clip in ("nan,1", "0,1", "x", "1,2,3"):
        test = open_page("playground", play_model="made", play_rule="by_hand", play_clip=clip)
        assert not test.exception
        assert float(figures(test)["SQNR"].split()[0]) == pytest.approx(sqnr("dense", 8), abs=0.1)


def test_a_percentile_of_zeros_explains_itself() -> None:
    test = open_page("playground", play_model="made", play_tensor="sparse", play_rule="percentile_99")
    assert not test.exception
    assert "lie at zero" in test.warning[0].title


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"play_model": "nobody"}, "called “nobody”"),
        ({"play_model": "made", "play_tensor": "conv9"}, "called “conv9”"),
        ({"play_run": "example-none"}, "There is no example"),
    ],
)
def test_an_unknown_name_gets_a_designed_message(query: dict[str, str], words: str) -> None:
    test = open_page("playground", **query)
    assert not test.exception
    assert words in test.warning[0].title


def test_a_model_never_read_is_read_by_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sketches, "ensure", asked.append)
    monkeypatch.setattr(sketches, "progress", lambda _model: sketches.Progress(0.4, "Reading conv1"))
    test = open_page("playground", play_model="mnist-cnn")
    assert not test.exception
    assert set(asked) == {"mnist-cnn"}
    assert not figures(test)


def test_what_failed_says_why_and_offers_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    sketches.report("mnist-cnn", sketches.Progress(0.0, "", "The weights could not be read.", "Look at the log."))
    monkeypatch.setattr(sketches, "ensure", lambda _model: None)
    test = open_page("playground", play_model="mnist-cnn")
    assert test.warning[0].title == "The weights could not be read."
    test.button(key="play_again").click().run()
    assert sketches.progress("mnist-cnn") is None
