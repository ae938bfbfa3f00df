"""Makes chosen trials go wrong, in processes that a test starts with this folder on their PYTHONPATH; no product code knows it.

QUANTSCOPE_TEST_FAULTS is JSON: what happens to trials of a technique. QUANTSCOPE_TEST_CLOCK makes the wall clock jump back by
an hour at every tenth look.
"""

import importlib.abc
import importlib.machinery
import itertools
import json
import os
import resource
import signal
import sys
import time

FAULTS = json.loads(os.environ.get("QUANTSCOPE_TEST_FAULTS", "{}"))
SMALL_FILE = 16 << 10


def allocate_without_end():
    held = []
    while True:
        held.append(bytearray(64 << 20))


def never_return():
    while True:
        time.sleep(3600)


def will_not_listen():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    never_return()


def die():
    os.kill(os.getpid(), signal.SIGSEGV)


def write_no_large_file():
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILE, SMALL_FILE))


class Faulty(importlib.abc.MetaPathFinder):
    """Replaces `quantize_trial` when the module that has it is imported."""

    def find_spec(self, name, path, target=None):
        if name != "experiments.trial":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            sound = module.quantize_trial

            def quantize_trial(spec, *rest):
                if spec.technique in FAULTS:
                    globals()[FAULTS[spec.technique]]()
                return sound(spec, *rest)

            module.quantize_trial = quantize_trial

        spec.loader.exec_module = exec_module
        return spec


if FAULTS:
    sys.meta_path.insert(0, Faulty())
if os.environ.get("QUANTSCOPE_TEST_CLOCK"):
    looks, true_time = itertools.count(), time.time
    time.time = lambda: true_time() - 3600.0 * (next(looks) // 10)
