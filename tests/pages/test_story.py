"""What happened to a series, as its page tells: in order, by whom, and why."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from modelperf.models import Alert, AlertEvent, ModelVersion, TrainingRun
from modelperf.pages import story as stories
from modelperf.services import ab_tests, alerts, registry, training
from tests import factories
from tests.pages import worlds

PAGE = "/ui/model-performance"
BY = "user:ada"
pytestmark = pytest.mark.django_db


def told(client: Client, machine: object) -> list[str]:
    """Return each event of the story as its text, without when it was."""
    html = client.get(PAGE, {"machine": machine}).content.decode()
    story = html.partition('<ol class="story">')[2].partition("</ol>")[0]
    events = re.findall(r'<div class="what">(.*?)</div>', story, re.DOTALL)
    plain = (re.sub(r"<svg.*?</svg>", "", event, flags=re.DOTALL) for event in events)
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", event)).split()) for event in plain]


def test_the_loop_is_told_from_the_alert_to_its_resolution(logged_in: Client) -> None:
    machine = worlds.looped()
    alert, run = Alert.objects.get(machine=machine), TrainingRun.objects.get()
    events = told(logged_in, machine.pk)
    assert [re.match(r"(Alert|Training|Version|A/B test)[^,:.]*", event)[0] for event in events]
    assert events[0] == f"Alert opened {alert.alert_message}"
    assert events[1] == "Training asked for For the alert: performance degradation. by modelperf"
    assert events[2].startswith("Version 2 trained Trained by tests-loop on 365 samples of ")
    assert events[3].startswith("A/B test started Version 2 against version 1, on windows from ")
    assert events[4].startswith("A/B test decided Version 2 is promoted. Promote v2: its mae is")
    assert events[5] == "Version 2 promoted It serves in place of version 1. by modelperf"
    assert events[6].startswith(
        "Alert resolved Retrained model: performance degradation of version 1. Version 2 won"
    )
    assert len(events) == 7
    assert run.alert == alert


def test_times_are_told_in_both_ways(logged_in: Client) -> None:
    machine = worlds.machine()
    worlds.version(machine)
    html = logged_in.get(PAGE, {"machine": machine.pk}).content.decode()
    story = html.partition('<ol class="story">')[2]
    assert re.search(
        r'<time datetime="\d{4}-\d\d-\d\dT[^"]+Z">\d+ \w{3} \d{4} \d\d:\d\d UTC</time>'
        r' <span class="muted nw">just now</span>',
        story,
    )


def test_people_are_named_and_so_are_their_reasons(logged_in: Client) -> None:
    machine = worlds.machine()
    first, second = worlds.version(machine), worlds.version(machine, active=False)
    registry.activate_model(model=second, reason="it looks better", by=BY)
    registry.rollback(machine=machine, model_type="baseline", reason="it was not", by="key:ops")
    assert told(logged_in, machine.pk) == [
        "Version 1 activated It is the first to serve. Registered as active. by tests",
        "Version 2 activated It serves in place of version 1. it looks better by ada",
        "Rolled back to version 1 It serves in place of version 2. it was not by ops (key)",
    ]
    assert ModelVersion.objects.get(is_active=True) == first


def test_runs_that_come_to_nothing_are_told_too(logged_in: Client) -> None:
    machine = factories.ModelVersionFactory.create().machine
    worlds.fail(machine, "the readings are gone")
    training.trigger(machine=machine, model_type="baseline", reason="again", by=BY)
    training.cancel(run=TrainingRun.objects.get(training_status="pending"), by="user:eve")
    training.trigger(machine=machine, model_type="baseline", reason="later", by=BY)
    waiting = TrainingRun.objects.get(training_status="pending")
    training.cancel(run=waiting, reason="not this week", by="user:eve")
    events = told(logged_in, machine.pk)
    assert [event for event in events if "Training" in event] == [
        "Training asked for Manual: the year is over",
        "Training failed",
        "Training asked for Manual: again by ada",
        "Training cancelled by eve",
        "Training asked for Manual: later by ada",
        "Training cancelled not this week by eve",
    ]


@pytest.mark.parametrize(
    ("permission", "is_told"),
    [("add_trainingrun", True), ("change_trainingrun", True), ("change_alert", False)],
)
def test_why_a_run_failed_is_told_to_those_who_may_know(
    user: User, logged_in: Client, permission: str, is_told: bool
) -> None:
    machine = factories.ModelVersionFactory.create().machine
    worlds.fail(machine, "the readings are gone")
    user.user_permissions.add(Permission.objects.get(codename=permission))
    assert ("Training failed the readings are gone" in told(logged_in, machine.pk)) is is_told
    page = logged_in.get(PAGE, {"machine": machine.pk}).content.decode()
    assert page.count("the readings are gone") == (2 if is_told else 0)  # list and story
    assert "Failed</span>" in page


def test_tests_that_end_without_a_winner(logged_in: Client) -> None:
    machine = worlds.machine()
    old, new = worlds.version(machine), worlds.version(machine, active=False)
    first, second = (
        factories.ABTestFactory.create(machine=machine, model_a=old, model_b=new, **fields)
        for fields in ({"test_status": "planned"}, {})
    )
    ab_tests.cancel(test=second, by=BY)
    ab_tests.decide(test=first, decision="no_winner", notes="Too alike.", by=BY)
    events = told(logged_in, machine.pk)
    assert any(event.endswith("Cancelled by ada.") for event in events)
    assert events[-1] == "A/B test decided No winner, version 1 goes on. Too alike. by ada"


def test_why_automatic_retraining_waits_is_told_while_it_does(logged_in: Client) -> None:
    alert = factories.AlertFactory.create(auto_action_result={"waits": "Cools down."})
    (event,) = told(logged_in, alert.machine_id)
    assert event == "Alert opened The model got worse. Automatic retraining waits: Cools down."
    Alert.objects.update(
        is_resolved=True,
        state="resolved",
        resolved_at=timezone.now(),
        resolved_by="user:ada",
        resolution_action="fixed",
    )
    assert "waits" not in " ".join(told(logged_in, alert.machine_id))


def test_alerts_that_retraining_is_not_about_are_left_out(logged_in: Client) -> None:
    alert = factories.AlertFactory.create(alert_type="evaluation_missing")
    other = factories.AlertFactory.create(alert_message="Of another series.")
    assert told(logged_in, alert.machine_id) == []
    assert (
        "No alert, training" in logged_in.get(PAGE, {"machine": alert.machine_id}).content.decode()
    )
    assert len(told(logged_in, other.machine_id)) == 1


def test_the_newest_of_a_long_story_are_told(
    logged_in: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stories, "MOST_EVENTS", 3)
    machine = worlds.machine()
    first, second = worlds.version(machine), worlds.version(machine, active=False)
    for model in (second, first, second):
        registry.activate_model(model=model, by=BY)
    events = told(logged_in, machine.pk)
    assert [event.partition(" It")[0] for event in events] == [
        "Version 2 activated",
        "Version 1 activated",
        "Version 2 activated",
    ]
    html = logged_in.get(PAGE, {"machine": machine.pk}).content.decode()
    assert "what came before is left out" in html


def test_a_resolution_follows_what_the_same_look_did(logged_in: Client) -> None:
    """A look says when it began, and promotes before it resolves."""
    now = timezone.now()
    alert = factories.AlertFactory.create(
        alert_timestamp=now - timedelta(days=1),
        resolved=True,
        resolved_at=now - timedelta(seconds=5),
        resolved_by="system",
        resolution_action="retrained_model",
    )
    new = factories.ModelVersionFactory.create(machine=alert.machine)
    registry.activate_model(model=new, by="system:retraining")
    words = [event.split()[0] for event in told(logged_in, alert.machine_id)]
    assert words == ["Alert", "Version", "Alert"]


def test_every_opening_and_ending_of_an_alert_is_told(logged_in: Client) -> None:
    """By people and by itself; each opening with what the alert said while it lasted."""
    days = [timezone.now() - timedelta(days=age) for age in range(4, 0, -1)]
    alert = factories.AlertFactory.create(alert_timestamp=days[0], alert_message="It began.")
    Alert.objects.update(occurrences=9, alert_message="It went on.")
    end = {"state": "resolved", "is_resolved": True, "resolved_by": "system"}
    Alert.objects.update(**end, resolved_at=days[1], resolution_action="recovered")
    again = {"state": "open", "is_resolved": False, "resolved_by": None, "resolved_at": None}
    Alert.objects.update(
        **again, alert_timestamp=days[2], resolution_action="", alert_message="It is back."
    )
    # Neither is an opening or an ending.
    Alert.objects.update(severity="critical")
    alert.refresh_from_db()
    alerts.acknowledge(alert=alert, by=BY)
    Alert.objects.update(**end, resolved_at=days[3], resolution_action="recovered")
    alerts.reopen(alert=alert, by=BY)
    assert told(logged_in, alert.machine_id) == [
        "Alert opened It went on.",
        "Alert resolved Recovered: drift detected of version 1. by modelperf",
        "Alert opened again It is back.",
        "Alert resolved Recovered: drift detected of version 1. by modelperf",
        "Alert reopened It is back. by ada",
    ]


def test_reopening_follows_a_resolution_of_a_moment_ago(logged_in: Client) -> None:
    """What the same look did comes before a resolution, what was done to the alert does not."""
    alert = factories.AlertFactory.create(alert_timestamp=timezone.now() - timedelta(days=1))
    alerts.resolve(alert=alert, by="user:bob", action="fixed")
    alerts.reopen(alert=alert, by=BY)
    resolved, reopened = AlertEvent.objects.order_by("pgh_id")[1:]
    AlertEvent.objects.filter(pk=reopened.pk).update(
        pgh_created_at=resolved.resolved_at + timedelta(seconds=9)
    )
    words = [event.split()[1] for event in told(logged_in, alert.machine_id)]
    assert words == ["opened", "resolved", "reopened"]


def test_alerts_from_before_there_was_a_history_are_told_as_far_as_known(
    logged_in: Client,
) -> None:
    alert = factories.AlertFactory.create(
        resolved=True, alert_timestamp=timezone.now() - timedelta(days=1)
    )
    AlertEvent.objects.all().delete()
    expected = [
        "Alert opened The model got worse.",
        "Alert resolved Fixed: drift detected of version 1. by tests",
    ]
    assert told(logged_in, alert.machine_id) == expected
    alerts.reopen(alert=alert, by=BY)
    alerts.resolve(alert=alert, by=BY, action="accepted", notes="the old pump")
    assert told(logged_in, alert.machine_id)[-1] == (
        "Alert resolved Accepted: drift detected of version 1. the old pump by ada"
    )


def test_of_alerts_that_open_often_the_newest_turns_are_told(
    logged_in: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stories, "MOST_EVENTS", 3)
    quiet = factories.AlertFactory.create(alert_message="Of one that opened before all these.")
    alert = factories.AlertFactory.create(
        model=quiet.model, alert_timestamp=timezone.now() - timedelta(days=1)
    )
    for _ in range(2):
        alerts.resolve(alert=alert, by=BY, action="fixed")
        alerts.reopen(alert=alert, by=BY)
    html = logged_in.get(PAGE, {"machine": alert.machine_id}).content.decode()
    assert "what came before is left out" in html
    assert len(told(logged_in, alert.machine_id)) == 3
    assert not any(event.startswith("Alert opened") for event in told(logged_in, alert.machine_id))


def test_events_lead_to_the_admin_for_staff_only(logged_in: Client, superuser: User) -> None:
    machine = worlds.looped()
    staff = Client()
    staff.force_login(superuser)
    ours = logged_in.get(PAGE, {"machine": machine.pk}).content.decode()
    theirs = staff.get(PAGE, {"machine": machine.pk}).content.decode()
    for name in ("alert", "trainingrun", "abtest", "modelversion"):
        links = re.findall(rf'href="(/admin/modelperf/{name}/[^"]+)"', theirs)
        assert links
        assert f"/admin/modelperf/{name}/" not in ours
        for link in links:
            assert staff.get(link).status_code == 200


def test_stored_markup_stays_text(logged_in: Client) -> None:
    machine = worlds.machine()
    model = worlds.version(machine, active=False)
    registry.activate_model(model=model, reason=worlds.MARKUP, by=BY)
    html = logged_in.get(PAGE, {"machine": machine.pk}).content.decode()
    assert worlds.MARKUP not in html
    assert worlds.MARKUP in told(logged_in, machine.pk)[0] or "&lt;script&gt;" in html
