"""Opening the database: SQLite in WAL mode, brought to the newest schema by alembic."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from alembic.command import upgrade
from alembic.config import Config
from filelock import FileLock
from sqlalchemy import Engine, create_engine, event

MIGRATIONS = Path(__file__).parent / "migrations"


@lru_cache(maxsize=8)
def open_database(home: Path) -> Engine:
    """The engine of a data directory, migrated; one per process and directory."""
    engine = create_engine(f"sqlite:///{home / 'quantscope.db'}", connect_args={"timeout": 10})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin_immediate)
    with FileLock(home / "migration.lock", timeout=60):
        _migrate(engine)
    return engine


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        upgrade(config, "head")


def _configure(connection: Any, _record: Any) -> None:
    # The driver must not open transactions by itself, or BEGIN IMMEDIATE below comes too late.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_immediate(connection: Any) -> None:
    # Taking the write lock at once turns "database is locked" in mid-transaction into a wait at its start.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes", True) else "BEGIN")
