"""What all tests share: how they are shared out to processes (`pytest -n`), and the databases that a store can lie in."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from benchmarks.postgres_server import binaries, postgres_server
from experiments.store.database import URL_VARIABLE, open_database

ENGINES = ("sqlite", "postgresql")
TESTS = Path(__file__).parent
PATIENT = ("e2e", "experiments")
"""They start servers and workers and wait for them: never two such tests at once."""


def pytest_configure() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # several processes with as many threads as cores hinder each other


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes (`pytest -n`) each gets whole folders, as a folder's tests share models that are made once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder = Path(nodeid.partition("::")[0]).parent.relative_to(TESTS.name)
            return "patient" if folder.name in PATIENT else str(folder)

    return ByFolder(config, log)


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
