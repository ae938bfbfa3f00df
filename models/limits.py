"""Limits that a process sets itself before it touches what nobody vouches for. POSIX only; elsewhere the time limit remains."""

from __future__ import annotations

import sys


def limit(memory_bytes: int, cpu_seconds: int) -> None:
    """Caps the address space and the processor time of this process for good, and forbids core dumps."""
    if sys.platform == "win32":
        return
    import resource

    for kind, most in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CPU, cpu_seconds), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))
