"""The commands that empty pages show: each is sent as it stands, and works."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable

import pytest
from django.test import Client
from rest_framework.test import APIClient

from modelperf.models import Machine, ModelPerformanceMetric, ModelVersion
from tests.pages import worlds

pytestmark = pytest.mark.django_db


@pytest.fixture
def send(
    logged_in: Client, client_with: Callable[..., APIClient]
) -> Callable[[dict[str, object]], int]:
    """Return a sender of the command that a page shows, with a key as the page describes it."""
    api = client_with("read", "write")

    def send_what_is_shown(query: dict[str, object]) -> int:
        page = html.unescape(logged_in.get("/ui/model-performance", query).content.decode())
        command = page.split("<pre", 1)[1].split("</pre>")[0]
        address = re.search(r"curl -X POST http://testserver(\S+)", command)
        body = re.search(r"-d '(.*)'", command, re.DOTALL)
        assert address is not None
        assert body is not None
        return api.post(address[1], json.loads(body[1]), format="json").status_code

    return send_what_is_shown


def test_first_machine_is_registered(send: Callable[[dict[str, object]], int]) -> None:
    assert send({}) in {200, 201}
    assert Machine.objects.get().name == "pump-1"


def test_first_model_is_registered(send: Callable[[dict[str, object]], int]) -> None:
    machine = worlds.machine()

    assert send({"machine": machine.pk}) in {200, 201}
    assert ModelVersion.objects.get().is_active


def test_first_evaluation_is_recorded(send: Callable[[dict[str, object]], int]) -> None:
    model = worlds.version(worlds.machine())

    assert send({"machine": model.machine_id}) == 200
    assert ModelPerformanceMetric.objects.get().sample_count == 24
