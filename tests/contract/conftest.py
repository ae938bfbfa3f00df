"""The same store on every engine: SQLite in a data directory, and a database of a real PostgreSQL server for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from benchmarks.postgres_server import binaries, postgres_server
from experiments.store.database import URL_VARIABLE, open_database
from experiments.store.store import Store

ENGINES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an up-to-date database on a server that runs as long as the tests."""
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with postgres_server() as url:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(URL_VARIABLE, url)
            open_database(tmp_path_factory.mktemp("home")).dispose()
        yield url


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """The empty database that stores are opened on: None for the file in the data directory."""
    if request.param == "sqlite":
        monkeypatch.delenv(URL_VARIABLE, raising=False)
        return None
    url: str = request.getfixturevalue("postgres")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE experiment, worker CASCADE"))
    engine.dispose()
    monkeypatch.setenv(URL_VARIABLE, url)
    return url


@pytest.fixture
def store(database_url: str | None, tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "home").mkdir()
    opened = Store(tmp_path / "home")
    yield opened
    open_database(opened.home).dispose()
