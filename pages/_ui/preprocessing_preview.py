"""What a model is about to be given: the first calibration samples, drawn from the very numbers that it sees."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from models import catalogue, datasets
from models.float_model import Images, ModelInfo
from models.preprocessing import Preprocessing
from models.samples import Split
from pages._ui import format as fmt

STRIP_SAMPLES = 10
STRIP_PIXELS = 84
CHANNELS = (1, 3)
"""Numbers of channels that a picture can be drawn from."""


@dataclass(frozen=True, slots=True)
class Strip:
    """Pictures of samples with their labels, none where samples are no images; and the values that the model is given.

    A picture is a data URL: a file of Streamlit's would be gone when a page is left before the browser has fetched it.
    """

    pictures: tuple[str, ...]
    captions: tuple[str, ...]
    low: float
    high: float
    preprocessed: bool
    """Whether the data holds floats, which count as preprocessed already."""


def show_samples(info: ModelInfo, data: str, seed: int) -> None:
    """The first calibration samples as `info` takes them.

    Raises:
        InputError: the data cannot be loaded or does not fit the model.
    """
    strip = sample_strip(info.id, info.preprocessing, data, seed)
    with st.container(horizontal=True, gap="xsmall"):
        for image, caption in zip(strip.pictures, strip.captions, strict=True):
            alt = f"Calibration sample {caption}".strip()
            st.image(image, caption=caption or None, width=STRIP_PIXELS, alt=alt)
    shape = " × ".join(map(str, info.input_shape))
    values = f"{shape} float32, values from {fmt.number(strip.low)} to {fmt.number(strip.high)}"
    colours = " Its channels are blue, green, red; they are drawn as red, green, blue." if info.preprocessing.bgr else ""
    already = " The data holds floats, which are taken as they are." if strip.preprocessed else ""
    st.caption(f"The first calibration samples as the model sees them: {values}.{colours}{already}")


@st.cache_data(max_entries=32, show_spinner=False)
def sample_strip(model_id: str, preprocessing: Preprocessing, data: str, seed: int) -> Strip:
    """The samples that a calibration with `seed` begins with.

    Raises:
        InputError: the data cannot be loaded or does not fit the model.
    """
    del preprocessing  # A part of the key: the catalogue knows it.
    info = catalogue.info(model_id)
    loaded = datasets.load(data, info)
    split = loaded.split(Split.CALIBRATION)
    datasets.check_fits(split, info)
    samples = split.take(min(STRIP_SAMPLES, len(split)), seed)
    seen, preprocessed = info.preprocess(samples.x), samples.x.dtype != np.uint8
    if len(info.input_shape) != 3 or info.input_shape[-1] not in CHANNELS:
        return Strip((), (), float(seen.min()), float(seen.max()), preprocessed)
    low, high = _limits(info, samples.x)
    names = loaded.info.labels
    labels = [""] * len(samples) if samples.y is None else [names[y] if names else str(y) for y in samples.y]
    pictures = tuple(_picture(x, low, high) for x in seen)
    return Strip(pictures, tuple(labels), float(np.min(low)), float(np.max(high)), preprocessed)


def _limits(info: ModelInfo, x: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What black and white become, by channel; of data that is preprocessed already, its least and its greatest value."""
    if x.dtype != np.uint8:
        return np.array(x.min(), np.float32), np.array(x.max(), np.float32)
    ends = np.stack([np.full(x.shape[1:], value, np.uint8) for value in (0, 255)])
    black, white = info.preprocess(ends)[:, 0, 0]
    return np.minimum(black, white), np.maximum(black, white)


def _picture(x: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]) -> str:
    """A preprocessed sample as pixels, black to white over the values that pixels can take, each value a block of its own.

    Of a large sample every second, third, … row and column is drawn.
    """
    step = max(1, x.shape[0] // STRIP_PIXELS)
    pixels = np.clip((x[::step, ::step] - low) / np.maximum(high - low, np.finfo(np.float32).tiny), 0, 1) * 255
    block = max(1, round(2 * STRIP_PIXELS / pixels.shape[0]))
    big = np.repeat(np.repeat(pixels, block, axis=0), block, axis=1).round().astype(np.uint8)
    Image.fromarray(big[..., 0] if big.shape[-1] == 1 else big).save(file := BytesIO(), "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
