"""Hundreds of alerts at once, by one operator or by two."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from modelperf.models import Alert, AlertEvent, Notice
from modelperf.services import alerts, alerts_bulk
from modelperf.services.alerts_verbs import HAS_TWIN
from modelperf.services.errors import ConflictError, InvalidError
from tests.factories import AlertFactory, ModelVersionFactory
from tests.services.concurrency import at_once

pytestmark = pytest.mark.django_db
ADA, BOB = "user:ada", "user:bob"
MOST_STATEMENTS = 15


def many(n: int, **fields: Any) -> list[Alert]:
    """Store alerts of one version, as quickly as there can be hundreds."""
    model = ModelVersionFactory.create()
    return Alert.objects.bulk_create(AlertFactory.build_batch(n, model=model, **fields))


@pytest.mark.parametrize(
    ("verb", "what", "state"),
    [
        ("acknowledge", {}, "acknowledged"),
        ("resolve", {"action": "fixed", "notes": "new valve"}, "resolved"),
        ("snooze", {"count": 3}, "snoozed"),
        ("assign", {"team": "hall 1"}, "open"),
        ("reopen", {}, "open"),
    ],
)
def test_hundreds_take_few_statements_and_leave_a_step_each(
    verb: str, what: dict[str, Any], state: str
) -> None:
    if "team" in what:
        what = {"team": Group.objects.create(name=what["team"])}
    every = many(500, resolved=verb == "reopen")
    ids = [alert.pk for alert in every]
    with CaptureQueriesContext(connection) as statements:
        outcome = alerts_bulk.change(alerts=ids, verb=verb, by=ADA, **what)
    assert len(statements) <= MOST_STATEMENTS
    assert [alert.pk for alert in outcome.changed] == ids
    assert {alert.state for alert in outcome.changed} == {state}
    assert outcome.refused == []
    steps = AlertEvent.objects.filter(pgh_obj_id__in=ids, revision=2)
    assert steps.filter(pgh_context__actor=ADA, pgh_context__verb=verb).count() == 500
    told = {"resolve": "resolved", "reopen": "reopened"}.get(verb)
    assert set(Notice.objects.values_list("kind", flat=True)) == ({told} if told else set())
    assert Notice.objects.count() == (500 if told else 0)


@pytest.mark.parametrize("verb", ["acknowledge", "resolve", "snooze", "assign", "reopen"])
def test_refused_ones_say_what_the_verb_on_one_says(verb: str) -> None:
    what: dict[str, Any] = {
        "resolve": {"action": "fixed"},
        "snooze": {"worse": True},
        "assign": {"assignee": None},
    }.get(verb, {})
    given = [
        AlertFactory.create(),
        AlertFactory.create(resolved=True, resolved_by=BOB),
        AlertFactory.create(
            state="acknowledged", acknowledged_by=BOB, acknowledged_at=timezone.now()
        ),
        AlertFactory.create(state="snoozed", snoozed_until_count=5),
    ]
    # Not as they were chosen: in the order in which they are stored all verbs wait for each other.
    chosen = [given[place].pk for place in (2, 0, 3, 1)]
    outcome = alerts_bulk.change(alerts=chosen, verb=verb, by=ADA, **what)
    assert outcome.refused
    assert [*outcome.changed, *(alert for alert, _ in outcome.refused)] == sorted(
        given, key=lambda one: (one in dict(outcome.refused), chosen.index(one.pk))
    )
    for alert, sentence in outcome.refused:
        with pytest.raises(ConflictError) as refused:
            getattr(alerts, verb)(alert=alert, by=ADA, **what)
        assert refused.value.detail == sentence
        assert AlertEvent.objects.filter(pgh_obj=alert).count() == 1


def test_what_a_list_shows_may_be_given_as_it_is() -> None:
    mine, _ = AlertFactory.create(severity="critical"), AlertFactory.create()
    shown = Alert.objects.filter(severity="critical").worst_first()
    outcome = alerts_bulk.change(alerts=shown, verb="acknowledge", by=ADA)
    assert outcome.changed == [mine]
    assert Alert.objects.get(state="acknowledged") == mine


def test_unknown_and_repeated_ids_do_no_harm() -> None:
    alert = AlertFactory.create()
    ids = [alert.pk, uuid.uuid4(), alert.pk]
    outcome = alerts_bulk.change(alerts=ids, verb="acknowledge", by=ADA)
    assert (outcome.changed, outcome.refused) == ([alert], [])
    assert alerts_bulk.change(alerts=[], verb="acknowledge", by=ADA).changed == []


@pytest.mark.parametrize(
    ("verb", "what", "told"),
    [
        ("delete", {}, "verb is one of acknowledge, resolve, snooze, assign, reopen"),
        ("resolve", {}, "resolve takes action, notes"),
        ("acknowledge", {"action": "fixed"}, "acknowledge takes nothing besides"),
        ("resolve", {"action": "shrug"}, "action is one of"),
        ("snooze", {}, "until, count or worse"),
    ],
)
def test_what_no_alert_could_allow_is_refused_as_a_whole(
    verb: str, what: dict[str, Any], told: str
) -> None:
    alert = AlertFactory.create()
    with pytest.raises(InvalidError, match=told):
        alerts_bulk.change(alerts=[alert.pk], verb=verb, by=ADA, **what)


def test_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts_bulk, "MOST_AT_ONCE", 2)
    many(3)
    for every in (Alert.objects.all(), [alert.pk for alert in Alert.objects.all()]):
        with pytest.raises(InvalidError, match="at most 2 at once"):
            alerts_bulk.change(alerts=every, verb="acknowledge", by=ADA)
    assert not Alert.objects.exclude(state="open").exists()


def test_of_two_alerts_of_one_condition_the_newest_is_reopened() -> None:
    old, new = (
        AlertFactory.create(
            resolved=True, condition_key="one", resolved_at=timezone.now() - age * timedelta(days=1)
        )
        for age in (2, 1)
    )
    outcome = alerts_bulk.change(alerts=[old.pk, new.pk], verb="reopen", by=ADA)
    assert outcome.changed == [new]
    assert outcome.refused == [(old, HAS_TWIN)]


@pytest.mark.django_db(transaction=True)
def test_of_two_operators_on_the_same_alerts_the_second_sees_who_was_first() -> None:
    ids = [alert.pk for alert in many(60)]
    ways = [(ADA, ids), (BOB, ids[::-1])]

    def resolve(number: int) -> alerts_bulk.BulkOutcome:
        by, chosen = ways[number]
        return alerts_bulk.change(alerts=chosen, verb="resolve", by=by, action="fixed")

    outcomes = at_once(2, resolve)
    counts = []
    for outcome, other in zip(outcomes, ("bob", "ada"), strict=True):
        assert isinstance(outcome, alerts_bulk.BulkOutcome), outcome
        assert len(outcome.changed) + len(outcome.refused) == len(ids)
        told = {sentence for _, sentence in outcome.refused}
        assert told <= {f"The alert was resolved by {other} just now: fixed."}
        counts.append(len(outcome.changed))
    assert sorted(counts) == [0, 60]
    assert AlertEvent.objects.filter(state="resolved").count() == len(ids)
    assert Notice.objects.filter(kind="resolved").count() == len(ids)


@pytest.mark.django_db(transaction=True)
def test_one_condition_is_reopened_once_by_whoever_comes() -> None:
    rows = [AlertFactory.create(resolved=True, condition_key="one") for _ in range(4)]

    def reopen(number: int) -> Alert:
        return alerts.reopen(alert=Alert.objects.get(pk=rows[number].pk), by=ADA)

    outcomes = at_once(4, reopen)
    reopened = [one for one in outcomes if isinstance(one, Alert)]
    refused = [one for one in outcomes if isinstance(one, ConflictError)]
    assert (len(reopened), len(refused)) == (1, 3), outcomes
    assert Alert.objects.unresolved().get() == reopened[0]
