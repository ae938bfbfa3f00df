"""What a model file holds, as its inspector found it: layers, operations, every scale and zero point, graph and notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from models.inspection import Inspection, Port
from pages._ui import format as fmt
from pages._ui.inspection_graph import show_graph
from pages._ui.layer_table import span
from pages._ui.tables import search
from pages._ui.upload import plain
from quantizers.signature import text

TABLE_ROWS = 12
ROW_PIXELS = 35
_TABULAR = ("tensors", "graph", "layers", "operations", "runs_in")
"""Facts that have a place of their own; the others are listed as they are."""
_NUMBER, _TEXT = st.column_config.NumberColumn, st.column_config.TextColumn


def show_contents(found: Inspection, title: str, key: str) -> None:
    """Everything that was found, in tabs; a tab without content is not there."""
    st.markdown("  \n".join(sentences(found)))
    facts = found.facts
    tabs: dict[str, Callable[[], None]] = {}
    if facts.get("tensors"):
        tabs["Tensors"] = lambda: _tensors(facts["tensors"], title, key)
    if isinstance(facts.get("layers"), list) and facts["layers"]:
        tabs["Layers"] = lambda: _layers(facts["layers"], title, key)
    if facts.get("graph") or facts.get("operations"):
        tabs["Operations"] = lambda: _operations(facts)
    if facts.get("graph", {}).get("nodes"):
        tabs["Graph"] = lambda: show_graph(facts["graph"], key)
    if found.inputs:
        tabs["Inputs and outputs"] = lambda: _ports(found)
    if found.notes or any(name not in _TABULAR for name in facts):
        tabs["Notes"] = lambda: _notes(found)
    for tab, draw in zip(st.tabs(list(tabs), key=f"{key}_tabs"), tabs.values(), strict=True):
        with tab:
            draw()


def sentences(found: Inspection) -> list[str]:
    """What matters first: whether it is quantized, what computes in integers, what the delegate takes."""
    words = [
        "Its weights are stored in fewer bits than float32: **it is quantized or reduced already**."
        if found.quantized
        else f"Its weights are float: {len(found.layers)} layers can be quantized."
    ]
    graph = found.facts.get("graph") or {}
    delegated = [node for node in graph.get("nodes", ()) if node.get("xnnpack")]
    if steps := [node for node in graph.get("nodes", ()) if node["kind"] in ("QuantizeLinear", "DequantizeLinear")]:
        words.append(f"Between integers and floats it converts {len(steps)} times an inference.")
    if "xnnpack" in found.facts:
        left = Counter(node["kind"] for node in graph["nodes"] if not node.get("xnnpack"))
        rest = f" It leaves {_counted(left)} to the runtime's own kernels." if left and delegated else ""
        words.append(f"XNNPACK, the delegate for CPUs, takes {plain(str(found.facts['xnnpack']))}.{rest}")
    layers = found.facts.get("layers")
    if isinstance(layers, list) and layers:
        integer = sum("int" in str(layer["runs_in"]) for layer in layers)
        words.append(f"{integer} of {len(layers)} layers compute in integers, after the runtime's own optimization.")
    return words


def tensor_rows(tensors: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a tensor, for reading."""
    return pd.DataFrame(
        {
            "number": tensor.get("index"),
            "name": tensor["name"],
            "dtype": tensor["dtype"],
            "shape": _shape(tensor["shape"]),
            "scale": span(tensor["scale"], fmt.number),
            "zero_point": span(tensor["zero_point"], fmt.count),
            "scales": len(tensor["scale"]) or None,
            "axis": tensor["axis"],
            "block": tensor["block"],
            "bytes": tensor.get("bytes") or None,
        }
        for tensor in tensors
    ).astype(dict.fromkeys(("number", "scales", "axis", "block", "bytes"), "Int64"))


def _shape(sizes: Sequence[int] | None) -> str | None:
    """As written; None where nothing is known of it. A negative size is free."""
    return None if sizes is None else text([None if size < 0 else size for size in sizes])


def scales_csv(tensors: Sequence[Mapping[str, Any]]) -> str:
    """A row for every scale of every tensor; a tensor without one has one row with neither scale nor zero point."""
    return pd.DataFrame(_scale_rows(tensors)).to_csv(index=False, lineterminator="\n")


def _scale_rows(tensors: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for tensor in tensors:
        fixed = {"tensor": tensor["name"], "dtype": tensor["dtype"], "shape": "x".join(map(str, tensor["shape"] or ()))}
        fixed |= {"axis": tensor["axis"], "block": tensor["block"]}
        pairs = zip(tensor["scale"], tensor["zero_point"], strict=True) if tensor["scale"] else [(None, None)]
        for number, (scale, zero_point) in enumerate(pairs):
            yield fixed | {"channel": number, "scale": scale, "zero_point": zero_point}


def _tensors(tensors: Sequence[Mapping[str, Any]], title: str, key: str) -> None:
    scaled = [tensor for tensor in tensors if tensor["scale"]]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = st.text_input("Search", key=f"{key}_search", placeholder="Name, type or shape", width=280)
        only = st.toggle("Only tensors with a scale", bool(scaled), key=f"{key}_scaled", disabled=not scaled)
        _download("Scales and zero points (CSV)", lambda: scales_csv(tensors), f"{title}-tensors.csv", f"{key}_tensors_csv")
    table = search(tensor_rows(scaled if only else tensors), words)
    columns = {
        "number": _NUMBER("#", width=50),
        "name": _TEXT("Tensor", pinned=True, width=200),
        "dtype": _TEXT("Type"),
        "shape": _TEXT("Shape"),
        "scale": _TEXT("Scale", help="One value, or lowest … highest over the channels or blocks"),
        "zero_point": _TEXT("Zero point", help="The integer that stands for 0"),
        "scales": _NUMBER("Scales", help="How many there are: one a tensor, a channel or a block"),
        "axis": _NUMBER("Axis", help="The dimension that the scales run along"),
        "block": _NUMBER("Block", help="Consecutive values that share a scale"),
        "bytes": _NUMBER("Bytes", help="Of the stored values; none for what is computed", format="localized"),
    }
    _table(table, columns, f"{len(table)} tensors with types, scales and zero points")
    st.caption(f"{fmt.count(len(table))} of {fmt.count(len(tensors))} tensors.")


def _layers(layers: Sequence[Mapping[str, Any]], title: str, key: str) -> None:
    table = pd.DataFrame([{**layer, "shape": text(layer["shape"]), "scales": layer["scales"] or None} for layer in layers])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = st.text_input("Search", key=f"{key}_layers_search", placeholder="Name, operation or type", width=280)
        _download("Layers (CSV)", lambda: table.to_csv(index=False), f"{title}-layers.csv", f"{key}_layers_csv")
    columns = {
        "name": _TEXT("Layer", pinned=True),
        "runs_in": _TEXT("Runs in", help="The type the runtime computes in, after its own optimization"),
        "op": _TEXT("Operation"),
        "dtype": _TEXT("Weights"),
        "shape": _TEXT("Shape"),
        "scales": _NUMBER("Scales", help="How many there are: one a tensor, a channel or a block"),
        "axis": _NUMBER("Axis"),
        "group_size": _NUMBER("Block", help="Consecutive values that share a scale"),
        "input": _TEXT("Input"),
        "output": _TEXT("Output"),
    }
    order = ["name", *(name for name in table if name != "name")]
    _table(search(table[order], words), columns, "Layers with the types of their weights, inputs and outputs")


def _operations(facts: Mapping[str, Any]) -> None:
    nodes = facts.get("graph", {}).get("nodes")
    if not nodes:
        table = pd.DataFrame(facts["operations"].items(), columns=["kind", "count"])
        _table(table, {"kind": _TEXT("Operation"), "count": _NUMBER("How many")}, "Operations by kind")
        return
    kinds = facts.get("operations") or Counter(node["kind"] for node in nodes)
    runs_in = f" By what they run in: {_counted(facts['runs_in'])}." if "runs_in" in facts else ""
    st.caption(f"In the file, by kind: {_counted(kinds)}.{runs_in} Below: as the runtime runs them.")
    columns = {
        "id": _NUMBER("#", width=50),
        "kind": _TEXT("Operation", pinned=True),
        "runs_in": _TEXT("Runs in", help="Hybrid: float activations meet integer weights"),
        "xnnpack": st.column_config.CheckboxColumn("XNNPACK", help="Whether the delegate takes it"),
        "name": _TEXT("Writes"),
    }
    table = pd.DataFrame(nodes)
    _table(table[[name for name in columns if name in table]], columns, "Operations in the order they run")


def _ports(found: Inspection) -> None:
    rows = [_port("input", port) for port in found.inputs] + [_port("output", port) for port in found.outputs]
    st.dataframe(pd.DataFrame(rows), hide_index=True, alt="Inputs and outputs with their types and shapes")
    batch = {True: "Samples can be run together.", False: "It takes one sample at a time.", None: ""}[found.batched]
    st.caption(f"{batch} An axis with a name or “?” is free: its length is chosen when the model is run.".strip())


def _port(role: str, port: Port) -> dict[str, str]:
    return {"": role, "Name": port.name, "Type": port.dtype, "Shape": "not said" if port.shape is None else text(port.shape)}


def _notes(found: Inspection) -> None:
    rows = [(name.replace("_", " ").capitalize(), value) for name, value in found.facts.items() if name not in _TABULAR]
    lines = [f"- **{name}**: {plain(_written(value))}" for name, value in rows if value not in ("", None)]
    lines += [f"- {plain(note)}" for note in found.notes]
    st.markdown("\n".join(lines))


def _written(value: Any) -> str:
    return ", ".join(f"{name} {number}" for name, number in value.items()) if isinstance(value, Mapping) else str(value)


def _counted(counts: Mapping[str, int]) -> str:
    return plain(", ".join(f"{count} × {name}" for name, count in counts.items())) or "none"


def _table(table: pd.DataFrame, columns: Mapping[str, Any], alt: str) -> None:
    height = ROW_PIXELS * (min(len(table), TABLE_ROWS) + 1) + 2
    st.dataframe(table, height=height, hide_index=True, column_config=dict(columns), placeholder=fmt.MISSING, alt=alt)


def _download(label: str, write: Callable[[], str], name: str, key: str) -> None:
    st.download_button(label, write, name, mime="text/csv", key=key, icon=":material/download:", on_click="ignore")
