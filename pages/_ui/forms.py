"""The upper half of the new-experiment form: a card a model, and the data with its samples. The address holds the choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from models import datasets, zoo
from models.float_model import ModelInfo
from models.samples import Dataset, Split
from pages._ui import format as fmt

STRIP_SAMPLES = 10
STRIP_PIXELS = 84


def choose_model(models: Sequence[ModelInfo], chosen: str) -> None:
    """A card a model; pressing one writes it into the address."""
    with st.grid("auto", min_column_width=210):
        for info in models:
            with st.container(border=True, height="stretch"):
                _model_card(info, info.id == chosen)


def _model_card(info: ModelInfo, chosen: bool) -> None:
    st.markdown(f"**{info.title}**", help=info.summary)
    size = " × ".join(map(str, info.input_shape))
    lines = [info.task.capitalize(), f"{fmt.count(info.parameters)} parameters", f"Input {size}", _accuracy(info)]
    st.caption("  \n".join(lines))
    st.space("stretch")
    st.button(
        "Chosen" if chosen else "Choose",
        key=f"new_model_{info.id}",
        type="primary" if chosen else "secondary",
        icon=":material/check:" if chosen else None,
        disabled=not info.available,
        help=info.why_not,
        width="stretch",
        on_click=_choose_model,
        args=(info.id,),
    )
    if info.why_not:
        st.caption(info.why_not)


def _accuracy(info: ModelInfo) -> str:
    if info.accuracy is None:
        return "No labelled data at hand: error and agreement only"
    titles = {data.id: data.title for data in datasets.catalogue()}
    stated = info.accuracy
    return f"{fmt.percent(stated.top1)} top-1 on {titles[stated.dataset]} (n = {fmt.count(stated.n)})"


def _choose_model(model_id: str) -> None:
    st.query_params["new_model"] = model_id
    st.query_params.pop("new_data", None)


def choose_data(info: ModelInfo, known: Mapping[str, Dataset], chosen: str) -> None:
    """What calibrates and what evaluates; a dataset's id, or the path of a person's own file."""
    options = list(dict.fromkeys((*info.datasets, chosen)))
    st.session_state["new_data_choice"] = chosen
    st.selectbox(
        "Dataset",
        options,
        key="new_data_choice",
        format_func=lambda data: known[data].title if data in known else data,
        accept_new_options=True,
        on_change=_choose_data,
        help="Or type the path of an .npz file of your own, with x (samples) and, where there are labels, y.",
        width=420,
    )
    if chosen in known:
        _describe(known[chosen])


def _choose_data() -> None:
    st.query_params["new_data"] = st.session_state["new_data_choice"]


def _describe(data: Dataset) -> None:
    calibration, test = data.splits[Split.CALIBRATION], data.splits[Split.TEST]
    labels = "with labels" if data.labels else "without labels, so no accuracy"
    there = f"{fmt.count(calibration)} samples to calibrate with and {fmt.count(test)} others to evaluate on, {labels}"
    st.caption(f"{data.summary} It has {there}. Licence: {data.licence}.")


def show_samples(info: ModelInfo, data: str, seed: int) -> None:
    """The first calibration samples, drawn from the numbers that the model is given."""
    images, captions = sample_strip(info.id, data, seed)
    with st.container(horizontal=True, gap="xsmall"):
        for image, caption in zip(images, captions, strict=True):
            alt = f"Calibration sample {caption}".strip()
            st.image(image, caption=caption or None, width=STRIP_PIXELS, output_format="PNG", alt=alt)
    low, high = (info.preprocess(np.array([value], np.uint8))[0] for value in (0, 255))
    shape = " × ".join(map(str, info.input_shape))
    st.caption(f"The first calibration samples as the model sees them: {shape} float32, values from {low:.3g} to {high:.3g}.")


@st.cache_data(max_entries=32, show_spinner=False)
def sample_strip(model_id: str, data: str, seed: int) -> tuple[tuple[NDArray[np.uint8], ...], tuple[str, ...]]:
    """Pictures of the samples a calibration with `seed` begins with, and their labels.

    Raises:
        InputError: the data cannot be loaded or does not fit the model.
    """
    info = next(entry for entry in zoo.catalogue() if entry.id == model_id)
    loaded = datasets.load(data)
    split = loaded.split(Split.CALIBRATION)
    datasets.check_fits(split, info)
    samples = split.take(min(STRIP_SAMPLES, len(split)), seed)
    names = loaded.info.labels
    labels = [""] * len(samples) if samples.y is None else [names[y] if names else str(y) for y in samples.y]
    return tuple(_picture(x, info) for x in info.preprocess(samples.x)), tuple(labels)


def _picture(x: NDArray[np.float32], info: ModelInfo) -> NDArray[np.uint8]:
    """A preprocessed sample as pixels, black to white over the values that pixels can take, each value a block of its own."""
    low, high = (info.preprocess(np.array([value], np.uint8))[0] for value in (0, 255))
    pixels = np.clip((x - low) / (high - low), 0, 1) * 255
    block = max(1, round(2 * STRIP_PIXELS / x.shape[0]))
    big: NDArray[np.uint8] = np.repeat(np.repeat(pixels, block, axis=0), block, axis=1).round().astype(np.uint8)
    return big[..., 0] if big.shape[-1] == 1 else big
