"""The life of an alert in people's hands."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.utils import timezone

from modelperf.models import Alert, AlertComment, AlertEvent, ModelVersion, Notice
from modelperf.services import alerts, metrics
from modelperf.services.alerts_verbs import since
from modelperf.services.errors import ConflictError, InvalidError, NotFoundError
from tests.factories import AlertFactory, ModelVersionFactory, UserFactory
from tests.services.builders import noisy, series

pytestmark = pytest.mark.django_db

ADA, BOB = "user:ada", "user:bob"
VALUES = noisy(1, 60, fall_at=45) + noisy(2, 10, level=1.5)
VERBS: dict[str, Callable[..., Alert]] = {
    "acknowledge": alerts.acknowledge,
    "resolve": lambda **given: alerts.resolve(**given, action="fixed", notes="valve"),
    "snooze": lambda **given: alerts.snooze(**given, count=3),
    "assign": lambda **given: alerts.assign(**given, team=Group.objects.get_or_create(name="t")[0]),
    "reopen": alerts.reopen,
}


def snoozed(**fields: Any) -> Alert:
    alert = AlertFactory.create(occurrences=4, peak_metric_value=2.5, **fields)
    until = timezone.now() + timedelta(hours=1)
    return alerts.snooze(alert=alert, by=ADA, until=until, count=3, worse=True)


def known_person(**fields: Any) -> User:
    """Return somebody who may see alerts by belonging to a group."""
    group, _ = Group.objects.get_or_create(name="readers")
    group.permissions.add(Permission.objects.get(codename="view_alert"))
    person = UserFactory.create(**fields)
    person.groups.add(group)
    return person


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_step_with_actor_and_verb(verb: str) -> None:
    alert = AlertFactory.create(resolved=verb == "reopen")
    changed = VERBS[verb](alert=alert, by=ADA)
    event = AlertEvent.objects.filter(pgh_obj=alert).latest("pgh_id")
    note = "valve" if verb == "resolve" else ""
    assert event.pgh_context == {"actor": ADA, "verb": verb, "note": note}
    assert (event.revision, changed.revision, event.state) == (2, 2, changed.state)


@pytest.mark.parametrize("verb", VERBS)
def test_what_the_system_does_next_is_not_in_the_name_of_whoever_was_before(verb: str) -> None:
    VERBS[verb](alert=AlertFactory.create(resolved=verb == "reopen"), by=ADA)
    later = AlertFactory.create()
    assert AlertEvent.objects.get(pgh_obj=later).pgh_context is None


def test_acknowledge_then_resolve_names_the_actors() -> None:
    alert = alerts.acknowledge(alert=AlertFactory.create(), by=ADA)
    assert (alert.state, alert.acknowledged_by) == ("acknowledged", ADA)
    assert alert.acknowledged_at is not None
    alert = alerts.resolve(alert=alert, by=BOB, action="fixed", notes="valve")
    assert (alert.state, alert.is_resolved, alert.resolved_by) == ("resolved", True, BOB)
    assert (alert.resolution_action, alert.resolution_notes) == ("fixed", "valve")
    assert alert.acknowledged_by == ADA


def test_the_second_to_resolve_sees_who_was_first_and_when() -> None:
    person = known_person(username="eve")
    alert = AlertFactory.create(
        resolved=True,
        resolved_at=timezone.now() - timedelta(minutes=2, seconds=5),
        resolved_by=ADA,
        resolution_action="false_alarm",
        assignee=person,
    )
    says = "The alert was resolved by ada 2 minutes ago: false alarm."
    for verb in VERBS.keys() - {"reopen"}:
        with pytest.raises(ConflictError) as refused:
            VERBS[verb](alert=alert, by=BOB)
        assert refused.value.detail == says
        assert refused.value.state == {
            "state": "resolved",
            "revision": 1,
            "resolved_by": ADA,
            "resolved_at": alert.resolved_at,
            "assignee": "eve",
        }
    assert AlertEvent.objects.filter(pgh_obj=alert).count() == 1


@pytest.mark.parametrize(
    ("passed", "told"),
    [
        (timedelta(seconds=-5), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=1), "1 minute ago"),
        (timedelta(hours=5, minutes=9), "5 hours ago"),
        (timedelta(days=15), "2 weeks ago"),
    ],
)
def test_how_long_ago_is_told_in_one_unit(passed: timedelta, told: str) -> None:
    now = timezone.now()
    assert since(now - passed, now) == told


@pytest.mark.parametrize(
    ("by", "name"),
    [
        ("user:ada", "ada"),
        ("key:ops", r"ops \(key\)"),
        ("system", "modelperf"),
        ("system:retraining", "modelperf"),
        ("ada", "ada"),
    ],
)
def test_acknowledging_again_says_who_has(by: str, name: str) -> None:
    alert = alerts.acknowledge(alert=AlertFactory.create(), by=by)
    with pytest.raises(ConflictError, match=rf"^The alert was acknowledged by {name} just now\.$"):
        alerts.acknowledge(alert=alert, by=BOB)


def test_resolve_wants_an_action_it_knows_and_notes_that_can_be_kept() -> None:
    alert = AlertFactory.create()
    with pytest.raises(InvalidError, match="action is one of fixed, false_alarm, accepted"):
        alerts.resolve(alert=alert, by=ADA, action="shrug")
    with pytest.raises(InvalidError, match="notes has at most 2,000 characters"):
        alerts.resolve(alert=alert, by=ADA, action="fixed", notes="x" * 2001)
    with pytest.raises(InvalidError, match="NUL"):
        alerts.resolve(alert=alert, by=ADA, action="fixed", notes="a\x00b")


def test_a_snooze_counts_and_measures_from_now() -> None:
    alert = snoozed()
    assert (alert.state, alert.snoozed_until_count) == ("snoozed", 7)
    assert (alert.snoozed_until_worse, alert.snoozed_peak) == (True, 2.5)
    assert alert.snoozed_until > timezone.now()


def test_a_snooze_can_be_changed_and_follows_an_acknowledgement() -> None:
    alert = alerts.acknowledge(alert=AlertFactory.create(current_metric_value=3.0), by=ADA)
    alert = alerts.snooze(alert=alert, by=ADA, count=3)
    assert (alert.snoozed_until_count, alert.snoozed_peak, alert.acknowledged_by) == (4, None, ADA)
    alert = alerts.snooze(alert=alert, by=BOB, worse=True)
    assert (alert.snoozed_until_count, alert.snoozed_until_worse) == (None, True)
    assert (alert.snoozed_peak, alert.revision) == (3.0, 4)


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ({}, "until, count or worse"),
        ({"until": timedelta(0)}, "in the future, within a year"),
        ({"until": timedelta(days=367)}, "in the future, within a year"),
        ({"until": datetime(2100, 1, 1)}, "needs a time zone"),  # noqa: DTZ001 -- that is the point
        ({"count": 0}, "from 1 to"),
        ({"count": 1_000_001}, "from 1 to"),
        ({"count": 5, "until": timedelta(seconds=-1)}, "in the future"),
    ],
)
def test_a_snooze_needs_an_end_within_reach(ends: dict[str, Any], told: str) -> None:
    alert = AlertFactory.create()
    if isinstance(ends.get("until"), timedelta):
        ends = ends | {"until": timezone.now() + ends["until"]}
    with pytest.raises(InvalidError, match=told) as refused:
        alerts.snooze(alert=alert, by=ADA, **ends)
    assert refused.value.errors[0].loc[1] in {"until", "count"}


@pytest.mark.parametrize("verb", ["acknowledge", "resolve"])
def test_a_snooze_is_over_with_other_verbs(verb: str) -> None:
    alert = VERBS[verb](alert=snoozed(), by=BOB)
    assert (alert.snoozed_until, alert.snoozed_until_count) == (None, None)
    assert (alert.snoozed_until_worse, alert.snoozed_peak) == (False, None)


def test_person_and_team_are_assigned_each_by_itself() -> None:
    person, team = known_person(), Group.objects.create(name="hall 1")
    alert = alerts.assign(alert=AlertFactory.create(), by=ADA, assignee=person)
    assert (alert.assignee, alert.team) == (person, None)
    alert = alerts.assign(alert=alert, by=ADA, team=team)
    assert (alert.assignee, alert.team) == (person, team)
    alert = alerts.assign(alert=alert, by=ADA, assignee=None)
    assert (alert.assignee, alert.team, alert.state) == (None, team, "open")
    again = alerts.assign(alert=alert, by=ADA, team=team)
    assert again.revision == 4


def test_who_could_not_see_an_alert_is_not_given_one() -> None:
    alert = AlertFactory.create()
    superuser = UserFactory.create(is_superuser=True, is_active=False, username="old")
    with pytest.raises(InvalidError, match=r"^old is not active"):
        alerts.assign(alert=alert, by=ADA, assignee=superuser)
    with pytest.raises(InvalidError, match=r"^new may not see alerts"):
        alerts.assign(alert=alert, by=ADA, assignee=UserFactory.create(username="new"))
    with pytest.raises(InvalidError, match="Send assignee, team or both"):
        alerts.assign(alert=alert, by=ADA)
    assert AlertEvent.objects.filter(pgh_obj=alert).count() == 1


def test_whoever_knows_an_alert_as_it_was_is_told_what_came_first() -> None:
    alert, person = AlertFactory.create(), known_person(username="eve")
    alerts.assign(alert=alert, by=ADA, assignee=person, revision=1)
    with pytest.raises(ConflictError) as refused:
        alerts.acknowledge(alert=alert, by=BOB, revision=1)
    assert refused.value.detail == (
        "The alert was changed by ada just now: assigned to eve. It is at revision 2, not 1."
    )
    assert refused.value.state["assignee"] == "eve"
    alerts.resolve(alert=alert, by=ADA, action="fixed", revision=2)
    with pytest.raises(ConflictError, match="resolved by ada just now: fixed"):
        alerts.acknowledge(alert=alert, by=BOB, revision=1)
    with pytest.raises(ConflictError, match="revision 3, not 1"):
        alerts.reopen(alert=alert, by=BOB, revision=1)


def test_a_comment_changes_nothing_but_is_kept() -> None:
    alert = AlertFactory.create(resolved=True)
    said = alerts.comment(alert=alert, by=ADA, text=" the valve again \n")
    assert AlertComment.objects.get() == said
    assert (said.alert, said.text, said.created_by) == (alert, "the valve again", ADA)
    alert.refresh_from_db()
    assert alert.revision == 1


@pytest.mark.parametrize("text", ["", " \n", "x" * 5_001, "a\x00b"])
def test_a_comment_says_something_that_can_be_kept(text: str) -> None:
    with pytest.raises(InvalidError):
        alerts.comment(alert=AlertFactory.create(), by=ADA, text=text)


def test_reopen_makes_it_open_again_and_nobodys() -> None:
    alert = alerts.acknowledge(alert=AlertFactory.create(), by=ADA)
    alert = alerts.resolve(alert=alert, by=ADA, action="fixed", notes="valve")
    opened_at = alert.alert_timestamp
    alert = alerts.reopen(alert=alert, by=BOB)
    assert (alert.state, alert.is_resolved, alert.resolved_by) == ("open", False, None)
    assert (alert.reopened_by, alert.acknowledged_by, alert.acknowledged_at) == (BOB, "", None)
    assert alert.reopened_at is not None
    assert (alert.resolution_action, alert.resolution_notes) == ("", "")
    assert (alert.alert_timestamp, alert.metadata) == (opened_at, {})
    with pytest.raises(ConflictError, match=r"^The alert was reopened by bob just now\.$"):
        alerts.reopen(alert=alert, by=ADA)


@pytest.mark.parametrize("state", ["open", "snoozed"])
def test_what_is_not_resolved_is_not_reopened(state: str) -> None:
    ends = {"snoozed_until_worse": True} if state == "snoozed" else {}
    alert = AlertFactory.create(state=state, **ends)
    with pytest.raises(ConflictError, match=f"^The alert is {state}, not resolved.$"):
        alerts.reopen(alert=alert, by=ADA)


def test_a_condition_has_one_unresolved_alert_also_when_reopening() -> None:
    resolved = AlertFactory.create(resolved=True, condition_key="one")
    AlertFactory.create(condition_key="one")
    with pytest.raises(ConflictError, match="Another alert of its condition is unresolved"):
        alerts.reopen(alert=resolved, by=ADA)
    resolved.refresh_from_db()
    assert resolved.is_resolved


def test_an_alert_that_is_gone_is_not_found() -> None:
    alert = AlertFactory.create()
    Alert.objects.all().delete()
    with pytest.raises(NotFoundError):
        alerts.acknowledge(alert=alert, by=ADA)


def test_of_peoples_steps_only_resolving_is_told() -> None:
    alert = AlertFactory.create()
    for verb in ("acknowledge", "snooze", "assign"):
        VERBS[verb](alert=alert, by=ADA)
    assert not Notice.objects.exists()
    VERBS["resolve"](alert=alert, by=ADA)
    notice = Notice.objects.get()
    assert (notice.kind, notice.alert, notice.says["resolved_by"]) == ("resolved", alert, ADA)


def test_reopening_is_told_since_the_end_was() -> None:
    now = timezone.now()
    alert = AlertFactory.create(resolved=True, seen_through=now, told_through=now)
    alerts.reopen(alert=alert, by=ADA)
    assert Notice.objects.filter(kind="reopened").exists()


def test_every_writer_leaves_steps_and_mere_occurrences_leave_none() -> None:
    first, second = AlertFactory.create_batch(2)
    Alert.objects.update(severity="critical")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE model_alerts SET model_version = 9 WHERE id = %s", [first.pk])
    Alert.objects.update(occurrences=9, last_seen_at=timezone.now(), peak_metric_value=4.0)
    counts = {one.pk: one.events.count() for one in (first, second)}
    revisions = dict(Alert.objects.values_list("pk", "revision"))
    assert counts == revisions == {first.pk: 3, second.pk: 2}


@pytest.fixture
def model() -> ModelVersion:
    model = ModelVersionFactory.create(is_active=True)
    for sent in series(model, VALUES[:60]):
        metrics.record(evaluation=sent, by="a")
    return model


def test_repeating_evaluations_raise_the_count_of_one_alert(model: ModelVersion) -> None:
    before = Alert.objects.get().occurrences
    alerts.acknowledge(alert=Alert.objects.get(), by=ADA)
    for sent in series(model, VALUES)[60:]:
        metrics.record(evaluation=sent, by="a")
    alert = Alert.objects.get()
    assert (alert.occurrences, alert.state) == (before + 10, "acknowledged")


def test_what_a_person_resolved_stays_resolved_while_nothing_new_happens(
    model: ModelVersion,
) -> None:
    alerts.resolve(alert=Alert.objects.get(), by=ADA, action="accepted")
    for sent in series(model, VALUES)[60:]:
        metrics.record(evaluation=sent, by="a")
    assert Alert.objects.get().is_resolved


def test_a_second_fall_after_recovery_reopens_the_alert(model: ModelVersion) -> None:
    values = VALUES[:60] + noisy(5, 40) + noisy(6, 20, level=1.25)
    for sent in series(model, values)[60:]:
        metrics.record(evaluation=sent, by="a")
    alert = Alert.objects.get()
    assert not alert.is_resolved
    assert alert.alert_details["changed_at"] > "2026-03-15"


def test_the_message_names_machine_metric_and_both_levels(model: ModelVersion) -> None:
    alert = Alert.objects.get()
    assert model.machine.name in alert.alert_message
    assert "MAE is worse since 2026-02-15" in alert.alert_message
    assert alert.baseline_metric_value == pytest.approx(1.0, rel=0.1)
    assert alert.current_metric_value == pytest.approx(1.5, rel=0.1)
    assert alert.threshold_value == 3.9
