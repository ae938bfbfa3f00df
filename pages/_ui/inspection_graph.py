"""A model's operations as a graph, drawn by Graphviz in the browser; large ones in parts, for it lays out every node anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from pages._ui import format as fmt
from pages._ui.theme import Palette, palette

MOST_NODES = 120
_LONGEST_NAME = 40


def show_graph(graph: Mapping[str, Any], key: str) -> None:
    """The graph, or the part of it that is chosen."""
    nodes = graph["nodes"]
    first = 0
    if len(nodes) > MOST_NODES:
        starts = range(0, len(nodes), MOST_NODES)
        first = st.selectbox(
            "Part of the graph",
            starts,
            format_func=lambda start: f"Operations {start} to {min(start + MOST_NODES, len(nodes)) - 1}",
            key=f"{key}_part",
            width=320,
        )
    shown = nodes[first : first + MOST_NODES]
    st.caption(
        f"{fmt.count(len(nodes))} operations as the runtime runs them, in their order. Filled: it computes in integers."
        + (" Dashed: the delegate leaves it to the runtime's own kernels." if any("xnnpack" in node for node in nodes) else "")
    )
    alt = f"{len(shown)} operations from {shown[0]['kind']} to {shown[-1]['kind']}" if shown else "No operation"
    with st.container(height=560, key=f"{key}_graph"):
        st.graphviz_chart(dot(shown, graph["edges"], palette()), width="content", alt=alt)


def dot(nodes: Sequence[Mapping[str, Any]], edges: Sequence[Sequence[int]], colours: Palette) -> str:
    """Nodes {id, kind, name, runs_in, xnnpack where that is known} and the edges between them in Graphviz' language."""
    there = {node["id"] for node in nodes}
    lines = [_node(node, colours) for node in nodes]
    lines += [f"{int(a)} -> {int(b)}" for a, b in edges if a in there and b in there]
    look = (
        f'graph [bgcolor="transparent" ranksep=0.25 nodesep=0.2] '
        f'node [shape=box style="rounded" fontname="Inter" fontsize=11 height=0.3 margin="0.12,0.06" '
        f'color="{colours.muted}" fontcolor="{colours.text}"] edge [color="{colours.muted}" arrowsize=0.6]'
    )
    return "\n".join(["digraph {", look, *lines, "}"])


def _node(node: Mapping[str, Any], colours: Palette) -> str:
    styles = ["rounded"]
    styles += ["dashed"] if node.get("xnnpack") is False else []
    integer = "int" in str(node["runs_in"])
    fill = f' fillcolor="{colours.grid}"' if integer else ""
    styles += ["filled"] if integer else []
    label = " · ".join(filter(None, (node["kind"], node["runs_in"])))
    tip = str(node["name"])
    words = _quoted(f"{label}\n{tip[-_LONGEST_NAME:]}" if tip else label)
    return f'{int(node["id"])} [label={words} tooltip={_quoted(tip or label)} style="{",".join(styles)}"{fill}]'


def _quoted(text: str) -> str:
    """A string of Graphviz, which knows escapes of its own (\\N is a node's name); control characters become spaces."""
    safe = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + "".join(letter if letter.isprintable() else " " for letter in safe) + '"'
