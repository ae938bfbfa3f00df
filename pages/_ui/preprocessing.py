"""What a person has to say about a model of their own, remembered with it: free axes, and how pixels become what it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import streamlit as st

from models import datasets, inspect_process, mine
from models import entry as entries
from models.entry import Entry
from models.float_model import ModelInfo
from models.inspection import Port
from models.preprocessing import Preprocessing
from pages._ui.errors import show_error
from pages._ui.preprocessing_preview import show_samples
from pages._ui.upload import plain, start
from quantizers.errors import InputError
from quantizers.signature import Dimension, Layout

COLOURS = 3
PRESETS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "0 to 1": ((0.0,), (255.0,)),
    "−1 to 1": ((127.5,), (127.5,)),
    "(x − 127) ÷ 128": ((127.0,), (128.0,)),
    "0 to 255, as they are": ((0.0,), (1.0,)),
}
_IMAGENET = Preprocessing.from_mean_std((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
IMAGENET = "ImageNet mean and standard deviation"
OWN = "Numbers of my own"
LAYOUTS = {
    "By the shape of the input": None,
    "Channels first [N, C, H, W]": Layout.CHANNELS_FIRST,
    "Channels last [N, H, W, C]": Layout.AS_IT_IS,
}
MAX_LENGTH = 1 << 20
MAX_OFFSET = 1000


def free_ports(stored: Entry) -> list[Port]:
    """Inputs of which an axis other than the batch is free, or whose shape the file does not say."""
    return [
        port
        for port in stored.inspection.inputs
        if port.shape is None or any(not isinstance(size, int) for size in port.shape[1:])
    ]


def choose_shapes(stored: Entry) -> None:
    """A number for each free axis; the model is looked into again with them."""
    ports = free_ports(stored)
    with st.form(f"shapes_{stored.id}", border=False):
        shapes = {port.name: _shape(stored, port) for port in ports}
        pressed = st.form_submit_button("Use this shape", icon=":material/check:")
    known = {name: shape for name, shape in shapes.items() if shape is not None}
    if pressed and len(known) < len(ports):
        st.caption("Every free axis needs a length.")
    elif pressed:
        failure = f"{stored.title} keeps the shape it had."
        work: Callable[[], ModelInfo] = lambda: mine.update(stored.id, shapes=known)  # noqa: E731  # typed for mypy
        seconds = inspect_process.PROGRAM_SECONDS if stored.trusted else inspect_process.SECONDS
        start("models", f"Looking into {stored.title}", failure, seconds, work)
        st.rerun()


def _shape(stored: Entry, port: Port) -> tuple[int, ...] | None:
    """The shape of an input as the widgets say it, batch 1; None while an axis has no length."""
    given = stored.shapes.get(port.name)
    if port.shape is None:
        words = st.text_input(
            f"Shape of {plain(port.name)}", "x".join(map(str, given or ())), placeholder="1x3x224x224", key=f"axis_{port.name}"
        )
        sizes = words.lower().replace("×", "x").split("x")
        return tuple(map(int, sizes)) if all(size.strip().isdecimal() and int(size) > 0 for size in sizes) else None
    lengths: list[int | None] = []
    with st.grid("auto", min_column_width=150):
        for axis, size in enumerate(port.shape):
            lengths.append(_length(port, axis, size, None if given is None else given[axis]))
    return None if None in lengths else tuple(length for length in lengths if length is not None)


def _length(port: Port, axis: int, size: Dimension, given: int | None) -> int | None:
    if isinstance(size, int):
        return size
    if axis == 0:
        return 1  # The batch, which stays free where every input has one.
    label = f"{plain(port.name)}: {plain(size) if size else f'axis {axis}'}"
    return st.number_input(label, 1, MAX_LENGTH, given, step=1, key=f"axis_{port.name}_{axis}", placeholder="length")


def choose_preprocessing(stored: Entry, info: ModelInfo) -> None:
    """How pixels become what the model takes; every change is remembered at once."""
    chosen = stored.preprocessing
    with st.grid("auto", min_column_width=210):
        _values(stored, info)
        if info.input_shape[-1:] == (COLOURS,):
            _choice(stored, "Colours", {"Red, green, blue": False, "Blue, green, red": True}, chosen.bgr, "bgr")
        if stored.architecture is None and len(info.input_shape) == COLOURS:
            _choice(stored, "Layout of the input", LAYOUTS, chosen.layout, "layout")
        key = f"pre_label_{stored.id}"
        st.number_input(
            "Label offset",
            0,
            MAX_OFFSET,
            chosen.label_offset,
            key=key,
            on_change=lambda: _remember(stored, label_offset=int(st.session_state[key])),
            help="Added to a label to find its class: 1 for models of 1001 classes, whose class 0 is “background”.",
        )
    if isinstance(error := st.session_state.pop(f"pre_error_{stored.id}", None), InputError):
        show_error(error)
    if info.classes == 1001 and chosen.label_offset == 0:
        st.caption(":material/info: The model has 1001 outputs: if its class 0 is “background”, set the label offset to 1.")


def preset_of(chosen: Preprocessing) -> str:
    """The name of the preset with these numbers."""
    named = PRESETS | {IMAGENET: (_IMAGENET.offset, _IMAGENET.divisor)}
    return next((name for name, numbers in named.items() if numbers == (chosen.offset, chosen.divisor)), OWN)


def _values(stored: Entry, info: ModelInfo) -> None:
    """The numbers by name; those of a person's own as two lines of text."""
    colour = info.input_shape[-1:] == (COLOURS,)
    options = [*PRESETS, *([IMAGENET] if colour else []), OWN]
    key, own = f"pre_values_{stored.id}", f"pre_own_{stored.id}"
    preset = OWN if st.session_state.get(own) else preset_of(stored.preprocessing)
    st.selectbox(
        "Values the model takes",
        options,
        options.index(preset) if preset in options else len(options) - 1,
        key=key,
        on_change=_choose_values,
        args=(stored, key, own),
        help="Pixels of 0 to 255 become (x − offset) ÷ divisor. A wrong choice costs up to 20 points of accuracy.",
    )
    if preset != OWN:
        return
    for name, numbers in (("offset", stored.preprocessing.offset), ("divisor", stored.preprocessing.divisor)):
        st.text_input(
            name.capitalize(),
            ", ".join(f"{number:g}" for number in numbers),
            key=f"pre_{name}_{stored.id}",
            on_change=_choose_numbers,
            args=(stored, name),
            help="One number, or one a channel, with commas between. From mean and standard deviation of 0 to 1: times 255.",
        )


def _choose_values(stored: Entry, key: str, own: str) -> None:
    name = st.session_state[key]
    st.session_state[own] = name == OWN
    if name != OWN:
        offset, divisor = PRESETS.get(name, (_IMAGENET.offset, _IMAGENET.divisor))
        _remember(stored, offset=offset, divisor=divisor)


def _choose_numbers(stored: Entry, name: str) -> None:
    words = st.session_state[f"pre_{name}_{stored.id}"]
    try:
        numbers = tuple(float(word) for word in words.split(","))
    except ValueError:
        st.session_state[f"pre_error_{stored.id}"] = InputError(f"“{plain(words)}” is no list of numbers.", "E.g. 127.5")
        return
    channels = entries.info(stored).input_shape[-1]
    if len(numbers) not in (1, channels):
        what = f"{len(numbers)} numbers for {channels} channels."
        st.session_state[f"pre_error_{stored.id}"] = InputError(what, "Give one number, or one a channel.")
        return
    _remember(stored, **{name: numbers})


def _choice(stored: Entry, label: str, options: Mapping[str, object], value: object, field: str) -> None:
    """A choice of one of few, by name."""
    key = f"pre_{field}_{stored.id}"
    st.selectbox(
        label,
        list(options),
        list(options.values()).index(value),
        key=key,
        on_change=lambda: _remember(stored, **{field: options[st.session_state[key]]}),
    )


def _remember(stored: Entry, **changes: object) -> None:
    try:
        mine.update(stored.id, preprocessing=replace(stored.preprocessing, **changes))  # type: ignore[arg-type]
    except InputError as error:
        st.session_state[f"pre_error_{stored.id}"] = error


def show_preview(info: ModelInfo) -> None:
    """What the model will see of a dataset that fits it."""
    known = {data.id: data for data in datasets.catalogue()}
    data = st.selectbox(
        "Preview with",
        info.datasets,
        format_func=lambda one: known[one].title if one in known else one,
        key=f"preview_{info.id}",
        width=320,
    )
    try:
        show_samples(info, data, 0)
    except InputError as error:
        show_error(error)
