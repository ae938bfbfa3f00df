"""The environment variables about running trials: what they may hold, and what is said when they hold something else."""

import pytest

from experiments.jobs import settings
from experiments.jobs.settings import Settings
from quantizers.errors import InputError, MissingExtra


@pytest.mark.parametrize("address", ["tcp://10.0.0.5:8786", "tls://[::1]:8786", "ws://dask.example:80/"])
def test_a_scheduler_is_an_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSCOPE_SCHEDULER", f" {address} ")
    assert Settings.read().scheduler == address


@pytest.mark.parametrize("text", ["here", "host:8786", "http://host:8787", "tcp://host"])
def test_what_is_no_address_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSCOPE_SCHEDULER", text)
    with pytest.raises(InputError, match="QUANTSCOPE_SCHEDULER"):
        Settings.read()


def test_without_a_scheduler_trials_run_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSCOPE_SCHEDULER", "")
    assert Settings.read().scheduler is None


def test_without_the_package_it_says_which_one_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSCOPE_SCHEDULER", "tcp://host:8786")
    monkeypatch.setattr(settings, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtra) as caught:
        Settings.read()
    assert settings.DISTRIBUTED in caught.value.hint
