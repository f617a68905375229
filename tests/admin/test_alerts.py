"""Triage in the admin: the list, the verbs, who did them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from modelperf.models import Alert
from tests import factories

LIST = "/admin/modelperf/alert/"
pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(superuser: User) -> Client:
    """Return a browser in which `ada` may do everything."""
    superuser.username = "ada"
    superuser.save()
    client = Client()
    client.force_login(superuser)
    return client


def act(desk: Client, action: str, *alerts: Alert, **fields: Any) -> str:
    response = desk.post(
        LIST, {"action": action, "_selected_action": [a.pk for a in alerts]} | fields, follow=True
    )
    assert response.status_code == 200
    return response.content.decode()


def test_list_shows_unresolved_alerts_worst_first(desk: Client) -> None:
    factories.AlertFactory.create(severity="normal", alert_message="Third")
    factories.AlertFactory.create(severity="critical", alert_message="First")
    factories.AlertFactory.create(severity="warning", fleet=True, alert_message="Second")
    factories.AlertFactory.create(resolved=True, severity="critical", alert_message="over")

    html = desk.get(LIST).content.decode()

    assert re.findall(r'field-condition">(\w+)<', html) == ["First", "Second", "Third"]
    assert re.search(r'class="st badge degraded">\s*<svg[^>]*><use href="#g-critical"', html)
    assert "Fleet" in html


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ({}, {"open", "taken"}),
        ({"life": "open"}, {"open"}),
        ({"life": "acknowledged"}, {"taken"}),
        ({"life": "resolved"}, {"over"}),
        ({"life": "all"}, {"open", "taken", "over"}),
        ({"scope": "fleet"}, {"taken"}),
        ({"scope": "machine"}, {"open"}),
        ({"severity__exact": "critical"}, {"open"}),
        ({"q": "pump north"}, {"open"}),
    ],
)
def test_list_filters_by_life_scope_severity_and_machine(
    desk: Client, query: dict[str, str], shown: set[str]
) -> None:
    machine = factories.MachineFactory.create(name="pump north")
    model = factories.ModelVersionFactory.create(machine=machine)
    factories.AlertFactory.create(model=model, severity="critical", alert_message="it is open.")
    factories.AlertFactory.create(fleet=True, state="acknowledged", alert_message="it is taken.")
    factories.AlertFactory.create(resolved=True, alert_message="it is over.")

    html = desk.get(LIST, query).content.decode()

    assert set(re.findall(r"it is (\w+)\.", html)) == shown


def test_list_names_its_filters_as_the_pages_do(desk: Client) -> None:
    factories.AlertFactory.create()

    html = desk.get(LIST).content.decode()

    assert "By state" in html
    assert "A/B test completed" in html
    assert "Ab Test" not in html


def test_list_shows_levels_limit_age_and_occurrences(desk: Client) -> None:
    factories.AlertFactory.create(
        current_metric_value=-18.6,
        baseline_metric_value=-2.1,
        threshold_value=3.9,
        alert_details={"rule": "change_point"},
        occurrences=23,
    )

    html = desk.get(LIST).content.decode()

    assert "−2.10 → −18.6" in html
    assert "Z 3.90" in html
    assert "just now" in html
    assert ">23<" in html


@pytest.mark.parametrize(
    ("fields", "shown", "hidden"),
    [
        (
            {"alert_type": "evaluation_missing", "threshold_value": 3600.0},
            {"limit": "one each 60 min", "since": "–"},
            "3,600",
        ),
        (
            {"alert_type": "data_drift", "threshold_value": 0.1, "current_metric_value": 0.31},
            {"limit": "KS 0.100", "levels": "KS 0.310", "since": "–"},
            "→ KS",
        ),
        ({"fleet": True, "alert_details": {"rule": "change_point"}}, {"since": "–"}, ">51<"),
    ],
)
def test_list_says_what_the_numbers_of_each_type_are(
    desk: Client, fields: dict[str, Any], shown: dict[str, str], hidden: str
) -> None:
    factories.AlertFactory.create(occurrences=51, **fields)

    html = desk.get(LIST).content.decode()

    for column, text in shown.items():
        assert f'<td class="field-{column}">{text}</td>' in html
    assert hidden not in html


def test_list_shows_stored_markup_as_text(desk: Client) -> None:
    model = factories.ModelVersionFactory.create(
        machine=factories.MachineFactory.create(name="<script>alert(1)</script>")
    )
    factories.AlertFactory.create(model=model, alert_message="<b>bold</b>")

    html = desk.get(LIST).content.decode()

    assert "<script>alert" not in html
    assert "<b>bold" not in html


def test_list_needs_the_same_queries_for_one_alert_and_for_many(desk: Client) -> None:
    factories.AlertFactory.create()
    with CaptureQueriesContext(connection) as few:
        desk.get(LIST)
    factories.AlertFactory.create_batch(9)

    with CaptureQueriesContext(connection) as many:
        desk.get(LIST)

    # session, user; model types of the filter; count, rows with their machines
    assert len(few) == len(many) == 5


def test_acknowledge_names_its_actor_and_is_logged(desk: Client) -> None:
    alert = factories.AlertFactory.create()

    html = act(desk, "acknowledge", alert)

    alert.refresh_from_db()
    assert (alert.state, alert.metadata["acknowledged_by"]) == ("acknowledged", "user:ada")
    assert "1 acknowledged." in html
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.object_id) == ("ada", str(alert.pk))
    assert entry.get_change_message() == "Acknowledged."


def test_acknowledge_of_what_is_resolved_is_told_and_does_not_stop_the_others(
    desk: Client,
) -> None:
    resolved = factories.AlertFactory.create(resolved=True)
    alert = factories.AlertFactory.create()

    html = act(desk, "acknowledge", resolved, alert, life="all")

    assert Alert.objects.get(pk=alert.pk).state == "acknowledged"
    assert LogEntry.objects.count() == 1
    assert "1 acknowledged." in html


def test_resolve_asks_what_was_done_before_it_does_anything(desk: Client) -> None:
    alert = factories.AlertFactory.create(alert_message="It got worse.")

    html = act(desk, "resolve", alert)

    assert "What was done" in html
    assert "It got worse." in html
    assert not Alert.objects.get(pk=alert.pk).is_resolved


def test_resolve_stores_action_notes_and_actor(desk: Client) -> None:
    alerts = factories.AlertFactory.create_batch(2)
    answer = {"confirm": "Resolve", "done-action": "false_alarm", "done-notes": "a holiday"}

    html = act(desk, "resolve", *alerts, **answer)

    for alert in alerts:
        alert.refresh_from_db()
        assert alert.state == "resolved"
        assert alert.resolution_action == "false_alarm"
        assert (alert.resolution_notes, alert.resolved_by) == ("a holiday", "user:ada")
    assert "2 resolved." in html
    assert {e.get_change_message() for e in LogEntry.objects.all()} == {"Resolved: False alarm."}


def test_resolve_with_an_unknown_action_asks_again(desk: Client) -> None:
    alert = factories.AlertFactory.create()

    html = act(desk, "resolve", alert, confirm="Resolve", **{"done-action": "magic"})

    assert "Select a valid choice" in html
    assert not Alert.objects.get(pk=alert.pk).is_resolved


def test_resolve_of_what_is_resolved_says_so_and_offers_nothing(desk: Client) -> None:
    alert = factories.AlertFactory.create(resolved=True)

    response = desk.post(f"{LIST}?life=all", {"action": "resolve", "_selected_action": [alert.pk]})

    assert b"None of the selected alerts is open" in response.content
    assert b'name="confirm"' not in response.content


def test_reopen_opens_again(desk: Client) -> None:
    alert = factories.AlertFactory.create(resolved=True)

    desk.post(f"{LIST}?life=all", {"action": "reopen", "_selected_action": [alert.pk]})

    alert.refresh_from_db()
    assert (alert.state, alert.is_resolved) == ("open", False)
    assert alert.metadata["reopened_by"] == "user:ada"


def test_reopen_beside_an_open_one_of_the_same_condition_is_refused(desk: Client) -> None:
    alert = factories.AlertFactory.create(resolved=True, condition_key="same")
    factories.AlertFactory.create(condition_key="same")

    response = desk.post(
        f"{LIST}?life=all", {"action": "reopen", "_selected_action": [alert.pk]}, follow=True
    )

    assert b"is open already" in response.content
    assert Alert.objects.get(pk=alert.pk).is_resolved


def test_change_page_is_read_only(desk: Client) -> None:
    alert = factories.AlertFactory.create(state="acknowledged", metadata={"acknowledged_by": "bo"})
    address = reverse("admin:modelperf_alert_change", args=[alert.pk])

    html = desk.get(address).content.decode()

    assert not re.search(
        r'<(input|textarea|select)(?! type="hidden")[^>]*name="(?!csrf|theme)[a-z_]+"', html
    )
    assert "Acknowledged by bo" in html
    assert desk.post(address, {"alert_message": "changed"}).status_code == 403


def page_of(alert: Alert) -> str:
    return reverse("admin:modelperf_alert_change", args=[alert.pk])


@pytest.mark.parametrize(
    ("fields", "offered"),
    [
        ({}, ["acknowledge", "resolve"]),
        ({"state": "acknowledged"}, ["resolve"]),
        ({"resolved": True}, ["reopen"]),
    ],
)
def test_page_of_an_alert_offers_the_verbs_of_its_state(
    desk: Client, fields: dict[str, Any], offered: list[str]
) -> None:
    alert = factories.AlertFactory.create(**fields)

    html = desk.get(page_of(alert)).content.decode()

    assert re.findall(r'name="action" value="(\w+)"', html) == offered
    assert f"machine={alert.machine_id}&amp;type={alert.model_type}" in html


def test_verb_of_a_page_is_that_of_the_list_and_returns_to_the_page(desk: Client) -> None:
    alert = factories.AlertFactory.create(resolved=True)
    chosen = {"action": "reopen", "_selected_action": alert.pk, "page": alert.pk}

    response = desk.post(f"{LIST}?life=all", chosen)

    assert response["Location"] == page_of(alert)
    assert Alert.objects.get(pk=alert.pk).metadata["reopened_by"] == "user:ada"


def test_resolve_from_a_page_asks_without_a_preselected_answer_and_returns(desk: Client) -> None:
    alert = factories.AlertFactory.create()
    chosen = {"action": "resolve", "_selected_action": alert.pk, "page": alert.pk}

    html = desk.post(f"{LIST}?life=all", chosen).content.decode()
    unanswered = act(desk, "resolve", alert, confirm="Resolve", **{"done-action": ""})
    answer = {"confirm": "Resolve", "done-action": "false_alarm"}
    response = desk.post(f"{LIST}?life=all", chosen | answer)

    assert '<option value="" selected>Choose…' in html
    assert f'name="page" value="{alert.pk}"' in html
    assert "This change does not open it again; a later change does." in html
    assert "This field is required" in unanswered
    assert response["Location"] == page_of(alert)
    assert Alert.objects.get(pk=alert.pk).is_resolved


def test_alerts_are_neither_added_nor_deleted_by_hand(desk: Client) -> None:
    alert = factories.AlertFactory.create()

    assert desk.get(f"{LIST}add/").status_code == 403
    assert desk.post(f"{LIST}{alert.pk}/delete/", {"post": "yes"}).status_code == 403
    act(desk, "delete_selected", alert, post="yes")
    assert Alert.objects.filter(pk=alert.pk).exists()


def test_staff_who_may_only_view_has_no_verbs() -> None:
    viewer = factories.UserFactory.create(is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_alert"))
    alert = factories.AlertFactory.create()
    client = Client()
    client.force_login(viewer)

    assert b'name="action"' not in client.get(LIST).content
    assert b'name="action"' not in client.get(page_of(alert)).content
    client.post(LIST, {"action": "acknowledge", "_selected_action": [alert.pk]})
    assert Alert.objects.get(pk=alert.pk).state == "open"


def test_the_page_of_a_fleet_alert_lists_its_machines(desk: Client) -> None:
    alert = factories.AlertFactory.create(fleet=True)
    details = {"peak_statistic": 7.25, "baseline": 1.25, "current": 1.75}
    for name, left_at in (("pump north", None), ("pump south", timezone.now())):
        model = factories.ModelVersionFactory.create(machine__name=name)
        alert.members.create(
            machine=model.machine,
            model=model,
            condition_key=name,
            details=details if left_at is None else {},
            joined_at=alert.alert_timestamp,
            left_at=left_at,
        )

    html = desk.get(f"{LIST}{alert.pk}/change/").content.decode()

    north, south = re.findall(r"<tr><td><a[^>]*>(.*?)</tr>", html)
    assert re.sub(r"<[^>]+>", "|", north).split("|")[0] == "pump north"
    for text in ("7.25", "1.25 → 1.75", "<td>–</td>"):
        assert text in north
    assert "pump south" in south
    assert "– → –" in south
    assert south.count("just now") == 2
    assert html.index("<h2>Machines</h2>") < html.index("field-alert_details")
    other = factories.AlertFactory.create()
    assert "<h2>Machines</h2>" not in desk.get(f"{LIST}{other.pk}/change/").content.decode()
