"""The verbs of the desk: what they ask, what they change, who was first, and how dear they are."""

from __future__ import annotations

import html as markup
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from modelperf.models import Alert, AlertEvent, TrainingRun
from tests import factories, groups

LIST = "/admin/modelperf/alert/"
pytestmark = pytest.mark.django_db


def desk_of(username: str) -> Client:
    client = Client()
    client.force_login(groups.member("operator", username))
    return client


@pytest.fixture
def desk(db: None) -> Client:
    """Return the browser of the operator `ada`."""
    return desk_of("ada")


def act(desk: Client, action: str, *alerts: Alert, query: str = "", **fields: Any) -> str:
    chosen = {"action": action, "_selected_action": [a.pk for a in alerts]}
    response = desk.post(LIST + query, chosen | fields, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def answer(desk: Client, asked: str, **fields: Any) -> str:
    """Confirm the page that was asked with."""
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', asked))
    sent = hidden | {"confirm": "1"} | {f"done-{name}": value for name, value in fields.items()}
    response = desk.post(LIST, sent, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def told(html: str) -> list[str]:
    found = re.findall(r'<li class="(?:success|warning|error)">(.*?)</li>', html, re.DOTALL)
    return [markup.unescape(re.sub(r"<[^>]+>", "", text)).strip() for text in found]


def last_event(alert: Alert) -> AlertEvent:
    return alert.events.order_by("-pgh_id")[0]


def test_acknowledge_names_its_actor_and_is_logged(desk: Client) -> None:
    alert = factories.AlertFactory.create()

    html = act(desk, "acknowledge", alert)

    alert.refresh_from_db()
    assert (alert.state, alert.acknowledged_by) == ("acknowledged", "user:ada")
    assert told(html) == ["1 acknowledged."]
    assert last_event(alert).pgh_context["actor"] == "user:ada"
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.object_id) == ("ada", str(alert.pk))
    assert entry.get_change_message() == "Acknowledged."


def test_what_cannot_be_changed_does_not_stop_the_others(desk: Client) -> None:
    resolved = factories.AlertFactory.create(resolved=True, alert_message="It is over.")
    alert = factories.AlertFactory.create()

    html = act(desk, "acknowledge", resolved, alert)

    assert Alert.objects.get(pk=alert.pk).state == "acknowledged"
    assert LogEntry.objects.count() == 1
    first, second = told(html)
    assert first == "1 acknowledged."
    assert second.startswith("It is over. The alert was resolved by tests")


def test_resolve_asks_what_was_done_before_it_does_anything(desk: Client) -> None:
    alert = factories.AlertFactory.create(alert_message="It got worse.")
    over = factories.AlertFactory.create(resolved=True, alert_message="It is over.")

    html = act(desk, "resolve", alert, over)

    assert "1 alert will be resolved in your name" in html
    assert '<option value="" selected>Choose…' in html
    will, will_not = html.split("1 not changed:")
    assert "It got worse." in will
    assert "It is over." in will_not
    assert "The alert was resolved by tests" in will_not
    assert not Alert.objects.get(pk=alert.pk).is_resolved


def test_resolve_stores_action_notes_and_actor(desk: Client) -> None:
    alerts = factories.AlertFactory.create_batch(2)

    asked = act(desk, "resolve", *alerts)
    html = answer(desk, asked, action="false_alarm", notes="a holiday")

    for alert in alerts:
        alert.refresh_from_db()
        assert (alert.state, alert.resolution_action) == ("resolved", "false_alarm")
        assert (alert.resolution_notes, alert.resolved_by) == ("a holiday", "user:ada")
    assert told(html) == ["2 resolved."]
    assert {e.get_change_message() for e in LogEntry.objects.all()} == {"Resolved: False alarm."}


@pytest.mark.parametrize(("action", "says"), [("magic", "Select a valid choice"), ("", "required")])
def test_resolve_without_a_known_action_asks_again(desk: Client, action: str, says: str) -> None:
    alert = factories.AlertFactory.create()

    html = answer(desk, act(desk, "resolve", alert), action=action)

    assert says in html
    assert not Alert.objects.get(pk=alert.pk).is_resolved


def test_resolve_of_what_is_resolved_says_so_and_offers_nothing(desk: Client) -> None:
    alert = factories.AlertFactory.create(resolved=True)

    html = act(desk, "resolve", alert)

    assert "There is nothing to do for what is selected" in html
    assert 'name="confirm"' not in html


def test_second_operator_sees_who_was_first_for_each_alert(desk: Client) -> None:
    alerts = [factories.AlertFactory.create(alert_message=f"It is {n}.") for n in ("one", "two")]
    bo = desk_of("bo")
    adas, bos = act(desk, "resolve", *alerts), act(bo, "resolve", *alerts)

    assert told(answer(desk, adas, action="fixed")) == ["2 resolved."]
    html = answer(bo, bos, action="false_alarm")

    assert sorted(told(html)) == [
        f"It is {n}. The alert was resolved by ada just now: fixed." for n in ("one", "two")
    ]
    assert set(Alert.objects.values_list("resolved_by", "resolution_action")) == {
        ("user:ada", "fixed")
    }


def test_resolving_500_takes_few_statements_and_leaves_an_event_each(desk: Client) -> None:
    factories.AlertFactory.create_batch(
        500, model=factories.ModelVersionFactory.create(), severity="critical"
    )
    other = factories.AlertFactory.create(severity="warning")
    first = Alert.objects.exclude(pk=other.pk)[0]
    query = "?severity__exact=critical"
    with CaptureQueriesContext(connection) as asking:
        asked = act(desk, "resolve", first, query=query, select_across="1")
    late = factories.AlertFactory.create(severity="critical")

    with CaptureQueriesContext(connection) as doing:
        html = answer(desk, asked, action="fixed", notes="the cooling")

    assert "500 alerts will be resolved" in asked
    assert "and 400 more" in asked
    assert told(html) == ["500 resolved."]
    resolved = AlertEvent.objects.filter(state="resolved")
    actors = set(resolved.values_list("pgh_context__actor", "pgh_context__note"))
    assert (resolved.count(), actors) == (500, {("user:ada", "the cooling")})
    assert LogEntry.objects.count() == 500
    # The page that is shown afterwards included.
    assert (len(asking) <= 20, len(doing) <= 30) == (True, True)
    unresolved = set(Alert.objects.filter(is_resolved=False).values_list("pk", flat=True))
    assert unresolved == {other.pk, late.pk}, "only what was shown is resolved"


def test_more_than_can_be_done_at_once_is_refused(
    desk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelperf.admin.alerts_actions.MOST_AT_ONCE", 2)
    alerts = factories.AlertFactory.create_batch(3)

    monkeypatch.setattr("modelperf.admin.alerts_list.MOST_AT_ONCE", 2)
    monkeypatch.setattr("modelperf.admin.alerts.AlertAdmin.list_per_page", 1)
    html = act(desk, "acknowledge", alerts[0], select_across="1")

    assert "More than 2 match: narrow them by a filter</span>" in html
    assert "Select all" not in html.split("<thead>")[0]
    assert told(html) == ["More than 2 alerts match. Narrow them by a filter."]
    assert Alert.objects.filter(state="open").count() == 3


MONDAY = datetime(2026, 11, 16, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "ends"),
    [
        ({"until": "hour"}, (datetime(2026, 11, 16, 11, 30, tzinfo=UTC), None, False)),
        ({"until": "tomorrow"}, (datetime(2026, 11, 17, 9, tzinfo=UTC), None, False)),
        ({"until": "monday"}, (datetime(2026, 11, 23, 9, tzinfo=UTC), None, False)),
        (
            {"until": "custom", "at": "2026-12-01T08:15"},
            (datetime(2026, 12, 1, 8, 15, tzinfo=UTC), None, False),
        ),
        ({"count": "3"}, (None, 7, False)),
        ({"worse": "on"}, (None, None, True)),
        (
            {"until": "hour", "count": "3", "worse": "on"},
            (datetime(2026, 11, 16, 11, 30, tzinfo=UTC), 7, True),
        ),
    ],
)
def test_snooze_ends_as_was_chosen(
    desk: Client, fields: dict[str, str], ends: tuple[Any, ...]
) -> None:
    with time_machine.travel(MONDAY, tick=False):
        alert = factories.AlertFactory.create(occurrences=4)
        desk.force_login(User.objects.get(username="ada"))
        html = answer(desk, act(desk, "snooze", alert), **fields)

    alert.refresh_from_db()
    assert told(html) == ["1 snoozed."]
    assert alert.state == "snoozed"
    assert (alert.snoozed_until, alert.snoozed_until_count, alert.snoozed_until_worse) == ends


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "Say when the snooze ends"),
        ({"until": "custom"}, "Give the time."),
        ({"until": "hour", "at": "2026-12-01T08:15"}, "Choose “Another time” for this"),
        ({"until": "custom", "at": "soon"}, "Enter a valid date/time"),
        ({"until": "custom", "at": "2001-01-01T00:00"}, "until lies in the future"),
        ({"count": "0"}, "greater than or equal to 1"),
        ({"until": "never"}, "Select a valid choice"),
    ],
)
def test_snooze_without_an_end_asks_again(desk: Client, fields: dict[str, str], says: str) -> None:
    alert = factories.AlertFactory.create()

    html = answer(desk, act(desk, "snooze", alert), **fields)

    assert says in markup.unescape(html)
    assert Alert.objects.get(pk=alert.pk).state == "open"


def test_snooze_by_a_count_tells_which_are_not_counted(desk: Client) -> None:
    counted = factories.AlertFactory.create()
    missing = factories.AlertFactory.create(alert_type="evaluation_missing")

    html = answer(desk, act(desk, "snooze", counted, missing), count="3")

    done, refused = told(html)
    assert done == "1 snoozed."
    assert "evaluation missing are not counted" in refused
    assert refused.endswith("Send until instead.")
    assert Alert.objects.get(state="open") == missing


def test_assign_gives_to_a_person_and_a_team_each_by_itself(desk: Client) -> None:
    bo, team = groups.member("viewer", "bo"), Group.objects.create(name="pumps")
    nobody = factories.UserFactory.create(username="visitor")
    alerts = factories.AlertFactory.create_batch(2)

    asked = act(desk, "assign", *alerts)
    html = answer(desk, asked, person=bo.pk, note="his hall")
    answer(desk, act(desk, "assign", *alerts), team=team.pk)

    for alert in alerts:
        alert.refresh_from_db()
        assert (alert.assignee, alert.team) == (bo, team)
        assert [(c.text, c.created_by) for c in alert.comments.all()] == [("his hall", "user:ada")]
    assert told(html) == ["2 assigned."]
    assert "Me, ada" in asked
    assert f'value="{nobody.pk}"' not in asked, "who may not see alerts is not given any"

    answer(desk, act(desk, "assign", alerts[0]), person="nobody")
    alerts[0].refresh_from_db()
    assert (alerts[0].assignee, alerts[0].team) == (None, team)


def test_assign_says_who_has_each_alert_now(desk: Client) -> None:
    bo, team = factories.UserFactory.create(username="bo"), Group.objects.create(name="pumps")
    factories.AlertFactory.create(assignee=bo, team=team, alert_message="It is his.")
    factories.AlertFactory.create(alert_message="It is free.")

    html = act(desk, "assign", *Alert.objects.all())

    assert 'It is his.</bdi> <span class="sub">bo, team pumps</span>' in html
    assert 'It is free.</bdi> <span class="sub">nobody yet</span>' in html


def test_pages_between_begin_at_the_first_field_or_the_one_that_is_wrong(desk: Client) -> None:
    alert = factories.AlertFactory.create()

    asked = act(desk, "snooze", alert)
    again = answer(desk, asked, until="custom")

    focused = [re.findall(r'name="done-(\w+)"[^>]*autofocus', html) for html in (asked, again)]
    assert focused == [["until"], ["at"]]


def test_pages_between_lead_back_to_the_list_as_it_was(desk: Client) -> None:
    alert = factories.AlertFactory.create()

    html = act(desk, "resolve", alert, query="?severity__exact=warning")

    assert html.count(f'href="{LIST}?severity__exact=warning"') == 2


def test_assign_to_neither_asks_again(desk: Client) -> None:
    html = answer(desk, act(desk, "assign", factories.AlertFactory.create()), note="whom?")

    assert "Choose a person, a team, or both." in html


def test_assign_to_me_takes_at_once(desk: Client) -> None:
    alert = factories.AlertFactory.create()

    assert told(act(desk, "assign_to_me", alert)) == ["1 assigned."]

    alert.refresh_from_db()
    assert alert.assignee == User.objects.get(username="ada")


def test_comment_is_said_of_each(desk: Client) -> None:
    alerts = [factories.AlertFactory.create(), factories.AlertFactory.create(resolved=True)]

    html = answer(desk, act(desk, "comment", *alerts), text="seen on site")

    assert told(html) == ["2 commented."]
    for alert in alerts:
        assert alert.comments.get().text == "seen on site"


def test_retrain_asks_for_one_training_a_series_and_says_which_not(desk: Client) -> None:
    model = factories.ModelVersionFactory.create()
    worst = factories.AlertFactory.create(model=model, severity="critical")
    factories.AlertFactory.create(model=model, alert_message="The same series.")
    busy = factories.AlertFactory.create(alert_message="Its series is busy.")
    factories.TrainingRunFactory.create(machine=busy.machine, training_status="pending")
    retired = factories.AlertFactory.create(model__machine__is_active=False)
    fleet = factories.AlertFactory.create(fleet=True)

    asked = act(desk, "retrain", *Alert.objects.all())
    html = answer(desk, asked, reason="a new winter")

    will, will_not = asked.split("3 not changed:")
    assert "One training of its series is asked for already." in will_not
    assert f"{retired.machine} is retired." in will_not
    assert "It is about the fleet" in will_not
    assert will.count("<li>") - asked.split('class="chosen"')[0].count("<li>") == 2
    run = TrainingRun.objects.exclude(machine=busy.machine).get()
    assert (run.alert, run.reason, run.triggered_by) == (worst, "a new winter", "user:ada")
    assert told(html)[0] == "1 training asked for."
    assert sum(text.startswith("Its series is busy.") for text in told(html)) == 1
    assert len(told(html)) == 5
    assert fleet.pk not in TrainingRun.objects.values_list("alert", flat=True)


def test_reopen_opens_again_and_is_refused_beside_an_open_one(desk: Client) -> None:
    alert = factories.AlertFactory.create(resolved=True)
    twin = factories.AlertFactory.create(resolved=True, condition_key="same")
    factories.AlertFactory.create(condition_key="same")

    html = act(desk, "reopen", alert, twin)

    alert.refresh_from_db()
    assert (alert.state, alert.reopened_by) == ("open", "user:ada")
    assert told(html)[0] == "1 reopened."
    assert "Another alert of its condition is unresolved" in told(html)[1]
    assert Alert.objects.get(pk=twin.pk).is_resolved


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ({"action": "acknowledge"}, "Select alerts first."),
        ({"action": "acknowledge", "index": "0"}, "Select alerts first."),
        ({"action": "explode", "_selected_action": "x"}, "No action selected."),
        ({"action": "", "index": "0", "_selected_action": "x"}, "No action selected."),
    ],
)
def test_what_was_not_chosen_is_told(desk: Client, sent: dict[str, str], says: str) -> None:
    factories.AlertFactory.create()

    response = desk.post(LIST + "?life=open", sent, follow=True)
    html = response.content.decode()

    assert response.redirect_chain == [(LIST + "?life=open", 302)]
    assert says in html
    assert 'class="tabs"' in html
    assert Alert.objects.get().state == "open"


def test_ids_that_are_none_change_nothing(desk: Client) -> None:
    factories.AlertFactory.create()

    response = desk.post(
        LIST, {"action": "acknowledge", "_selected_action": ["x", "1"]}, follow=True
    )

    assert response.status_code == 200
    assert Alert.objects.get().state == "open"


def test_lists_offer_the_verbs_that_their_alerts_allow(desk: Client) -> None:
    factories.AlertFactory.create()
    factories.AlertFactory.create(resolved=True)

    def offered(life: str) -> list[str]:
        html = desk.get(LIST, {"life": life}).content.decode()
        return re.findall(r'name="action" value="(\w+)"', html)

    assert offered("resolved") == ["comment", "reopen"]
    assert "reopen" not in offered("")
    assert "reopen" not in offered("snoozed")
    assert set(offered("all")) == {*offered(""), "reopen"}


def test_pages_between_show_stored_markup_as_text(desk: Client) -> None:
    alert = factories.AlertFactory.create(alert_message="<b>bold</b>")
    over = factories.AlertFactory.create(resolved=True, resolved_by="user:<i>x</i>")

    html = act(desk, "resolve", alert, over)

    assert "<b>bold" not in html
    assert "<i>x" not in html
    assert timezone.now() - alert.alert_timestamp < timedelta(hours=1)
