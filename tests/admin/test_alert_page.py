"""The page of one alert: why there is one, what became of it, and what can be done about it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import strip_tags

from modelperf.models import Alert, Channel, ModelActivation, Route
from modelperf.services import alerts
from tests import factories
from tests.pages import worlds

LIST = "/admin/modelperf/alert/"
OTHERS = ("snooze", "assign_to_me", "assign", "resolve")
pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(superuser: User) -> Client:
    """Return a browser in which `ada` may do everything."""
    superuser.username = "ada"
    superuser.save()
    return browser_of(superuser)


def browser_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def address_of(alert: Alert) -> str:
    return reverse("admin:modelperf_alert_change", args=[alert.pk])


def html_of(desk: Client, alert: Alert) -> str:
    response = desk.get(address_of(alert))
    assert response.status_code == 200
    return response.content.decode()


def text_of(desk: Client, alert: Alert) -> str:
    html = html_of(desk, alert)
    content = html[html.index('<div id="content"') :].replace("<", " <")
    return re.sub(r"\s+", " ", strip_tags(content))


def offered(html: str) -> list[str]:
    return re.findall(r'name="action" value="(\w+)"', html)


def fallen() -> Alert:
    """Return the alert of a series that fell at its 40th evaluation of 60."""
    worlds.series(worlds.noisy(60, fall=0.03, at=40))
    return Alert.objects.get()


def person(name: str) -> User:
    """Return somebody who may see alerts."""
    user: User = factories.UserFactory.create(username=name, is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_alert"))
    return user


def test_the_title_is_the_condition_and_the_rest_how_it_stands(desk: Client) -> None:
    alert = fallen()
    alert.assignee = person("bo")
    alert.team = Group.objects.create(name="night shift")
    alert.save()

    html, text = html_of(desk, alert), text_of(desk, alert)

    assert re.search(
        r"<h1>R² is worse since [-0-9]{10}, 0\.\d+ before and 0\.\d+ since\.</h1>", html
    )
    assert "pump 1 · baseline v1" in text
    assert "<title>pump 1 · baseline v1: R² is worse" in html
    assert re.search(r'class="st badge (degraded|drift)">\s*<svg', html)
    assert re.search(r'href="#g-open"/></svg>\s*Open<', html)
    assert "bo and team night shift have it." in text


def test_the_verdict_is_explained_with_dates_numbers_and_the_budget(desk: Client) -> None:
    alert = fallen()

    text = text_of(desk, alert)

    changed = alert.alert_details["changed_at"][:4]
    assert re.search(
        rf"R² of version 1 was 0\.89\d* on average before \d+ \w+ {changed} \(95", text
    )
    assert re.search(r"and has been 0\.8[67]\d* since, [\d,.]+ % worse\.", text)
    assert "against a limit of 3.90 over 60 evaluations (20 evaluations since the change)." in text
    assert "5 % are false in the mean" in text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"alert_details": {"rule": "limit", "metric": "rmse"}, "threshold_value": 2.25},
            "RMSE of version 1 is 2.50, beyond its limit of 2.25",
        ),
        (
            {"alert_details": {"rule": "collapse", "metric": "rmse", "peak_statistic": 12.5}},
            "That is 12.5 robust standard deviations away from what came before",
        ),
        (
            {
                "alert_type": "evaluation_missing",
                "alert_details": {
                    "rule": "evaluation_missing",
                    "changed_at": "2026-11-01T00:00:00Z",
                    "due_at": "2026-11-02T01:00:00Z",
                    "expected_cadence_seconds": 3600.0,
                },
            },
            "The newest one ended 1 Nov 2026 00:00 UTC, the next was due by 2 Nov 2026 01:00 UTC.",
        ),
        (
            {
                "alert_type": "data_drift",
                "alert_details": {
                    "rule": "data_drift",
                    "changed_at": "2026-11-01T00:00:00Z",
                    "features": [{"name": "load", "ks_distance": 0.31, "q_value": 0.01}],
                },
            },
            "load (KS 0.310, q 0.0100).",
        ),
        (
            {
                "alert_type": "data_drift",
                "alert_details": {
                    "rule": "data_drift",
                    "features": [{"name": "load", "ks_distance": 0.31, "q_value": 0.0}],
                },
            },
            "load (KS 0.310, q &lt; 1e−16).",
        ),
        (
            {
                "alert_details": {"rule": "collapse", "metric": "r_squared"},
                "current_metric_value": -39.96,
                "peak_metric_value": -40.0,
            },
            "Now −40.0 Before 1.00 Worst −40.0 ",
        ),
        (
            {
                "fleet": True,
                "alert_details": {"rule": "common_cause", "n_members": 9, "n_machines": 12},
            },
            "9 of 12 machines of the type share one change since",
        ),
        (
            {
                "fleet": True,
                "alert_details": {"rule": "storm", "n_members": 57, "n_machines": 240},
            },
            "57 of 240 machines of the type alert since",
        ),
        ({"alert_details": {}, "alert_message": "Something odd."}, "Why Something odd."),
    ],
)
def test_each_kind_of_condition_is_explained_from_what_it_stores(
    desk: Client, fields: dict[str, Any], said: str
) -> None:
    alert = factories.AlertFactory.create(
        **{"current_metric_value": 2.5, "baseline_metric_value": 1.0} | fields
    )

    assert said in text_of(desk, alert)


def test_the_metric_is_drawn_with_its_change_levels_and_versions(desk: Client) -> None:
    alert = fallen()
    new = worlds.version(alert.machine)
    worlds.record(new, worlds.noisy(5))

    html = html_of(desk, alert)

    drawn = html[html.index('class="alert-chart"') :]
    assert 'aria-label="R² of the newest 65 evaluations: between' in drawn
    assert re.findall(r'<text class="version"[^>]*>(v\d)<', drawn) == ["v1", "v2"]
    for shape in ('class="changed"', 'class="unc"', 'line class="before"', 'line class="now"'):
        assert drawn.count(f"<{shape}" if "line " in shape else shape) == 1
    change = float(*re.findall(r'class="changed" x1="([\d.]+)%"', drawn))
    ((low, width),) = re.findall(r'"unc" x="([\d.]+)%"[^>]* width="([\d.]+)%"', drawn)
    assert 50 < change < 80
    assert float(low) <= change <= float(low) + float(width)
    assert ">before 0.89" in drawn
    assert drawn.count("<tr><td>") >= 65


def test_versions_that_never_served_are_not_drawn_and_resolved_alerts_end_with_their_end(
    desk: Client,
) -> None:
    alert = fallen()
    beside = worlds.version(alert.machine, active=False)
    worlds.record(beside, worlds.noisy(20))
    Alert.objects.filter(pk=alert.pk).update(
        state="resolved",
        is_resolved=True,
        resolved_by="user:bo",
        resolution_action="fixed",
        resolved_at=timezone.now() - timedelta(days=10),
    )

    drawn = html_of(desk, alert)

    assert "evaluations until the alert was resolved" in drawn
    assert int(*re.findall(r"R² of the newest (\d+)", drawn)) in {50, 51}
    assert re.findall(r'<text class="version"[^>]*>(v\d)<', drawn) == ["v1"]


def test_a_series_without_evaluations_or_verdict_has_a_page_without_drawing(desk: Client) -> None:
    alert = factories.AlertFactory.create(alert_details={"rule": "change_point", "metric": "mae"})

    html = html_of(desk, alert)

    assert "alert-chart" not in html
    assert "The evidence Z reached – against a limit of –" in html


def test_versions_trainings_and_tests_are_told(desk: Client) -> None:
    alert = fallen()
    assert alert.model is not None
    run = factories.TrainingRunFactory.create(
        machine=alert.machine,
        alert=alert,
        failed=True,
        triggered_by="user:bo",
        error_message="The trainer <b>gave up</b>.\nIt had no rows.",
    )
    new = worlds.version(alert.machine, active=False)
    factories.ABTestFactory.create(
        machine=alert.machine, model_a=alert.model, model_b=new, training_run=run
    )
    ModelActivation.objects.filter(model=alert.model).update(activated_by="user:cy")

    html, text = html_of(desk, alert), text_of(desk, alert)

    assert reverse("admin:modelperf_trainingrun_change", args=[run.pk]) in html
    assert "Training Failed just now bo The trainer &lt;b&gt;gave up&lt;/b&gt;. " in text
    assert "It had no rows" not in text
    assert "Training Failed just now bo – " in text_of(browser_of(person("di")), alert)
    assert "A/B test: v2 against v1 Running" in text
    assert re.search(r"v1 · active · of this alert [^v]*Activated just now cy", text)


def test_what_an_alert_is_about_is_told_with_it(desk: Client) -> None:
    cause = factories.AlertFactory.create(alert_message="It fell.", resolved=True)
    run = factories.TrainingRunFactory.create(failed=True)
    test = factories.ABTestFactory.create()
    details = {"training_run": str(run.pk), "test_id": str(test.pk), "alert": str(cause.pk)}
    alert = factories.AlertFactory.create(
        alert_type="ab_test_completed",
        alert_details={"rule": "ab_test_completed"} | details,
        peak_metric_value=4.75,
    )

    html = html_of(desk, alert)

    assert "time is over and nobody has decided it" in html
    assert f"POST /ab-test/{test.pk}/decision." in html
    assert re.findall(r'class="verb next"[^>]*>([^<]*)<', html) == ["Test to decide"]
    assert reverse("admin:modelperf_trainingrun_change", args=[run.pk]) in html
    assert reverse("admin:modelperf_abtest_change", args=[test.pk]) in html
    assert re.findall(r'class="wide"><a [^>]*>([^<]*)</a></td><td>([^<]*)<', html)[0] == (
        "It fell.",
        "What it is about",
    )
    assert '<dt>Worst</dt><dd title="4.75">4.75</dd>' in html


def test_related_alerts_are_told_once_each_with_why(desk: Client) -> None:
    alert = factories.AlertFactory.create(condition_key="same")
    earlier = {"condition_key": "same", "resolved": True, "alert_message": "Earlier."}
    factories.AlertFactory.create(model=alert.model, **earlier)
    factories.AlertFactory.create(model=alert.model, alert_message="Same place.")
    factories.AlertFactory.create(alert_message="Same type.")
    factories.AlertFactory.create(model_type="other", alert_message="Another type.")
    fleet = factories.AlertFactory.create(fleet=True, alert_message="Fleet.")
    fleet.members.create(
        machine=alert.machine,
        model=alert.model,
        condition_key="same",
        joined_at=alert.alert_timestamp,
    )

    html = html_of(desk, alert)

    rows = re.findall(r'class="wide"><a [^>]*>([^<]*)</a></td><td>([^<]*)<', html)
    assert rows == [
        ("Fleet.", "Fleet alert with this machine"),
        ("Same place.", "Same machine"),
        ("Earlier.", "Same condition"),
        ("Same type.", "Same type, about then"),
    ]


def test_history_has_steps_and_comments_newest_first_with_their_actors(desk: Client) -> None:
    alert = factories.AlertFactory.create()
    alerts.acknowledge(alert=alert, by="user:bo")
    alerts.comment(alert=alert, by="key:pager", text="<b>Looks</b> like the\nfilter.")

    html = html_of(desk, alert)

    steps = re.findall(r"<strong>([^<]*)</strong> by <bdi>([^<]*)</bdi>", html)
    assert steps == [
        ("Comment", "pager (key)"),
        ("Acknowledged", "bo"),
        ("Opened, warning", "modelperf"),
    ]
    assert "&lt;b&gt;Looks&lt;/b&gt; like the<br>filter." in html


def test_who_was_told_is_said_newest_first(desk: Client) -> None:
    alert = factories.AlertFactory.create()
    assert "Nobody: there was nothing to tell" in text_of(desk, alert)
    route = Route.objects.create(
        name="pager", channel=Channel.objects.create(name="pager", kind="webhook")
    )
    for kind, reason in (
        ("opened", "Severity warning does not match."),
        ("resolved", "It is off."),
    ):
        notice = alert.notices.create(kind=kind, occurred_at=timezone.now())
        notice.deliveries.create(
            route=route,
            route_name="pager",
            decision="not_matched",
            reason=reason,
            decided_at=timezone.now(),
        )

    told = re.findall(r"<li>(\w+ at [^<]*)</li>", html_of(desk, alert))

    assert [re.sub(r" at .* UTC", "", one) for one in told] == [
        "Over: Not told to pager: it is off.",
        "Opened: Not told to pager: severity warning does not match.",
    ]


def test_a_name_that_turns_the_direction_of_writing_stands_by_itself(desk: Client) -> None:
    name = "pump \u202e1"
    alert = factories.AlertFactory.create(
        model__machine__name=name, alert_message=f"{name} · baseline v1: it is worse."
    )
    alerts.acknowledge(alert=alert, by=f"user:{name}")

    html = html_of(desk, alert)
    assert f"<bdi>{name}</bdi> · baseline v1" in html
    assert f"by <bdi>{name}</bdi>" in html
    chosen = {"action": "resolve", "_selected_action": [alert.pk]}
    asked = desk.post(LIST, chosen).content.decode()
    assert f"<bdi>{alert.alert_message}</bdi>" in asked


def test_a_comment_is_written_in_place(desk: Client) -> None:
    alert = factories.AlertFactory.create(resolved=True)
    said = {"_selected_action": alert.pk, "page": alert.pk, "comment": "A new bearing."}

    response = desk.post(LIST, said)

    assert response["Location"] == address_of(alert)
    comment = alert.comments.get()
    assert (comment.text, comment.created_by) == ("A new bearing.", "user:ada")
    empty = desk.post(LIST, said | {"comment": " "}, follow=True)
    assert "a comment says something" in empty.content.decode()
    assert alert.comments.count() == 1


@pytest.mark.parametrize(
    ("fields", "step", "verbs"),
    [
        ({}, "acknowledge", ["acknowledge", *OTHERS, "retrain"]),
        ({"state": "acknowledged"}, "resolve", [*OTHERS, "retrain"]),
        ({"fleet": True}, "acknowledge", ["acknowledge", *OTHERS]),
        ({"resolved": True}, "reopen", ["reopen"]),
    ],
)
def test_the_verbs_of_its_state_are_offered_and_the_sensible_one_stands_out(
    desk: Client, fields: dict[str, Any], step: str, verbs: list[str]
) -> None:
    alert = factories.AlertFactory.create(**fields)

    html = html_of(desk, alert)

    assert offered(html) == verbs
    assert re.findall(r'class="verb next" name="action" value="(\w+)"', html) == [step]
    series = f"machine={alert.machine_id}&amp;type={alert.model_type}"
    assert (series in html) is (alert.machine_id is not None)


def test_a_viewer_reads_everything_and_changes_nothing() -> None:
    viewer = person("bo")
    alert = factories.AlertFactory.create()
    browser = browser_of(viewer)

    html = html_of(browser, alert)
    for said in ({"comment": "Mine."}, {"action": "acknowledge"}):
        browser.post(LIST, {"_selected_action": alert.pk, "page": alert.pk} | said)

    assert "History" in html
    assert offered(html) == []
    assert "<textarea" not in html
    alert.refresh_from_db()
    assert (alert.state, alert.comments.count()) == ("open", 0)
    assert browser.post(address_of(alert), {"alert_message": "changed"}).status_code == 403


def chosen_on(alert: Alert, action: str) -> dict[str, Any]:
    ids = {"_selected_action": alert.pk, "page": alert.pk}
    return ids | {"revision": alert.revision, "action": action}


def test_a_verb_of_the_page_is_that_of_the_list_and_leads_back(desk: Client) -> None:
    alert = factories.AlertFactory.create(resolved=True)

    response = desk.post(LIST, chosen_on(alert, "reopen"))

    assert response["Location"] == address_of(alert)
    alert.refresh_from_db()
    assert (alert.state, alert.reopened_by) == ("open", "user:ada")


def test_a_verb_that_asks_leads_back_when_it_is_answered(desk: Client) -> None:
    alert = factories.AlertFactory.create()
    asked = desk.post(LIST, chosen_on(alert, "resolve"))
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', asked.content.decode()))

    response = desk.post(LIST, hidden | {"confirm": "Resolve", "done-action": "fixed"})

    assert response["Location"] == address_of(alert)
    alert.refresh_from_db()
    assert (alert.state, alert.resolved_by) == ("resolved", "user:ada")


@pytest.mark.parametrize("action", ["acknowledge", "resolve"])
def test_who_comes_second_is_told_who_was_first_and_changes_nothing(
    desk: Client, action: str
) -> None:
    alert = factories.AlertFactory.create()
    chosen = chosen_on(alert, action)
    alerts.assign(alert=alert, by="user:bo", assignee=person("cy"))

    response = desk.post(LIST, chosen, follow=True)

    assert "somebody was first: Assigned to cy by bo, just now" in response.content.decode()
    alert.refresh_from_db()
    assert (alert.state, alert.events.count()) == ("open", 2)


def test_who_answers_late_is_told_who_was_first(desk: Client) -> None:
    alert = factories.AlertFactory.create()
    chosen = chosen_on(alert, "resolve")
    desk.post(LIST, chosen)
    alerts.resolve(alert=alert, by="user:bo", action="accepted", notes="Known.")

    answer = {"confirm": "Resolve", "done-action": "fixed", "chosen": str(alert.pk)}
    response = desk.post(LIST, chosen | answer, follow=True)

    text = strip_tags(response.content.decode())
    assert "somebody was first: Resolved: accepted by bo, just now" in text
    alert.refresh_from_db()
    assert (alert.resolution_action, alert.resolved_by) == ("accepted", "user:bo")


def test_a_person_who_is_gone_leaves_a_page_that_works(desk: Client) -> None:
    gone = person("bo")
    alert = factories.AlertFactory.create()
    alerts.assign(alert=alert, by="user:bo", assignee=gone)
    gone.delete()

    text = text_of(desk, alert)

    assert "Nobody has it yet." in text
    assert "Assigned to somebody who is gone by bo" in text


def test_machines_of_a_fleet_alert_are_listed_with_those_that_left(desk: Client) -> None:
    alert = factories.AlertFactory.create(fleet=True, alert_details={"metric": "rmse"})
    details = {"peak_statistic": 7.25, "baseline": 1.25, "current": 1.75}
    for name, left_at in (("pump north", None), ("pump south", timezone.now())):
        model = factories.ModelVersionFactory.create(
            machine__name=name, machine__metadata={"unit": "kWh"}
        )
        alert.members.create(
            machine=model.machine,
            model=model,
            condition_key=name,
            details=details if left_at is None else {},
            joined_at=alert.alert_timestamp,
            left_at=left_at,
        )

    html = html_of(desk, alert)

    assert '<span class="unit">RMSE, kWh</span>: before → now' in html
    assert "1 of 2 still belong to it." in html
    assert '<a class="verb next" href="#h-members">Machines (2)</a>' in html
    north, south = re.findall(r"<tr><td><a[^>]*>(pump .*?)</tr>", html)
    assert "7.25</td><td>1.25 → 1.75<" in north
    assert north.endswith("<td>–</td>")
    assert "– → –" in south
    assert south.count("just now") == 2


def test_a_long_story_takes_as_many_statements_as_a_short_one(desk: Client) -> None:
    alert = fallen()
    html_of(desk, alert)
    with CaptureQueriesContext(connection) as few:
        html_of(desk, alert)
    for i in range(9):
        alerts.comment(alert=alert, by="user:bo", text=f"{i}")
        factories.TrainingRunFactory.create(machine=alert.machine, alert=alert, failed=True)
        factories.AlertFactory.create(model=alert.model)
        worlds.version(alert.machine, active=False)
    alerts.acknowledge(alert=alert, by="user:bo")
    alerts.snooze(alert=alert, by="user:bo", worse=True)

    with CaptureQueriesContext(connection) as many:
        html_of(desk, alert)

    assert len(few) == len(many) <= 30
