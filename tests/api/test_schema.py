"""The OpenAPI document: committed, complete, and true of what the API does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
import yaml
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import Client
from hypothesis import strategies as st
from rest_framework.test import APIClient
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from config.wsgi import application
from modelperf.services import silences
from tests import factories
from tests.api.calls import ROOT, recorded, steps

DOCS = Path(__file__).resolve().parents[2] / "docs"
COMMITTED = DOCS / "api" / "openapi.yaml"
LATER = datetime(2199, 1, 1, tzinfo=UTC)


def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMMITTED.read_text())
    return loaded


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_committed_document_is_what_the_code_says(tmp_path: Path) -> None:
    made = tmp_path / "openapi.yaml"
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(made))
    assert made.read_text() == COMMITTED.read_text(), "See `make check` for how to renew it."


def test_every_operation_says_what_it_does_and_what_it_needs() -> None:
    found = list(operations())
    assert len(found) >= 36
    for path, method, operation in found:
        where = (path, method)
        assert operation["summary"], where
        assert "Needs the scope" in operation["description"], where
        assert {"200", "401", "403", "422"} <= operation["responses"].keys(), where
        assert {"apiKey": []} in operation["security"], where
    names = [operation["operationId"] for _, _, operation in found]
    assert len(set(names)) == len(names)


def test_every_operation_is_in_the_handbook() -> None:
    handbook = (DOCS / "api.md").read_text()
    missing = [
        f"{method.upper()} {path}"
        for path, method, _ in operations()
        if f"`{method.upper()} {path.removeprefix(ROOT)}`" not in handbook
    ]
    assert not missing


def test_the_calls_of_the_contract_are_there() -> None:
    calls = {(path.removeprefix(ROOT), method) for path, method, _ in operations()}
    assert calls >= {
        ("/metrics/record", "post"),
        ("/metrics/trend", "get"),
        ("/drift/check", "post"),
        ("/retrain/trigger", "post"),
        ("/ab-test/start", "post"),
        ("/ab-test/{id}/results", "get"),
        ("/alerts/active", "get"),
        ("/api/v1/machines", "get"),
    }


@pytest.mark.django_db
@pytest.mark.parametrize("form", ["", "?format=json"])
def test_the_document_is_served_with_a_key(api: APIClient, form: str) -> None:
    response = api.get(f"/api/schema{form}")
    assert response.status_code == 200
    served = yaml.safe_load(response.content)
    assert served["openapi"] == "3.1.0"
    assert served["paths"].keys() == document()["paths"].keys()


@pytest.mark.django_db
def test_swagger_ui_runs_under_the_strict_policy(logged_in: Client) -> None:
    page = logged_in.get("/api/docs")
    assert page.status_code == 200
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    text = page.content.decode()
    assert "<style" not in text
    assert "style=" not in text
    sources = [part.partition('"')[0] for part in text.split('src="')[1:]]
    assert text.count("<script") == len(sources) == 3
    assert all(source.startswith("/") for source in sources)
    script = logged_in.get(sources[-1].replace("&amp;", "&"))
    assert script.headers["Content-Type"].startswith("application/javascript")
    assert "/api/schema" in script.content.decode()


# --- the API against its own document -------------------------------------------------------

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
API = schemathesis.openapi.from_dict(document())
API.app = application
OPERATIONS = {result.ok().label: result.ok() for result in API.get_all_operations()}


@pytest.fixture
def _one_connection() -> Iterator[None]:
    """Let requests share the test's transaction, as Django's test client does."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture
def known(db: None, _one_connection: None) -> dict[str, Any]:
    """Return parameters that name something, by the name of the parameter or the path."""
    model = factories.ModelVersionFactory(is_active=True)
    recorded(model, steps((40, 1.0)))
    rival = factories.ModelVersionFactory(machine=model.machine)
    names = {"machine_id": model.machine_id, "model_id": model.pk, "model_type": "baseline"}
    names |= {"model_a_id": model.pk, "model_b_id": rival.pk}
    names |= {"machines": model.machine_id, "models": model.pk}
    names |= {"metrics": model.modelperformancemetric_set.latest("id").pk}
    names |= {"training": factories.TrainingRunFactory(machine=model.machine).pk}
    names |= {"ab-test": factories.ABTestFactory().pk, "alerts": factories.AlertFactory().pk}
    silence = silences.create(
        matchers={"machine": ["*"]}, reason="r", owner="ada", ends_at=LATER, by="user:ada"
    )
    names |= {"silences": silence.pk, "assignee": factories.UserFactory(is_superuser=True).username}
    return {name: str(value) for name, value in names.items()}


def at_home(case: Any, known: dict[str, Any]) -> None:
    """Let a case name what there is, where it names something at random."""
    noun = case.path.removeprefix(ROOT).split("/")[1]
    for given in (case.path_parameters, case.query, case.body):
        for name in given if isinstance(given, dict) else ():
            place = noun if name == "id" else name
            if place in known and isinstance(given[name], str):
                given[name] = known[place]


@pytest.mark.parametrize("label", OPERATIONS)
def test_the_api_does_what_its_document_says(
    label: str, known: dict[str, Any], make_key: Callable[..., str]
) -> None:
    operation = OPERATIONS[label]
    headers = {"Authorization": f"Api-Key {make_key(*factories.ALL_SCOPES)}"}
    is_home = st.booleans()

    @hypothesis.settings(
        max_examples=40,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(operation.as_strategy(), is_home)
    def calls(case: Any, is_home: bool) -> None:
        if is_home:
            at_home(case, known)
        response = case.call(headers=headers)
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 400:
            assert response.headers["content-type"] == ["application/problem+json"]
            assert json.loads(response.content)["status"] == response.status_code

    calls()
