"""The two processes that `make run` starts, each in a session of its own: only it stops them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from config import env

STOP_SECONDS = 35.0  # gunicorn gives running requests 30, the worker its jobs 25
PAUSE_SECONDS = 5.0  # before a worker that ended is started again
POLL_SECONDS = 0.2
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Child = subprocess.Popen[bytes]
Say = Callable[[str], None]


class Children:
    """What was started, and is ended together."""

    def __init__(self) -> None:
        self._started: list[Child] = []

    def start(self, arguments: Sequence[str]) -> Child:
        """Start a Python program in a session of its own."""
        with _held_back():
            child = subprocess.Popen(  # noqa: S603 -- our own arguments
                [sys.executable, *arguments], start_new_session=True
            )
            self._started.append(child)
        return child

    def end(self) -> None:
        """Tell all to stop, and wait until they have; what one that died left is killed."""
        for child in self._started:
            if child.poll() is None:
                child.terminate()
            else:
                _kill_all_of(child)
        deadline = time.monotonic() + STOP_SECONDS
        for child in self._started:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _kill_all_of(child)
                child.wait()


def _kill_all_of(child: Child) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


@contextlib.contextmanager
def children() -> Iterator[Children]:
    """Have children that do not outlive the block."""
    started = Children()
    try:
        yield started
    finally:
        with undisturbed():
            started.end()


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Let a Ctrl-C wait for the end of the block, in which what was started is not yet known."""
    came: list[int] = []
    numbers = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
    handlers = {n: signal.signal(n, lambda number, _frame: came.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Clean up to the end: a second Ctrl-C would leave processes behind."""
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def start_web(started: Children, address: str) -> Child:
    """Start gunicorn."""
    workers = env.integer("MODELPERF_WEB_WORKERS", default=2, least=1)
    threads = env.integer("MODELPERF_WEB_THREADS", default=4, least=1)
    return started.start(
        [
            *("-m", "gunicorn", "config.wsgi"),
            *("--chdir", str(env.BASE_DIR), "--bind", address),
            *("--worker-class", "gthread", "--workers", str(workers), "--threads", str(threads)),
            *("--log-level", "warning", "--no-control-socket", "--preload"),
        ]
    )


def start_worker(started: Children) -> Child:
    """Start the worker of background jobs; it says nothing where all is well."""
    return started.start([str(env.BASE_DIR / "manage.py"), "worker", "--verbosity", "0"])


def wait(started: Children, web: Child, worker: Child | None, say: Say) -> int:
    """Wait for the web server to end and return its status; a worker that ends starts again."""
    again_at = float("inf")
    while web.poll() is None:
        if worker is not None and worker.poll() is not None:
            say(
                f"The worker ended with status {worker.returncode}; see above. It starts again in"
                f" {PAUSE_SECONDS:.0f} s."
            )
            worker, again_at = None, time.monotonic() + PAUSE_SECONDS
        if time.monotonic() >= again_at:
            worker, again_at = start_worker(started), float("inf")
        with contextlib.suppress(subprocess.TimeoutExpired):
            web.wait(POLL_SECONDS)
    return web.returncode
