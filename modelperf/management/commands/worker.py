"""`manage.py worker`: run the background jobs until told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import django.db
import psycopg
import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from procrastinate import App
from procrastinate.contrib.django import app
from procrastinate.contrib.django.utils import connector_params
from procrastinate.exceptions import ConnectorException
from procrastinate.psycopg_connector import PsycopgConnector

from modelperf.services import training_leases
from modelperf.tasks import BY, HANDOVER, NOTICES, NOTIFICATIONS, TRAINING, UPKEEP

log = structlog.get_logger(__name__)

_PAUSE_SECONDS: Final = 1.0  # between attempts at a database that is away
_HEARTBEAT_SECONDS: Final = 10.0
_SILENT_SECONDS: Final = 60.0  # a worker unheard of for so long is forgotten
_HANDOVERS: Final = 4  # at once: each mostly waits for an answer
_DELIVERIES: Final = 4  # at once, of a channel one: each mostly waits for an answer
_CONNECTIONS: Final = 4  # of a queue at most: its jobs are fetched and their ends noted
_SPARE_THREADS: Final = 2  # for what the worker itself has to do


class Command(BaseCommand):
    """Train, check, tell of alerts and keep things in order."""

    help = (
        "Run the background jobs: trainings, checks of the fleet, A/B tests, retraining,"
        " notifications. Stops on Ctrl-C or SIGTERM once the jobs under way are done, or after a"
        " grace period."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare how many jobs run at once."""
        parser.add_argument(
            "--trainings",
            type=int,
            default=settings.WORKER_TRAININGS,
            metavar="N",
            help="trainings at once (MODELPERF_WORKER_TRAININGS)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Work, and leave nothing that would have to be waited for."""
        queues = {
            TRAINING: max(1, options["trainings"]),
            HANDOVER: _HANDOVERS,
            NOTICES: 1,
            NOTIFICATIONS: _DELIVERIES,
            UPKEEP: settings.WORKER_JOBS,
        }
        asyncio.run(_work(queues, self._greet if options["verbosity"] else None))

    def _greet(self) -> None:
        self.stdout.write("The worker works. Ctrl-C stops it.")
        self.stdout.flush()


async def _work(queues: dict[str, int], greet: Callable[[], None] | None) -> None:
    """Work on every queue until a signal; what is still at work after the grace is left."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    # Under nohup a worker stays; an ignored SIGINT only says that a script began it.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, stop.set)
    if greet is not None:
        greet()
    # Each job under way has a thread: with fewer, trainings would take those of upkeep.
    loop.set_default_executor(ThreadPoolExecutor(sum(queues.values()) + _SPARE_THREADS))
    working = [asyncio.create_task(_keep(queue, most, stop)) for queue, most in queues.items()]
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([stopping, *working], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    ended, busy = await asyncio.wait(working, timeout=settings.WORKER_GRACE_SECONDS)
    problems = [problem for task in ended if (problem := task.exception())]
    for problem in problems:
        log.error("worker_broke", exc_info=problem)
    if busy:
        await asyncio.to_thread(_leave, status=1 if problems else 0)
    if problems:
        sys.exit(1)


def _leave(*, status: int) -> None:
    """End at once: what is still computed cannot be interrupted, and nobody waits for it."""
    try:
        given_back = training_leases.give_back(by=BY)
        log.info("worker_left_jobs", trainings_given_back=len(given_back))
    except django.db.Error:  # their leases end by themselves
        log.warning("worker_gave_nothing_back", exc_info=True)
    finally:
        sys.stdout.flush()
        os._exit(status)


async def _keep(queue: str, most: int, stop: asyncio.Event) -> None:
    """Work on a queue; where the database goes away, again once it is back.

    Each queue by itself, so that long trainings keep no upkeep waiting. The jobs under way are
    waited for, so that there are never more than `most`.
    """
    while not stop.is_set():
        try:
            await _serve(queue, most, stop)
        except (psycopg.Error, django.db.Error, ConnectorException):
            log.warning("worker_lost_database", queue=queue, exc_info=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _PAUSE_SECONDS)


async def _serve(queue: str, most: int, stop: asyncio.Event) -> None:
    """Work on a queue until told to stop, or until the database goes away."""
    if queue == TRAINING:
        await asyncio.to_thread(_recover)
    # What is deferred at its time goes over the connection of that thread: it may be a dead one.
    await sync_to_async(_disconnect, thread_sensitive=True)()
    place = await asyncio.to_thread(connector_params)
    connector = PsycopgConnector(kwargs=place, min_size=1, max_size=_CONNECTIONS)
    async with app.with_connector(connector).open_async() as working:
        serving = asyncio.create_task(_run(working, queue, most))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        serving.cancel()  # it takes no more jobs, and waits for those under way
        with suppress(asyncio.CancelledError):
            await serving


def _recover() -> None:
    django.db.close_old_connections()
    training_leases.recover(by=BY)


def _disconnect() -> None:
    django.db.connection.close()


async def _run(working: App, queue: str, most: int) -> None:
    await working.run_worker_async(
        queues=[queue],
        name=queue,
        concurrency=most,
        install_signal_handlers=False,
        delete_jobs="successful",
        update_heartbeat_interval=_HEARTBEAT_SECONDS,
        stalled_worker_timeout=_SILENT_SECONDS,
    )
