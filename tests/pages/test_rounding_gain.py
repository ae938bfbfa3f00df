"""What better rounding gained is told against the one run that does all else alike, or not at all."""

from __future__ import annotations

from typing import Any

from made_runs import make_run
from stored_runs import MEASUREMENT, finish_next

from experiments.library import Library
from experiments.spec import Plan, TrialSpec
from experiments.store.store import RunDocument, Store
from pages._ui.rounding_gain import find_plain, gain_words, plain_options
from quantizers.capabilities import resolve_options
from quantizers.schema import Backend, Technique

CODE = "static_wi8_ai8"


def finished(store: Store, **options: Any) -> RunDocument:
    resolved = resolve_options(Backend.PYTORCH, Technique.parse(CODE), options)
    store.submit(Plan((TrialSpec("fashion-cnn", Backend.PYTORCH, CODE, MEASUREMENT, resolved),), ()))
    return store.run(finish_next(store))


def test_only_what_improves_rounding_is_taken_away() -> None:
    options = resolve_options(Backend.PYTORCH, Technique.parse(CODE), {"rounding": "learned", "observer": "minmax"})
    run = {"backend": "pytorch", "technique": CODE, "options": options}
    plain = plain_options(run)
    assert plain == dict(options) | {"rounding": "nearest"}
    assert plain_options(run | {"options": plain}) == plain


def test_the_run_to_compare_with_differs_in_rounding_alone(clean_home: Any) -> None:
    clean_home.mkdir()
    library = Library(Store(clean_home))
    finished(library.store, observer="minmax")
    learned = finished(library.store, rounding="learned")
    assert find_plain(library, learned) is None
    plain = finished(library.store)
    found = find_plain(library, learned)
    assert found is not None
    assert found["run_id"] == plain["run_id"]


def test_the_gain_is_told_with_its_interval() -> None:
    plain, better = (make_run(name, "pytorch", CODE)[0] for name in ("plain", "better"))
    better["quality"] |= {"output_sqnr_db": 31.4}
    words = gain_words(better, plain)
    assert "28.4\u202fdB → 31.4\u202fdB (**+3.0\u202fdB**)" in words
    assert "accuracy **0.00\u202fpoints**" in words
    assert ":gray[within noise]" in words
