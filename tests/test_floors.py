"""The house stands: floors import downwards only, heavy libraries stay out of the page's process, files stay readable."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {"quantizers": 0, "models": 1, "benchmarks": 2, "experiments": 3, "pages": 4}
HEAVY = {"torch", "torchao", "tensorflow", "keras", "onnxruntime", "ai_edge_litert", "litert_quantizer", "numba", "distributed"}
LONGEST_FILE = 400


def sources() -> Iterator[Path]:
    for floor in FLOORS:
        yield from (ROOT / floor).rglob("*.py")


def imported_at_top(path: Path) -> Iterator[str]:
    """Modules a file imports whenever it is imported: not those inside functions or `if TYPE_CHECKING`."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name for name in names if (ROOT / f"{name.replace('.', '/')}.py").is_file())


@pytest.mark.parametrize("path", sorted(sources()), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    own = FLOORS[path.relative_to(ROOT).parts[0]]
    for module in imported_at_top(path):
        room = module.partition(".")[0]
        assert FLOORS.get(room, own) <= own, f"{module} is above {path.name}"
        assert room != "streamlit" or own == FLOORS["pages"]


@pytest.mark.parametrize("path", sorted(sources()), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_everything_a_page_imports_is_light() -> None:
    imported = {module for path in (ROOT / "pages").rglob("*.py") for module in imported_at_top(path)}
    modules = {module for module in imported if module.partition(".")[0] in FLOORS.keys() - {"pages"}} | {"quantizers.registry"}
    assert {"experiments.library", "experiments.jobs.worker", "models.zoo", "models.datasets"} <= modules
    code = f"import sys, {', '.join(sorted(modules))}; print(*(m.partition('.')[0] for m in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert HEAVY & set(run.stdout.split()) == set()
