"""Commands that misbehave: each is told of with its reason, and nothing of it survives."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from modelperf.trainers import command_folders, command_process
from modelperf.trainers.base import NoLongerWantedError, TrainingError, UnavailableError
from tests.trainers.scripts import FAMILY, GOOD, START, Commands, Told

MIB = 1024**2
DEEP = """
import os
os.makedirs("/".join("d" * 200))
for n in range(1024): open("/".join("d" * 200) + f"/{n}", "wb").write(b"x" * 2**20)
"""
HANG = "import signal\nsignal.pause()\n"
ANSWER = f"open(os.environ['HOME'] + '/result.json', 'w').write({json.dumps(GOOD)!r})\n"


@pytest.fixture
def commands(tmp_path: Path, settings: Settings) -> Iterator[Commands]:
    there = Commands(tmp_path, settings)
    yield there
    assert there.alive() == []
    assert there.left() == []


def refused(commands: Commands, content: str, *arguments: str, **options: Any) -> TrainingError:
    with pytest.raises(TrainingError) as raised:
        commands.train(content, *arguments, **options)
    return raised.value


class Line:
    """A pipe with a name: what is written to it, and that nobody can write any more."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.content = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        self.content = self.path.read_bytes()

    def ended(self) -> bytes:
        self._thread.join()
        return self.content


@pytest.mark.parametrize(
    ("ends", "says"),
    [("sys.exit(3)", "exit status 3"), ("signal.pause()", "ran longer than 2 s")],
)
def test_nothing_survives_a_command_that_fails(
    commands: Commands, tmp_path: Path, ends: str, says: str
) -> None:
    line = Line(tmp_path / "line")
    found = refused(commands, FAMILY + f"    {ends}\n", str(line.path), timeout_seconds=2)
    assert says in str(found)
    assert commands.alive() == []
    assert line.ended() == b"all are there\n"


def test_nothing_survives_a_command_that_ends_well(commands: Commands, tmp_path: Path) -> None:
    line = Line(tmp_path / "line")
    code = FAMILY + f"    {ANSWER}"
    trained = commands.train(code, str(line.path))
    assert trained.artefact == GOOD["artefact"]
    assert commands.alive() == []
    assert line.ended() == b"all are there\n"


def test_nothing_survives_what_is_no_longer_wanted(commands: Commands, tmp_path: Path) -> None:
    line = Line(tmp_path / "line")
    watch = Told(wanted=lambda told: not told.steps)
    code = FAMILY + "    print('progress: 5 lasts', flush=True)\n    signal.pause()\n"
    found = refused(commands, code, str(line.path), watch=watch)
    assert isinstance(found, NoLongerWantedError)
    assert watch.steps == [(5.0, "lasts")]
    assert "progress: 5 lasts" in found.log
    assert line.ended() == b"all are there\n"


@pytest.mark.parametrize("way", ["SIGKILL", "SIGSTOP"])
def test_nothing_survives_a_supervisor_that_is_killed_or_stopped(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(command_process, "_PATIENCE_SECONDS", 3)
    line = Line(tmp_path / "line")
    code = FAMILY.replace("(linger, apart, orphan, heirs)", "(linger, apart, orphan)")
    code = code.replace("missing = 4", "missing = 3")
    code += f"    os.kill(os.getppid(), signal.{way})\n    signal.pause()\n"
    found = refused(commands, code, str(line.path), timeout_seconds=2)
    says = {"SIGKILL": "supervises the command was killed", "SIGSTOP": "ran longer than 2 s"}
    assert says[way] in str(found)
    assert commands.alive() == []
    assert line.ended() == b"all are there\n"


def test_command_that_is_ended_from_outside_is_tried_again(commands: Commands) -> None:
    code = "import os, signal\nos.kill(os.getppid(), signal.SIGTERM)\nsignal.pause()\n"
    found = refused(commands, code)
    assert isinstance(found, UnavailableError)
    assert "from outside" in str(found)


WORKER = """
    import sys, uuid
    import django
    django.setup()
    from pathlib import Path
    from types import SimpleNamespace
    from tests.trainers.scripts import Commands, Told
    from modelperf.trainers import base

    document = {"kind": "command", "command": ["train", *sys.argv[1:]]}
    request = Commands.request(SimpleNamespace(run_id=uuid.uuid4()))
    base.find(document).train(request, Told())
"""


@contextmanager
def ended_with(worker: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a worker in the end, also where the test fails: nobody else would."""
    try:
        yield
    finally:
        worker.kill()


def pidfd_of(process: int) -> int | None:
    """Return what tells the end of a process; None where it was between two forks, and is gone."""
    try:
        return os.pidfd_open(process)
    except ProcessLookupError:
        return None


def test_nothing_survives_a_worker_that_is_killed(commands: Commands, tmp_path: Path) -> None:
    line = tmp_path / "line"
    os.mkfifo(line)
    code = (
        FAMILY
        + """
    os.mkdir("deep")
    open("deep/file", "w").write("x" * 1000)
    os.write(line, b"at work\\n")
    signal.pause()
    """
    )
    commands.write(code)
    commands.training.mkdir()
    variables = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "MODELPERF_COMMAND_DIR": str(commands.folder),
        "MODELPERF_TRAINING_DIR": str(commands.training),
    }
    root = Path(__file__).parents[2]
    source = "\n".join(one[4:] for one in WORKER.splitlines())
    words = (sys.executable, "-c", source, commands.marker, str(line))
    reads = os.open(line, os.O_RDONLY | os.O_NONBLOCK)
    with (
        subprocess.Popen(words, env=variables, cwd=root) as worker,
        ended_with(worker),
        os.fdopen(reads) as stream,
    ):
        ended = os.pidfd_open(worker.pid)
        assert select.select([reads, ended], [], [])[0] == [reads]  # it has not failed
        os.set_blocking(reads, True)
        assert [stream.readline(), stream.readline()] == ["all are there\n", "at work\n"]
        watched = [fd for process in commands.alive() if (fd := pidfd_of(process)) is not None]
        assert any("deep/file" in name for name in commands.left())
        worker.kill()
        assert stream.read() == ""  # nobody is left who could write
    for process in (*watched, ended):  # the supervisor is the last to end
        select.select([process], [], [])
        os.close(process)


@pytest.mark.parametrize(
    "code",
    [
        "while True: print('x' * 99_999)",
        "import sys\nwhile True: sys.stderr.write('x' * 99_999)",
        "open('one', 'wb').write(b'x' * 2**30)",
        "for n in range(1024): open(str(n), 'wb').write(b'x' * 2**20)",
        "for n in range(10**9): open(str(n), 'wb')",
        DEEP,
        "import signal\nsignal.signal(25, signal.SIG_DFL)\nopen('one', 'wb').write(b'x' * 2**30)",
    ],
    ids=["stdout", "stderr", "file", "files", "empty files", "deep files", "signal"],
)
def test_command_that_writes_too_much_is_ended(commands: Commands, code: str) -> None:
    found = refused(commands, code, output_bytes=8 * MIB)
    assert str(found) == "The command wrote more than 8,388,608 bytes (output_bytes)."


def test_artefacts_count_as_written_and_the_input_does_not(
    commands: Commands, tmp_path: Path, settings: Settings
) -> None:
    settings.SOURCE_DIR = tmp_path.resolve()
    rows = "".join(f"{START + timedelta(seconds=n)},{n}\n" for n in range(80_000))
    (tmp_path / "a.csv").write_text("time,value\n" + rows)
    asked = {"source": {"kind": "files", "pattern": "a.csv"}}
    code = "import os, sys\n" + ANSWER
    commands.train(code, asked=asked, output_bytes=MIB)
    code += "open(sys.argv[2] + '/a', 'wb').write(b'x' * 2**20)\n"
    found = refused(commands, code, "{artefacts}", asked=asked, output_bytes=MIB)
    assert "wrote more than 1,048,576 bytes" in str(found)


def test_output_is_kept_at_its_end_whatever_it_is(commands: Commands) -> None:
    code = """
        import os, sys
        os.write(1, b"first" + bytes(range(256)) * 1000)
        os.write(2, b"\\0\\xff\\xfelast\\n")
        sys.exit(3)
    """
    found = refused(commands, code)
    assert str(found).startswith("The command ended with exit status 3. The last it said: ")
    assert found.log.startswith("(190,477 bytes before this are left out)\n")
    assert found.log.endswith("\ufffd\ufffdlast\n")
    assert "first" not in found.log
    assert "\0" not in found.log
    assert len(found.log.encode("utf-8", "strict")) < 4 * 65536


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (HANG, "The command ran longer than 1 s (timeout_seconds)."),
        ("import os\nos.close(1), os.close(2)\n" + HANG, "ran longer than 1 s"),
        ("import sys\nsys.exit(3)", "The command ended with exit status 3."),
        ("import os\nos.kill(os.getpid(), 9)", "killed by signal 9 (SIGKILL). Was memory short?"),
        ("import os\nos.kill(os.getpid(), 15)", "killed by signal 15 (SIGTERM)."),
        ("import os\nos.kill(os.getpid(), 40)", "killed by signal 40 (real-time)."),
    ],
)
def test_ends_are_told(commands: Commands, code: str, says: str) -> None:
    assert says in str(refused(commands, code, timeout_seconds=1 if HANG in code else 300))


def test_memory_is_limited(commands: Commands) -> None:
    code = "import os\nblock = bytearray(2**29)\n" + ANSWER
    found = refused(commands, code, memory_bytes=256 * MIB)
    assert str(found) == "The command ended with exit status 1. The last it said: MemoryError"
    assert "MemoryError" in found.log
    commands.train(code, memory_bytes=1024 * MIB)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("no first line", "Exec format error. Does its first line name an interpreter"),
        ("#!/no/such/interpreter\n", "No such file or directory. Does its first line"),
    ],
)
def test_command_that_cannot_be_started_is_told(
    commands: Commands, content: str, says: str
) -> None:
    path = commands.folder / "broken"
    path.write_text(content)
    path.chmod(0o755)
    found = refused(commands, "", command=["broken", commands.marker])
    assert "The command cannot be started: " + says in str(found)


def test_too_long_a_list_of_arguments_is_told(commands: Commands) -> None:
    found = refused(commands, "", "x" * 1_000_000)
    assert "cannot be started: Argument list too long" in str(found)


def test_command_that_closes_its_output_and_goes_on_is_waited_for(commands: Commands) -> None:
    code = "import os\nos.close(1), os.close(2)\n" + ANSWER
    assert commands.train(code).log == ""


def test_command_has_nothing_to_read_and_default_signals(commands: Commands) -> None:
    code = """
        import os, sys
        status = open("/proc/self/status").read()
        print(sys.stdin.buffer.read(), [line for line in status.splitlines() if "SigBlk" in line])
        print(sorted(os.listdir("/proc/self/fd")), os.getsid(0) == os.getpid())
    """
    log = commands.train(
        "import os\n" + ANSWER + "\n".join(line[8:] for line in code.splitlines())
    ).log
    assert log == "b'' ['SigBlk:\\t0000000000000000']\n['0', '1', '2', '3'] True\n"


def test_watch_that_fails_leaves_nothing(commands: Commands) -> None:
    def fails(told: Told) -> bool:
        raise ConnectionError("the database is gone")

    with pytest.raises(ConnectionError):
        commands.train(HANG, watch=Told(wanted=fails))


def test_what_may_not_be_listed_is_removed_too(commands: Commands) -> None:
    code = "import os\n" + ANSWER + "os.makedirs('a/b')\nopen('a/b/c', 'w')\nos.chmod('a', 0)\n"
    commands.train(code)


def test_folders_of_dead_workers_are_removed_and_those_of_others_are_not(
    commands: Commands,
) -> None:
    work = commands.training / "work"
    (work / "abandoned" / "inner").mkdir(parents=True)
    with command_folders.opened(run_id=uuid.uuid4(), attempt=1) as of_another:
        commands.train("import os\n" + ANSWER)
        assert list(work.iterdir()) == [of_another.work]
