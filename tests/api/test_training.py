"""Training runs over HTTP: told about, and reported about by those who train them elsewhere."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from modelperf.models import FeatureReference, ModelVersion, TrainingRun
from modelperf.services import training, training_work
from modelperf.services.training_callbacks import token_of
from tests import factories
from tests.api.calls import JSON, NOWHERE, ROOT, places, problem, series_of
from tests.services.trainers import trained_by

pytestmark = pytest.mark.django_db
ClientWith = Callable[..., APIClient]
REPORT: dict[str, Any] = {
    "artefact": {"slope": 0.5},
    "feature_names": ["temperature"],
    "training_metrics": {"rmse": 1},
    "validation_metrics": {"rmse": 1.5, "r_squared": 0.8},
}
BODIES: dict[str, dict[str, Any]] = {
    "start": {},
    "progress": {"percent": 40, "message": "fits trees"},
    "complete": REPORT,
    "fail": {"message": "no data"},
}


@pytest.fixture
def run() -> TrainingRun:
    """Return a run that waits for somebody to take it."""
    later = timezone.now() + timedelta(hours=1)
    return factories.TrainingRunFactory.create(trainer="external", leased_until=later)


@pytest.fixture
def holder(run: TrainingRun) -> APIClient:
    """Return a client that has the run's token and nothing else."""
    return with_token(token_of(run))


def with_token(token: str) -> APIClient:
    client = APIClient()
    client.default_format = "json"
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def address(run: TrainingRun, verb: str) -> str:
    return f"{ROOT}/training/{run.pk}/{verb}"


# --- a run, told about ----------------------------------------------------------------------


def test_a_run_tells_how_far_it_is_and_when_it_ends(api: APIClient) -> None:
    model = factories.ModelVersionFactory()
    factories.TrainingRunFactory(
        completed=True, machine=model.machine, model=model, training_duration_seconds=90.0
    )
    alert = factories.AlertFactory(model=model)
    run = factories.TrainingRunFactory(
        running=True,
        machine=model.machine,
        trainer="command",
        attempt=2,
        progress_percent=12.5,
        progress_message="fits trees",
        heartbeat_at=timezone.now(),
        alert=alert,
        training_log="epoch 1",
    )
    told = api.get(f"{ROOT}/training/{run.pk}").json()
    assert (
        told.items()
        >= {
            "trainer": "command",
            "attempt": 2,
            "progress_percent": 12.5,
            "progress_message": "fits trees",
            "retry_at": None,
            "alert_id": str(alert.pk),
            "ab_test_id": None,
            "training_log": "epoch 1",
        }.items()
    )
    assert told["heartbeat_at"].endswith("Z")
    ends_at = run.training_start + timedelta(seconds=90)
    assert told["estimated_completion"] == ends_at.isoformat().replace("+00:00", "Z")


def test_a_run_without_a_past_or_that_is_over_has_no_estimate(api: APIClient) -> None:
    first = factories.TrainingRunFactory(running=True)
    over = factories.TrainingRunFactory(completed=True, training_duration_seconds=60.0)
    for run in (first, over):
        assert api.get(f"{ROOT}/training/{run.pk}").json()["estimated_completion"] is None


def test_a_run_names_the_test_that_started_by_itself(api: APIClient) -> None:
    run = factories.TrainingRunFactory(completed=True)
    test = factories.ABTestFactory(machine=run.machine, model_b=run.model, training_run=run)
    assert api.get(f"{ROOT}/training/{run.pk}").json()["ab_test_id"] == str(test.pk)


@pytest.mark.parametrize(
    ("scopes", "is_shown"),
    [(["read"], False), (["read", "write", "triage"], False), (["train"], True), (["admin"], True)],
)
def test_what_a_trainer_put_out_is_shown_only_to_who_may_train(
    client_with: ClientWith, scopes: list[str], is_shown: bool
) -> None:
    run = factories.TrainingRunFactory(
        failed=True,
        error_message="secret file",
        error_traceback="secret line 1",
        training_log="secret epoch",
    )
    client = client_with("read", *scopes)
    told = client.get(f"{ROOT}/training/{run.pk}").json()
    expected = ("secret file", "secret line 1", "secret epoch") if is_shown else (None,) * 3
    assert (told["error_message"], told["error_traceback"], told["training_log"]) == expected
    (listed,) = client.get(f"{ROOT}/training").json()["results"]
    assert listed["training_status"] == "failed"
    assert listed["error_message"] == expected[0]
    assert not {"error_traceback", "training_log"} & listed.keys()


@pytest.mark.parametrize(("scope", "is_shown"), [("read", False), ("train", True)])
def test_why_a_run_waits_to_be_tried_again_is_told_only_to_who_may_train(
    client_with: ClientWith, scope: str, is_shown: bool
) -> None:
    machine = trained_by("unavailable")
    training.trigger(machine=machine, model_type="baseline", reason="r", by="key:tests")
    run = training_work.work_on(run_id=TrainingRun.objects.get().pk, by="worker")
    assert run is not None
    assert run.training_status == "pending"
    TrainingRun.objects.update(metadata=run.metadata | {"started_by": "worker"})
    client = client_with("read", scope)
    (listed,) = client.get(f"{ROOT}/training").json()["results"]
    for told in (listed, client.get(f"{ROOT}/training/{run.pk}").json()):
        assert ("The site does not answer." in str(told)) is is_shown
        assert told["metadata"]["started_by"] == "worker"


def test_what_a_trainer_put_out_is_shown_to_people_who_may_change_runs(
    user: User, logged_in: Client
) -> None:
    run = factories.TrainingRunFactory(failed=True, error_traceback="line 1")
    hidden = logged_in.get(f"{ROOT}/training/{run.pk}").json()
    assert (hidden["error_message"], hidden["error_traceback"]) == (None, None)
    user.user_permissions.add(Permission.objects.get(codename="change_trainingrun"))
    shown = logged_in.get(f"{ROOT}/training/{run.pk}").json()
    assert (shown["error_message"], shown["error_traceback"]) == ("no data", "line 1")


# --- given up -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (None, {}),
        ({}, {}),
        ({"reason": ""}, {}),
        ({"reason": "not this week"}, {"cancel_reason": "not this week"}),
    ],
)
def test_a_run_is_cancelled_with_a_reason_or_without(
    api: APIClient, run: TrainingRun, body: dict[str, str] | None, kept: dict[str, str]
) -> None:
    told = api.post(address(run, "cancel"), body).json()
    assert told["training_status"] == "cancelled"
    assert told["metadata"] == {"cancelled_by": "key:tests"} | kept


@pytest.mark.parametrize("reason", [7, None, "x" * 2001, "a\ud800"])
def test_a_run_is_not_cancelled_for_what_is_no_reason(
    api: APIClient, run: TrainingRun, reason: object
) -> None:
    answer = api.post(address(run, "cancel"), json.dumps({"reason": reason}), content_type=JSON)
    assert answer.status_code in {400, 422}
    run.refresh_from_db()
    assert (run.training_status, run.metadata) == ("pending", {})


# --- reports --------------------------------------------------------------------------------


def test_a_run_is_taken_trained_and_completed_with_its_token(
    api: APIClient, holder: APIClient, run: TrainingRun
) -> None:
    started = holder.post(address(run, "start"))
    assert started.status_code == 200, started.content
    assert (started.json()["training_status"], started.json()["attempt"]) == ("running", 1)
    gone = holder.post(address(run, "progress"), {"percent": 40, "message": "fits trees"}).json()
    assert (gone["progress_percent"], gone["progress_message"]) == (40.0, "fits trees")
    assert gone["leased_until"] > started.json()["leased_until"]
    key = str(uuid.uuid4())
    done = holder.post(address(run, "complete"), REPORT | {"model_id": key, "log": "epoch 1"})
    assert done.json() == {
        "id": str(run.pk),
        "training_status": "completed",
        "attempt": 1,
        "progress_percent": 100.0,
        "progress_message": "Trained.",
        "leased_until": None,
        "model_id": key,
        "model_version": 1,
    }
    told = api.get(f"{ROOT}/training/{run.pk}").json()
    assert (told["initial_rmse"], told["training_samples"]) == (1.5, None)
    assert (told["training_log"], told["hyperparameters"]) == ("epoch 1", {})
    assert told["metadata"]["started_by"] == f"run:{run.pk}"
    assert ModelVersion.objects.get(pk=key).artefact == {"slope": 0.5}


@pytest.mark.parametrize(
    ("reported", "stored"),
    [({}, {"depth": 7}), ({"hyperparameters": None}, {"depth": 7}), ({"hyperparameters": {}}, {})],
)
def test_a_report_without_hyperparameters_has_those_of_the_policy(
    holder: APIClient, run: TrainingRun, reported: dict[str, Any], stored: dict[str, Any]
) -> None:
    document = {"kind": "external", "hyperparameters": {"depth": 7}}
    factories.PolicyFactory(machine=run.machine, trainer=document)
    assert holder.post(address(run, "complete"), REPORT | reported).status_code == 200
    run.refresh_from_db()
    assert run.hyperparameters == ModelVersion.objects.get().hyperparameters == stored


def test_a_key_that_may_train_reports_as_well(client_with: ClientWith, run: TrainingRun) -> None:
    client = client_with("read", "train", name="nightly")
    assert client.post(address(run, "start")).status_code == 200
    assert client.post(address(run, "fail"), {"message": "no data"}).status_code == 200
    run.refresh_from_db()
    assert (run.training_status, run.metadata["started_by"]) == ("failed", "key:nightly")


def test_the_same_report_twice_has_the_same_answer(holder: APIClient, run: TrainingRun) -> None:
    first, again = (holder.post(address(run, "complete"), REPORT) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    document = problem(holder.post(address(run, "complete"), REPORT | {"artefact": {}}), 409)
    assert document["state"] == {"status": "completed"}
    assert ModelVersion.objects.count() == 1


@pytest.mark.parametrize("verb", BODIES)
def test_a_report_that_comes_late_is_told_what_became_of_the_run(
    holder: APIClient, run: TrainingRun, verb: str
) -> None:
    training.cancel(run=run, by="user:tests")
    document = problem(holder.post(address(run, verb), BODIES[verb]), 409)
    assert document["state"] == {"status": "cancelled"}
    assert not ModelVersion.objects.exists()


@pytest.mark.parametrize("verb", BODIES)
def test_a_run_that_modelperf_trains_takes_no_reports(
    api: APIClient, run: TrainingRun, verb: str
) -> None:
    TrainingRun.objects.filter(pk=run.pk).update(trainer="energy_baseline")
    assert "modelperf itself" in problem(api.post(address(run, verb), BODIES[verb]), 409)["detail"]


@pytest.mark.parametrize("verb", BODIES)
def test_a_report_about_a_run_that_is_not_there_is_404(
    api: APIClient, client_with: ClientWith, run: TrainingRun, verb: str
) -> None:
    nowhere = TrainingRun(pk=uuid.UUID(NOWHERE))
    for client in (api, with_token(token_of(nowhere))):
        document = problem(client.post(address(nowhere, verb), BODIES[verb]), 404)
        assert document["detail"] == "Training run not found"
    elsewhere = client_with("train", machines=[factories.MachineFactory()])
    problem(elsewhere.post(address(run, verb), BODIES[verb]), 404)


# --- the token ------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", BODIES)
def test_another_token_is_refused(run: TrainingRun, verb: str) -> None:
    other = factories.TrainingRunFactory()
    token = token_of(run)
    for wrong in (token_of(other), token[:-1], token + "0", token.upper(), "", "é", "x" * 10_000):
        response = with_token(wrong).post(address(run, verb), BODIES[verb])
        assert "token" in problem(response, 403)["detail"]
    run.refresh_from_db()
    assert (run.training_status, run.heartbeat_at) == ("pending", None)


def test_wrong_tokens_are_throttled_and_the_right_one_is_not(
    holder: APIClient, run: TrainingRun, settings: Any
) -> None:
    settings.FAILED_KEYS_PER_MINUTE = 2
    wrong = with_token("run_" + "0" * 64)
    statuses = [wrong.post(address(run, "start")).status_code for _ in range(3)]
    assert statuses == [403, 403, 429]
    assert holder.post(address(run, "start")).status_code == 200


def test_a_token_opens_the_four_reports_of_its_run_and_nothing_else(
    holder: APIClient, run: TrainingRun
) -> None:
    for verb, path in (
        ("GET", f"training/{run.pk}"),
        ("POST", f"training/{run.pk}/cancel"),
        ("GET", "training"),
        ("GET", "machines"),
        ("POST", "retrain/trigger"),
        ("POST", "models"),
        ("GET", f"policies/{run.model_type}"),
    ):
        problem(holder.generic(verb, f"{ROOT}/{path}", "{}", JSON), 401)
    later = timezone.now() + timedelta(hours=1)
    other = factories.TrainingRunFactory(trainer="external", leased_until=later)
    for report, body in BODIES.items():
        problem(holder.post(address(other, report), body), 403)
        problem(holder.get(address(run, report)), 403)
    problem(holder.post(f"{ROOT}/training/x/start"), 403)


def test_a_token_is_worth_nothing_once_its_run_is_over(holder: APIClient, run: TrainingRun) -> None:
    holder.post(address(run, "fail"), {"message": "no data"})
    before = TrainingRun.objects.values().get()
    for verb in ("start", "progress", "complete"):
        problem(holder.post(address(run, verb), BODIES[verb]), 409)
    problem(holder.post(address(run, "fail"), {"message": "another reason"}), 409)
    assert TrainingRun.objects.values().get() == before


# --- what is wrong with a report ------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"percent": -1}, "percent"),
        ({"percent": 100.5}, "percent"),
        ({"percent": "40"}, "percent"),
        ({"percent": True}, "percent"),
        ({"message": "x" * 501}, "message"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_progress_is_refused(
    holder: APIClient, run: TrainingRun, body: dict[str, Any], place: str
) -> None:
    assert places(holder.post(address(run, "progress"), body)) == [["body", place]]
    run.refresh_from_db()
    assert (run.training_status, run.heartbeat_at) == ("pending", None)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"artefact": [1]}, "artefact"),
        ({"artefact": None}, "artefact"),
        ({"feature_names": [""]}, "feature_names"),
        ({"feature_names": "a"}, "feature_names"),
        ({"training_metrics": {"rmse": "1"}}, "training_metrics"),
        ({"training_metrics": {"rmse": True}}, "training_metrics"),
        ({"validation_metrics": {"rmse": None}}, "validation_metrics"),
        ({"validation_metrics": {"rmse": 10**400}}, "validation_metrics"),
        ({"validation_metrics": {"": 1}}, "validation_metrics"),
        ({"training_samples": -1}, "training_samples"),
        ({"training_samples": 1.5}, "training_samples"),
        ({"training_samples": 2**63}, "training_samples"),
        ({"hyperparameters": []}, "hyperparameters"),
        ({"reference_profiles": {}}, "reference_profiles"),
        ({"reference_profiles": [{}]}, "reference_profiles"),
        ({"reference_profiles": [{"columns": {"a": [1, "x"]}}]}, "reference_profiles"),
        ({"model_id": "x"}, "model_id"),
        ({"log": 1}, "log"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_completion_is_refused(
    holder: APIClient, run: TrainingRun, changes: dict[str, Any], place: str
) -> None:
    found = places(holder.post(address(run, "complete"), REPORT | changes))
    assert [one[:2] for one in found] in ([["body", place]], [["body"]])
    run.refresh_from_db()
    assert run.training_status == "pending"
    assert not ModelVersion.objects.exists()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(
    holder: APIClient, run: TrainingRun, number: str
) -> None:
    body = '{"artefact": {}, "feature_names": [], "training_metrics": {}, "validation_metrics":'
    whole = f'{body} {{"rmse": {number}}}}}'
    assert places(holder.generic("POST", address(run, "complete"), whole, JSON)) == [
        ["body", "validation_metrics"]
    ]
    percent = f'{{"percent": {number}}}'
    found = places(holder.generic("POST", address(run, "progress"), percent, JSON))
    assert found == [["body", "percent"]]
    run.refresh_from_db()
    assert run.training_status == "pending"


@pytest.mark.parametrize("missing", ["artefact", "feature_names", "validation_metrics"])
def test_a_completion_says_what_was_trained(
    holder: APIClient, run: TrainingRun, missing: str
) -> None:
    report = {name: value for name, value in REPORT.items() if name != missing}
    assert places(holder.post(address(run, "complete"), report)) == [["body", missing]]


@pytest.mark.parametrize("body", [{}, {"message": ""}, {"message": " "}, {"message": None}])
def test_a_failure_says_why(holder: APIClient, run: TrainingRun, body: dict[str, Any]) -> None:
    assert places(holder.post(address(run, "fail"), body)) == [["body", "message"]]


def test_a_failure_keeps_the_end_of_what_was_put_out(
    api: APIClient, holder: APIClient, run: TrainingRun
) -> None:
    given = {"message": "no data", "traceback": "x" * 100_000 + "KeyError", "log": "epoch 1"}
    first, again = (holder.post(address(run, "fail"), given) for _ in range(2))
    assert first.json() == again.json()
    assert first.json()["training_status"] == "failed"
    told = api.get(f"{ROOT}/training/{run.pk}").json()
    assert told["error_traceback"].endswith("xKeyError")
    assert (told["error_message"], told["training_log"]) == ("no data", "epoch 1")


def test_profiles_of_a_completion_are_what_windows_are_compared_with(
    api: APIClient, holder: APIClient, run: TrainingRun
) -> None:
    profiles = [{"columns": {"temperature": [1.5, 2.5, None]}}]
    done = holder.post(address(run, "complete"), REPORT | {"reference_profiles": profiles}).json()
    reference = FeatureReference.objects.get()
    assert (str(reference.model_id), reference.created_by) == (done["model_id"], f"run:{run.pk}")
    window = {"window_start": "2026-01-01T00:00:00Z", "window_end": "2026-01-02T00:00:00Z"}
    given = {"model_id": done["model_id"], "columns": {"temperature": [2.0]}} | window
    assert api.post(f"{ROOT}/profiles/record", given).status_code == 200


def test_the_run_after_a_completed_one_is_the_next_version(
    api: APIClient, holder: APIClient, run: TrainingRun
) -> None:
    holder.post(address(run, "complete"), REPORT)
    again = api.post(f"{ROOT}/retrain/trigger", series_of(run) | {"reason": "r"}).json()
    second = TrainingRun.objects.get(pk=again["training_job_id"])
    listed = api.get(f"{ROOT}/training?training_status=pending&trainer=external").json()["results"]
    assert [one["id"] for one in listed] == [str(second.pk)]
    done = with_token(token_of(second)).post(address(second, "complete"), REPORT)
    assert done.json()["model_version"] == 2
