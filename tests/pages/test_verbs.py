"""What can be done from the page of a series: asked once more, by whom may, with a reason."""

from __future__ import annotations

import uuid
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from modelperf.models import Machine, ModelActivation, ModelVersion, TrainingRun
from modelperf.services import registry, training
from tests import factories
from tests.pages import worlds

PAGE = "/ui/model-performance"
RETRAIN, ACTIVATE, ROLL_BACK = (f"{PAGE}/{name}" for name in ("retrain", "activate", "roll-back"))
pytestmark = pytest.mark.django_db


@pytest.fixture
def served() -> ModelVersion:
    """Return the active version of two, after another."""
    machine = worlds.machine("pump 7")
    worlds.version(machine)
    return worlds.version(machine)


def client_of(user: User, *permissions: str) -> Client:
    """Return a browser of a user with these permissions."""
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def trainer(user: User) -> Client:
    return client_of(user, "add_trainingrun")


@pytest.fixture
def writer(user: User) -> Client:
    return client_of(user, "add_modelperformancemetric")


def of(machine: Machine) -> str:
    return f"?machine={machine.pk}&type=baseline"


def page(client: Client, machine: Machine) -> str:
    return unescape(client.get(PAGE, {"machine": machine.pk}).content.decode())


# --- what is offered ------------------------------------------------------------------------


def test_readers_are_offered_nothing_they_may_not_do(
    logged_in: Client, served: ModelVersion
) -> None:
    html = page(logged_in, served.machine)
    for address in (RETRAIN, ACTIVATE, ROLL_BACK):
        assert address not in html
    assert 'disabled title="This needs the scope train."' in html


def test_each_permission_offers_its_verbs(user: User, served: ModelVersion) -> None:
    trains = page(client_of(user, "add_trainingrun"), served.machine)
    assert f"{RETRAIN}{of(served.machine)}" in trains
    assert ACTIVATE not in trains
    user = User.objects.get(pk=user.pk)
    writes = page(client_of(user, "add_modelperformancemetric"), served.machine)
    assert RETRAIN not in writes
    assert f"{ROLL_BACK}{of(served.machine)}" in writes
    assert "Roll back to v1…" in writes
    first = ModelVersion.objects.get(model_version=1)
    assert f"{ACTIVATE}?model={first.pk}" in writes
    assert f"{ACTIVATE}?model={served.pk}" not in writes


def test_nothing_is_offered_on_a_retired_machine(superuser: User, served: ModelVersion) -> None:
    registry.retire_machine(machine=served.machine, by="tests")
    client = Client()
    client.force_login(superuser)
    html = page(client, served.machine)
    for address in (RETRAIN, ACTIVATE, ROLL_BACK):
        assert address not in html


def test_a_first_version_has_nothing_to_roll_back_to(writer: Client) -> None:
    machine = worlds.machine()
    worlds.version(machine)
    assert ROLL_BACK not in page(writer, machine)
    html = unescape(writer.get(f"{ROLL_BACK}{of(machine)}").content.decode())
    assert "No version is known to have served before" in html
    assert "<textarea" not in html
    assert writer.post(f"{ROLL_BACK}{of(machine)}", {"reason": "x"}).status_code == 409


# --- who may --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get", "post"])
def test_without_the_permission_every_verb_is_refused(
    user: User, served: ModelVersion, method: str
) -> None:
    wrong = {
        f"{RETRAIN}{of(served.machine)}": "add_modelperformancemetric",
        f"{ROLL_BACK}{of(served.machine)}": "add_trainingrun",
        f"{ACTIVATE}?model={served.pk}": "add_trainingrun",
    }
    for address, permission in wrong.items():
        client = client_of(User.objects.get(pk=user.pk), permission)
        assert getattr(client, method)(address, {"reason": "x"}).status_code == 403
        anonymous = getattr(Client(), method)(address, {"reason": "x"})
        assert anonymous["Location"].startswith("/login?next=")
    assert not TrainingRun.objects.exists()
    assert ModelActivation.objects.count() == 2


def test_a_post_needs_the_token(user: User, served: ModelVersion) -> None:
    client_of(user, "add_trainingrun")
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(user)
    assert strict.post(f"{RETRAIN}{of(served.machine)}", {"reason": "x"}).status_code == 403
    assert not TrainingRun.objects.exists()


def test_what_is_not_there_is_not_found(superuser: User) -> None:
    client = Client()
    client.force_login(superuser)
    machine = worlds.machine()
    for address in (
        RETRAIN,
        f"{RETRAIN}?machine={uuid.uuid4()}&type=baseline",
        f"{RETRAIN}{of(machine)}",
        f"{RETRAIN}?machine={machine.pk}&type=%00",
        f"{ROLL_BACK}?machine=pump&type=baseline",
        ACTIVATE,
        f"{ACTIVATE}?model=1",
        f"{ACTIVATE}?model={uuid.uuid4()}",
    ):
        assert client.get(address).status_code == 404, address
        assert client.post(address, {"reason": "x"}).status_code == 404, address


# --- retrain --------------------------------------------------------------------------------


def test_retrain_says_what_will_happen_and_asks_why(trainer: Client, served: ModelVersion) -> None:
    factories.PolicyFactory.create(
        trainer={"kind": "external"},
        training_window_days=90,
        after_training="test",
        test_duration_hours=48,
    )
    html = unescape(trainer.get(f"{RETRAIN}{of(served.machine)}").content.decode())
    assert "pump 7 · baseline" in html
    assert "The trainer “external” gets the 90 days until now." in html
    assert "tested against the active one for 48 h." in html
    assert "csrfmiddlewaretoken" in html
    assert not TrainingRun.objects.exists()


def test_retrain_asks_for_a_run_in_the_users_name(
    trainer: Client, user: User, served: ModelVersion
) -> None:
    answer = trainer.post(
        f"{RETRAIN}{of(served.machine)}", {"reason": "the works are over"}, follow=True
    )
    run = TrainingRun.objects.get()
    assert (run.machine, run.reason, run.trigger_type) == (
        served.machine,
        "the works are over",
        "manual",
    )
    assert run.triggered_by == f"user:{user.username}"
    assert answer.redirect_chain == [(f"{PAGE}{of(served.machine)}", 302)]
    html = unescape(answer.content.decode())
    assert "A training was asked for." in html
    assert f"asked for by {user.username}" in html
    assert "A training was asked for." not in page(trainer, served.machine)


@pytest.mark.parametrize("reason", ["", "   ", "x" * 2001])
def test_retrain_without_a_reason_is_asked_again(
    trainer: Client, served: ModelVersion, reason: str
) -> None:
    answer = trainer.post(f"{RETRAIN}{of(served.machine)}", {"reason": reason})
    assert answer.status_code == 422
    assert b'role="alert"' in answer.content
    assert not TrainingRun.objects.exists()


def test_retrain_that_is_refused_keeps_what_was_typed(
    trainer: Client, served: ModelVersion
) -> None:
    training.trigger(machine=served.machine, model_type="baseline", reason="first", by="user:ada")
    answer = trainer.post(f"{RETRAIN}{of(served.machine)}", {"reason": worlds.MARKUP})
    html = answer.content.decode()
    assert answer.status_code == 409
    assert "already in progress" in html
    assert worlds.MARKUP not in html
    assert worlds.MARKUP in unescape(html)
    assert TrainingRun.objects.count() == 1


# --- activate and roll back -----------------------------------------------------------------


def test_activate_swaps_the_version_and_keeps_the_reason(
    writer: Client, user: User, served: ModelVersion
) -> None:
    first = ModelVersion.objects.get(model_version=1)
    asked = unescape(writer.get(f"{ACTIVATE}?model={first.pk}").content.decode())
    assert "Version 1 serves in place of version 2 from now on." in asked
    assert ModelVersion.objects.get(is_active=True) == served
    answer = writer.post(f"{ACTIVATE}?model={first.pk}", {"reason": "calmer"}, follow=True)
    assert "Version 1 serves now." in answer.content.decode()
    assert ModelVersion.objects.get(is_active=True) == first
    newest = ModelActivation.objects.latest("activated_at")
    assert (newest.kind, newest.reason) == ("activated", "calmer")
    assert newest.activated_by == f"user:{user.username}"
    writer.post(f"{ACTIVATE}?model={served.pk}")
    assert ModelVersion.objects.get(is_active=True) == served


def test_activate_of_the_active_version_changes_nothing(
    writer: Client, served: ModelVersion
) -> None:
    answer = writer.post(f"{ACTIVATE}?model={served.pk}", {"reason": "x"})
    assert answer.status_code == 409
    assert "Version 2 is active already." in answer.content.decode()
    assert ModelActivation.objects.count() == 2


def test_roll_back_needs_a_reason_and_goes_back(
    writer: Client, user: User, served: ModelVersion
) -> None:
    address = f"{ROLL_BACK}{of(served.machine)}"
    asked = unescape(writer.get(address).content.decode())
    assert "Version 1 serves again in place of version 2, from now on." in asked
    assert writer.post(address, {"reason": " "}).status_code == 422
    assert ModelVersion.objects.get(is_active=True) == served
    answer = writer.post(address, {"reason": "it is worse"}, follow=True)
    assert "Rolled back: version 1 serves again." in answer.content.decode()
    newest = ModelActivation.objects.latest("activated_at")
    assert (newest.kind, newest.reason) == ("rolled_back", "it is worse")
    assert newest.activated_by == f"user:{user.username}"


def test_roll_back_on_a_retired_machine_says_so(writer: Client, served: ModelVersion) -> None:
    registry.retire_machine(machine=served.machine, by="tests")
    answer = writer.post(f"{ROLL_BACK}{of(served.machine)}", {"reason": "x"})
    assert answer.status_code == 409
    assert "Return it to service" in answer.content.decode()


# --- the training that goes on --------------------------------------------------------------


def test_a_run_tells_how_far_it_is_and_that_there_is_no_estimate(logged_in: Client) -> None:
    machine = factories.ModelVersionFactory.create().machine
    factories.TrainingRunFactory.create(
        machine=machine,
        running=True,
        attempt=2,
        trainer="command",
        progress_percent=40.4,
        progress_message="fitting",
    )
    html = page(logged_in, machine)
    assert '<progress max="100" value="40"' in html
    assert "40 %, fitting" in html
    assert "attempt 2" in html
    assert "No estimate: no past run." in html
    assert "js/live" in html


def test_an_estimate_is_told_and_so_is_that_it_was_wrong(logged_in: Client) -> None:
    machine = factories.ModelVersionFactory.create().machine
    past = factories.TrainingRunFactory.create(
        completed=True, machine=machine, training_duration_seconds=3600
    )
    now = worlds.midnight()
    run = factories.TrainingRunFactory.create(machine=machine, training_start=now + worlds.DAY)
    assert "Done by about" in page(logged_in, machine)
    TrainingRun.objects.filter(pk=run.pk).update(training_start=now - worlds.DAY)
    html = page(logged_in, machine)
    assert "Past runs would have been done by" in html
    assert past.training_duration_seconds == 3600


def test_nothing_is_read_again_where_no_run_goes_on(logged_in: Client) -> None:
    machine = worlds.looped()
    assert "<script" not in page(logged_in, machine)


def test_the_traceback_of_a_failed_run_is_not_on_the_page(superuser: User) -> None:
    run = factories.TrainingRunFactory.create(
        failed=True, error_traceback="File secret.py", training_log="PASSWORD"
    )
    factories.ModelVersionFactory.create(machine=run.machine)
    client = Client()
    client.force_login(superuser)
    html = page(client, run.machine)
    assert "no data" in html
    assert "secret.py" not in html
    assert "PASSWORD" not in html
