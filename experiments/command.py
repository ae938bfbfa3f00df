"""What every subcommand of the command line shares: its exit codes, its `--json`, and how it meets our errors.

A subcommand with a module of its own is a function there, and one line in `experiments.__main__` that registers it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from experiments import console
from quantizers.errors import InputError, QuantScopeError

FAILED, BAD_INPUT, CANCELLED = 4, 2, 130
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]


def guarded(work: Callable[[], None], as_json: bool) -> None:
    """Turns our errors into the error document and an exit code."""
    try:
        work()
    except QuantScopeError as error:
        console.show_error(error, as_json)
        raise typer.Exit(BAD_INPUT if isinstance(error, InputError) else FAILED) from error
