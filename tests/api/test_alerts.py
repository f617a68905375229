"""Alerts over HTTP: found, told in full, and acted on, one by one and many at once."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from modelperf.models import Alert, AlertComment, AlertMember, Channel, Delivery, Message, Notice
from modelperf.services import alerts
from tests import factories
from tests.api.calls import JSON, NOWHERE, ROOT, places, problem

pytestmark = pytest.mark.django_db
ClientWith = Callable[..., APIClient]
ACTIVE = f"{ROOT}/alerts/active"


@pytest.fixture
def ada(db: None) -> User:
    return factories.UserFactory.create(username="ada", is_superuser=True)


@pytest.fixture
def night(db: None) -> Group:
    return Group.objects.create(name="night shift")


def of(alert: Alert, verb: str = "") -> str:
    return f"{ROOT}/alerts/{alert.pk}" + (f"/{verb}" if verb else "")


# --- lists ----------------------------------------------------------------------------------


def test_active_tells_who_has_an_alert_and_how_it_stands(
    api: APIClient, ada: User, night: Group
) -> None:
    until = timezone.now() + timedelta(hours=2)
    alert = factories.AlertFactory.create(
        assignee=ada, team=night, state="snoozed", snoozed_until=until, occurrences=7
    )
    fleet = factories.AlertFactory.create(fleet=True, severity="normal")

    taken, of_nobody = api.get(ACTIVE).json()

    assert taken["id"] == str(alert.pk)
    assert (taken["assignee"], taken["team"], taken["count"]) == ("ada", "night shift", 7)
    assert (taken["state"], taken["revision"]) == ("snoozed", 1)
    assert taken["snoozed_until"] == until.isoformat().replace("+00:00", "Z")
    assert taken["machine_name"] == alert.machine.name
    assert of_nobody["id"] == str(fleet.pk)
    assert {of_nobody[name] for name in ("assignee", "team", "machine_name")} == {None}


def test_active_is_one_statement_in_the_order_of_its_index(api: APIClient) -> None:
    factories.AlertFactory.create_batch(3)
    with CaptureQueriesContext(
        connection,
    ) as asked:
        assert len(api.get(ACTIVE).json()) == 3
    _, listed = [query["sql"] for query in asked]  # the first one finds the key

    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        cursor.execute("EXPLAIN " + listed.replace("%s", "501"))
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert "Index Scan using model_alerts_worst_first" in plan
    assert "Sort" not in plan


def test_active_pages_through_alerts_that_opened_at_once(api: APIClient) -> None:
    now = timezone.now()
    made = [
        factories.AlertFactory.create(alert_timestamp=now, severity=severity, fleet=True)
        for severity in ("normal", "critical", "warning", "critical", "warning", "critical")
    ]
    rank = {"critical": 2, "warning": 1, "normal": 0}
    expected = sorted(made, key=lambda one: (rank[one.severity], one.pk), reverse=True)

    address, seen = f"{ACTIVE}?limit=1", list[str]()
    while address:
        response = api.get(address)
        seen += [one["id"] for one in response.json()]
        link = response.headers.get("Link", "")
        address = link.partition(">")[0].removeprefix("<")

    assert seen == [str(one.pk) for one in expected]


def test_alerts_are_found_by_whose_they_are(api: APIClient, ada: User, night: Group) -> None:
    hers = factories.AlertFactory.create(assignee=ada)
    theirs = factories.AlertFactory.create(team=night)
    browser = Client()
    browser.force_login(ada)

    def found(client: Any, **query: str) -> set[str]:
        return {one["id"] for one in client.get(f"{ROOT}/alerts", query).json()["results"]}

    assert found(api, assignee="ada") == found(browser, assignee="me") == {str(hers.pk)}
    assert found(api, assignee="none") == found(api, team="night shift") == {str(theirs.pk)}
    assert found(api, team="none") == {str(hers.pk)}
    assert found(api, assignee="bob") == set()
    refused = api.get(f"{ROOT}/alerts", {"assignee": "me"})
    assert places(refused) == [["query", "assignee"]]
    assert "username" in refused.json()["detail"]


def test_alerts_are_found_by_words_and_by_whether_they_are_of_the_fleet(api: APIClient) -> None:
    pump = factories.MachineFactory.create(name="Pump 50%")
    model = factories.ModelVersionFactory.create(machine=pump)
    of_pump = factories.AlertFactory.create(model=model)
    fleet = factories.AlertFactory.create(fleet=True, alert_message="12 machines of a type.")

    def found(**query: str) -> list[str]:
        return [one["id"] for one in api.get(f"{ROOT}/alerts", query).json()["results"]]

    assert found(q="pump 50%") == found(q="GOT WORSE") == found(fleet="false") == [str(of_pump.pk)]
    assert found(q="12 machines") == found(fleet="true") == [str(fleet.pk)]
    assert found(q="5%0") == []


def test_alerts_as_csv_have_a_line_each(api: APIClient, ada: User) -> None:
    factories.AlertFactory.create(
        assignee=ada,
        alert_message="=1+1",
        threshold_value=3.9,
        alert_details={"rule": "change_point"},
    )
    factories.AlertFactory.create(fleet=True)
    response = api.get(f"{ROOT}/alerts", {"format": "csv", "limit": "1"})
    assert response.headers["Content-Type"].startswith("text/csv")
    assert 'rel="next"' in response.headers["Link"]
    second = api.get(response.headers["Link"].partition(">")[0].removeprefix("<"))
    (line,) = csv.DictReader(io.StringIO(second.content.decode()))
    assert (line["assignee"], line["alert_message"], line["team"]) == ("ada", "'=1+1", "")
    assert (line["threshold_value"], line["threshold_of"]) == ("3.9", "z")
    assert not {"alert_details", "metadata", "assignee_name"} & line.keys()


# --- one alert ------------------------------------------------------------------------------


def test_an_alert_is_told_with_its_members_its_story_and_who_was_told(
    api: APIClient, ada: User
) -> None:
    model = factories.ModelVersionFactory.create()
    alert = factories.AlertFactory.create(fleet=True)
    AlertMember.objects.create(
        alert=alert,
        machine=model.machine,
        model=model,
        condition_key="k",
        joined_at=timezone.now(),
    )
    alerts.acknowledge(alert=alert, by="user:ada")
    alerts.assign(alert=alert, by="user:ada", assignee=ada)
    alerts.comment(alert=alert, by="user:bob", text="A bearing?")
    Notice.objects.create(alert=alert, kind="opened", occurred_at=timezone.now())

    response = api.get(of(alert))

    told = response.json()
    assert response.headers["ETag"] == '"3"'
    assert (told["revision"], told["assignee"], told["state"]) == (3, "ada", "acknowledged")
    assert [member["machine_name"] for member in told["members"]] == [model.machine.name]
    assert [(step["actor"], step["verb"]) for step in told["history"][1:]] == [
        ("user:ada", "acknowledge"),
        ("user:ada", "assign"),
        ("user:bob", "comment"),
    ]
    assert told["history"][-1]["note"] == "A bearing?"
    (only,) = told["deliveries"]
    assert (only["decision"], only["status"]) == ("", None)
    assert only["sentence"] == "Nothing is decided yet."


@pytest.mark.parametrize("status", Message.Status.values)
def test_what_is_told_says_what_became_of_its_message(api: APIClient, status: str) -> None:
    alert, now = factories.AlertFactory.create(), timezone.now()
    channel = Channel.objects.create(name="operators", kind="webhook")
    ended_at = None if status == "waiting" else now
    message = Message.objects.create(
        channel=channel, status=status, due_at=now, sealed_at=now, ended_at=ended_at
    )
    notice = Notice.objects.create(alert=alert, kind="opened", occurred_at=now)
    Delivery.objects.create(notice=notice, decision="told", message=message, decided_at=now)
    Delivery.objects.create(notice=notice, decision="not_matched", decided_at=now)

    told = {one["decision"]: one["status"] for one in api.get(of(alert)).json()["deliveries"]}

    assert told == {"told": status, "not_matched": None}


# --- verbs on one ---------------------------------------------------------------------------

VERBS: dict[str, dict[str, Any] | None] = {
    "acknowledge": None,
    "resolve": {"action": "fixed", "notes": "new belt"},
    "snooze": {"count": 3},
    "assign": {"team": "night shift"},
    "reopen": None,
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_changes_the_state_that_it_is_meant_for(
    api: APIClient, night: Group, verb: str
) -> None:
    alert = factories.AlertFactory.create(resolved=verb == "reopen", revision=4)
    stale = api.post(of(alert, verb), VERBS[verb], headers={"if-match": '"3"'})
    document = problem(stale, 409)
    assert document["state"]["revision"] == 4
    assert document["state"]["state"] == alert.state
    assert document["state"]["resolved_by"] == alert.resolved_by
    assert "assignee" in document["state"]
    assert not Alert.objects.get().acknowledged_by

    done = api.post(of(alert, verb), VERBS[verb], headers={"if-match": '"4"'})

    assert done.status_code == 200, done.content
    assert done.headers["ETag"] == '"5"'
    assert done.json()["revision"] == 5


@pytest.mark.parametrize("header", ["*", 'W/"1"', ' "1" '])
def test_any_state_or_a_compressed_answers_tag_is_accepted(api: APIClient, header: str) -> None:
    alert = factories.AlertFactory.create()
    done = api.post(of(alert, "acknowledge"), headers={"if-match": header})
    assert done.status_code == 200


@pytest.mark.parametrize("header", ["1", "", '"1", "2"', '"one"', '"-1"', '"' + "1" * 10 + '"'])
def test_a_tag_that_is_none_of_ours_is_422(api: APIClient, header: str) -> None:
    alert = factories.AlertFactory.create()
    response = api.post(of(alert, "acknowledge"), headers={"if-match": header})
    assert places(response) == [["header", "If-Match"]]
    assert Alert.objects.get().state == "open"


def test_the_second_is_told_who_was_first(api: APIClient) -> None:
    alert = factories.AlertFactory.create()
    alerts.resolve(alert=Alert.objects.get(), by="user:ada", action="fixed")
    document = problem(api.post(of(alert, "resolve"), {"action": "other"}), 409)
    assert "ada" in document["detail"]
    assert document["state"]["resolved_by"] == "user:ada"
    assert document["state"]["state"] == "resolved"


def test_assigning_changes_what_is_sent_and_nothing_else(
    api: APIClient, ada: User, night: Group
) -> None:
    alert = factories.AlertFactory.create(assignee=ada)
    told = api.post(of(alert, "assign"), {"team": "night shift"}).json()
    assert (told["assignee"], told["team"]) == ("ada", "night shift")
    told = api.post(of(alert, "assign"), {"assignee": None}).json()
    assert (told["assignee"], told["team"]) == (None, "night shift")


@pytest.mark.parametrize(
    ("given", "place", "word"),
    [
        ({"assignee": "nobody.here"}, "assignee", "nobody.here"),
        ({"team": "day shift"}, "team", "day shift"),
        ({"assignee": ""}, "assignee", "length"),
        ({}, "assignee", "team"),
    ],
)
def test_an_assignment_to_whom_nobody_knows_says_so(
    api: APIClient, given: dict[str, Any], place: str, word: str
) -> None:
    response = api.post(of(factories.AlertFactory.create(), "assign"), given)
    assert places(response) == [["body", place]]
    assert word in response.json()["detail"]


def test_a_snooze_says_when_it_ends(api: APIClient) -> None:
    alert = factories.AlertFactory.create(occurrences=5, current_metric_value=1.5)
    until = (timezone.now() + timedelta(days=2)).replace(microsecond=0)
    given = {"until": f"{until:%FT%TZ}", "count": 3, "worse": True}
    told = api.post(of(alert, "snooze"), given).json()
    assert told["state"] == "snoozed"
    assert told["snoozed_until"] == given["until"]
    assert (told["snoozed_until_count"], told["snoozed_until_worse"]) == (8, True)
    for wrong, place in (
        ({}, "until"),
        ({"until": "2020-01-01T00:00:00Z"}, "until"),
        ({"count": 0}, "count"),
        ({"worse": "yes"}, "worse"),
    ):
        assert places(api.post(of(alert, "snooze"), wrong)) == [["body", place]]


def test_a_count_that_never_ends_a_snooze_is_refused_with_what_to_send(api: APIClient) -> None:
    alert = factories.AlertFactory.create(alert_type="data_drift")
    refused = api.post(of(alert, "snooze"), {"count": 3})
    assert (refused.status_code, refused.json()["state"]["state"]) == (409, "open")
    assert refused.json()["detail"].endswith("Send until or worse instead.")
    (one,) = bulk(api, "snooze", [alert.pk], count=3).json()
    assert (one["status"], one["detail"]) == ("conflict", refused.json()["detail"])


def test_a_comment_is_kept_with_who_said_it(api: APIClient) -> None:
    alert = factories.AlertFactory.create()
    said = api.post(of(alert, "comment"), {"text": " A bearing? "}, headers={"if-match": '"1"'})
    assert said.headers["ETag"] == '"1"'
    assert (said.json()["text"], said.json()["created_by"]) == ("A bearing?", "key:tests")
    stale = api.post(of(alert, "comment"), {"text": "?"}, headers={"if-match": '"9"'})
    assert problem(stale, 409)["state"]["revision"] == 1
    assert places(api.post(of(alert, "comment"), {"text": " "})) == [["body", "text"]]
    assert AlertComment.objects.count() == 1


# --- many at once ---------------------------------------------------------------------------


def bulk(client: Any, verb: str, ids: list[Any], **what: Any) -> Any:
    given = {"verb": verb, "ids": [str(one) for one in ids], **what}
    return client.post(f"{ROOT}/alerts/bulk", given)


def test_what_became_of_each_of_many_is_answered_in_order(api: APIClient) -> None:
    one, other = factories.AlertFactory.create_batch(2)
    done = factories.AlertFactory.create(resolved=True, resolved_by="user:ada")
    ids = [other.pk, done.pk, NOWHERE, one.pk]

    answer = bulk(api, "resolve", ids, action="fixed", notes="all of hall 1").json()

    assert [each["id"] for each in answer] == [str(pk) for pk in ids]
    statuses = ["changed", "conflict", "not_found", "changed"]
    assert [each["status"] for each in answer] == statuses
    assert [each["state"] for each in answer] == ["resolved", "resolved", None, "resolved"]
    assert [each["revision"] for each in answer] == [2, 1, None, 2]
    assert [bool(each["detail"]) for each in answer] == [False, True, False, False]
    assert "ada" in answer[1]["detail"]
    assert Alert.objects.filter(resolution_notes="all of hall 1").count() == 2


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_for_many_too(api: APIClient, night: Group, verb: str) -> None:
    made = factories.AlertFactory.create_batch(2, resolved=verb == "reopen")
    answer = bulk(api, verb, [one.pk for one in made], **(VERBS[verb] or {})).json()
    assert [each["status"] for each in answer] == ["changed", "changed"]


def test_a_revision_is_refused_for_many(api: APIClient) -> None:
    alert = factories.AlertFactory.create()
    given = {"verb": "acknowledge", "ids": [str(alert.pk)]}
    refused = api.post(f"{ROOT}/alerts/bulk", given, headers={"if-match": '"1"'})
    assert places(refused) == [["header", "If-Match"]]
    assert "that of one alert" in refused.json()["detail"]
    assert Alert.objects.get().state == "open"


def test_many_take_no_more_statements_than_one(api: APIClient) -> None:
    def statements(n: int) -> int:
        made = factories.AlertFactory.create_batch(n)
        with CaptureQueriesContext(connection) as asked:
            assert bulk(api, "resolve", [one.pk for one in made], action="other").status_code == 200
        return len(asked)

    assert statements(1) == statements(12)


def test_a_limited_key_acts_on_alerts_of_its_machines(client_with: ClientWith) -> None:
    own, other = factories.AlertFactory.create_batch(2)
    client = client_with("triage", machines=[own.machine])
    fleet = factories.AlertFactory.create(fleet=True)
    answer = bulk(client, "acknowledge", [other.pk, own.pk, fleet.pk]).json()
    assert [each["status"] for each in answer] == ["not_found", "changed", "not_found"]
    assert Alert.objects.filter(state="acknowledged").get() == own


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"verb": "comment"}, ["body", "verb"]),
        ({"verb": "acknowledge", "notes": "n"}, ["body", "notes"]),
        ({"verb": "resolve", "action": "fixed", "team": None}, ["body", "team"]),
        ({"verb": "resolve"}, ["body", "action"]),
        ({"verb": "snooze"}, ["body", "until"]),
        ({"verb": "assign", "assignee": "nobody.here"}, ["body", "assignee"]),
        ({"verb": "assign"}, ["body", "assignee"]),
        ({"verb": "reopen", "ids": []}, ["body", "ids"]),
        ({"verb": "reopen", "ids": ["x"]}, ["body", "ids"]),
        ({"verb": "reopen", "ids": [NOWHERE] * 1001}, ["body", "ids"]),
    ],
)
def test_what_is_not_for_a_verb_is_refused(
    api: APIClient, given: dict[str, Any], place: list[str]
) -> None:
    response = api.post(f"{ROOT}/alerts/bulk", {"ids": [str(uuid.uuid4())], **given})
    assert places(response) == [place]


def test_a_session_triages_in_the_users_name(ada: User) -> None:
    alert = factories.AlertFactory.create()
    browser = Client()
    browser.force_login(ada)
    browser.post(of(alert, "acknowledge"), content_type=JSON, headers={"if-match": '"1"'})
    assert Alert.objects.get().acknowledged_by == "user:ada"
