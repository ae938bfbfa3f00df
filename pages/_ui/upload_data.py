"""Data of a person's own: dropped, listed with its splits, removed."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from models import image_process, my_data
from models.samples import Dataset, Split
from pages._ui import format as fmt
from pages._ui.upload import fresh_key, plain, show_task, start, used_up

KIND = "data"
HOW = """
- **.npz**: `x` holds the samples, [N, H, W] or [N, H, W, C], as uint8 pixels or as preprocessed floats, and `y`, where
  there are labels, [N] class numbers. For a model of several inputs: one array for each, named like the input.
- **.zip**: a folder of images for each class, whose name is the label; or images alone, without labels.
"""


def show_data() -> None:
    """The uploader, and what was added."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        _drop(_size())
    with st.expander("What the files look like"):
        st.markdown(HOW)
    show_task(KIND)
    added = my_data.catalogue()
    if not added:
        st.caption("No data of your own yet: models are measured on bundled data that fits them, or on noise.")
    for data in added:
        _entry(data)


def _size() -> tuple[int, int] | None:
    """The size that images of a zip are brought to; None while either number is missing."""
    height = st.number_input("Image height", 1, 4096, None, key="data_height", placeholder="as it is", width=140)
    width = st.number_input("Image width", 1, 4096, None, key="data_width", placeholder="as it is", width=140)
    return None if height is None or width is None else (height, width)


def _drop(size: tuple[int, int] | None) -> None:
    key = fresh_key(KIND)
    st.file_uploader("Add data: .npz, or a .zip of images", ("npz", "zip"), key=key, on_change=_dropped, args=(key, size))


def _dropped(key: str, size: tuple[int, int] | None) -> None:
    file = st.session_state[key]
    if file is None or not used_up(KIND, key):
        return
    name, content = file.name, file.getvalue()
    start(KIND, f"Reading {name}", f"{name} was not added.", image_process.SECONDS, lambda: my_data.add(content, name, size))


def _entry(data: Dataset) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{plain(data.title)}**  \n:small[:gray[{plain(described(data))}]]", width="stretch")
        st.button(
            "Remove",
            key=f"data_remove_{data.id}",
            icon=":material/delete:",
            on_click=my_data.remove,
            args=(data.id,),
            help="Runs that were measured on it stay.",
        )


def described(data: Dataset) -> str:
    """Shape, classes and splits in a sentence."""
    if data.shape is None:
        return data.summary
    sizes: Mapping[str, int] = data.splits
    classes = f", {len(data.labels)} classes: {', '.join(data.labels[:8])}" if data.labels else ""
    return (
        f"Samples of {' × '.join(map(str, data.shape))}: {fmt.count(sizes[Split.CALIBRATION])} to calibrate with, "
        f"{fmt.count(sizes[Split.TEST])} others to evaluate on{classes}."
    )
