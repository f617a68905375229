"""Swagger UI runs under the same strict content security policy as every page."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_the_documentation_of_the_api_opens_and_calls(visit: Any, superuser: User) -> None:
    watched = visit("/api/docs", user=superuser)
    page = watched.page
    page.get_by_text("/api/v1/model-performance/machines", exact=True).first.click()
    page.get_by_role("button", name="Try it out").first.click()
    page.get_by_role("button", name="Execute").first.click()
    answer = page.locator(".live-responses-table .response .response-col_status").first
    answer.wait_for()
    assert "200" in answer.inner_text()
    watched.assert_clean()
