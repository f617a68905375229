"""Who gets in, and what a key may do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from rest_framework.test import APIClient

from modelperf.models import Alert, ApiKey, Machine
from tests import factories
from tests.api.calls import JSON, NOWHERE, ROOT, evaluation, problem, series_of, subject

pytestmark = pytest.mark.django_db
ClientWith = Callable[..., APIClient]


def addresses(patterns: list[Any] | None = None, before: str = "/") -> list[str]:
    """Return an address for every route of the project below /api/."""
    found: list[str] = []
    for pattern in patterns or get_resolver().url_patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            found += addresses(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern) and str(pattern.pattern):
            route = route.replace("<str:id>", NOWHERE).replace("<str:machine_id>", NOWHERE)
            found.append(route.replace("<str:model_type>", "a"))
    return [address for address in found if address.startswith("/api/")]


def test_addresses_are_all_there() -> None:
    assert len(addresses()) == 60


@pytest.mark.parametrize("address", [one for one in addresses() if one != "/api/docs"])
def test_no_address_answers_without_a_key_or_session(anonymous: APIClient, address: str) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        response = anonymous.generic(method, address, "{}", JSON)
        problem(response, 401)
        assert response.headers["WWW-Authenticate"] == "Api-Key"


def test_the_documentation_sends_a_browser_to_the_login(anonymous: APIClient) -> None:
    response = anonymous.get("/api/docs")
    assert response.status_code == 302
    assert response.headers["Location"].endswith("?next=/api/docs")


@pytest.mark.parametrize(
    "header",
    [
        "Api-Key",
        "Api-Key ",
        "Api-Key x",
        "Api-Key aaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        "Api-Key aaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\0",
        "Api-Key " + "é" * 41,
        "Api-Key " + "x" * 100_000,
        "Bearer aaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        "Basic YTph",
    ],
)
def test_what_is_no_key_is_401(anonymous: APIClient, header: str) -> None:
    problem(anonymous.get(f"{ROOT}/machines", headers={"authorization": header}), 401)


def test_a_key_of_another_secret_is_401(make_key: Callable[..., str], anonymous: APIClient) -> None:
    prefix = make_key("read").partition(".")[0]
    header = f"Api-Key {prefix}.{'a' * 32}"
    problem(anonymous.get(f"{ROOT}/machines", headers={"authorization": header}), 401)


def test_revoked_and_expired_keys_are_401(client_with: ClientWith) -> None:
    past, future = (timezone.now() + timedelta(days=days) for days in (-1, 1))
    for options in ({"revoked": True}, {"expiry_date": past}):
        problem(client_with("admin", **options).get(f"{ROOT}/machines"), 401)
    assert client_with("read", expiry_date=future).get(f"{ROOT}/machines").status_code == 200


def test_only_the_hash_of_a_key_is_stored(make_key: Callable[..., str]) -> None:
    secret = make_key("read").partition(".")[2]
    stored = ApiKey.objects.values().get()
    assert not any(secret in str(value) for value in stored.values())


NEEDED = [
    ("GET", "machines", "read"),
    ("GET", "metrics/trend", "read"),
    ("GET", "alerts/active", "read"),
    ("POST", "drift/check", "write"),
    ("POST", "metrics/record", "write"),
    ("POST", "metrics/record/bulk", "write"),
    ("POST", "machines", "write"),
    ("PATCH", f"machines/{NOWHERE}", "write"),
    ("POST", "models", "write"),
    ("POST", f"models/{NOWHERE}/activate", "write"),
    ("POST", "series/rollback", "write"),
    ("POST", "ab-test/start", "write"),
    ("POST", f"ab-test/{NOWHERE}/cancel", "write"),
    ("POST", f"ab-test/{NOWHERE}/decision", "write"),
    ("POST", "retrain/trigger", "train"),
    ("POST", f"training/{NOWHERE}/cancel", "train"),
    ("POST", f"training/{NOWHERE}/start", "train"),
    ("POST", f"training/{NOWHERE}/progress", "train"),
    ("POST", f"training/{NOWHERE}/complete", "train"),
    ("POST", f"training/{NOWHERE}/fail", "train"),
    ("POST", f"alerts/{NOWHERE}/acknowledge", "triage"),
    ("POST", f"alerts/{NOWHERE}/resolve", "triage"),
    ("POST", f"alerts/{NOWHERE}/reopen", "triage"),
    ("POST", f"alerts/{NOWHERE}/snooze", "triage"),
    ("POST", f"alerts/{NOWHERE}/assign", "triage"),
    ("POST", f"alerts/{NOWHERE}/comment", "triage"),
    ("POST", "alerts/bulk", "triage"),
    ("POST", "silences", "triage"),
    ("PATCH", f"silences/{NOWHERE}", "triage"),
    ("DELETE", f"silences/{NOWHERE}", "triage"),
    ("PUT", "policies/baseline", "admin"),
    ("PUT", f"policies/baseline/machines/{NOWHERE}", "admin"),
]


@pytest.mark.parametrize(("method", "path", "scope"), NEEDED)
def test_a_key_does_only_what_its_scopes_say(
    client_with: ClientWith, method: str, path: str, scope: str
) -> None:
    others = [other for other in factories.ALL_SCOPES if other not in {scope, "admin"}]
    refused = client_with(*others).generic(method, f"{ROOT}/{path}", "{}", JSON)
    assert scope in problem(refused, 403)["detail"]
    for enough in (scope, "admin"):
        response = client_with(enough).generic(method, f"{ROOT}/{path}", "{}", JSON)
        assert response.status_code not in {401, 403}


PAGED = [
    "machines",
    "models",
    "metrics",
    "metrics/latest",
    "training",
    "ab-test",
    "ab-test/active",
    "alerts",
    "alerts/active",
]


@pytest.fixture
def limited(client_with: ClientWith) -> tuple[APIClient, Machine]:
    machine = factories.MachineFactory()
    scopes = [scope for scope in factories.ALL_SCOPES if scope != "admin"]
    return client_with(*scopes, machines=[machine]), machine


def test_a_limited_key_lists_its_machines_only(limited: tuple[APIClient, Machine]) -> None:
    client, machine = limited
    for owner in (machine, factories.MachineFactory()):
        model = factories.ModelVersionFactory(machine=owner, is_active=True)
        metric = factories.ModelPerformanceMetricFactory(model=model)
        factories.LatestPerformanceFactory.of(metric)
        factories.TrainingRunFactory(machine=owner)
        factories.ABTestFactory(machine=owner)
        factories.AlertFactory(model=model)
    factories.AlertFactory(fleet=True)
    assert [one["id"] for one in client.get("/api/v1/machines").json()] == [str(machine.pk)]
    assert [one["id"] for one in client.get(f"{ROOT}/machines").json()["results"]] == [
        str(machine.pk)
    ]
    for path in PAGED[1:]:
        answer = client.get(f"{ROOT}/{path}").json()
        found = answer if isinstance(answer, list) else answer["results"]
        assert {one["machine_id"] for one in found} == {str(machine.pk)}, path


def test_a_limited_key_finds_nothing_of_other_machines(limited: tuple[APIClient, Machine]) -> None:
    client, _ = limited
    model = factories.ModelVersionFactory(is_active=True)
    metric = factories.ModelPerformanceMetricFactory(model=model)
    run = factories.TrainingRunFactory(machine=model.machine)
    test = factories.ABTestFactory(machine=model.machine)
    alert = factories.AlertFactory(model=model)
    arms = {"model_a_id": str(test.model_a_id), "model_b_id": str(test.model_b_id)}
    calls: list[tuple[str, str, Any]] = [
        ("get", f"machines/{model.machine_id}", None),
        ("patch", f"machines/{model.machine_id}", {"name": "mine"}),
        ("get", f"models/{model.pk}", None),
        ("post", f"models/{model.pk}/activate", None),
        ("post", "models", series_of(model)),
        ("get", f"metrics/{metric.pk}/revisions", None),
        ("post", "metrics/record", evaluation(model)),
        ("get", "metrics/trend", series_of(model)),
        ("post", "drift/check", subject(model)),
        ("post", "retrain/trigger", series_of(model) | {"reason": "r"}),
        ("post", "series/rollback", series_of(model) | {"reason": "r"}),
        ("get", f"training/{run.pk}", None),
        ("post", f"training/{run.pk}/start", None),
        ("post", f"training/{run.pk}/progress", {"percent": 1}),
        ("post", f"training/{run.pk}/fail", {"message": "m"}),
        ("post", f"training/{run.pk}/cancel", None),
        ("post", "ab-test/start", series_of(model) | arms | {"test_name": "t"}),
        ("get", f"ab-test/{test.pk}", None),
        ("get", f"ab-test/{test.pk}/results", None),
        ("post", f"ab-test/{test.pk}/cancel", None),
        ("post", f"ab-test/{test.pk}/decision", {"decision": "no_winner"}),
        ("get", f"alerts/active?machine_id={model.machine_id}", None),
        ("get", f"alerts/{alert.pk}", None),
        ("post", f"alerts/{alert.pk}/acknowledge", None),
        ("post", f"alerts/{alert.pk}/resolve", {"action": "fixed"}),
        ("post", f"alerts/{alert.pk}/reopen", None),
        ("post", f"alerts/{alert.pk}/snooze", {"worse": True}),
        ("post", f"alerts/{alert.pk}/assign", {"assignee": None}),
        ("post", f"alerts/{alert.pk}/comment", {"text": "mine"}),
    ]
    for method, path, given in calls:
        problem(getattr(client, method)(f"{ROOT}/{path}", given), 404)
    batch = client.post(f"{ROOT}/metrics/record/bulk", [evaluation(model)])
    assert problem(batch, 422)["errors"][0]["loc"] == ["body", 0, "model_id"]
    assert Alert.objects.get(pk=alert.pk).state == "open"


def test_a_limited_key_may_not_add_machines_or_set_policies(client_with: ClientWith) -> None:
    client = client_with("admin", machines=[factories.MachineFactory()])
    problem(client.post(f"{ROOT}/machines", {"name": "m", "type": "t"}), 403)
    problem(client.put(f"{ROOT}/policies/baseline", {}), 403)


def test_a_limited_key_whose_machines_are_deleted_sees_nothing(
    limited: tuple[APIClient, Machine],
) -> None:
    client, machine = limited
    model = factories.ModelVersionFactory(is_active=True)
    factories.LatestPerformanceFactory.of(factories.ModelPerformanceMetricFactory(model=model))
    factories.TrainingRunFactory(machine=model.machine)
    factories.ABTestFactory(machine=model.machine)
    factories.AlertFactory(model=model)
    factories.AlertFactory(fleet=True)
    machine.delete()
    assert client.get("/api/v1/machines").json() == []
    for path in PAGED:
        answer = client.get(f"{ROOT}/{path}").json()
        assert answer in ([], {"results": [], "next": None}), path
    problem(client.get(f"{ROOT}/machines/{model.machine_id}"), 404)
    problem(client.post(f"{ROOT}/metrics/record", evaluation(model)), 404)
    problem(client.post(f"{ROOT}/metrics/record/bulk", [evaluation(model)]), 422)
    problem(client.post(f"{ROOT}/machines", {"name": "m", "type": "t"}), 403)


def test_a_key_is_limited_by_machines_that_were_given_to_it_later(api: APIClient) -> None:
    machine, _ = factories.MachineFactory.create_batch(2)
    ApiKey.objects.get().machines.add(machine)
    assert [one["id"] for one in api.get("/api/v1/machines").json()] == [str(machine.pk)]


def test_a_key_is_found_in_one_statement(
    client_with: ClientWith, django_assert_num_queries: Any
) -> None:
    client = client_with("read", machines=factories.MachineFactory.create_batch(2))
    with django_assert_num_queries(2):  # the key with its machines, the list
        assert len(client.get(f"{ROOT}/machines").json()["results"]) == 2


def test_failed_keys_are_throttled_and_good_ones_are_not(
    api: APIClient, anonymous: APIClient, settings: Any
) -> None:
    settings.FAILED_KEYS_PER_MINUTE = 3
    header = {"authorization": "Api-Key " + "a" * 8 + "." + "b" * 32}
    for _ in range(3):
        problem(anonymous.get(f"{ROOT}/machines", headers=header), 401)
    response = anonymous.get(f"{ROOT}/machines", headers=header)
    problem(response, 429)
    assert response.headers["Retry-After"] == "60"
    elsewhere = anonymous.get(f"{ROOT}/machines", headers=header, REMOTE_ADDR="10.0.0.9")
    problem(elsewhere, 401)
    assert api.get(f"{ROOT}/machines").status_code == 200


def test_failed_keys_are_counted_by_the_address_behind_trusted_proxies(
    anonymous: APIClient, settings: Any
) -> None:
    settings.FAILED_KEYS_PER_MINUTE = 1
    header = {"authorization": "Api-Key x"}

    def status(forwarded: str) -> int:
        forwarded_header = header | {"x-forwarded-for": forwarded}
        return anonymous.get(f"{ROOT}/machines", headers=forwarded_header).status_code

    # Without trusted proxies the header is the client's own invention.
    assert [status("1.1.1.1"), status("2.2.2.2")] == [401, 429]
    settings.TRUSTED_PROXIES = 1
    assert [status("x, 3.3.3.3"), status("y, 4.4.4.4"), status("z, 3.3.3.3")] == [401, 401, 429]


# --- sessions -------------------------------------------------------------------------------


def test_a_logged_in_user_reads_and_no_more(logged_in: Client) -> None:
    assert logged_in.get(f"{ROOT}/machines").status_code == 200
    for method, path, scope in NEEDED:
        if scope != "read":
            problem(logged_in.generic(method, f"{ROOT}/{path}", "{}", JSON), 403)


def test_a_superuser_does_everything(superuser: User) -> None:
    browser = Client()
    browser.force_login(superuser)
    response = browser.post(f"{ROOT}/machines", {"name": "m", "type": "t"}, JSON)
    assert response.status_code == 201


def test_a_permission_stands_for_a_scope(user: User, logged_in: Client) -> None:
    alert = factories.AlertFactory()
    user.user_permissions.add(Permission.objects.get(codename="change_alert"))
    response = logged_in.post(f"{ROOT}/alerts/{alert.pk}/acknowledge", content_type=JSON)
    assert response.status_code == 200
    assert response.json()["acknowledged_by"] == f"user:{user.username}"


def test_a_session_needs_its_csrf_token(superuser: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(superuser)
    response = browser.post(f"{ROOT}/machines", {"name": "m", "type": "t"}, JSON)
    assert "CSRF" in problem(response, 403)["detail"]
    assert not Machine.objects.exists()


# --- artefacts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scopes", "is_shown"),
    [
        (["read"], False),
        (["read", "write", "triage"], False),
        (["read", "train"], True),
        (["admin"], True),
    ],
)
def test_an_artefact_leaves_only_by_a_key_that_may_train(
    client_with: ClientWith, scopes: list[str], is_shown: bool
) -> None:
    model = factories.ModelVersionFactory(artefact={"weights": [1, 2]})
    client = client_with(*scopes)
    assert ("artefact" in client.get(f"{ROOT}/models/{model.pk}").json()) is is_shown
    assert "weights" not in client.get(f"{ROOT}/models").content.decode()


# --- browsers -------------------------------------------------------------------------------


def test_no_origin_is_allowed_by_default(api: APIClient) -> None:
    response = api.get(f"{ROOT}/machines", headers={"origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in response.headers


def test_an_origin_is_allowed_by_the_setting(api: APIClient, settings: Any) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://pages.example"]
    response = api.get(f"{ROOT}/machines", headers={"origin": "https://pages.example"})
    assert response.headers["Access-Control-Allow-Origin"] == "https://pages.example"
