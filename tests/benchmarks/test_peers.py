import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.peers import __main__ as command_line
from benchmarks.peers import environment, limits, table
from benchmarks.peers.adapter import Found, Peer, Task, layer_name
from benchmarks.peers.judge import completed
from benchmarks.peers.limits import Stopped
from benchmarks.peers.ours import CHOSEN, JUDGED, OURS
from benchmarks.peers.registry import PEERS
from benchmarks.peers.results import Record, Results
from benchmarks.peers.table import Side

PEER = Peer("other", "Other", "benchmarks.peers.other", {"job": Task.SENSITIVITY})
RANKING = {"stem": 0.3, "block0_dw": 0.2, "dense": 0.1}


def python(code: str, seconds: float = 20.0, **options: object) -> str:
    return limits.run([sys.executable, "-c", code], seconds=seconds, **options)  # type: ignore[arg-type]


def test_a_command_gives_what_it_prints() -> None:
    assert python("print('chatter'); print(7)") == "chatter\n7\n"


def test_a_command_that_fails_gives_its_last_line() -> None:
    with pytest.raises(Stopped, match=r"^ValueError: no such layer$"):
        python("raise ValueError('no such layer')")


def test_a_command_that_is_killed_says_by_what() -> None:
    with pytest.raises(Stopped, match="SIGKILL"):
        python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_a_command_that_does_not_end_is_ended() -> None:
    with pytest.raises(Stopped, match=r"^> 0.5 s unfinished$"):
        python("import time; time.sleep(20)", seconds=0.5)


def test_a_command_that_writes_too_much_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FOLDER_POLL_SECONDS", 0.0)
    code = f"import time; open({str(tmp_path / 'big')!r}, 'wb').write(bytes(2000)); time.sleep(20)"
    with pytest.raises(Stopped, match="GB to install"):
        python(code, folder=tmp_path, most_bytes=1000)


def test_what_does_not_install_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> str:
        raise Stopped("ERROR: No matching distribution found for other==1")

    monkeypatch.setattr(environment, "run", refuse)
    with pytest.raises(Stopped, match=r"^not installed: ERROR: No matching distribution"):
        environment.python_of(replace(PEER, requirements=("other==1",)), tmp_path)
    assert not (tmp_path / "other").exists()


def test_an_environment_is_built_once_and_anew_for_other_requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(environment, "run", lambda command, **_: commands.append(command))
    peer = replace(PEER, requirements=("other==1",), without_dependencies=("part==2",))
    for _ in range(2):
        assert environment.python_of(peer, tmp_path) == tmp_path / "other" / "bin" / "python"
    assert [command[2] for command in commands] == ["venv", "pip", "pip"]
    assert "other==1" in commands[1]
    assert commands[2][-2:] == ["--no-deps", "part==2"]
    environment.python_of(replace(peer, requirements=("other==2",)), tmp_path)
    assert len(commands) == 6


def test_environments_and_results_are_kept_where_one_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path))
    assert environment.folder() == tmp_path
    monkeypatch.delenv(environment.VARIABLE)
    assert not environment.folder().is_relative_to(command_line.ROOT)


def test_results_are_kept_as_they_come(tmp_path: Path) -> None:
    pick = {"bytes": 3_000_000, "sqnr_db": None, "agreement": 0.5}
    found = Record("Other (a)", 0, Found(1.5, 7, layers=2, ranking={"stem": 0.1}, bits={"stem": 4}), {"Other (a)": pick})
    failed = Record("Other (b)", 0, Stopped("> 5 s unfinished"), {})
    results = Results.begun(tmp_path / "new")
    assert results.records() == {}
    results.add(found)
    results.add(failed)
    again = Results.latest(tmp_path / "new").records()
    assert again[found.side, 0] == found
    assert str(again[failed.side, 0].result) == "> 5 s unfinished"
    results.add(replace(found, result=Found(2.5, 7)))
    assert results.records()[found.side, 0].result == Found(2.5, 7)


def test_a_resumed_comparison_runs_what_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = replace(PEER, jobs={"slow": Task.SEARCH, "broken": Task.SEARCH})
    ran: list[str] = []
    pick = {"bytes": 3_000_000, "sqnr_db": 10.0, "agreement": 0.8}

    def attempt(side: Side, _python: object, folder: Path, _seconds: float) -> Found | Stopped:
        ran.append(side.job)
        if side.job == "frontier":
            assert json.loads((folder / JUDGED).read_text()) == {"Other (slow)": pick}
            (folder / CHOSEN).write_text(json.dumps({"Other (slow)": {"stem": 8}}))
        return (
            Stopped("killed by SIGKILL")
            if side.job == "broken"
            else Found(1.0, 1, bits={"stem": 4} if side.job == "slow" else {})
        )

    monkeypatch.setattr(command_line, "_prepare", lambda *_: None)
    monkeypatch.setattr(command_line, "_attempt", attempt)
    monkeypatch.setattr(command_line, "_judged", lambda _, choices: dict.fromkeys(choices, pick))
    results = Results.begun(tmp_path)
    for _ in range(2):
        slow, broken, frontier = command_line.compare([peer], 1, 5.0, results)
        assert (slow.pick, slow.ours, broken.error, frontier.error) == (pick, pick, "killed by SIGKILL", None)
    assert ran == ["slow", "broken", "frontier"]
    command_line.compare([replace(peer, jobs={"other": Task.SEARCH, **peer.jobs})], 1, 5.0, results)
    assert ran[3:] == ["other", "frontier"]


def test_single_jobs_of_peers_can_be_chosen() -> None:
    assert command_line.chosen([]) == list(PEERS.values())
    naive, modelopt = command_line.chosen(["modelopt.kl_div", "naive"])
    assert (naive, list(modelopt.jobs)) == (PEERS["naive"], ["kl_div"])


def test_a_peer_without_requirements_runs_here(tmp_path: Path) -> None:
    assert environment.python_of(PEER, tmp_path) == Path(sys.executable)


def test_every_peer_pins_what_it_installs() -> None:
    for name, peer in PEERS.items():
        assert peer.name == name
        assert peer.module == f"benchmarks.peers.{name}"
        assert all("==" in requirement for requirement in (*peer.requirements, *peer.without_dependencies))
        # Whatever asks for torch gets the build without CUDA.
        assert all("+cpu" in requirement for requirement in peer.requirements if requirement.startswith("torch=="))


def sides() -> list[Side]:
    peer, fast, exact = Side(PEER, "job", Task.SENSITIVITY), *(Side(OURS, name, Task.SENSITIVITY) for name in ("fast", "exact"))
    for seconds in (30.0, 10.0, 20.0):
        peer.add(Found(seconds, 900, layers=3, ranking={"stem.conv": 9.0, "model.block0_dw": 5.0, "dense": 7.0}))
    fast.add(Found(2.0, 300, layers=3, ranking=RANKING))
    exact.add(Found(8.0, 300, layers=3, ranking=RANKING))
    return [peer, fast, exact]


def test_rows_hold_medians_ratios_and_rank_correlation() -> None:
    row, fast, exact = table.rows(sides())
    assert (row["seconds"], row["times_our_seconds"], row["times_our_bytes"]) == (20.0, 10.0, 3.0)
    assert row["spearman"] == pytest.approx(0.5)
    assert (fast["times_our_seconds"], exact["times_our_seconds"], exact["spearman"]) == (1.0, 4.0, pytest.approx(1.0))


def test_a_side_without_figures_shows_its_error() -> None:
    broken = Side(PEER, "job", Task.SENSITIVITY)
    broken.add(Stopped("> 300 s unfinished"))
    rows = table.rows([broken, *sides()[1:]])
    assert (rows[0]["seconds"], rows[0]["times_our_seconds"], rows[0]["error"]) == (None, None, "> 300 s unfinished")
    text = table.text({"load_average": [1.0, 2.0, 3.0], "threads": 1, "rows": rows})
    assert "Other (job)" in text
    assert "> 300 s unfinished" in text
    assert text.count("per-layer sensitivity") == 1


def test_picks_stand_beside_ours_at_as_many_bytes() -> None:
    side = Side(PEER, "job", Task.SEARCH)
    side.add(Found(5.0, 100, layers=2, bits={"stem": 4, "dense": 8}))
    side.pick = {"bytes": 3_000_000, "sqnr_db": 10.0, "agreement": 0.8}
    side.ours = {"bytes": 2_990_000, "sqnr_db": 12.5, "agreement": 0.9}
    text = table.text({"load_average": [0.0] * 3, "threads": 1, "rows": table.rows([side])})
    assert "3.000 MB, 10.00 dB, agreement 0.800; ours: 2.990 MB, 12.50 dB, agreement 0.900" in text


def test_names_of_other_libraries_are_those_of_our_layers() -> None:
    names = ("stem.conv", "model.stem_conv", "block0_dw", "stem/WithoutBiases", "block3_dw_conv_bn")
    assert [layer_name(name) for name in names] == ["stem", "stem", "block0_dw", "stem", "block3_dw"]


def test_a_pick_is_completed_with_the_next_wider_width() -> None:
    assert completed({"a.conv": 3, "b": 8, "c": 32}, ["a", "b", "c", "d"]) == {"a": 4, "b": 8, "c": 16, "d": 16}


def test_a_pick_of_layers_that_are_not_ours_is_not_judged() -> None:
    with pytest.raises(ValueError, match="not layers of the model: conv_7"):
        completed({"a": 4, "conv_7": 4}, ["a", "b"])


@pytest.mark.parametrize("name", ["aimet_onx", "modelopt.kl"])
def test_an_unknown_peer_or_job_is_bad_input(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert command_line.main([name, "--json"]) == 2
    assert json.loads(capfd.readouterr().out)["error"]["code"] == "unknown_name"
