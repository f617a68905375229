"""The list of alerts in the admin: its order, tabs, columns and filters."""

from __future__ import annotations

import html as markup
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from modelperf.models import Alert, Silence
from modelperf.services import alerts_bulk
from modelperf.templatetags.presentation import moment
from tests import factories
from tests.pages import worlds

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


def shown(desk: Client, **query: Any) -> str:
    response = desk.get(LIST, query)
    assert response.status_code == 200
    return response.content.decode()


def cells(html: str, column: str) -> list[str]:
    """Return what the rows say in a column, as text."""
    found = re.findall(rf'<t[dh] class="field-{column}[^"]*">(.*?)</t[dh]>', html, re.DOTALL)
    texts = (re.sub(r"<[^>]+>", " ", cell) for cell in found)
    return [" ".join(markup.unescape(text).split()) for text in texts]


def tabs(html: str) -> dict[str, str]:
    found = re.findall(r"<nav class=\"tabs\".*?</nav>", html, re.DOTALL)[0]
    links = re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)(?:<span class="n">([\d,+]+))?', found)
    return {label.strip(): n for _, label, n in links}


def member(alert: Alert, name: str, **fields: Any) -> None:
    model = factories.ModelVersionFactory.create(machine__name=name)
    joined = {"condition_key": name, "joined_at": alert.alert_timestamp}
    alert.members.create(machine=model.machine, model=model, **joined | fields)


def silenced(**matchers: list[str]) -> datetime:
    """Set a silence that is in force, and return its end."""
    now = timezone.now()
    silence = Silence.objects.create(
        matchers=matchers,
        reason="a rebuild",
        owner="ada",
        starts_at=now - timedelta(hours=1),
        ends_at=now + timedelta(hours=5),
        created_by="user:ada",
    )
    return silence.ends_at


def test_list_shows_unresolved_alerts_worst_first(desk: Client) -> None:
    factories.AlertFactory.create(severity="normal", alert_message="Third")
    factories.AlertFactory.create(severity="critical", alert_message="First")
    factories.AlertFactory.create(severity="warning", fleet=True, alert_message="Second")
    factories.AlertFactory.create(resolved=True, severity="critical", alert_message="over")

    html = shown(desk)

    assert cells(html, "condition") == ["First", "Second", "Third"]
    assert re.search(r'class="st badge degraded">\s*<svg[^>]*><use href="#g-critical"', html)


def test_resolved_alerts_stand_newest_first_however_bad_they_were(desk: Client) -> None:
    for hours, severity in ((3, "critical"), (1, "normal"), (2, "warning")):
        at = timezone.now() - timedelta(hours=hours)
        factories.AlertFactory.create(
            resolved=True, resolved_at=at, severity=severity, alert_message=f"{hours} h"
        )

    assert cells(shown(desk, life="resolved"), "condition") == ["1 h", "2 h", "3 h"]


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        ({}, {"open", "taken", "late"}),
        ({"life": "open"}, {"open"}),
        ({"life": "acknowledged"}, {"taken"}),
        ({"life": "snoozed"}, {"late"}),
        ({"life": "resolved"}, {"over"}),
        ({"life": "all"}, {"open", "taken", "late", "over"}),
        ({"scope": "fleet"}, {"taken"}),
        ({"scope": "machine"}, {"open", "late"}),
        ({"severity__exact": "critical"}, {"open"}),
        ({"alert_type__exact": "data_drift"}, {"late"}),
        ({"model_type": "profile"}, {"late"}),
        ({"q": "pump north"}, {"open"}),
        ({"machine": "Pump North"}, {"open", "taken"}),
        ({"machine": "pump"}, set()),
        ({"holder": "mine"}, {"taken"}),
        ({"holder": "nobody"}, {"open", "late"}),
        ({"holder": "someone"}, set()),
        ({"team": "nobody"}, {"open", "taken"}),
        ({"opened": "hour"}, {"open", "taken"}),
        ({"opened": "week"}, {"open", "taken"}),
        ({"opened": "older"}, {"late"}),
        ({"holder": "nobody", "life": "open", "severity__exact": "critical"}, {"open"}),
    ],
)
def test_list_is_narrowed_by_filters(
    desk: Client, query: dict[str, str], messages: set[str]
) -> None:
    machine = factories.MachineFactory.create(name="pump north")
    model = factories.ModelVersionFactory.create(machine=machine)
    factories.AlertFactory.create(model=model, severity="critical", alert_message="it is open.")
    fleet = factories.AlertFactory.create(
        fleet=True,
        state="acknowledged",
        assignee=User.objects.get(username="ada"),
        alert_message="it is taken.",
    )
    present = {"condition_key": "north", "joined_at": fleet.alert_timestamp}
    fleet.members.create(machine=machine, model=model, **present)
    factories.AlertFactory.create(
        alert_type="data_drift",
        model_type="profile",
        state="snoozed",
        snoozed_until_worse=True,
        team=Group.objects.create(name="pumps"),
        alert_timestamp=timezone.now() - timedelta(days=8),
        alert_message="it is late.",
    )
    factories.SeriesFactory.create(model_type="profile")
    factories.AlertFactory.create(resolved=True, alert_message="it is over.")

    found = cells(shown(desk, **query), "condition")

    assert {text.removeprefix("it is ").rstrip(".") for text in found} == messages


def test_filter_by_person_and_team_and_machines_id(desk: Client) -> None:
    bo, team = factories.UserFactory.create(username="bo"), Group.objects.create(name="pumps")
    alert = factories.AlertFactory.create(assignee=bo, team=team, alert_message="bo has it")
    factories.AlertFactory.create()

    html = shown(desk)

    assert f'href="?holder={bo.pk}">bo</a>' in html
    for query in ({"holder": bo.pk}, {"team": team.pk}, {"machine": alert.machine_id}):
        assert cells(shown(desk, **query), "condition") == ["bo has it"]


def test_search_finds_an_alert_by_its_id_whatever_its_state(desk: Client) -> None:
    alert = factories.AlertFactory.create(resolved=True, alert_message="long over")
    factories.AlertFactory.create()

    assert cells(shown(desk, q=str(alert.pk)), "condition") == ["long over"]


def test_tabs_count_what_they_lead_to_and_keep_the_other_filters(desk: Client) -> None:
    ada = User.objects.get(username="ada")
    factories.AlertFactory.create(severity="critical", assignee=ada)
    factories.AlertFactory.create(severity="critical", state="acknowledged")
    factories.AlertFactory.create(severity="critical", resolved=True)
    factories.AlertFactory.create(severity="warning", state="snoozed", snoozed_until_worse=True)

    every = tabs(shown(desk))
    critical = shown(desk, severity__exact="critical")
    mine = tabs(shown(desk, holder="mine"))

    counts = {"Unresolved": "3", "Open": "1", "Acknowledged": "1", "Snoozed": "1"}
    assert every == counts | {"Resolved": "1", "All": "", "Mine": "1", "Nobody yet": "2"}
    assert (tabs(critical)["Unresolved"], tabs(critical)["Resolved"]) == ("2", "1")
    assert tabs(shown(desk, severity__exact="warning"))["Resolved"] == "0"
    assert mine["Resolved"] == "0"
    assert 'href="?life=acknowledged&amp;severity__exact=critical"' in critical
    assert (mine["Unresolved"], mine["Acknowledged"], mine["Nobody yet"]) == ("1", "0", "2")
    assert tabs(shown(desk, life="resolved"))["Mine"] == ""


def test_tab_of_mine_leads_back_to_everybody_once_chosen(desk: Client) -> None:
    chosen = shown(desk, holder="mine", life="open")

    assert re.search(r'<a href="\?life=open" aria-current="true">Mine', chosen)


def test_list_names_its_filters_as_the_pages_do(desk: Client) -> None:
    factories.AlertFactory.create()

    html = shown(desk, alert_type__exact="ab_test_completed")

    assert "<summary>Alert type: <b>A/B test completed</b></summary>" in html
    assert "Ab Test" not in html


def test_list_shows_levels_limit_age_and_occurrences(desk: Client) -> None:
    model = factories.ModelVersionFactory.create(machine__metadata={"unit": "kWh"})
    factories.AlertFactory.create(
        model=model,
        current_metric_value=18.6,
        baseline_metric_value=2.1,
        threshold_value=3.9,
        alert_details={
            "rule": "change_point",
            "metric": "rmse",
            "peak_statistic": 12.13,
            "changed_at": "2017-01-04T00:00:00Z",
            "changed_after": "2017-01-01T00:00:00Z",
            "changed_before": "2017-01-07T00:00:00Z",
        },
        occurrences=23,
    )

    html = shown(desk)

    assert cells(html, "levels") == ["2.10 → 18.6 kWh Z 12.1, limit Z 3.90"]
    assert cells(html, "since") == ["4 Jan 2017 ±3 d"]
    assert cells(html, "seen") == ["23"]
    assert cells(html, "age")[0].startswith("just now")


@pytest.mark.parametrize(("at", "told"), [("", "±3 d"), ("2017-01-05T00:00:00Z", "")])
def test_uncertainty_comes_from_the_verdict_on_the_same_change(
    desk: Client, at: str, told: str
) -> None:
    changed = "2017-01-04T00:00:00Z"
    alert = factories.AlertFactory.create(alert_details={"changed_at": changed})
    factories.DriftStateFactory.create(
        model=alert.model,
        verdict={
            "changed_at": at or changed,
            "changed_after": "2017-01-01T00:00:00Z",
            "changed_before": "2017-01-07T00:00:00Z",
        },
    )

    assert cells(shown(desk), "since") == [f"4 Jan 2017 {told}".rstrip()]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"alert_type": "evaluation_missing", "threshold_value": 3600.0}
            | {"alert_details": {"rule": "evaluation_missing"}},
            {"levels": "limit one each 60 min", "seen": "51"},
        ),
        (
            {"alert_type": "data_drift", "threshold_value": 0.1, "current_metric_value": 0.31}
            | {"alert_details": {"rule": "data_drift"}},
            {"levels": "KS 0.310 limit KS 0.100", "seen": "51"},
        ),
        (
            {"threshold_value": 30.0, "current_metric_value": 41.0}
            | {"alert_details": {"rule": "limit", "metric": "mape"}},
            {"levels": "41 % limit 30 %", "seen": "51"},
        ),
        (
            {"threshold_value": 3.9, "current_metric_value": 41.0, "baseline_metric_value": 2.1}
            | {"alert_details": {"rule": "own_part", "metric": "mape"}},
            {"levels": "2.10 → 41 % limit Z 3.90"},
        ),
        (
            {"alert_type": "retraining_not_helping", "threshold_value": 3.0}
            | {"alert_details": {"rule": "retraining_not_helping", "metric": "mape"}},
            {"levels": "limit 3 trainings"},
        ),
        (
            {"fleet": True, "alert_details": {"rule": "storm"}},
            {"levels": "–", "seen": "51", "where": "Fleet baseline"},
        ),
        (
            {"fleet": True, "threshold_value": 10.0, "current_metric_value": 13.6}
            | {"alert_details": {"rule": "common_cause", "metric": "mape"}},
            {"levels": "Z 13.6 limit Z 10"},
        ),
    ],
)
def test_list_says_what_the_numbers_of_each_type_are(
    desk: Client, fields: dict[str, Any], told: dict[str, str]
) -> None:
    factories.AlertFactory.create(occurrences=51, **fields)

    html = shown(desk)

    assert {column: cells(html, column) for column in told} == {k: [v] for k, v in told.items()}


def test_fleet_alert_says_how_many_machines_are_in_it_now(desk: Client) -> None:
    alert = factories.AlertFactory.create(fleet=True)
    for name, left_at in (("a", None), ("b", None), ("c", timezone.now())):
        member(alert, name, left_at=left_at)

    assert cells(shown(desk), "where") == ["2 machines baseline"]


@pytest.mark.parametrize(
    ("fields", "state", "holder"),
    [
        ({}, "Open", "nobody yet"),
        (
            {"state": "acknowledged", "acknowledged_by": "user:bo", "acknowledged_at": "now"},
            "Acknowledged by bo",
            "nobody yet",
        ),
        (
            {"state": "snoozed", "snoozed_until_count": 9, "occurrences": 4},
            "Snoozed for 5 more",
            "nobody yet",
        ),
        (
            {
                "state": "snoozed",
                "snoozed_until": datetime(2030, 1, 7, 9, tzinfo=UTC),
                "snoozed_until_worse": True,
            },
            "Snoozed until 7 Jan 2030 09:00 UTC or until worse",
            "nobody yet",
        ),
        ({"assignee": "bo", "team": "pumps"}, "Open", "bo team pumps"),
        ({"team": "pumps"}, "Open", "nobody yet team pumps"),
        ({"resolved": True}, "Resolved by tests, fixed", "nobody yet"),
    ],
)
def test_list_says_how_an_alert_stands_and_who_has_it(
    desk: Client, fields: dict[str, Any], state: str, holder: str
) -> None:
    made = dict(fields)
    if "acknowledged_at" in made:
        made["acknowledged_at"] = timezone.now()
    if "assignee" in made:
        made["assignee"] = factories.UserFactory.create(username=made["assignee"])
    if "team" in made:
        made["team"] = Group.objects.create(name=made["team"])
    factories.AlertFactory.create(**made)

    html = shown(desk, life="all")

    assert (cells(html, "life"), cells(html, "holder")) == ([state], [holder])


def test_sparkline_shows_the_series_as_the_alerts_version_saw_it(desk: Client) -> None:
    machine = worlds.machine()
    first = worlds.version(machine)
    worlds.record(first, worlds.noisy(40))
    factories.AlertFactory.create(
        model=first,
        baseline_metric_value=0.9,
        alert_details={"metric": "r_squared", "changed_at": worlds.midnight().isoformat()},
        severity="critical",
    )
    factories.AlertFactory.create(fleet=True, severity="normal")
    # A challenger that is judged beside it is not its line.
    worlds.record(worlds.version(machine, active=False), [0.1] * 5)

    html = shown(desk)

    drawn = re.findall(r'<svg class="spark degraded".*?</svg>', html, re.DOTALL)
    assert len(drawn) == 1
    assert 'aria-label="R²: 0.9' in drawn[0]
    assert "0.10" not in drawn[0]
    assert drawn[0].count("L") == 39
    for part in ('class="after"', 'class="chg"', 'class="base"', "<circle"):
        assert part in drawn[0]


def test_list_shows_stored_markup_as_text(desk: Client) -> None:
    model = factories.ModelVersionFactory.create(
        machine=factories.MachineFactory.create(name="<script>alert(1)</script>")
    )
    factories.AlertFactory.create(model=model, alert_message="<b>bold</b>")

    html = shown(desk, machine='"><script>alert(1)</script>')
    html += shown(desk)

    assert "<script>alert" not in html
    assert "<b>bold" not in html


def test_list_needs_the_same_queries_for_one_alert_and_for_many(desk: Client) -> None:
    details = {"metric": "r_squared"}
    factories.AlertFactory.create(alert_details=details)
    member(factories.AlertFactory.create(fleet=True), "b")
    silenced(alert_type=["drift_detected"])
    with CaptureQueriesContext(connection) as few:
        shown(desk)
    factories.AlertFactory.create_batch(9, alert_details=details)
    member(factories.AlertFactory.create(fleet=True), "a")

    with CaptureQueriesContext(connection) as many:
        shown(desk)

    # Session, user; people, model types and teams of the filters; count, rows; drawings; two for
    # the tabs; whether there are silences, which, and of fleet alerts their machines.
    assert len(few) == len(many) == 14


def test_long_lists_are_not_counted_to_their_end(
    desk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelperf.admin.alerts_list.MOST_AT_ONCE", 2)
    factories.AlertFactory.create_batch(3, resolved=True)

    with CaptureQueriesContext(connection) as seen:
        html = shown(desk, life="resolved")

    assert "More than 2 match: the first 2 are listed." in html
    assert "more than 2 results" in html
    assert sum("COUNT(*)" in query["sql"] and "LIMIT 3" in query["sql"] for query in seen) == 2
    assert alerts_bulk.MOST_AT_ONCE >= 5_000
    assert tabs(html)["Resolved"] == tabs(shown(desk))["Resolved"] == "2+"


def test_large_numbers_are_written_alike_all_over_the_page(desk: Client) -> None:
    model = factories.ModelVersionFactory.create()
    Alert.objects.bulk_create(
        factories.AlertFactory.build(model=model, machine=model.machine) for _ in range(1001)
    )

    html = shown(desk)

    assert re.findall(r"1,001[^<]*", html) == [
        "1,001",
        "1,001",
        "1,001",
        "1,001 results",
        "1,001 selected",
        "1,001 that match",
        "1,001 alerts",
    ]
    assert not re.search(r"[> ]1001[ <]", html)


def test_list_reads_its_pages_through_the_index_of_its_order(desk: Client) -> None:
    factories.AlertFactory.create_batch(3)
    with CaptureQueriesContext(connection) as seen:
        shown(desk)
    rows = next(q["sql"] for q in seen if "verdict_at" in q["sql"])

    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN {rows}")
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "model_alerts_worst_first" in plan
    assert "Sort" not in plan


def test_alerts_are_neither_added_nor_deleted_by_hand(desk: Client) -> None:
    alert = factories.AlertFactory.create()

    assert desk.get(f"{LIST}add/").status_code == 403
    assert desk.post(f"{LIST}{alert.pk}/delete/", {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": alert.pk, "post": "yes"}
    desk.post(LIST, chosen)
    assert Alert.objects.filter(pk=alert.pk).exists()


@pytest.mark.parametrize(
    "name", ["machine", "model_type", "severity__exact", "alert_message", "holder", "q"]
)
def test_a_text_that_no_alert_can_hold_finds_none(desk: Client, name: str) -> None:
    factories.AlertFactory.create()

    html = shown(desk, **{name: "a\0"})

    assert cells(html, "condition") == []
    assert tabs(html)["Unresolved"] == "0"


def test_list_says_by_what_it_is_sorted(desk: Client) -> None:
    factories.AlertFactory.create()

    def marked(**query: str) -> list[tuple[str, str]]:
        html = shown(desk, **query)
        return re.findall(r'column-(\w+) sorted \w+" aria-sort="(\w+)ending"', html)

    assert marked() == [("badge", "asc")]
    assert marked(o="-6") == [("age", "desc")]
    assert marked(life="all") == []


def test_rows_link_to_pages_that_know_the_filters(desk: Client) -> None:
    alert = factories.AlertFactory.create()

    html = shown(desk, life="open", severity__exact="warning")

    back = "_changelist_filters=life%3Dopen%26severity__exact%3Dwarning"
    assert f'href="{LIST}{alert.pk}/change/?{back}"' in html
    assert "<summary>Filters: <b>1 chosen</b></summary>" in html


@pytest.mark.parametrize("name", ["pump: north", "renamed since"])
def test_condition_leaves_out_the_place_whatever_the_machine_is_called(
    desk: Client, name: str
) -> None:
    model = factories.ModelVersionFactory.create(machine__name=name)
    message = "pump: north · baseline v1: it got worse."
    factories.AlertFactory.create(model=model, alert_message=message)

    assert cells(shown(desk), "condition") == ["It got worse."]


def test_list_says_what_is_silenced_and_until_when(desk: Client) -> None:
    pump = factories.MachineFactory.create(name="pump")
    model = factories.ModelVersionFactory.create(machine=pump)
    factories.AlertFactory.create(model=model, alert_message="1")
    factories.AlertFactory.create(alert_message="2")
    for name, machines in (("3", ["pump 3"]), ("4", ["pump 4", "fan"])):
        fleet = factories.AlertFactory.create(fleet=True, alert_message=name)
        for one in machines:
            member(fleet, one)
    factories.AlertFactory.create(model=model, resolved=True, alert_message="5")
    ends = silenced(machine=["pump*"])

    html = shown(desk, life="all")

    told = dict(zip(cells(html, "condition"), cells(html, "life"), strict=True))
    until = f"Open silenced until {moment(ends)}"
    over = "Resolved by tests, fixed"
    assert told == {"1": until, "2": "Open", "3": until, "4": "Open", "5": over}


def test_a_fleet_too_large_for_the_list_is_not_looked_through(
    desk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelperf.admin.alerts_list.MOST_MEMBERS", 1)
    fleet = factories.AlertFactory.create(fleet=True)
    for name in ("a", "b"):
        member(fleet, name)
    silenced(machine=["*"])

    assert cells(shown(desk), "life") == ["Open"]
