"""`make run`: everything between a fresh clone and a page in the browser, in one process tree.

Makes the secret key, the database and the demo where they are missing, then serves, with a worker
of background jobs beside the web server, until told to stop, and leaves nothing running.
"""

import argparse
import contextlib
import http.client
import io
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import django
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import OperationalError, connection

from config import env, postgres, run_children
from config.run_children import Child

READY_SECONDS = 60.0
START_LOCK = 0x6D706572  # "mper": one process at a time migrates and loads
# One who watches the demo does not wait for a quarter of an hour.
DEMO_SCHEDULE = "* * * * * */10"
DEMO_SCHEDULES = ("MODELPERF_CHECK_SCHEDULE", "MODELPERF_FOLLOW_SCHEDULE")


class NotStartedError(RuntimeError):
    """The launcher cannot go on; the message says what to do."""


def main() -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP; a refusal is one sentence, not a traceback."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--empty", action="store_true", help="do not load the demo")
    parser.add_argument("--no-worker", action="store_true", help="the worker runs elsewhere")
    arguments = parser.parse_args()
    _stop_on_signals()
    try:
        _run(load_demo=not arguments.empty, with_worker=not arguments.no_worker)
    except KeyboardInterrupt:
        return
    except OperationalError as error:
        sys.exit(f"modelperf: the database does not answer as it should: {error}")
    except (NotStartedError, postgres.PostgresError, ImproperlyConfigured) as error:
        sys.exit(f"modelperf: {error}")


def _run(*, load_demo: bool, with_worker: bool) -> None:
    host, port = os.environ.get("HOST", "127.0.0.1"), env.integer("PORT", default=8000, least=1)
    _refuse_used_port(host, port)
    _set_defaults(host, port, is_demo=load_demo)
    _make_secret_key(env.data_dir())
    with _database():
        django.setup()
        told = _prepare(load_demo=load_demo)
        with run_children.children() as started:
            web = run_children.start_web(started, _address(host, port))
            try:
                _wait_until_ready(web, host, port)
            finally:  # the login is made by now and shown only this once
                if told:
                    _say(told)
            worker = run_children.start_worker(started) if with_worker else None
            _say(f"modelperf serves http://{_address(host, port)}/ - Ctrl-C stops it.")
            raise _ended(run_children.wait(started, web, worker, _say))


def _set_defaults(host: str, port: int, *, is_demo: bool) -> None:
    """Say what is not said otherwise: this serves one machine, and the demo shows what it does.

    What listens everywhere is asked from elsewhere, too, by an address that is not known here.
    """
    os.environ.setdefault("MODELPERF_DEMO", "1")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    defaults = {}
    if _reached_at(host) == host:
        defaults["MODELPERF_PUBLIC_URL"] = f"http://{_address(host, port).lower()}"
    if is_demo and env.flag("MODELPERF_DEMO", default=False):
        defaults |= dict.fromkeys(DEMO_SCHEDULES, DEMO_SCHEDULE)
    for name, value in defaults.items():
        if not os.environ.get(name, "").strip():
            os.environ[name] = value


def _stop_on_signals() -> None:
    """Make every way of saying stop the same; only a hang-up that nohup ignores stays ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def _refuse_used_port(host: str, port: int) -> None:
    if port > 65535:
        raise NotStartedError(f"PORT={port} is too large: set it to 65535 or less.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise NotStartedError(
            f"cannot listen on {_address(host, port)} ({error}): "
            f"choose another port with `make run PORT={8001 if port == 8000 else 8000}`."
        ) from error


def _make_secret_key(data_dir: Path) -> None:
    """Keep a random key in the data directory; of two launchers at once, the first one's."""
    key = data_dir / "secret_key"
    if os.environ.get("MODELPERF_SECRET_KEY"):
        return
    try:
        if key.exists():
            return
        data_dir.mkdir(parents=True, exist_ok=True)
        own = data_dir / f"secret_key.{os.getpid()}"
        with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(50))
            if os.geteuid() == 0:
                os.fchown(file.fileno(), data_dir.stat().st_uid, -1)
        with contextlib.suppress(FileExistsError):
            os.link(own, key)
        own.unlink()
    except PermissionError as error:
        raise NotStartedError(
            f"{data_dir} belongs to another user: set MODELPERF_DATA_DIR to a folder of your own."
        ) from error


@contextlib.contextmanager
def _database() -> Iterator[None]:
    """Keep the embedded server up from here on, unless DATABASE_URL names another."""
    if os.environ.get("DATABASE_URL"):
        yield
        return
    try:
        postgres.ensure(env.data_dir())
        yield
    finally:
        with run_children.undisturbed():
            if not postgres.release(env.data_dir()):
                _say("PostgreSQL goes on for other processes that use it.")


def _prepare(*, load_demo: bool) -> str:
    """Bring the database up to date and return what is to be told once the server is ready.

    A second launcher waits here and finds nothing to do.
    """
    told = io.StringIO()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [START_LOCK])
        call_command("migrate", verbosity=0, interactive=False)
        # Files are served where they lie, but WhiteNoise warns of a collection that is missing.
        Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)
        if load_demo and not apps.get_model("modelperf", "Machine").objects.exists():
            call_command("load_demo", stdout=told)
        return told.getvalue().strip()
    finally:
        connection.close()


def _wait_until_ready(web: Child, host: str, port: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not _is_ready(host, port):
        if web.poll() is not None:
            raise _ended(web.returncode)
        if time.monotonic() > deadline:
            raise NotStartedError(f"/readyz did not answer 200 within {READY_SECONDS:.0f} s.")
        time.sleep(0.05)


def _ended(status: int) -> NotStartedError:
    return NotStartedError(f"the web server ended with status {status}; see above.")


def _is_ready(host: str, port: int) -> bool:
    probe = http.client.HTTPConnection(_reached_at(host), port, timeout=5)
    try:
        probe.request("GET", "/readyz", headers={"Host": "localhost"})
        return probe.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        probe.close()


def _reached_at(host: str) -> str:
    """Return where this machine itself reaches what listens on a host."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- what the user asked for
    return everywhere.get(host, host)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
