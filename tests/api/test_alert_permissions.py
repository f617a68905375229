"""Who may do what to alerts and silences: every call and every action of the admin, by caller.

What there is comes from the addresses and from the admin itself, so that something new fails here
until it is said who may do it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.test import Client, RequestFactory
from django.utils import timezone
from rest_framework.test import APIClient

from modelperf.api import urls
from modelperf.models import (
    Alert,
    AlertComment,
    AlertEvent,
    Silence,
    SilenceEvent,
    TrainingRun,
)
from modelperf.services import silences
from tests import factories
from tests.api.calls import JSON, ROOT

pytestmark = pytest.mark.django_db
CALLERS: Final = ("anonymous", "read key", "triage key", "viewer", "operator", "administrator")
NOBODY: Final = frozenset[str]()
EVERYBODY_KNOWN: Final = frozenset(CALLERS) - {"anonymous"}
TRIAGE: Final = frozenset({"triage key", "operator", "administrator"})
# A key is for programs: it opens no page.
PEOPLE: Final = frozenset({"viewer", "operator", "administrator"})
OPERATORS: Final = frozenset({"operator", "administrator"})
MATCHERS: Final = {"matchers": {"machine": ["*"]}}

# Who may call what, and with what in the body.
CALLS: Final[dict[str, tuple[frozenset[str], Any]]] = {
    "GET alerts": (EVERYBODY_KNOWN, None),
    "GET alerts/active": (EVERYBODY_KNOWN, None),
    "GET alerts/<str:id>": (EVERYBODY_KNOWN, None),
    "POST alerts/<str:id>/acknowledge": (TRIAGE, None),
    "POST alerts/<str:id>/resolve": (TRIAGE, {"action": "fixed"}),
    "POST alerts/<str:id>/snooze": (TRIAGE, {"worse": True}),
    "POST alerts/<str:id>/assign": (TRIAGE, {"team": "operator"}),
    "POST alerts/<str:id>/reopen": (TRIAGE, None),
    "POST alerts/<str:id>/comment": (TRIAGE, {"text": "A bearing?"}),
    "POST alerts/bulk": (TRIAGE, {"verb": "acknowledge"}),
    "GET silences": (EVERYBODY_KNOWN, None),
    "POST silences": (
        TRIAGE,
        MATCHERS | {"reason": "new filters", "owner": "ada", "ends_at": "2199-01-01T00:00:00Z"},
    ),
    "POST silences/preview": (EVERYBODY_KNOWN, MATCHERS),
    "GET silences/<str:id>": (EVERYBODY_KNOWN, None),
    "PATCH silences/<str:id>": (TRIAGE, {"reason": "newer filters"}),
    "DELETE silences/<str:id>": (TRIAGE, None),
}
# Who may do which action in the admin, and what its page is answered with.
ACTIONS: Final[dict[tuple[type[Model], str], tuple[frozenset[str], dict[str, str]]]] = {
    (Alert, "acknowledge"): (OPERATORS, {}),
    (Alert, "assign_to_me"): (OPERATORS, {}),
    (Alert, "assign"): (OPERATORS, {"done-person": "me"}),
    (Alert, "snooze"): (OPERATORS, {"done-worse": "on"}),
    (Alert, "resolve"): (OPERATORS, {"done-action": "fixed"}),
    (Alert, "retrain"): (OPERATORS, {"done-reason": "new filters"}),
    (Alert, "comment"): (OPERATORS, {"done-text": "A bearing?"}),
    (Alert, "reopen"): (OPERATORS, {}),
    (Silence, "end_now"): (OPERATORS, {}),
}
# Who sees which page of the admin.
PAGES: Final[dict[tuple[type[Model], str], frozenset[str]]] = {
    (Alert, "changelist"): PEOPLE,
    (Alert, "change"): PEOPLE,
    (Alert, "history"): PEOPLE,
    (Alert, "add"): NOBODY,
    (Alert, "delete"): NOBODY,
    (Silence, "changelist"): PEOPLE,
    (Silence, "change"): PEOPLE,
    (Silence, "history"): PEOPLE,
    (Silence, "add"): OPERATORS,
    (Silence, "delete"): NOBODY,
}


def calls_there_are() -> set[str]:
    """Return method and address of every call that is about alerts or silences."""
    return {
        f"{method.upper()} {route.pattern}"
        for route in urls.nouns
        if {"alerts", "silences"} & set(str(route.pattern).split("/"))
        for method in route.callback.actions
        if method != "head"  # which a view answers by its get, once it was asked anything
    }


def actions_there_are() -> set[tuple[type[Model], str]]:
    """Return every action that the admin offers to somebody who may do everything."""
    request = RequestFactory().get("/")
    request.user = User(is_superuser=True, is_staff=True)
    return {
        (model, name)
        for model in (Alert, Silence)
        for name in admin.site.get_model_admin(model).get_actions(request)
    }


def pages_there_are() -> set[tuple[type[Model], str]]:
    """Return every page that the admin has of one."""
    found = set()
    for model in (Alert, Silence):
        for page in admin.site.get_model_admin(model).get_urls():
            if page.name:
                found.add((model, page.name.removeprefix(f"modelperf_{model._meta.model_name}_")))
    return found


def test_it_is_said_of_everything_who_may_do_it() -> None:
    assert calls_there_are() == CALLS.keys()
    assert actions_there_are() == ACTIONS.keys()
    assert pages_there_are() == PAGES.keys()


@pytest.fixture
def caller(make_key: Callable[..., str]) -> Callable[[str], Any]:
    """Return a maker of clients by who calls; a person is known by the group alone."""

    def client(who: str) -> Any:
        if who == "anonymous":
            return Client()
        if who.endswith(" key"):
            with_key = APIClient()  # which can send a header each time
            scopes = ("read", "triage") if who == "triage key" else ("read",)
            with_key.credentials(HTTP_AUTHORIZATION=f"Api-Key {make_key(*scopes, name=who)}")
            return with_key
        user = factories.UserFactory.create(username=who, is_staff=True)
        user.groups.add(Group.objects.get(name=who))
        browser = Client()
        browser.force_login(user)
        return browser

    return client


def an_alert(verb: str) -> Alert:
    """Return an alert that allows the verb."""
    return factories.AlertFactory.create(resolved=verb.endswith("reopen"))


def a_silence() -> Silence:
    """Return a silence in force."""
    return silences.create(
        matchers={"machine": ["*"]},
        reason="new filters",
        owner="ada",
        ends_at=timezone.now() + timedelta(hours=1),
        by="user:ada",
    )


def steps() -> tuple[int, ...]:
    """Return how much has happened to alerts and silences."""
    kept = (AlertEvent, AlertComment, TrainingRun, SilenceEvent)
    return tuple(kind.objects.count() for kind in kept)


@pytest.mark.parametrize("call", CALLS)
def test_a_call_is_allowed_to_whom_it_is_said_to_be(
    caller: Callable[[str], Any], call: str
) -> None:
    allowed, body = CALLS[call]
    method, _, route = call.partition(" ")
    answered = {}
    for who in CALLERS:
        client = caller(who)
        one = an_alert(route) if route.startswith("alerts") else a_silence()
        sent = body | {"ids": [str(one.pk)]} if route == "alerts/bulk" else body
        address = f"{ROOT}/{route.replace('<str:id>', str(one.pk))}"
        before = steps()
        content = "" if sent is None else json.dumps(sent)
        status = client.generic(method, address, content, JSON).status_code
        answered[who] = status
        assert status in ({200, 201} if who in allowed else {401, 403}), who
        assert (steps() == before) is (who not in allowed or allowed == EVERYBODY_KNOWN), who
    assert answered["anonymous"] == 401
    assert 401 not in [answered[who] for who in EVERYBODY_KNOWN]


@pytest.mark.parametrize(
    ("model", "action"), ACTIONS, ids=[f"{model.__name__}-{name}" for model, name in ACTIONS]
)
def test_an_action_is_allowed_to_whom_it_is_said_to_be(
    caller: Callable[[str], Any], model: type[Model], action: str
) -> None:
    allowed, answers = ACTIONS[model, action]
    address = f"/admin/modelperf/{model._meta.model_name}/"
    for who in CALLERS:
        client = caller(who)
        one: Any = an_alert(action) if model is Alert else a_silence()
        person = User.objects.filter(username=who).first()
        sent = {
            name: str(person.pk) if text == "me" and person else text
            for name, text in answers.items()
        }
        chosen = {"action": action, "_selected_action": str(one.pk), "index": "0"}
        before = steps()
        # Without the page in between, as somebody who knows its form might send it.
        client.post(address, chosen | {"confirm": "yes", "chosen": str(one.pk)} | sent)
        assert (steps() != before) is (who in allowed), who


@pytest.mark.parametrize("who", CALLERS)
def test_a_comment_on_an_alerts_page_is_allowed_to_operators(
    caller: Callable[[str], Any], who: str
) -> None:
    alert = factories.AlertFactory.create()
    sent = {"page": str(alert.pk), "comment": "A bearing?", "_selected_action": str(alert.pk)}
    caller(who).post("/admin/modelperf/alert/", sent)
    assert AlertComment.objects.exists() is (who in OPERATORS)


@pytest.mark.parametrize(
    ("model", "page"), PAGES, ids=[f"{model.__name__}-{name}" for model, name in PAGES]
)
def test_a_page_is_shown_to_whom_it_is_said_to_be(
    caller: Callable[[str], Any], model: type[Model], page: str
) -> None:
    one: Any = factories.AlertFactory.create() if model is Alert else a_silence()
    own = {"changelist": "", "add": "add/"}.get(page, f"{one.pk}/{page}/")
    for who in CALLERS:
        status = caller(who).get(f"/admin/modelperf/{model._meta.model_name}/{own}").status_code
        is_known = who in PEOPLE
        refused = 403 if is_known else 302  # to the login
        assert status == (200 if who in PAGES[model, page] else refused), who
