"""What viewers, operators and administrators may do, as real people in the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client

from modelperf.models import Alert, TrainingRun
from tests import factories, groups

ROOT = "/admin/modelperf/"
LIST = f"{ROOT}alert/"
pytestmark = pytest.mark.django_db


def desk(group: str) -> Client:
    client = Client()
    client.force_login(groups.member(group))
    return client


def may(group: str) -> set[str]:
    found = Permission.objects.filter(group__name=group)
    assert {permission.content_type.app_label for permission in found} == {"modelperf"}
    return {permission.codename for permission in found}


def test_groups_are_made_with_what_each_may_do() -> None:
    groups.make_groups()
    every = set(
        Permission.objects.filter(content_type__app_label="modelperf").values_list(
            "codename", flat=True
        )
    )
    seen = {name for name in every if name.startswith("view_")} - {"view_apikey", "view_channel"}

    assert may("viewer") == seen
    assert may("administrator") == every
    assert may("operator") - seen == {
        "change_alert",
        "add_silence",
        "change_silence",
        "add_trainingrun",
        "change_trainingrun",
        "change_modelversion",
        "change_abtest",
        "add_modelperformancemetric",
        "delete_modelperformancemetric",
    }
    assert seen < may("operator")


def test_groups_that_exist_keep_their_people_and_what_they_were_given() -> None:
    user = groups.member("viewer")
    viewers = Group.objects.get(name="viewer")
    extra = Permission.objects.get(codename="change_alert")
    viewers.permissions.remove(Permission.objects.get(codename="view_alert"))
    viewers.permissions.add(extra)

    groups.make_groups()

    assert Group.objects.filter(name="viewer").count() == 1
    assert list(user.groups.all()) == [viewers]
    assert {"view_alert", "change_alert"} <= may("viewer")


VERBS: dict[str, dict[str, Any]] = {
    "acknowledge": {},
    "assign_to_me": {},
    "assign": {"confirm": "1", "done-team": "nobody"},
    "snooze": {"confirm": "1", "done-worse": "on"},
    "resolve": {"confirm": "1", "done-action": "fixed"},
    "comment": {"confirm": "1", "done-text": "looking"},
    "retrain": {"confirm": "1", "done-reason": "it got worse"},
    "reopen": {},
}


def did(client: Client, verb: str) -> bool:
    """Whether a verb changed the alert it was meant for."""
    alert = factories.AlertFactory.create(
        resolved=verb == "reopen", team=Group.objects.create(name="pumps")
    )
    chosen = {"action": verb, "_selected_action": alert.pk}
    client.post(LIST, chosen | VERBS[verb])
    after = Alert.objects.get(pk=alert.pk)
    return (
        after.revision > alert.revision
        or after.comments.exists()
        or TrainingRun.objects.filter(alert=alert).exists()
    )


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("group", "allowed"), [("viewer", False), ("operator", True), ("administrator", True)]
)
def test_verbs_of_the_desk_are_for_operators(group: str, allowed: bool, verb: str) -> None:
    assert did(desk(group), verb) is allowed


def test_every_verb_of_the_desk_is_listed_above() -> None:
    html = desk("operator").get(f"{LIST}?life=all").content.decode()

    assert [verb for verb in VERBS if f'name="action" value="{verb}"' not in html] == []
    assert html.count('name="action" value="') == len(VERBS)


def test_viewer_sees_the_desk_and_its_alerts_without_verbs() -> None:
    viewer, alert = desk("viewer"), factories.AlertFactory.create()

    for path in (LIST, f"{LIST}{alert.pk}/change/"):
        response = viewer.get(path)
        assert response.status_code == 200
        assert b'name="action"' not in response.content


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("trainingrun/", {"viewer", "operator", "administrator"}),
        ("silence/add/", {"operator", "administrator"}),
        ("machine/add/", {"administrator"}),
        ("policy/add/", {"administrator"}),
        ("apikey/", {"administrator"}),
        ("channel/", {"administrator"}),
    ],
)
def test_pages_of_the_admin_by_group(path: str, allowed: set[str]) -> None:
    answers = {name: desk(name).get(f"{ROOT}{path}").status_code for name in groups.NAMES}

    assert answers == {name: 200 if name in allowed else 403 for name in groups.NAMES}
