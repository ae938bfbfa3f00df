"""The performance benchmarks: `python -m benchmarks [NAME] [--json]`; without a name, all of them.

With `--json` standard output is exactly one JSON document. Exit codes: 0 done, 2 no such benchmark.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from benchmarks._stdout import claimed_stdout
from benchmarks.suite import BENCHMARKS, shared_work
from benchmarks.suite.figure import Figures
from quantizers.errors import InputError, UnknownName

BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs benchmarks and prints their figures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run the performance benchmarks.")
    parser.add_argument("name", nargs="?", help=f"one of: {', '.join(BENCHMARKS)} (all)")
    parser.add_argument("--techniques", type=int, metavar="N", help="shared_work with the first N techniques only")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print exactly one JSON document")
    given = parser.parse_args(arguments)
    with claimed_stdout() as out:
        try:
            document, code = _document(given.name, given.techniques), 0
        except InputError as error:
            document, code = {"error": error.to_dict()}, BAD_INPUT
        print(json.dumps(document) if given.as_json else _text(document), file=out)
    return code


def _document(name: str | None, techniques: int | None) -> dict[str, Any]:
    benchmarks = dict(BENCHMARKS)
    if techniques:
        benchmarks["shared_work"] = partial(shared_work.run, techniques=techniques)
    if name is None:
        return {"benchmarks": [_run_or_say_why_not(one, measure) for one, measure in benchmarks.items()]}
    if name not in benchmarks:
        raise UnknownName.of("benchmark", name, benchmarks)
    return _run(name, benchmarks[name])


def _run(name: str, measure: Callable[[], Figures]) -> dict[str, Any]:
    return {"benchmark": name, "figures": {key: asdict(figure) for key, figure in measure().items()}}


def _run_or_say_why_not(name: str, measure: Callable[[], Figures]) -> dict[str, Any]:
    """Of many benchmarks one that cannot run here, for want of a browser say, costs the others nothing."""
    try:
        return _run(name, measure)
    except InputError as error:
        return {"benchmark": name, "error": error.to_dict()}


def _text(document: dict[str, Any]) -> str:
    if "error" in document:
        return _error(document)
    return "\n\n".join(_table(one) for one in document.get("benchmarks", [document]))


def _error(document: dict[str, Any]) -> str:
    return f"{document['error']['message']} {document['error']['hint']}"


def _table(document: dict[str, Any]) -> str:
    rows = [document["benchmark"]]
    if "error" in document:
        return f"{rows[0]}\n  {_error(document)}"
    for name, figure in document["figures"].items():
        target = "" if figure["target"] is None else f"   target {figure['target']:g}"
        rows.append(f"  {name:<36}{figure['value']:>12.4g} {figure['unit']}{target}")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
