"""What a person is told about a trial that did not end well: what happened, and what to do."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator, Sequence

from experiments.jobs.settings import Settings
from quantizers.errors import (
    BackendCrashed,
    OutOfMemory,
    QuantScopeError,
    StoreError,
    StoreFull,
    StoreUnavailable,
    TrialError,
    TrialTimeout,
)

CANNOT_KEEP = 74
"""The exit code of a process that could not write to the store; EX_IOERR of sysexits.h."""
MEMORY_WORDS = (
    "memoryerror",
    "bad_alloc",
    "t allocate memory",
    "cannot allocate memory",
    "failed to allocate",
    "out of memory",
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_WORDS = ("disk is full", "no space left on device")
ROOM_HINT = "Free some space on the disk of the data directory, then run the trial again."
WRITABLE_HINT = "Make it writable, then run the trial again."


def raised(error: BaseException, settings: Settings) -> QuantScopeError:
    """The error to show for what a trial raised: a lack of memory or of disk, whoever wrapped it, else what it says itself."""
    for one in _causes(error):
        words = f"{type(one).__name__}: {one}".lower()
        number = one.errno if isinstance(one, OSError) else None
        if _of_memory(words):
            return _out_of_memory(settings)
        if number in FULL or any(part in words for part in FULL_WORDS):
            return StoreFull("The disk is full: what the trial made could not be kept.", ROOM_HINT)
        if number == errno.EROFS or "readonly database" in words:
            return StoreUnavailable("The data directory can no longer be written to.", WRITABLE_HINT)
    if isinstance(error, QuantScopeError):
        return error
    what = f"The trial failed unexpectedly: {type(error).__name__}: {error}"
    return TrialError(what[:500], "The run's log holds the details.")


def exited(code: int, last_words: Sequence[str], settings: Settings) -> QuantScopeError:
    """The error to show for a process that ended with `code` and left its runs without an end; `last_words` are its log's."""
    if code == CANNOT_KEEP:
        return StoreError("The trial's result could not be written to the data directory.", ROOM_HINT)
    if code != 0 and _of_memory("\n".join(last_words)):
        return _out_of_memory(settings)
    if code < 0:
        sign = signal.Signals(-code).name
        how = f"was killed by signal {-code} ({sign})"
    else:
        how = f"ended with exit code {code} before it had a result"
    hint = "The run's log holds its last words."
    if code == -signal.SIGKILL:
        hint = f"Something ended it by force, perhaps the system for lack of memory. {hint}"
    return BackendCrashed(f"The backend crashed on this model: its process {how}.", hint)


def overdue(settings: Settings) -> TrialTimeout:
    """The error to show for a process that took too long."""
    return TrialTimeout(
        f"The trial took longer than {settings.trial_seconds:g} seconds.",
        "Use fewer samples, or allow more time with QUANTSCOPE_TRIAL_LIMIT.",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__


def _of_memory(words: str) -> bool:
    return any(one in words.lower() for one in MEMORY_WORDS)


def _out_of_memory(settings: Settings) -> OutOfMemory:
    limit = "" if settings.memory_bytes is None else f" of {settings.memory_bytes / 10**9:.3g} GB"
    hint = "Use fewer samples or a smaller model, or allow more with QUANTSCOPE_MEMORY_LIMIT."
    return OutOfMemory(f"The trial needed more memory than its limit{limit}.", hint)
