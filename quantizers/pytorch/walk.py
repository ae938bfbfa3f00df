"""Walking through a program layer by layer, with the chance to change each layer before it runs (a coroutine)."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
from torch.fx import GraphModule, Interpreter, Node

from quantizers.pytorch.graph import layers

Arguments = tuple[Any, ...]
Step = tuple[Node, Arguments]


def walk(program: GraphModule, x: torch.Tensor) -> Generator[Step, Arguments | None, None]:
    """Yields each layer with the values of its arguments; what is sent back, it runs with instead.

    Only what later operations still need is kept in memory.
    """
    runner = Interpreter(program)
    runner.args_iter = iter((x,))
    weighted = set(layers(program.graph))
    for node in program.graph.nodes:
        if node in weighted:
            arguments, _ = runner.fetch_args_kwargs_from_env(node)
            changed = yield node, arguments
            runner.env[node] = run(node, changed or arguments)
        else:
            runner.env[node] = runner.run_node(node)
        for finished in runner.user_to_last_uses.get(node, []):
            del runner.env[finished]


def run(layer: Node, arguments: Arguments) -> torch.Tensor:
    """The output of a layer for other arguments than its own."""
    operation: Any = layer.target
    output: torch.Tensor = operation(*arguments)
    return output
