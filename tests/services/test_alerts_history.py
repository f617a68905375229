"""What is told of an alert's life: every step in words, by whom, in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from modelperf.models import Alert, AlertComment, AlertEvent
from modelperf.services import alerts, alerts_history, alerts_waking
from modelperf.services.alerts_history import Step
from tests.factories import AlertFactory, UserFactory

pytestmark = pytest.mark.django_db
ADA = "user:ada"
NOON = datetime(2040, 1, 1, 12, tzinfo=UTC)


def told(alert: Alert) -> list[tuple[str, str, str, str, str]]:
    return [
        (step.actor, step.word, step.old, step.new, step.note)
        for step in alerts_history.story(alert)
    ]


def write(alert: Alert, **changes: object) -> None:
    """Change an alert as the system does: in nobody's name."""
    Alert.objects.filter(pk=alert.pk).update(**changes)


RESOLVED = {"state": "resolved", "is_resolved": True, "resolved_by": "system"}
OPEN = {"state": "open", "is_resolved": False, "resolved_by": None, "resolved_at": None}


def test_a_life_with_people_is_told_in_words() -> None:
    alert = AlertFactory.create(severity="warning", occurrences=2)
    anna = UserFactory.create(username="anna", is_superuser=True)
    alerts.acknowledge(alert=alert, by=ADA)
    alerts.assign(alert=alert, by=ADA, assignee=anna, team=Group.objects.create(name="hall 1"))
    alerts.assign(alert=alert, by="key:ops", assignee=None, team=None)
    alerts.snooze(alert=alert, by=ADA, count=1_000, worse=True)
    alerts.snooze(alert=alert, by=ADA, count=5)
    alerts.resolve(alert=alert, by=ADA, action="false_alarm", notes="a draught")
    alerts.reopen(alert=alert, by=ADA)
    assert told(alert) == [
        ("system", "Opened, warning", "", "open", "The model got worse."),
        (ADA, "Acknowledged", "open", "acknowledged", ""),
        (ADA, "Assigned to anna", "", "anna", ""),
        (ADA, "Assigned to team hall 1", "", "hall 1", ""),
        ("key:ops", "Assigned to nobody", "anna", "", ""),
        ("key:ops", "Assigned to no team", "hall 1", "", ""),
        (
            ADA,
            "Snoozed until seen 1,002 times or until it is worse",
            "acknowledged",
            "snoozed",
            "",
        ),
        (
            ADA,
            "Snoozed until seen 7 times",
            "until seen 1,002 times or until it is worse",
            "snoozed",
            "",
        ),
        (ADA, "Resolved: false alarm", "snoozed", "resolved", "a draught"),
        (ADA, "Reopened", "resolved", "open", ""),
    ]
    assert [step.verb for step in alerts_history.story(alert)] == [
        *("", "acknowledge", "assign", "assign", "assign", "assign"),
        *("snooze", "snooze", "resolve", "reopen"),
    ]


def test_a_life_by_itself_is_told_in_words() -> None:
    alert = AlertFactory.create(severity="warning", model_version=1)
    write(alert, severity="critical", alert_message="Far worse.")
    write(alert, severity="normal")
    write(alert, **RESOLVED, resolved_at=NOON, resolution_action="recovered")
    write(alert, resolution_action="history_changed", resolution_notes="late windows")
    again = {"alert_timestamp": NOON, "model_version": 2, "severity": "warning"}
    write(alert, **OPEN, **again, resolution_action="", resolution_notes="")
    write(alert, alert_timestamp=NOON + timedelta(days=1))
    write(alert, state="snoozed", snoozed_until=NOON)
    alerts_waking.wake(now=NOON)
    steps = told(alert)
    assert {actor for actor, *_ in steps} == {"system"}
    assert [step[1:] for step in steps] == [
        ("Opened, warning", "", "open", "The model got worse."),
        ("Severity rose", "warning", "critical", "Far worse."),
        ("Severity fell", "critical", "normal", "Far worse."),
        ("Resolved: recovered", "open", "resolved", ""),
        ("Resolved: history changed", "recovered", "resolved", "late windows"),
        ("Opened again", "resolved", "open", ""),
        ("Severity rose", "normal", "warning", "Far worse."),
        ("About another version", "1", "2", ""),
        ("Began anew", "2040-01-01 12:00 UTC", "2040-01-02 12:00 UTC", ""),
        ("Snoozed until 2040-01-01 12:00 UTC", "open", "snoozed", ""),
        ("Snooze over", "snoozed", "open", "Its time was over."),
    ]


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ({"occurrences": 4}, "It was seen 4 times."),
        ({"severity": "critical"}, "It is worse."),
    ],
)
def test_why_a_snooze_was_over_is_told(seen: dict[str, object], why: str) -> None:
    alert = AlertFactory.create()
    until = timezone.now() + timedelta(days=1)
    alerts.snooze(alert=alert, by=ADA, until=until, count=3, worse=True)
    write(alert, **seen)
    alerts_waking.wake_seen(alert_ids=[alert.pk], now=timezone.now())
    assert told(alert)[-1] == ("system", "Snooze over", "snoozed", "open", why)


def test_who_wakes_an_alert_by_hand_needs_no_reason() -> None:
    alert = AlertFactory.create(state="snoozed", snoozed_until_worse=True)
    alerts.acknowledge(alert=alert, by=ADA)
    assert told(alert)[-1] == (ADA, "Acknowledged", "snoozed", "acknowledged", "")


def test_the_last_change_is_no_comment() -> None:
    alert = AlertFactory.create()
    alerts.acknowledge(alert=alert, by=ADA)
    alerts.comment(alert=alert, by="user:bob", text="mine")
    assert alerts_history.last_change(alert).word == "Acknowledged"
    assert alerts_history.story(alert)[-1].word == "Comment"


def test_comments_stand_where_they_were_made() -> None:
    alert = AlertFactory.create()
    alerts.comment(alert=alert, by=ADA, text="mine")
    write(alert, severity="critical")
    # In a test all steps are of one moment; here the second comes a minute after the comment.
    start = timezone.now() - timedelta(hours=1)
    AlertComment.objects.update(created_at=start + timedelta(minutes=1))
    for event, minutes in zip(AlertEvent.objects.order_by("pgh_id"), (0, 2), strict=True):
        AlertEvent.objects.filter(pk=event.pk).update(
            pgh_created_at=start + timedelta(minutes=minutes)
        )
    assert [word for _, word, *_ in told(alert)] == ["Opened, warning", "Comment", "Severity rose"]
    said = alerts_history.story(alert)[1]
    assert said == Step(start + timedelta(minutes=1), ADA, "comment", "Comment", note="mine")


def test_who_had_to_wait_comes_after_whom_he_waited_for() -> None:
    """A step bears the time at which its transaction began."""
    alert = AlertFactory.create()
    alerts.acknowledge(alert=alert, by=ADA)
    alerts.resolve(alert=alert, by=ADA, action="fixed")
    last = AlertEvent.objects.latest("pgh_id")
    earlier = timezone.now() - timedelta(minutes=1)
    AlertEvent.objects.filter(pk=last.pk).update(pgh_created_at=earlier)
    words = [word for _, word, *_ in told(alert)]
    assert words == ["Opened, warning", "Acknowledged", "Resolved: fixed"]


def test_an_alert_older_than_the_history_began_too() -> None:
    alert, untouched = AlertFactory.create_batch(2)
    AlertEvent.objects.all().delete()
    alerts.acknowledge(alert=alert, by=ADA)
    assert told(untouched) == [("system", "Opened", "", "open", "")]
    assert told(alert) == [
        ("system", "Opened", "", "open", ""),
        (ADA, "Acknowledged", "", "acknowledged", ""),
    ]
    assert alerts_history.story(alert)[0].when == alert.created_at


def test_people_and_teams_who_are_gone_leave_their_steps() -> None:
    alert = AlertFactory.create()
    anna = UserFactory.create(is_superuser=True)
    alerts.assign(alert=alert, by=ADA, assignee=anna)
    anna.delete()
    assert [word for _, word, *_ in told(alert)] == [
        "Opened, warning",
        "Assigned to somebody who is gone",
        "Assigned to nobody",
    ]


def test_of_a_long_story_the_newest_steps_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts_history, "MOST_STEPS", 3)
    alert = AlertFactory.create(severity="warning")
    for severity in ("critical", "normal"):
        write(alert, severity=severity)
    assert len(told(alert)) == 3
    assert told(alert)[0][1] == "Opened, warning"
    for severity in ("critical", "warning"):
        write(alert, severity=severity)
    assert [(old, new) for _, _, old, new, _ in told(alert)] == [
        ("critical", "normal"),
        ("normal", "critical"),
        ("critical", "warning"),
    ]
    # A change that nothing is told of: what is told then is less, and it began before that.
    write(alert, acknowledged_at=NOON, acknowledged_by=ADA)
    assert [(old, new) for _, _, old, new, _ in told(alert)] == [
        ("normal", "critical"),
        ("critical", "warning"),
    ]
    for text in ("one", "two", "three", "four"):
        alerts.comment(alert=alert, by=ADA, text=text)
    assert [note for *_, note in told(alert)] == ["two", "three", "four"]


def test_many_stories_take_as_many_statements_as_one() -> None:
    every = AlertFactory.create_batch(3)
    for alert in every[1:]:
        alerts.acknowledge(alert=alert, by=ADA)
        alerts.comment(alert=alert, by=ADA, text="mine")
    with CaptureQueriesContext(connection) as statements:
        stories = alerts_history.stories(every)
    assert len(statements) == 2
    assert stories == {alert.pk: alerts_history.story(alert) for alert in every}
    assert [len(stories[alert.pk]) for alert in every] == [1, 3, 3]
