"""A PostgreSQL cluster in a folder: whose it is, how it is made, whether its server runs.

Only the standard library is imported here: the guard runs these functions in a bare interpreter.
"""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROLE = "modelperf"
DATABASE = "modelperf"
PORT = 5432  # only names the socket: nothing listens on the network
SOCKET = f".s.PGSQL.{PORT}"

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    # Relative to the data folder, where the server stands: a path that its user could not enter,
    # or that is too long for a socket, does not matter to it.
    "unix_socket_directories": ".",
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "work_mem": "16MB",  # what a page lists is sorted in memory
    "jit": "off",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",  # refused rows are the client's to report, not the log's
}
HAS_PROC = Path("/proc/self/cmdline").exists()  # Linux, not macOS
NO_PROCESS = 2**31 - 1  # above every kernel's largest process id


class PostgresError(RuntimeError):
    """The embedded server cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Cluster:
    """The files of one embedded server, all inside the data directory."""

    folder: Path

    @property
    def data(self) -> Path:
        """The cluster itself, where the server stands and has its socket."""
        return self.folder / "postgres"

    @property
    def log(self) -> Path:
        """What the server and its guard have to say."""
        return self.folder / "postgres.log"

    @property
    def lease(self) -> Path:
        """Locked shared by each process that uses the server, exclusively by who stops it."""
        return self.folder / "postgres.lease"

    @property
    def start(self) -> Path:
        """Locked by the process that makes the cluster or waits for its start."""
        return self.folder / "postgres.start"

    @property
    def guard(self) -> Path:
        """Locked by the guard as long as it lives."""
        return self.folder / "postgres.guard"

    @property
    def pid_file(self) -> Path:
        """The server's own file: process id first, state last."""
        return self.data / "postmaster.pid"

    def owner(self) -> int:
        """The user id that the server runs as: our own, or as root somebody unprivileged."""
        if os.geteuid() != 0:
            return os.geteuid()
        for path in (self.data, self.folder):
            if path.exists() and (uid := path.stat().st_uid) != 0:
                return uid
        return _unprivileged_user()

    def server_pid(self) -> int | None:
        """The live server's process id; None where there is none, whatever a stale file says."""
        pid, _ = self._pid_and_status()
        return pid if pid and _serves(pid, self.data) else None

    def is_ready(self) -> bool:
        """Whether the live server admits connections, by its own word."""
        pid, status = self._pid_and_status()
        return status == "ready" and _serves(pid, self.data)

    def disarm_stale_pid(self) -> None:
        """Let the server start where its leftover file is empty or names another or a zombie.

        Otherwise the file is kept: through the memory segment named in it the server notices
        backends that outlived a killed one.
        """
        pid, _ = self._pid_and_status()
        if self.pid_file.exists() and not self.pid_file.stat().st_size:  # a power cut leaves that
            self.pid_file.unlink()
        elif not pid or not _exists(pid) or _serves(pid, self.data):
            return
        else:
            lines = self.pid_file.read_text().splitlines(keepends=True)
            _write(self.pid_file, "".join([f"{NO_PROCESS}\n", *lines[1:]]), self.owner())
        (self.data / f"{SOCKET}.lock").unlink(missing_ok=True)

    def check(self, ours: str) -> None:
        """Refuse data that the server could not use, with the remedy that it does not know."""
        if self.data.stat().st_uid == 0:
            raise PostgresError(
                f"{self.data} belongs to root, as whom PostgreSQL does not run: "
                f"chown -R {_account(self.owner()).pw_name} {self.data}"
            )
        written = (self.data / "PG_VERSION").read_text().strip()
        if written != ours:
            raise PostgresError(
                f"The data in {self.data} belongs to PostgreSQL {written}, but this modelperf runs "
                f"PostgreSQL {ours}: dump it with pg_dump {written} and restore it into a new "
                "MODELPERF_DATA_DIR, or point DATABASE_URL at a server of that version."
            )

    def initialise(self, binaries: Path) -> None:
        """Make the cluster beside its final place: the rename says that it is complete.

        Its thousand files are synchronised at once at the end: one by one takes seconds.
        """
        new = self.folder / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(new, self.owner(), -1)
        there = ["-D", self.location(new)]
        initdb, server = str(binaries / "initdb"), str(binaries / "postgres")
        self._run(new, [initdb, *_initdb_options(), *there])
        create = f"CREATE DATABASE {DATABASE};\n"
        self._run(new, [server, "--single", "-F", *there, "postgres"], create)
        self._run(new, [initdb, "--sync-only", *(["--sync-method=syncfs"] * HAS_PROC), *there])
        new.rename(self.data)

    def write_access_rules(self) -> None:
        """Admit root and the data's owner, as the kernel names them, and nobody else."""
        users = {"root", _account(self.owner()).pw_name}
        ident = "".join(f'{ROLE} "{user}" {ROLE}\n' for user in sorted(users))
        _write(self.data / "pg_hba.conf", f"local all {ROLE} peer map={ROLE}\n", self.owner())
        _write(self.data / "pg_ident.conf", ident, self.owner())

    def command(self, binaries: Path) -> list[str]:
        """The server's command line; it names the folder, by which it is known again."""
        options = {"modelperf.data": str(self.data), **SETTINGS}
        return [
            str(binaries / "postgres"),
            *("-D", self.location(self.data)),
            *(word for name, value in options.items() for word in ("-c", f"{name}={value}")),
        ]

    def popen_options(self, place: Path) -> dict[str, Any]:
        """Stand in the place, then become the owner: he needs no way through the folders above."""
        options: dict[str, Any] = {
            "cwd": place,
            "env": {"PATH": os.defpath, "LC_ALL": "C"},
            "umask": 0o077,
        }
        if os.geteuid() == 0:
            group = _account(self.owner()).pw_gid
            options |= {"user": self.owner(), "group": group, "extra_groups": []}
        return options

    def location(self, place: Path) -> str:
        """The place as the server names it: root's stands there but may not know the way."""
        as_another = os.geteuid() == 0 and HAS_PROC
        return "/proc/self/cwd" if as_another else str(place)

    def _pid_and_status(self) -> tuple[int, str]:
        try:
            lines = self.pid_file.read_text().splitlines()
            return int(lines[0]), lines[7].strip() if len(lines) > 7 else "starting"
        except (FileNotFoundError, IndexError, ValueError):
            return 0, ""

    def _run(self, place: Path, command: list[str], stdin: str = "") -> None:
        done = subprocess.run(  # noqa: S603 -- the pinned wheel's programs
            command,
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            **self.popen_options(place),
        )
        if done.returncode != 0:
            raise PostgresError(
                f"{Path(command[0]).name} could not make a database in {self.folder} as user "
                f"{_account(self.owner()).pw_name}: {(done.stderr or done.stdout).strip()}\n"
                "Set MODELPERF_DATA_DIR to a folder on a local disk, or DATABASE_URL to a server."
            )


def _initdb_options() -> list[str]:
    return [
        f"--username={ROLE}",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--auth=peer",
        "--no-instructions",
        "--no-sync",
    ]


def _serves(pid: int, data: Path) -> bool:
    """Whether the process is the server of this data: its command line names program and folder.

    A recycled process id has another command line and a zombie has none. A start time would say
    the same only until the clock is set.
    """
    command = _command_line(pid)
    return "/postgres -D " in command and f"={data} " in command


def _command_line(pid: int) -> str:
    try:
        if HAS_PROC:
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
        shown = subprocess.run(  # noqa: S603 -- a process id
            ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
        )
        return os.fsdecode(shown.stdout).replace("\n", " ")
    except OSError:
        return ""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write(path: Path, text: str, uid: int) -> None:
    """Replace a file of the server's user; root follows no link that this user may have laid."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with new.open("x") as file:
        os.fchmod(file.fileno(), 0o600)
        os.fchown(file.fileno(), uid, -1)
        file.write(text)
    new.replace(path)


def _unprivileged_user() -> int:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise PostgresError(
        "PostgreSQL does not run as root and there is no user postgres or nobody: "
        "create one, run as an ordinary user, or set DATABASE_URL."
    )


def _account(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise PostgresError(
            f"PostgreSQL needs a user with a name and user id {uid} has none: "
            "add it to /etc/passwd, or set DATABASE_URL."
        ) from None
