"""A batch becomes a model's inputs and nothing is lost on the way; what cannot be exact is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.preprocessing import Preprocessing
from quantizers.errors import BadData, InputError, Unsupported
from quantizers.signature import MAX_EXACT, Input, Layout, Signature, resolve

SPEECH = Signature(
    (Input("input", "float32", (1, 512)), Input("state", "float32", (2, 1, 8)), Input("sr", "int64", ())), batched=False
)
DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")


def test_a_single_image_is_handed_on_with_its_channels_moved() -> None:
    signature = Signature((Input("x", "float32", (1, 3, 4, 5)),), layout=Layout.CHANNELS_FIRST)
    assert signature.sample_shape == (4, 5, 3)
    batch = np.arange(2 * 4 * 5 * 3, dtype=np.float32).reshape(2, 4, 5, 3)
    feeds = signature.unpack(batch)
    np.testing.assert_array_equal(feeds["x"], batch.transpose(0, 3, 1, 2))
    assert feeds["x"].flags.c_contiguous
    np.testing.assert_array_equal(signature.pack(feeds), batch)


def test_several_inputs_share_a_row_and_come_back_in_their_own_types() -> None:
    assert SPEECH.sample_shape == (512 + 16 + 1,)
    random = np.random.default_rng(0)
    sound = random.random((3, 1, 512), np.float32)
    state, rate = random.random((3, 2, 1, 8), np.float32), np.array([8000, 16000, MAX_EXACT])
    rows = SPEECH.pack({"sr": rate, "input": sound, "state": state})
    for index in range(3):
        feeds = SPEECH.unpack(rows[index : index + 1])
        assert {name: array.shape for name, array in feeds.items()} == {"input": (1, 512), "state": (2, 1, 8), "sr": ()}
        assert feeds["sr"].dtype == np.int64
        assert feeds["sr"] == rate[index]
        np.testing.assert_array_equal(feeds["state"], state[index])


@given(
    st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(1, 4), max_size=3)), min_size=2, max_size=4),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_packing_and_unpacking_are_inverse(ports: list[tuple[str, list[int]]], samples: int, seed: int) -> None:
    signature = Signature(tuple(Input(str(i), dtype, (1, *shape)) for i, (dtype, shape) in enumerate(ports)))
    random = np.random.default_rng(seed)
    arrays = {
        one.name: random.integers(0, 2 if one.dtype == "bool" else 200, (samples, *one.shape[1:])).astype(one.dtype)
        for one in signature.inputs
    }
    feeds = signature.unpack(signature.pack(arrays))
    for name, array in arrays.items():
        assert feeds[name].dtype == array.dtype
        np.testing.assert_array_equal(feeds[name], array)


def test_a_model_that_takes_one_sample_is_not_given_two() -> None:
    with pytest.raises(BadData, match="one sample at a time"):
        SPEECH.unpack(np.zeros((2, 529), np.float32))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"input": np.zeros((1, 512), np.float32)}, "takes input, state, sr; the data has input"),
        ({"input": np.zeros((1, 9)), "state": np.zeros((1, 2, 1, 8)), "sr": np.zeros(1)}, "samples of 9"),
        ({"input": np.zeros((1, 512)), "state": np.zeros((2, 2, 1, 8)), "sr": np.zeros(1)}, "different numbers"),
        ({"input": np.zeros((1, 512)), "state": np.zeros((1, 2, 1, 8)), "sr": np.array([MAX_EXACT + 1])}, "cannot tell apart"),
        ({"input": np.zeros((1, 512)), "state": np.zeros((1, 2, 1, 8)), "sr": np.array(["a"])}, "not numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(BadData, match=message) as caught:
        SPEECH.pack(arrays)
    assert caught.value.hint


def test_models_of_text_and_models_of_nothing_are_explained() -> None:
    with pytest.raises(Unsupported, match="words takes string"):
        Signature((Input("words", "string", (1,)),))
    with pytest.raises(Unsupported, match="no input"):
        Signature(())


def test_free_axes_take_what_is_given_and_the_batch_is_one() -> None:
    assert resolve("x", ("N", 3, "height", None), (1, 3, 32, 48)) == (1, 3, 32, 48)
    assert resolve("x", ("N", 3, 8), None) == (1, 3, 8)
    with pytest.raises(BadData, match="2 axes are free") as caught:
        resolve("x", ("N", 3, "height", None), None)
    assert "x=1x3x224x224" in caught.value.hint
    for wrong in ((1, 4, 32, 48), (1, 3, 32), (1, 3, 0, 48)):
        with pytest.raises(BadData, match="does not fit"):
            resolve("x", ("N", 3, "height", None), wrong)


def test_preprocessing_by_mean_and_std_in_blue_green_red() -> None:
    pixels = np.array([[[[10, 20, 30]]]], np.uint8)
    chosen = Preprocessing.from_mean_std((0.5, 0.4, 0.3), (0.2, 0.2, 0.2), bgr=True)
    expected = (np.array([30, 20, 10]) / 255 - [0.5, 0.4, 0.3]) / 0.2
    np.testing.assert_allclose(chosen.apply(pixels).ravel(), expected, rtol=1e-5)
    for wrong in ((0.0,), (), (float("nan"),)):
        with pytest.raises(InputError):
            Preprocessing(divisor=wrong)
