"""Policies in the admin: written through the service, refused with a reason, every change kept."""

from __future__ import annotations

import json

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from modelperf.models import Policy, PolicyEvent
from tests import factories

pytestmark = pytest.mark.django_db
POLICIES, CHANGES = "/admin/modelperf/policy/", "/admin/modelperf/policyevent/"


@pytest.fixture
def desk(superuser: User) -> Client:
    client = Client()
    client.force_login(superuser)
    return client


def policy_form(**values: object) -> dict[str, object]:
    return {
        "model_type": "baseline",
        "primary_metric": "nmbe",
        "directions": json.dumps({"nmbe": "target_zero"}),
        "min_effect": "5",
        "expected_cadence_seconds": "86400",
        "alert_on_outlier": "unknown",
    } | values


def test_policy_form_says_in_what_units_its_values_are(desk: Client) -> None:
    html = desk.get(f"{POLICIES}add/").content.decode()

    assert "5 is 5 points of nmbe" in html
    assert html.count("own unit") == 3
    assert "What is judged" in html
    assert "null" not in html.partition("<form")[2].partition("</form>")[0]


def test_add_and_change_policy_go_through_the_service(desk: Client, superuser: User) -> None:
    desk.post(f"{POLICIES}add/", policy_form(season='{"period_days": 7}'))
    policy = Policy.objects.get()
    assert (policy.primary_metric, policy.directions) == ("nmbe", {"nmbe": "target_zero"})
    assert (policy.season, policy.q, policy.machine) == ({"period_days": 7}, None, None)
    assert (policy.alert_on_outlier, policy.training_source) == (None, None)

    address = f"{POLICIES}{policy.pk}/change/"
    form = policy_form(limit_value="30", model_type="other", alert_on_outlier="false")
    desk.post(address, form)

    policy.refresh_from_db()
    assert (policy.model_type, policy.limit_value) == ("baseline", 30)
    assert (policy.season, policy.alert_on_outlier) == (None, False)
    assert [entry.object_id for entry in LogEntry.objects.all()] == [str(policy.pk)] * 2
    actors = [change.pgh_context["actor"] for change in PolicyEvent.objects.all()]
    assert actors == [f"user:{superuser.username}"] * 2


def test_a_machine_gets_a_policy_of_its_own(desk: Client) -> None:
    machine = factories.MachineFactory.create(name="pump 7")
    desk.post(f"{POLICIES}add/", policy_form())
    desk.post(f"{POLICIES}add/", {"model_type": "baseline", "machine": machine.pk, "q": "0.1"})

    own = Policy.objects.get(machine=machine)
    assert (own.q, own.min_effect) == (0.1, None)
    html = desk.get(POLICIES).content.decode()
    assert "pump 7" in html
    assert "pump 7" in desk.get(f"{POLICIES}{own.pk}/change/").content.decode()

    html = desk.post(f"{POLICIES}add/", policy_form(min_effect="1")).content.decode()
    assert "This model type has a policy: change it." in html
    assert Policy.objects.get(machine=None).min_effect == 5

    desk.post(f"{POLICIES}{own.pk}/change/", {"q": ""})
    assert not Policy.objects.filter(machine=machine).exists()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"directions": '{"nmbe": "sideways"}'}, "one of r_squared"),
        ({"directions": "[]"}, "Write an object"),
        ({"season": '"summer"'}, "Write an object"),
        ({"season": "{"}, "valid JSON"),
        ({"training_source": '{"kind": "sky"}'}, "kind of a training source is one of"),
        ({"min_effect": "-1"}, "min_effect"),
        ({"clear_value": "3"}, "limit"),
        ({"q": "0.5"}, "q is above 0 and at most 0.2"),
    ],
)
def test_policy_with_wrong_values_is_refused_with_a_reason(
    desk: Client, wrong: dict[str, object], says: str
) -> None:
    response = desk.post(f"{POLICIES}add/", policy_form(**wrong), follow=True)

    assert response.status_code == 200
    assert says in response.content.decode()
    assert not Policy.objects.exists()


def test_changes_are_shown_and_never_edited(desk: Client, superuser: User) -> None:
    desk.post(f"{POLICIES}add/", policy_form())
    policy = Policy.objects.get()
    Policy.objects.update(min_effect=6.0)  # past the service: the database still keeps it
    change = PolicyEvent.objects.first()
    assert change is not None

    assert (
        f"{CHANGES}?model_type=baseline"
        in desk.get(f"{POLICIES}{policy.pk}/change/").content.decode()
    )
    html = desk.get(CHANGES, {"model_type": "baseline"}).content.decode()
    assert f"user:{superuser.username}" in html
    assert "update" in html
    assert "6.0" in desk.get(f"{CHANGES}{change.pk}/change/").content.decode()
    assert desk.post(f"{CHANGES}{change.pk}/change/", {"min_effect": "1"}).status_code == 403
    assert desk.get(f"{CHANGES}add/").status_code == 403


def test_settings_for_retraining_are_written_and_explained(desk: Client) -> None:
    html = desk.get(f"{POLICIES}add/").content.decode()
    assert "Retraining</h2>" in html
    for told in ("twice as many after each that did not help", "an hour at least", "1 day"):
        assert told in html
    desk.post(
        f"{POLICIES}add/",
        policy_form(
            trainer='{"kind": "external", "timeout_seconds": 3600}',
            retrain_automatically="true",
            retrain_tries="2",
            retrain_every_seconds="604800",
            after_training="test",
            test_duration_hours="48",
            train_since_change="unknown",
        ),
    )
    policy = Policy.objects.get()
    assert policy.trainer == {"kind": "external", "timeout_seconds": 3600}
    assert (policy.retrain_automatically, policy.retrain_tries) == (True, 2)
    assert (policy.after_training, policy.test_duration_hours) == ("test", 48)
    assert (policy.train_since_change, policy.retrain_cooldown_seconds) == (None, None)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"trainer": '{"kind": "magic"}'}, "The kind of a trainer is one of"),
        ({"trainer": '{"kind": "external", "timeout_seconds": 1}'}, "between 60 and a year"),
        ({"trainer": "[1]"}, "Write an object"),
        ({"retrain_every_seconds": "5"}, "at least an hour"),
        ({"after_training": "hope"}, "not one of the available choices"),
    ],
)
def test_wrong_settings_for_retraining_are_refused(
    desk: Client, wrong: dict[str, object], says: str
) -> None:
    html = desk.post(f"{POLICIES}add/", policy_form(**wrong)).content.decode()

    assert says in html
    assert not Policy.objects.exists()
