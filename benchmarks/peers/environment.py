"""The environment of a peer: a venv in the user's cache, built once and anew when what it needs has changed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import platformdirs

from benchmarks.peers.adapter import Peer
from benchmarks.peers.limits import Stopped, run

VARIABLE = "QUANTSCOPE_PEERS"
"""Of the environment: another folder."""
SECONDS, MOST_BYTES = 1200.0, 4_000_000_000
SHARED = ("psutil==7.2.2",)
"""What the protocol itself needs."""
_STAMP = "requirements.json"


def folder() -> Path:
    """Where environments and results stay between runs."""
    return Path(os.environ.get(VARIABLE) or platformdirs.user_cache_path("quantscope") / "peers")


def python_of(peer: Peer, within: Path) -> Path:
    """The interpreter that a peer runs in, after it has been built.

    Raises:
        Stopped: something does not install, with the last line of pip, or takes more time or room than it may.
    """
    if not peer.requirements:
        return Path(sys.executable)
    place = within / peer.name
    python = place / "bin" / "python"
    wanted = json.dumps([peer.requirements, peer.without_dependencies])
    stamp = place / _STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        run([sys.executable, "-m", "venv", str(place)], seconds=SECONDS)
        _install(python, place, SHARED + peer.requirements)
        if peer.without_dependencies:
            _install(python, place, peer.without_dependencies, "--no-deps")
    except Stopped as error:
        shutil.rmtree(place, ignore_errors=True)
        raise Stopped(f"not installed: {error}") from error
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _install(python: Path, place: Path, packages: tuple[str, ...], *options: str) -> None:
    # No source is built: compilers and CUDA kits are not what a comparison should wait for.
    flags = ("--quiet", "--no-compile", "--only-binary", ":all:", "--disable-pip-version-check")
    command = [str(python), "-m", "pip", "install", *flags, *options, *packages]
    run(command, seconds=SECONDS, folder=place, most_bytes=MOST_BYTES)
