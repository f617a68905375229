"""How long a million alerts make those wait who look at the few that are unresolved.

Requests go through the whole application as gunicorn calls it, in this process: the server's time,
with session or key, middleware and answer, without a socket. Of the views it is the time that
PostgreSQL takes until all rows are written out as text, without planning and without sending them.
`python -m benchmarks.alerts [--alerts N] [--plans]`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from benchmarks import alerts_world
from tests.place import PLACE

ACTIVE: Final = "/api/v1/model-performance/alerts/active?limit=500"
DESK: Final = "/admin/modelperf/alert/"
FIRST: Final = "SELECT * FROM v_unresolved_model_alerts LIMIT 500"
VIEWS: Final = {
    "v_unresolved_model_alerts": "5,000 unresolved alerts",
    "v_latest_model_performance": "10,000 series",
    "v_active_ab_tests": "1,000 tests",
}
AT_ONCE: Final = 500
MOST_STATEMENTS: Final = 30
CSRF: Final = "a" * 32
FRAMING: Final = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE SAVEPOINT")


def main() -> None:
    """Fill, measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--alerts", type=int, default=1_000_000)
    arguments.add_argument("--unresolved", type=int, default=5_000)
    arguments.add_argument("--rounds", type=int, default=50)
    arguments.add_argument("--plans", action="store_true", help="print how each is carried out")
    arguments.add_argument("--place", default=PLACE, help="where the database lies")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelperf-bench-", dir=given.place) as folder:
        _prepare_environment(folder)
        import django

        django.setup()
        from config import postgres

        try:
            _measure(given)
        finally:
            from django.db import connection

            connection.close()
            if "DATABASE_URL" not in os.environ:
                postgres.release(Path(folder))


def _prepare_environment(folder: str) -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "MODELPERF_SECRET_KEY": "only-for-benchmarks-" * 3,
        "MODELPERF_DEMO": "1",
        "MODELPERF_DATA_DIR": folder,
        "MODELPERF_LOG_LEVEL": "WARNING",
    }
    Path(folder, "static").mkdir()


def _measure(given: argparse.Namespace) -> None:
    from django.contrib.auth.models import Group, User
    from django.core.management import call_command

    from modelperf.services import access

    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    anna = User.objects.create_superuser("anna")
    team = Group.objects.create(name="pumps")
    started = time.perf_counter()
    alerts_world.make(
        alerts=given.alerts, unresolved=given.unresolved, user_id=anna.pk, team_id=team.pk
    )
    seconds = time.perf_counter() - started
    print(
        f"{given.alerts:,} alerts, {given.unresolved:,} of them unresolved, made in {seconds:.0f} s"
    )
    print(f"load {os.getloadavg()[0]:.1f}\n")
    _, key = access.create_api_key(name="bench", scopes=["read"])
    server = Server(key=key, user=anna)
    took = timed(lambda: server.get(ACTIVE), given.rounds)
    _line("GET alerts/active?limit=500", took, 5)
    took = [executed(FIRST) for _ in range(given.rounds)]
    _line("v_unresolved_model_alerts, its first 500 rows", took, 5)
    for view, holds in VIEWS.items():
        took = [executed(f"SELECT * FROM {view}") for _ in range(given.rounds)]
        _line(f"{view}, {holds}", took, 30)
        took = [executed(f"SELECT * FROM {view}", written="") for _ in range(given.rounds)]
        _line("  of that to find and sort them", took)
    _line("the desk, its first page", timed(lambda: server.get(DESK), given.rounds // 5))
    if given.plans:
        _plans(server)
    _resolve_many(server)


class Server:
    """The application as gunicorn calls it; the API with a key, the admin with a session."""

    def __init__(self, *, key: str, user: Any) -> None:
        from django.test import Client

        from config.wsgi import application

        browser = Client()
        browser.force_login(user)
        cookies = {"csrftoken": CSRF} | {name: one.value for name, one in browser.cookies.items()}
        self._application = application
        self._program = {"SERVER_NAME": "localhost", "HTTP_AUTHORIZATION": f"Api-Key {key}"}
        self._browser = {
            "SERVER_NAME": "localhost",
            "HTTP_COOKIE": "; ".join(f"{name}={value}" for name, value in cookies.items()),
            "HTTP_X_CSRFTOKEN": CSRF,
        }

    def get(self, address: str) -> bytes:
        """Return the body that is answered."""
        from django.test import RequestFactory

        headers = self._program if address.startswith("/api/") else self._browser
        return self._answer(RequestFactory().get(address, **headers).environ, "200")

    def post(self, address: str, form: list[tuple[str, str]], status: str) -> bytes:
        """Send a form from the browser, and return the body that is answered."""
        from django.test import RequestFactory

        kind = "application/x-www-form-urlencoded"
        made = RequestFactory().post(address, urlencode(form), kind, **self._browser)
        return self._answer(made.environ, status)

    def _answer(self, environ: dict[str, Any], status: str) -> bytes:
        said: list[str] = []
        answer = self._application(environ, lambda line, headers: said.append(line))
        body = b"".join(answer)
        answer.close()
        if not said[0].startswith(status):
            sys.exit(f"{environ['PATH_INFO']}: {said[0]} {body[:800]!r}")
        return body


def timed(work: Callable[[], Any], rounds: int) -> list[float]:
    """Return the milliseconds of each round, after some that are not counted."""
    took = []
    for _ in range(rounds + 6):
        started = time.perf_counter()
        work()
        took.append((time.perf_counter() - started) * 1e3)
    return took[6:]


def executed(sql: str, *, written: str | None = None) -> float:
    """Return the milliseconds that the server takes for all rows, written out as text."""
    how = _written_out() if written is None else written
    ((report,),) = rows(f"EXPLAIN (ANALYZE, {how} TIMING OFF, FORMAT json) {sql}")
    return float(report[0]["Execution Time"])


def rows(sql: str) -> list[Any]:
    """Return what a statement answers."""
    from modelperf.services.database import execute

    return execute(sql).fetchall()


def _written_out() -> str:
    from django.db import connection

    return "SERIALIZE TEXT," if connection.pg_version >= 170000 else ""


def _resolve_many(server: Server) -> None:
    """Choose 500 alerts in the desk and resolve them, five times."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from modelperf.models import Alert, AlertEvent

    took, n_statements = [], []
    before = AlertEvent.objects.count()
    for _ in range(5):
        found = Alert.objects.unresolved().worst_first()
        ids = [str(pk) for pk in found.values_list("pk", flat=True)[:AT_ONCE]]
        form = [
            ("action", "resolve"),
            ("_selected_action", ids[0]),
            ("confirm", "yes"),
            ("chosen", " ".join(ids)),
            ("done-action", "accepted"),
            ("done-notes", "Known since the works of last week."),
        ]
        with CaptureQueriesContext(connection) as captured:
            started = time.perf_counter()
            server.post(DESK, form, "302")
            took.append((time.perf_counter() - started) * 1e3)
        sent = [one["sql"].lstrip() for one in captured.captured_queries]
        n_statements.append(sum(not sql.startswith(FRAMING) for sql in sent))
    by = {event.pgh_context["actor"] for event in AlertEvent.objects.order_by("-pgh_id")[:AT_ONCE]}
    _line(f"the desk resolves {AT_ONCE}", took, 2_000)
    _count("  its statements", max(n_statements), MOST_STATEMENTS)
    written = (AlertEvent.objects.count() - before) // 5
    print(f"    its events: {written}, each of {', '.join(sorted(by))}")


def _line(name: str, took: list[float], target: float | None = None) -> None:
    measured = statistics.median(took)
    said = f"{name:<58} {measured:8.1f} ms   least {min(took):7.1f}"
    if target is None:
        print(f"  {said}")
        return
    ratio = measured / target
    print(f"{'!' if ratio > 1 else ' '} {said}   target <= {target:g}   ratio {ratio:.2f}")


def _count(name: str, measured: int, target: int) -> None:
    mark = "!" if measured > target else " "
    print(f"{mark} {name:<58} {measured:8d}   target <= {target}")


def _plans(server: Server) -> None:
    """Print how the server carries each out."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    # The statement of the request as it is sent, its one parameter being the limit.
    with CaptureQueriesContext(connection) as captured:
        server.get(ACTIVE)
    active = next(one["sql"] for one in captured.captured_queries if "model_alerts" in one["sql"])
    for sql in (active.replace("%s", "501"), FIRST, *(f"SELECT * FROM {view}" for view in VIEWS)):
        print(f"\n{' '.join(sql.split())}\n")
        for (line,) in rows(f"EXPLAIN (ANALYZE, BUFFERS, {_written_out()} TIMING OFF) {sql}"):
            print(f"    {line}")


if __name__ == "__main__":
    main()
