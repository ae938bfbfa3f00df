"""A database of the first version, with runs in it, opens in this one, and its runs are all there."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.command import upgrade
from alembic.config import Config
from sqlalchemy import Engine, create_engine, text

from experiments.library import EXAMPLES
from experiments.store.database import MIGRATIONS, URL_VARIABLE, open_database
from experiments.store.listing import Order
from experiments.store.store import SECTIONS, Store

COLUMNS = ("id", "experiment_id", "position", "model", "backend", "technique", "status", "spec", "digest", "stage", "progress")
COLUMNS += ("cancel", "created", "deleted", "result", "error", "files")
EXAMPLE = EXAMPLES / "fashion-cnn--tflite--static_wi8_ai8" / "run.json"


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An empty database that a store on `tmp_path` will open."""
    if request.param == "sqlite":
        monkeypatch.delenv(URL_VARIABLE, raising=False)
        engine = create_engine(f"sqlite:///{tmp_path / 'quantscope.db'}")
        yield engine
        engine.dispose()
        return
    server = create_engine(request.getfixturevalue("postgres"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("CREATE DATABASE old"))
        engine = create_engine(server.url.set(database="old"))
        monkeypatch.setenv(URL_VARIABLE, engine.url.render_as_string(hide_password=False))
        yield engine
        engine.dispose()
        connection.execute(text("DROP DATABASE old WITH (FORCE)"))
    server.dispose()


def first_version(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        upgrade(config, "0001")


def test_runs_of_the_first_version_load(old: Engine, tmp_path: Path) -> None:
    first_version(old)
    document = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    spec = {
        name: document[name] for name in ("schema", "model", "backend", "technique", "measurement", "options", "keep_float")
    }
    result = {name: document[name] for name in SECTIONS if name in document}
    done = ("done", "e1", 0, "fashion-cnn", "tflite", "static_wi8_ai8", "done", spec, "d", "", 1.0, False, 1.0, None)
    queued = ("queued", "e1", 1, "fashion-cnn", "tflite", "float32", "queued", spec, "d", "", 0.0, False, 1.0, None)
    rows = [(*done, result, None, {"artefact": "0" * 64 + ".tflite"}), (*queued, None, None, None)]
    with old.begin() as connection:
        connection.execute(text("INSERT INTO experiment VALUES ('e1', 1.0)"))
        statement = text(f"INSERT INTO run ({', '.join(COLUMNS)}) VALUES ({', '.join(f':{name}' for name in COLUMNS)})")
        for row in rows:
            values = [json.dumps(value) if isinstance(value, dict) else value for value in row]
            connection.execute(statement, dict(zip(COLUMNS, values, strict=True)))
        layers = text("INSERT INTO run_layers VALUES ('done', :layers)")
        connection.execute(layers, {"layers": json.dumps(document["layers"])})
    old.dispose()
    store = Store(tmp_path)
    run = store.run("done")
    unknown = dict.fromkeys(set(SECTIONS) - set(result))
    assert {name: run[name] for name in (*SECTIONS, "layers")} == {**result, **unknown, "layers": document["layers"]}
    assert all("not recorded" in run[f"{name}_why_not"] for name in unknown)
    assert (run["tags"], run["notes"], run["phase"]) == ([], "", "quantize")
    listed = store.summaries(order=Order.P50).rows
    assert [row["run_id"] for row in listed] == ["done", "queued"]
    assert listed[0]["latency"] == {name: document["latency"][name] for name in ("p50_ms", "speedup")}
    assert store.claim(pid=1) == "queued"
    open_database(store.home).dispose()
