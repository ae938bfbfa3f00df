"""What goes wrong is told in words: what, why, what to do. A traceback is there to copy, and only there."""

import importlib
from pathlib import Path

from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parents[2]


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


def test_the_entry_serves_the_shell_and_finds_its_own_files() -> None:
    app = importlib.import_module("app").app
    assert app.script_path == ROOT / "pages" / "_shell.py"
    assert (ROOT / "static" / "icon.svg").is_file()
