"""In quiet hours, of the route's own clock, what is not severe waits for their end."""

from __future__ import annotations

from datetime import UTC, datetime, time

import pytest

from modelperf.models import Message
from modelperf.services.notifications_quiet import quiet_until
from tests.factories import AlertFactory
from tests.services.notifying import (
    GROUPED,
    MINUTE,
    route,
    told,
)

pytestmark = pytest.mark.django_db


NIGHT = {"quiet_from": time(22), "quiet_until": time(7), "quiet_timezone": "Europe/Berlin"}


def test_in_quiet_hours_what_is_not_severe_waits_for_their_end() -> None:
    route(**NIGHT)
    at = datetime(2026, 5, 4, 21, tzinfo=UTC)  # 23:00 there
    told(AlertFactory.create(), now=at)
    told(AlertFactory.create(severity="critical"), now=at)
    told(AlertFactory.create(), now=at + MINUTE)
    held, soon = Message.objects.order_by("-is_held")
    assert (held.is_held, held.due_at) == (True, datetime(2026, 5, 5, 5, tzinfo=UTC))
    assert (soon.is_held, soon.due_at) == (False, at + GROUPED)
    assert [held.deliveries.count(), soon.deliveries.count()] == [2, 1]


@pytest.mark.parametrize(
    ("hours", "at", "until"),
    [
        ("22-07", "2026-05-04T20:00", "2026-05-05T05:00"),
        ("22-07", "2026-05-05T04:59", "2026-05-05T05:00"),
        ("22-07", "2026-05-05T05:00", None),
        ("22-07", "2026-05-04T19:59", None),
        ("12-14", "2026-05-04T11:00", "2026-05-04T12:00"),
        ("12-14", "2026-05-04T09:59", None),
        ("08-08", "2026-05-04T09:00", "2026-05-05T06:00"),
        # Clocks go from 2 to 3 on 29 March, and from 3 to 2 on 25 October.
        ("22-07", "2026-03-28T22:00", "2026-03-29T05:00"),
        ("22-07", "2026-10-24T21:00", "2026-10-25T06:00"),
        ("22-02:30", "2026-03-29T00:30", "2026-03-29T01:30"),
        ("22-02:30", "2026-10-25T01:00", "2026-10-25T01:30"),
        ("02:30-04", "2026-10-25T00:30", "2026-10-25T03:00"),
    ],
)
def test_quiet_hours_are_those_of_the_routes_own_clock(
    hours: str, at: str, until: str | None
) -> None:
    begin, finish = (time.fromisoformat(clock) for clock in hours.split("-"))
    one = route(quiet_from=begin, quiet_until=finish, quiet_timezone="Europe/Berlin")
    moment = datetime.fromisoformat(f"{at}+00:00")
    expected = datetime.fromisoformat(f"{until}+00:00") if until else None
    assert quiet_until(one, moment) == expected


def test_an_unknown_time_zone_is_read_as_utc() -> None:
    one = route(**NIGHT | {"quiet_timezone": "Mars/Olympus"})
    assert quiet_until(one, datetime(2026, 5, 4, 23, tzinfo=UTC)) == datetime(
        2026, 5, 5, 7, tzinfo=UTC
    )
