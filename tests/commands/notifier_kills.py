"""A notifier that is killed before, while and after a message is sent, and what arrived."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from threading import Event
from typing import Final

from django.db import connection
from django.utils import timezone

from modelperf.models import Channel, Message, Notice, Route
from modelperf.services import notices
from tests.config.clients import PROJECT, is_alive, wait_until
from tests.factories import AlertFactory
from tests.services.notifying import OK
from tests.sites import Page, Site

MOMENTS: Final = ("before", "while", "after")
LONGEST_BEFORE_SECONDS: Final = 0.2
PATIENCE_SECONDS: Final = 60.0
ENVIRONMENT: Final = {
    "MODELPERF_NOTIFICATION_LEASE_SECONDS": "1",
    "MODELPERF_OUTGOING_NETWORKS": "127.0.0.0/8",
    "MODELPERF_OUTGOING_TIMEOUT_SECONDS": "60",
    "MODELPERF_LOG_LEVEL": "CRITICAL",
}
# What is imported once is not imported for each: the child of a fork notifies at once.
_NURSERY: Final = """
import io, os, signal, sys, time
import django
from django.conf import settings
settings.DATABASES["default"]["NAME"] = sys.argv[1]
django.setup()
from django.core.management import call_command
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in iter(sys.stdin.readline, ""):
    child = os.fork()
    if not child:
        while True:
            try:
                call_command("send_notifications", "--json", stdout=io.StringIO())
            except SystemExit:
                pass
            time.sleep(0.01)
    print(child, flush=True)
"""


class Notifiers:
    """One notifier at a time, of which the next is at work in no time."""

    def __init__(self) -> None:
        self.pid = 0
        self._nursery = subprocess.Popen(
            [sys.executable, "-c", _NURSERY, str(connection.settings_dict["NAME"])],
            cwd=PROJECT,
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self) -> None:
        self._nursery.stdin.write("\n")
        self._nursery.stdin.flush()
        self.pid = int(self._nursery.stdout.readline())

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(self.pid))

    def end(self) -> None:
        if self.pid and is_alive(self.pid):
            self.kill()
        self._nursery.kill()
        self._nursery.communicate()


class Sink:
    """Answers each channel; the first message of one is held or answered as its moment wants."""

    def __init__(self, site: Site, notifiers: Notifiers) -> None:
        self._notifiers = notifiers
        self._moments: dict[str, str] = {}
        self._killed: dict[str, Event] = defaultdict(Event)
        self.site = site
        site.answer = self._answer

    def expect(self, path: str, moment: str) -> None:
        self._moments[path] = moment

    def kill(self, path: str) -> None:
        """Kill the notifier at the moment that was said, of which this is the time."""
        moment = self._moments[path]
        if moment == "while":
            wait_until(lambda: path in self.site.asked)
        if moment == "after":
            assert self._killed[path].wait(PATIENCE_SECONDS)
        else:
            self._notifiers.kill()
            self._killed[path].set()

    def _answer(self, page: Page) -> None:
        moment = self._moments[page.path]
        if self._killed[page.path].is_set() or moment == "before":
            OK(page)
        elif moment == "while":
            self._killed[page.path].wait(PATIENCE_SECONDS)
        else:
            OK(page)
            page.wfile.flush()
            self._notifiers.kill()
            self._killed[page.path].set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The bodies that arrived at the sink, and how often the notifier was killed."""

    kills: int
    bodies: tuple[bytes, ...]

    @property
    def duplicates(self) -> int:
        return len(self.bodies) - len(set(self.bodies))

    def problems(self) -> list[str]:
        """Return what must not be."""
        found = []
        messages = [json.loads(body)["message_id"] for body in set(self.bodies)]
        events = Counter(
            event["event_id"] for body in set(self.bodies) for event in json.loads(body)["events"]
        )
        stored = {str(pk) for pk in Notice.objects.values_list("pk", flat=True)}
        if lost := stored - set(events):
            found.append(f"lost: {sorted(lost)}")
        if len(messages) != len(set(messages)):
            found.append("a message did not tell the same at each attempt")
        if twice := [event for event, often in events.items() if often > 1]:
            found.append(f"in several messages: {twice}")
        if self.duplicates > self.kills:
            found.append(f"{self.duplicates} duplicates of {self.kills} kills")
        if unsent := Message.objects.exclude(status="sent").count():
            found.append(f"{unsent} messages are not sent")
        return found


def killed(site: Site, notifiers: Notifiers, *, kills: int, seed: int) -> Outcome:
    """Kill the notifier once for each of some channels, and start the next at once."""
    chance = random.Random(seed)
    moments = [MOMENTS[number % len(MOMENTS)] for number in range(kills)]
    chance.shuffle(moments)
    sink = Sink(site, notifiers)
    notifiers.start()
    for number, moment in enumerate(moments):
        path = f"/{number}"
        sink.expect(path, moment)
        _tell(site, path)
        if moment == "before":
            over = timezone.now() + timedelta(seconds=chance.uniform(0, LONGEST_BEFORE_SECONDS))
            wait_until(lambda over=over: timezone.now() >= over)
        sink.kill(path)
        notifiers.start()
    wait_until(_is_all_told, seconds=PATIENCE_SECONDS)
    return Outcome(kills=kills, bodies=tuple(one.content for one in site.received))


def _tell(site: Site, path: str) -> None:
    """Let there be something to tell, over a channel of its own."""
    alert = AlertFactory.create()
    channel = Channel.objects.create(
        name=path, kind="webhook", settings={"url": f"{site.url}{path}"}
    )
    matchers = {"machine": [str(alert.machine_id)]}
    Route.objects.create(name=path, channel=channel, matchers=matchers, group_seconds=0)
    notices.tell(kind="opened", alert_ids=[alert.pk], now=timezone.now())


def _is_all_told() -> bool:
    is_routed = not Notice.objects.filter(routed_at__isnull=True).exists()
    return is_routed and not Message.objects.filter(status="waiting").exists()
