"""A store of its own for each test, on every engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.store.database import open_database
from experiments.store.store import Store


@pytest.fixture
def store(database_url: str | None, tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "home").mkdir()
    opened = Store(tmp_path / "home")
    yield opened
    open_database(opened.home).dispose()
