"""What better rounding gained is told from the run's own section: of its plainly rounded twin on the same samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import make_run
from stored_runs import open_page, start_next, submit

from experiments.store.store import Finished, Store
from pages._ui.rounding_gain import gain_words
from quantizers.schema import Backend

CODE = "static_wi8_ai8"
SPACE = "\u202f"
UNLABELLED = {"drop_pp": None, "drop_pp_ci95": None, "within_noise": None, "mcnemar_p": None}
BETTER = {"drop_pp": -1.5, "drop_pp_ci95": [-2.0, -1.0], "within_noise": False, "mcnemar_p": 0.001}


def section(**against_plain: Any) -> dict[str, Any]:
    return {"plain": {"output_sqnr_db": 28.4}, "against_plain": UNLABELLED | against_plain}


def test_the_gain_is_told_with_its_paired_interval() -> None:
    words = gain_words({"output_sqnr_db": 31.4}, section(**BETTER))
    assert f"28.4{SPACE}dB → 31.4{SPACE}dB (**+3.0{SPACE}dB**)" in words
    assert f"accuracy **+1.50{SPACE}points** [+1.00, +2.00], :green[" in words


def test_a_difference_that_chance_explains_is_called_noise() -> None:
    chance = {"drop_pp": 0.1, "drop_pp_ci95": [-0.4, 0.6], "within_noise": True, "mcnemar_p": 0.7}
    assert ":gray[within noise]" in gain_words({"output_sqnr_db": None}, section(**chance))


@pytest.mark.parametrize(("sqnr_db", "words"), [(27.9, "**−0.5"), (None, "Neither of the two has a figure")])
def test_without_labels_only_the_error_is_told(sqnr_db: float | None, words: str) -> None:
    told = gain_words({"output_sqnr_db": sqnr_db}, section())
    assert words in told
    assert "accuracy" not in told


@pytest.mark.parametrize("improved", [True, False])
def test_the_drawer_shows_the_gain_of_a_run_that_has_one(clean_home: Path, tmp_path: Path, improved: bool) -> None:
    clean_home.mkdir()
    store = Store(clean_home)
    submit(store, [(Backend.PYTORCH, CODE)])
    run_id = start_next(store)
    run, arrays = make_run(run_id, "pytorch", CODE)
    result = {name: run[name] for name in ("execution", "layers_total", "layers_quantized", "size", "quality", "provenance")}
    result |= {"improvement": section(**BETTER)} if improved else {"improvement": None, "improvement_why_not": "plain"}
    np.savez_compressed(tmp_path / "details.npz", **arrays)
    (tmp_path / "model.pt2").write_bytes(b"artefact")
    files = {"artefact": tmp_path / "model.pt2", "details": tmp_path / "details.npz"}
    store.keep(run_id, Finished(result, run["layers"], files))
    test = open_page("runs", runs_open=run_id)
    assert not test.exception
    told = "\n".join(element.value for element in test.markdown)
    assert ("**Against plain rounding**" in told) is improved
    assert (f"accuracy **+1.50{SPACE}points**" in told) is improved
