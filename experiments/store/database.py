"""Opening the database: SQLite in WAL mode in the data directory, or PostgreSQL by URL; alembic brings it up to date.

What the two engines do differently is said here and in `experiments.store.tables`; everything else is the same SQL.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from alembic.command import upgrade
from alembic.config import Config
from filelock import FileLock
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

from quantizers.errors import InputError, MissingExtra, StoreUnavailable

URL_VARIABLE = "QUANTSCOPE_DATABASE_URL"
POSTGRESQL_DRIVER = "psycopg[binary]==3.3.9"
MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x5175616E74
"""A number of our own for PostgreSQL's advisory lock: two programs that start at once migrate one after the other."""


def open_database(home: Path) -> Engine:
    """The engine of a data directory, migrated; one per process and database.

    Raises:
        InputError: `$QUANTSCOPE_DATABASE_URL` is not the URL of a database that is supported.
        MissingExtra: PostgreSQL is asked for and its driver is not installed.
        StoreUnavailable: the database cannot be opened.
    """
    chosen = os.environ.get(URL_VARIABLE)
    return _open(home, _parse(chosen) if chosen else URL.create("sqlite", database=str(home / "quantscope.db")))


@lru_cache(maxsize=8)
def _open(home: Path, url: URL) -> Engine:
    try:
        engine = _sqlite(url) if url.get_backend_name() == "sqlite" else create_engine(url, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise MissingExtra.of("PostgreSQL", POSTGRESQL_DRIVER) from error
    try:
        with FileLock(home / "migration.lock", timeout=60):
            _migrate(engine)
    except (OperationalError, OSError) as error:
        reason = str(getattr(error, "orig", error)).strip()
        where = url.render_as_string(hide_password=True)
        raise StoreUnavailable(
            f"The database {where} cannot be opened: {reason}", "See that it is running, and that you may write to it."
        ) from error
    return engine


def _parse(chosen: str) -> URL:
    hint = f"Give {URL_VARIABLE} a URL such as postgresql://user@host/quantscope, or unset it for a file in the data directory."
    try:
        url = make_url(chosen)
        name = url.get_backend_name()
    except (ArgumentError, NoSuchModuleError) as error:
        raise InputError(f"{URL_VARIABLE} does not hold a database URL.", hint) from error
    if name == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if name == "sqlite":
        return url
    raise InputError(f"Databases of the kind “{name}” are not supported.", hint)


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": 10})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        upgrade(config, "head")


def _configure(connection: Any, _record: Any) -> None:
    # The driver must not open transactions by itself, or BEGIN IMMEDIATE below comes too late.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_immediate(connection: Connection) -> None:
    # Taking the write lock at once turns "database is locked" in mid-transaction into a wait at its start.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes", True) else "BEGIN")
