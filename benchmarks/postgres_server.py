"""A PostgreSQL server of one's own for a while: Debian's binaries, a temporary folder, a Unix socket, nothing kept.

For tests and benchmarks. Durability is off, because nothing outlives the server.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

USER = "quantscope"
_UNPRIVILEGED = ("postgres", "nobody")
"""Who runs the server when we are root, as which PostgreSQL refuses to run."""
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "40",
}


def binaries() -> Path | None:
    """The folder of the newest installed server's programs (Debian: `postgresql`); None when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def postgres_server() -> Iterator[str]:
    """Starts a server, yields the URL of its database "postgres", and stops it.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
    """
    programs = binaries()
    if programs is None:
        raise FileNotFoundError("PostgreSQL is not installed (Debian: postgresql).")
    # A short path: that of a Unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="quantscope-pg-", ignore_cleanup_errors=True) as made:
        folder, user = Path(made), _unprivileged()
        if user:
            shutil.chown(folder, user)
        data = str(folder / "data")
        # A collation that is not C, as most servers have, so that nobody relies on the order of bytes.
        locale = ("--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US")
        _run([programs / "initdb", "-D", data, "-U", USER, "--auth=trust", "--no-sync", *locale], user)
        settings = " ".join(f"-c {name}='{value}'" for name, value in (_SETTINGS | {"unix_socket_directories": made}).items())
        _run([programs / "pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", settings, "start"], user)
        try:
            yield f"postgresql://{USER}@/postgres?host={made}"
        finally:
            _run([programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"], user)


def _unprivileged() -> str | None:
    if os.getuid() != 0:
        return None
    return next(name for name in _UNPRIVILEGED if any(entry.pw_name == name for entry in pwd.getpwall()))


def _run(command: Sequence[str | Path], user: str | None) -> None:
    group = pwd.getpwnam(user).pw_gid if user else None
    groups: list[str | int] | None = [] if user else None
    done = subprocess.run(
        command,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        user=user,
        group=group,
        extra_groups=groups,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")
