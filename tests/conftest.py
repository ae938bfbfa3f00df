"""How the suite is shared out to processes (`pytest -n`): a folder's tests stay together, as they share models made once."""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PATIENT = ("e2e", "experiments")
"""They start servers and workers and wait for them: never two such tests at once."""


def pytest_configure() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # several processes with as many threads as cores hinder each other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folders = item.path.relative_to(TESTS).parts[:-1]
        group = "patient" if folders and folders[0] in PATIENT else "/".join(folders)
        item.add_marker(pytest.mark.xdist_group(group or "top"))
