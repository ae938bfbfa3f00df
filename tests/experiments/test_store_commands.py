"""The subcommands that keep a store in order, as scripts meet them: one JSON document, exit codes, words for people."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments.__main__ import app
from experiments.spec import Plan
from experiments.store.store import Finished, Store

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(home: Path) -> Ask:
    """Runs a subcommand with --json and returns its document; any other exit code than the expected one fails."""

    def call(*arguments: str, exit_code: int = 0) -> dict[str, Any]:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == exit_code, result.output
        document: dict[str, Any] = json.loads(result.stdout)
        return document

    return call


@pytest.fixture
def ids(store: Store, two_trials: Plan) -> list[str]:
    return [run["run_id"] for run in store.runs(experiment_id=store.submit(two_trials))]


def test_tags_are_given_taken_and_listed_by(ask: Ask, ids: list[str]) -> None:
    assert ask("tag", ids[0], "--add", "paper", "--add", "again") == {"run_id": ids[0], "tags": ["again", "paper"]}
    assert ask("tag", ids[1], "--add", "paper")["tags"] == ["paper"]
    assert ask("tag", ids[1], "--remove", "paper", "--add", "other")["tags"] == ["other"]
    assert [run["run_id"] for run in ask("list", "--tag", "paper", "--tag", "again")["runs"]] == [ids[0]]
    assert ask("list", "--tag", "pap")["runs"] == []
    assert "paper" in CliRunner().invoke(app, ["tag", ids[0]]).stdout


def test_notes_are_in_the_document(ask: Ask, ids: list[str]) -> None:
    ask("note", ids[0], "Smaller than I thought.")
    assert ask("show", ids[0])["notes"] == "Smaller than I thought."


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["tag", "nothing", "--add", "paper"], "unknown_name"),
        (["note", "nothing", "Hm."], "unknown_name"),
        (["track", "nothing", "--to", "sqlite:///never.db"], "unknown_name"),
        (["track", "--to", "sqlite:///never.db"], "bad_input"),
    ],
)
def test_bad_input_is_exit_2_with_an_error_document(ask: Ask, arguments: list[str], code: str) -> None:
    assert ask(*arguments, exit_code=2)["error"]["code"] == code


def test_a_database_that_cannot_be_opened_is_an_error_document(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSCOPE_DATABASE_URL", "postgresql://someone@/db?host=/nowhere")
    assert ask("list", exit_code=4)["error"]["code"] == "store_unavailable"


def test_gc_says_what_it_removed(ask: Ask, store: Store, two_trials: Plan, tmp_path: Path) -> None:
    assert ask("gc") == {"runs": 0, "files": 0, "bytes": 0, "folders": 0}
    store.submit(two_trials)
    run_id = store.claim(pid=1)
    assert run_id is not None
    (tmp_path / "model.bin").write_bytes(b"model")
    store.keep(run_id, Finished({}, [], {"artefact": tmp_path / "model.bin"}))
    assert ask("gc") == {"runs": 0, "files": 0, "bytes": 0, "folders": 0}
    assert CliRunner().invoke(app, ["gc"]).stdout.startswith("Removed 0 runs, 0 files")
