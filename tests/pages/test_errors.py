"""What goes wrong is told in words: what, why, what to do. A traceback is there to copy, and only there."""

import errno
import importlib
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from streamlit.testing.v1 import AppTest

from pages._ui.errors import store_error
from quantizers.errors import StoreError, StoreFull, StoreUnavailable

ROOT = Path(__file__).parents[2]


def sqlite(message: str) -> OperationalError:
    return OperationalError("UPDATE run", {}, sqlite3.OperationalError(message))


def own_error() -> None:
    from pages._ui.errors import show_script_error
    from quantizers.errors import UnknownName

    assert show_script_error(UnknownName("There is no run “x”.", "List the runs there are.")) is True


def surprise() -> None:
    from pages._ui.errors import show_script_error

    assert show_script_error(RuntimeError("the disk is on fire")) is True


def test_an_error_of_ours_shows_message_and_hint_and_no_traceback() -> None:
    page = AppTest.from_function(own_error).run()
    assert not page.exception
    assert page.warning[0].proto.title == "There is no run “x”."
    assert page.warning[0].value == "List the runs there are."
    assert not page.code


def test_a_surprise_shows_a_card_with_details_to_copy() -> None:
    page = AppTest.from_function(surprise).run()
    assert not page.exception
    assert page.error[0].proto.title == "This page could not be drawn"
    assert "RuntimeError: the disk is on fire" in page.code[0].value


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StoreFull, "No room is left"),
        (sqlite("database or disk is full"), StoreFull, "No room is left"),
        (sqlite("attempt to write a readonly database"), StoreUnavailable, "cannot be written to"),
        (PermissionError(errno.EACCES, "Permission denied"), StoreUnavailable, "cannot be written to"),
        (sqlite("database is locked"), StoreUnavailable, "does not answer: database is locked"),
    ],
)
def test_trouble_with_the_store_is_told_as_such(error: Exception, kind: type[StoreError], words: str) -> None:
    told = store_error(error)
    assert type(told) is kind
    assert words in told.message
    assert told.hint


def test_other_trouble_is_not_blamed_on_the_store() -> None:
    assert store_error(RuntimeError("disk is full")) is None
    assert store_error(FileNotFoundError(errno.ENOENT, "gone")) is None


def test_the_entry_serves_the_shell_and_finds_its_own_files() -> None:
    app = importlib.import_module("app").app
    assert app.script_path == ROOT / "pages" / "_shell.py"
    assert (ROOT / "static" / "icon.svg").is_file()
