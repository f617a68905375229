"""The rest of the admin: evaluations, training, tests, policies, keys, and its frame."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from modelperf.admin import metrics as metrics_admin
from modelperf.models import (
    ApiKey,
    DriftState,
    LatestPerformance,
    ModelPerformanceMetric,
    TrainingRun,
)
from tests import factories
from tests.pages import worlds

pytestmark = pytest.mark.django_db
ROOT = "/admin/modelperf/"
EVALUATIONS, RUNS = f"{ROOT}modelperformancemetric/", f"{ROOT}trainingrun/"
TESTS, POLICIES, KEYS = f"{ROOT}abtest/", f"{ROOT}policy/", f"{ROOT}apikey/"


@pytest.fixture
def desk(superuser: User) -> Client:
    client = Client()
    client.force_login(superuser)
    return client


def staff(user: User, *permissions: str) -> Client:
    """Return a browser of a member of staff who has these permissions too."""
    user.is_staff = True
    user.save()
    user.user_permissions.add(*Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_evaluations_with_drift_say_so_in_a_word(desk: Client) -> None:
    worlds.series(worlds.noisy(80, fall=0.03, at=60))

    html = desk.get(EVALUATIONS, {"drift_detected__exact": "1"}).content.decode()
    others = desk.get(EVALUATIONS, {"drift_detected__exact": "0"}).content.decode()

    assert re.search(r'field-drift"><span class="st degraded"><svg.*?</svg>\s*Drift</span>', html)
    assert set(re.findall(r'field-drift">(.)', others)) == {"–"}
    assert "icon-yes" not in html


def test_evaluations_are_listed_and_never_counted_further_than_shown(
    desk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_admin, "MOST_COUNTED", 60)
    worlds.series(worlds.noisy(80))

    with CaptureQueriesContext(connection) as queries:
        html = desk.get(EVALUATIONS).content.decode()

    assert "60 evaluations" in html
    assert "r_squared 0." in html
    counts = [q["sql"] for q in queries if "COUNT(" in q["sql"]]
    assert counts
    assert all("LIMIT 60" in sql for sql in counts)


def test_evaluations_list_needs_the_same_queries_for_few_and_for_many(desk: Client) -> None:
    worlds.series(worlds.noisy(1))
    with CaptureQueriesContext(connection) as few:
        desk.get(EVALUATIONS)
    for i in range(5):
        worlds.series(worlds.noisy(2), name=f"pump {i + 2}")

    with CaptureQueriesContext(connection) as many:
        desk.get(EVALUATIONS)

    # session, user; count, rows with their machines
    assert len(few) == len(many) == 4


def test_evaluations_are_read_only(desk: Client) -> None:
    worlds.series(worlds.noisy(1))
    address = f"{EVALUATIONS}{ModelPerformanceMetric.objects.get().pk}/change/"

    assert desk.get(address).status_code == 200
    assert desk.post(address, {"rmse": "0"}).status_code == 403
    assert desk.get(f"{EVALUATIONS}add/").status_code == 403


def test_deleting_an_evaluation_judges_its_series_anew_and_is_logged(desk: Client) -> None:
    model = worlds.series(worlds.noisy(40))
    newest = ModelPerformanceMetric.objects.order_by("-evaluation_end")[0]

    asked = {"action": "delete_evaluations", "_selected_action": [newest.pk]}

    page = desk.post(EVALUATIONS, asked).content.decode()
    assert "1 evaluation will be deleted" in page
    assert str(newest.pk) in page
    assert ModelPerformanceMetric.objects.count() == 40
    response = desk.post(EVALUATIONS, asked | {"confirm": "Delete"}, follow=True)

    assert b"1 deleted" in response.content
    assert LatestPerformance.objects.get().evaluation_end == newest.evaluation_start
    assert DriftState.objects.get(model=model).verdict["n_evaluations"] == 39
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.action_flag) == (str(newest.pk), DELETION)


def test_deleting_an_evaluation_needs_the_permission_to_delete(user: User) -> None:
    worlds.series(worlds.noisy(1))
    row = ModelPerformanceMetric.objects.get()
    desk = staff(user, "view_modelperformancemetric", "change_modelperformancemetric")
    asked = {"action": "delete_evaluations", "_selected_action": [row.pk], "confirm": "Delete"}

    assert b"delete_evaluations" not in desk.get(EVALUATIONS).content
    desk.post(EVALUATIONS, asked)
    assert ModelPerformanceMetric.objects.exists()

    desk = staff(user, "delete_modelperformancemetric")
    html = desk.get(EVALUATIONS).content
    assert b"delete_evaluations" in html
    assert b"delete_selected" not in html
    desk.post(EVALUATIONS, asked)
    assert not ModelPerformanceMetric.objects.exists()


def test_training_runs_are_shown_and_cancelled(desk: Client) -> None:
    run = factories.TrainingRunFactory.create(training_start=timezone.now())
    failed = factories.TrainingRunFactory.create(failed=True)

    html = desk.get(RUNS).content.decode()
    assert "Pending" in html
    assert "Failed" in html

    response = desk.post(
        RUNS, {"action": "cancel", "_selected_action": [run.pk, failed.pk]}, follow=True
    )

    assert TrainingRun.objects.get(pk=run.pk).training_status == "cancelled"
    assert b"is failed already" in response.content
    assert desk.post(f"{RUNS}{run.pk}/change/", {}).status_code == 403


def test_ab_tests_are_shown_only(desk: Client) -> None:
    test = factories.ABTestFactory.create(test_name="is it better")

    assert b"is it better" in desk.get(TESTS).content
    assert desk.get(f"{TESTS}{test.pk}/change/").status_code == 200
    assert desk.post(f"{TESTS}{test.pk}/change/", {}).status_code == 403
    assert b'name="action"' not in desk.get(TESTS).content


def test_new_key_is_shown_once_and_opens(desk: Client) -> None:
    machine = factories.MachineFactory.create()
    form = {"name": "nightly", "scopes": ["read", "write"], "machines": [str(machine.pk)]}

    html = desk.post(f"{KEYS}add/", form, follow=True).content.decode()

    shown = re.search(r"<code>([A-Za-z0-9]{8}\.[A-Za-z0-9]+)</code>", html)
    assert shown is not None
    key = ApiKey.objects.get_from_key(shown[1])
    assert (key.name, key.scopes, list(key.machines.all())) == (
        "nightly",
        ["read", "write"],
        [machine],
    )
    assert key.is_limited
    assert b"Is limited" in desk.get(f"{KEYS}{key.pk}/change/").content
    assert shown[1].encode() not in desk.get(f"{KEYS}{key.pk}/change/").content
    assert shown[1].encode() not in desk.get(KEYS).content


@pytest.mark.parametrize(
    ("permissions", "scopes"),
    [
        ([], {"read"}),
        (["change_alert"], {"read", "triage"}),
        (["change_policy"], {"read"}),
        (
            ["change_policy", "change_alert", "add_trainingrun", "add_modelperformancemetric"],
            {"read", "write", "train", "triage", "admin"},
        ),
    ],
)
def test_a_key_gets_only_scopes_that_its_maker_has(
    user: User, permissions: list[str], scopes: set[str]
) -> None:
    desk = staff(user, "add_apikey", "view_apikey", *permissions)

    html = desk.get(f"{KEYS}add/").content.decode()
    offered = re.findall(r'name="scopes" value="(\w+)"', html)
    for scope in ApiKey.Scope.values:
        desk.post(f"{KEYS}add/", {"name": scope, "scopes": [scope]})

    assert set(offered) == scopes
    assert set(ApiKey.objects.values_list("name", flat=True)) == scopes


def test_key_that_expires_in_the_past_is_refused(desk: Client) -> None:
    past = timezone.now() - timedelta(days=1)
    form = {
        "name": "nightly",
        "scopes": ["read"],
        "expiry_date_0": f"{past:%Y-%m-%d}",
        "expiry_date_1": "00:00",
    }

    response = desk.post(f"{KEYS}add/", form)

    assert b"The expiry lies in the past" in response.content
    assert not ApiKey.objects.exists()


def test_keys_are_revoked_and_never_changed(desk: Client) -> None:
    text = factories.api_key("read")
    key = ApiKey.objects.get_from_key(text)

    desk.post(KEYS, {"action": "revoke", "_selected_action": [key.pk]})

    assert not ApiKey.objects.is_valid(text)
    assert desk.post(f"{KEYS}{key.pk}/change/", {"name": "x"}).status_code == 403


def test_index_names_modelperf_and_offers_no_keys_without_scopes(desk: Client) -> None:
    html = desk.get("/admin/").content.decode()

    assert "modelperf" in html
    assert "rest_framework_api_key" not in html


@pytest.mark.parametrize("name", ["alert", "machine", "modelversion", "modelperformancemetric",
                                  "trainingrun", "abtest", "policy", "apikey",
                                  "modelactivation"])  # fmt: skip
def test_lists_have_no_inline_style_or_script(desk: Client, name: str) -> None:
    response = desk.get(f"{ROOT}{name}/")

    html = response.content.decode()
    assert response.status_code == 200
    assert not re.search(
        r"<style|<script(?![^>]*src=)", html.replace('type="application/json"', "src=")
    )
    assert "default-src 'none'" in response["Content-Security-Policy"]
