"""`manage.py worker`: run the background jobs until told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import Any, Final

import psycopg
import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from procrastinate import App
from procrastinate.contrib.django import app
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.exceptions import ConnectorException

from modelperf.services import training_leases
from modelperf.tasks import BY, TRAINING, UPKEEP

log = structlog.get_logger(__name__)

_PAUSE_SECONDS: Final = 1.0  # between attempts at a database that is away


class Command(BaseCommand):
    """Train, check and keep things in order."""

    help = (
        "Run the background jobs: trainings, checks of the fleet, A/B tests, retraining. Stops on"
        " Ctrl-C or SIGTERM once the jobs under way are done, or after a grace period."
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
        training_leases.recover(by=BY)
        self.stdout.write("The worker is ready. Ctrl-C stops it.")
        self.stdout.flush()
        asyncio.run(_work(max(1, options["trainings"])))
        given_back = training_leases.give_back(by=BY)
        if given_back:
            # What a trainer still computes is not wanted any more, and cannot be interrupted.
            self.stdout.write(f"{len(given_back)} trainings were given back to the next worker.")
            sys.stdout.flush()
            os._exit(0)


async def _work(trainings: int) -> None:
    """Run workers until a signal; where the database goes away, again once it is back."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop.set)
    while not stop.is_set():
        try:
            await _work_once(trainings, stop)
        except (psycopg.Error, ConnectorException):
            log.warning("worker_lost_database", exc_info=True)
        if not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _PAUSE_SECONDS)


async def _work_once(trainings: int, stop: asyncio.Event) -> None:
    """Run a worker for each queue, so that trainings never keep upkeep waiting."""
    assert isinstance(app.connector, DjangoConnector)  # noqa: S101 -- Django's own
    async with app.with_connector(app.connector.get_worker_connector()).open_async() as working:
        stopping = asyncio.create_task(stop.wait())
        workers = [
            asyncio.create_task(_worker(working, TRAINING, trainings)),
            asyncio.create_task(_worker(working, UPKEEP, settings.WORKER_JOBS)),
        ]
        await asyncio.wait([stopping, *workers], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers, timeout=settings.WORKER_GRACE_SECONDS)
        for worker in workers:
            if worker.done() and not worker.cancelled():
                worker.result()


async def _worker(working: App, queue: str, concurrency: int) -> None:
    await working.run_worker_async(
        queues=[queue],
        name=queue,
        concurrency=concurrency,
        install_signal_handlers=False,
        delete_jobs="successful",
        shutdown_graceful_timeout=settings.WORKER_GRACE_SECONDS,
        update_heartbeat_interval=min(10.0, settings.TRAINING_LEASE_SECONDS / 3),
        stalled_worker_timeout=float(settings.TRAINING_LEASE_SECONDS),
    )
