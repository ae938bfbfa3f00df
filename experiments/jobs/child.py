"""A trial's own process: `python -m experiments.jobs.child RUN_ID`. Everything heavy happens here and dies with it."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from experiments.store.store import Store
from quantizers.errors import OutOfMemory, QuantScopeError, TrialError
from quantizers.schema import Status

ORPHANED = 70
REPORT_EVERY_SECONDS = 0.25


def main(run_id: str) -> None:
    """Runs one trial and records how it ended."""
    threading.Thread(target=_die_with_worker, daemon=True).start()
    store = Store()
    try:
        _run(store, run_id)
    except QuantScopeError as error:
        traceback.print_exc()
        store.end(run_id, Status.FAILED, error)
    except MemoryError:
        traceback.print_exc()
        store.end(run_id, Status.FAILED, OutOfMemory("The trial ran out of memory.", "Use fewer samples or a smaller model."))
    except Exception as error:
        traceback.print_exc()
        what = f"The trial failed unexpectedly: {type(error).__name__}: {error}"
        store.end(run_id, Status.FAILED, TrialError(what[:500], "The run's log holds the details."))


def _run(store: Store, run_id: str) -> None:
    from experiments.trial import run_trial

    last = 0.0

    def report(fraction: float, stage: str) -> None:
        nonlocal last
        if time.monotonic() - last > REPORT_EVERY_SECONDS:
            last = time.monotonic()
            store.report(run_id, fraction, stage)

    with tempfile.TemporaryDirectory(prefix="quantscope-") as folder:
        store.finish(run_id, run_trial(store.spec(run_id), Path(folder), report))


def _die_with_worker() -> None:
    # Standard input is a pipe whose other end only the worker holds: end of file means the worker is gone.
    sys.stdin.buffer.read()
    os._exit(ORPHANED)


if __name__ == "__main__":
    main(sys.argv[1])
