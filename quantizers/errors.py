"""Every error a person can cause, as one tree. `code` is stable and machine-readable; `hint` says what to do.

QuantScopeError
├── InputError                  the request itself cannot be met (CLI exit 2)
│   ├── UnknownName             model, technique, backend, dataset, option or run that does not exist
│   ├── Unsupported             this technique is impossible on this backend or model
│   ├── MissingExtra            an optional package that is needed for this is not installed
│   ├── BadModel                a model file that cannot be read, or is not what it should be
│   └── BadData                 samples that are missing, empty, NaN or of the wrong shape
├── QuantizationError           quantizing was tried and did not give what was asked for
│   ├── NothingQuantized        the backend returned without an error, and without quantizing a layer
│   └── ConversionFailed        the backend's converter refused the model
├── StoreError                  what is kept could not be read or written
│   ├── StoreUnavailable        the database or the data directory cannot be opened
│   ├── StoreFull               no room is left on the disk
│   └── ArtefactDamaged         a kept file no longer holds what was put there
├── ClusterUnavailable          the cluster that was to run trials does not answer, or none of its workers can
└── TrialError                  the process that ran the trial did not end well
    ├── BackendCrashed          the trial's process died by a signal
    ├── OutOfMemory             the trial hit its memory limit
    └── TrialTimeout            the trial hit its time limit
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class QuantScopeError(Exception):
    """An error with what happened (`message`), what to do (`hint`) and a stable `code`."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_dict(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message, "hint": self.hint}


class InputError(QuantScopeError):
    code = "bad_input"


class UnknownName(InputError):
    code = "unknown_name"

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> UnknownName:
        """Builds the error for a `name` that is none of `known`, suggesting the nearest one."""
        choices = sorted(known)
        near = get_close_matches(name, choices, n=1)
        hint = f"Did you mean “{near[0]}”?" if near else f"Known: {', '.join(choices) or 'none'}."
        return cls(f"There is no {kind} called “{name}”.", hint)


class Unsupported(InputError):
    code = "unsupported"


class MissingExtra(InputError):
    code = "missing_extra"

    @classmethod
    def of(cls, what: str, requirement: str) -> MissingExtra:
        """Builds the error for `what` a person asked for, which needs a package; `requirement` is what pip installs."""
        return cls(f"{what} needs a package that is not installed.", f'Install it: pip install "{requirement}".')


class BadModel(InputError):
    code = "bad_model"


class BadData(InputError):
    code = "bad_data"


class QuantizationError(QuantScopeError):
    code = "quantization_failed"


class NothingQuantized(QuantizationError):
    code = "nothing_quantized"


class ConversionFailed(QuantizationError):
    code = "conversion_failed"


class StoreError(QuantScopeError):
    code = "store_failed"


class StoreUnavailable(StoreError):
    code = "store_unavailable"


class StoreFull(StoreError):
    code = "store_full"


class ArtefactDamaged(StoreError):
    code = "artefact_damaged"


class ClusterUnavailable(QuantScopeError):
    code = "cluster_unavailable"


class TrialError(QuantScopeError):
    code = "trial_failed"


class BackendCrashed(TrialError):
    code = "backend_crashed"


class OutOfMemory(TrialError):
    code = "out_of_memory"


class TrialTimeout(TrialError):
    code = "timeout"
