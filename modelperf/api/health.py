"""Probes, the only addresses beside the login page that need no key and no session."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps

from django.db import DatabaseError, InterfaceError
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from modelperf.api.problems import problem


def probe(view: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Make a view that is only read: other methods are a problem, whoever sends them."""

    @wraps(view)
    def answer(request: HttpRequest) -> HttpResponse:
        if request.method in ("GET", "HEAD"):
            return view(request)
        detail = f'Method "{request.method}" not allowed. Send GET, HEAD.'
        return problem(405, detail, headers={"Allow": "GET, HEAD"})

    return csrf_exempt(never_cache(answer))


@probe
def livez(_request: HttpRequest) -> HttpResponse:
    """Answer that the process serves requests; the database is not asked."""
    return JsonResponse({"status": "alive"})


@probe
def readyz(_request: HttpRequest) -> HttpResponse:
    """Answer whether the database can be reached and has every migration: one query."""
    try:
        applied = set(MigrationRecorder.Migration.objects.values_list("app", "name"))
    except (DatabaseError, InterfaceError):
        return problem(503, "The database cannot be reached or is not set up yet.")
    if missing := _newest_migrations() - applied:
        names = ", ".join(sorted(".".join(one) for one in missing))
        return problem(503, f"Migrations are missing, run manage.py migrate: {names}.")
    return JsonResponse({"status": "ready"})


@lru_cache(maxsize=1)
def _newest_migrations() -> frozenset[tuple[str, str]]:
    """Return each application's last migration, read from the disk once a process."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())
