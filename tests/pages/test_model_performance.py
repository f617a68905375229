"""The page of a series, as its HTML says it."""

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from modelperf.models import Alert, Machine
from modelperf.services import ab_tests, alerts, registry, training
from tests import factories
from tests.pages import worlds

PAGE = "/ui/model-performance"
pytestmark = pytest.mark.django_db


def text_of(response: Any) -> str:
    """Return the words of the main part, without markup."""
    main = response.content.decode().split("<main", 1)[1].split("</main>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", main))


def show(client: Client, **query: object) -> str:
    response = client.get(PAGE, query)
    assert response.status_code == 200
    return text_of(response)


def test_page_without_login_redirects_to_login() -> None:
    response = Client().get(PAGE, {"days": 7})

    assert response.status_code == 302
    assert response["Location"] == "/login?next=/ui/model-performance%3Fdays%3D7"


def test_page_without_machines_shows_how_to_register_with_readers_address(
    logged_in: Client,
) -> None:
    text = show(logged_in)

    assert "No machine yet" in text
    assert "curl -X POST http://testserver/api/v1/model-performance/machines" in text


def test_page_of_degraded_series_says_since_when_and_how_much(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(80, fall=0.03, at=60))

    text = show(logged_in, machine=model.machine_id)

    changed = worlds.midnight() - timedelta(days=20)
    assert f"Degraded since {changed.day} {changed:%b %Y}" in text
    assert re.search(r"R² of v1 went from 0\.(89|90)\d to 0\.8[67]\d", text)
    assert re.search(r"Z reached [\d.]+ against a limit of 3\.90 over 80 evaluations", text)
    assert re.search(r"Mean 0\.(89|90)\d before .* and 0\.8[67]\d since", text)


def test_page_without_machine_chosen_shows_the_worst_series(logged_in: Client) -> None:
    worlds.series(worlds.noisy(80), name="a fine one")
    worlds.series(worlds.noisy(80, fall=0.03, at=60), name="a worse one")

    response = logged_in.get(PAGE)

    assert re.search(r"<h1>a worse one", response.content.decode())


def test_page_of_stable_series_tells_its_mean_of_the_period(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(60))

    text = show(logged_in, machine=model.machine_id)

    assert "No change found in the R² of v1" in text
    assert re.search(r"It is 0\.(89|90)\d on average in this period", text)


def test_page_of_short_series_says_how_much_is_missing(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(12))

    text = show(logged_in, machine=model.machine_id)

    assert "Not enough data. 12 evaluations of the R² of v1, 18 more needed" in text
    assert "Stable" not in text


def test_page_of_improved_series_is_no_alarm(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(80, fall=-0.03, at=60, level=0.8))

    text = show(logged_in, machine=model.machine_id)

    assert "Improved since" in text
    assert "Unresolved alerts of this series and of the fleet None." in text


def test_page_of_collapsed_series_says_so(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(40, fall=3.0, at=38))

    assert "Collapsed since" in show(logged_in, machine=model.machine_id)


def test_page_of_crossed_limit_says_limit_although_nothing_changed(logged_in: Client) -> None:
    factories.PolicyFactory.create(limit_value=0.95)
    model = worlds.series(worlds.noisy(40))

    text = show(logged_in, machine=model.machine_id)

    assert "Limit crossed" in text
    assert re.search(r"the limit 0\.95", text)


def test_page_of_silent_series_is_old_and_never_stable(logged_in: Client) -> None:
    last = worlds.midnight() - timedelta(days=30)
    model = worlds.series(worlds.noisy(60), last_end=last)

    text = show(logged_in, machine=model.machine_id)

    assert "Old The last evaluation is of" in text
    assert "Stale" not in text  # no policy says how often evaluations come
    assert re.search(r"no evaluations, 3[01] d", text)
    assert "Stable Old" not in text
    assert "Before that: no change found" in text


def test_page_of_silent_degraded_series_is_both(logged_in: Client) -> None:
    last = worlds.midnight() - timedelta(days=30)
    model = worlds.series(worlds.noisy(80, fall=0.03, at=60), last_end=last)

    text = show(logged_in, machine=model.machine_id)

    assert "Degraded Old Degraded since" in text
    assert "The last evaluation is of" in text


def test_page_with_expected_cadence_is_stale_after_twice_of_it(logged_in: Client) -> None:
    factories.PolicyFactory.create(expected_cadence_seconds=86400)
    model = worlds.series(worlds.noisy(60), last_end=worlds.midnight() - timedelta(days=3))

    text = show(logged_in, machine=model.machine_id)

    assert "Stale Nothing has arrived since" in text
    factories.PolicyFactory.create().delete()
    assert "Stale" not in show(logged_in, machine=model.machine_id)


def test_page_of_stale_series_foretells_nothing(logged_in: Client) -> None:
    factories.PolicyFactory.create(expected_cadence_seconds=86400, limit_value=0.7)
    falling = [level - 0.002 * i for i, level in enumerate(worlds.noisy(60))]
    fresh = worlds.series(falling)
    stale = worlds.series(falling, name="b", last_end=worlds.midnight() - timedelta(days=9))

    assert "If it goes on like this" in show(logged_in, machine=fresh.machine_id)
    assert "If it goes on like this" not in show(logged_in, machine=stale.machine_id)


def test_page_draws_and_tells_the_limit(logged_in: Client) -> None:
    policy = factories.PolicyFactory.create(limit_value=0.85)
    model = worlds.series(worlds.noisy(60))

    response = logged_in.get(PAGE, {"machine": model.machine_id})
    assert '<line class="limit"' in response.content.decode()
    assert "The limit is 0.850." in text_of(response)

    policy.limit_value = 0.1
    policy.save()
    response = logged_in.get(PAGE, {"machine": model.machine_id})
    assert '<line class="limit"' not in response.content.decode()
    assert "The limit is 0.100, beyond what is drawn." in text_of(response)


def test_page_says_one_day_of_the_last_evaluation(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(60))
    yesterday = worlds.midnight() - timedelta(days=1)

    text = show(logged_in, machine=model.machine_id)

    told = f"{yesterday.day} {yesterday:%b %Y}"
    assert f"Last evaluation {told}" in text
    assert f"Latest evaluation v1, {told}" in text


def test_page_of_machine_without_model_shows_how_to_register_one(logged_in: Client) -> None:
    machine = worlds.machine()

    text = show(logged_in, machine=machine.pk)

    assert "No model is registered" in text
    assert str(machine.pk) in text
    assert "no model registered" in text


def test_page_of_model_without_evaluation_shows_how_to_record_one(logged_in: Client) -> None:
    model = worlds.version(worlds.machine())

    text = show(logged_in, machine=model.machine_id)

    assert "No evaluation yet" in text
    assert "/metrics/record" in text
    assert str(model.pk) in text


def test_page_of_series_without_active_version_says_so(logged_in: Client) -> None:
    model = worlds.version(worlds.machine(), active=False)
    worlds.record(model, worlds.noisy(40))

    text = show(logged_in, machine=model.machine_id)

    assert "No version is active" in text


def test_page_of_empty_period_offers_the_whole(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(40), last_end=worlds.midnight() - timedelta(days=60))

    response = logged_in.get(PAGE, {"machine": model.machine_id, "days": 7})

    assert "No evaluation ended in the last 7 days" in text_of(response)
    assert b"days=3660" in response.content


@pytest.mark.parametrize("machine", [uuid.uuid4(), "pump-1", "' OR 1=1 --", "%00"])
def test_page_of_unknown_machine_is_404_without_numbers_of_another(
    logged_in: Client, machine: object
) -> None:
    worlds.series(worlds.noisy(80, fall=0.03, at=60))

    response = logged_in.get(PAGE, {"machine": machine})

    assert response.status_code == 404
    text = text_of(response)
    assert "Machine not found" in text
    assert "Degraded" not in text
    assert "0.90" not in text


@pytest.mark.parametrize("days", ["0", "-1", "3661", "1e9", "abc", "³", "99999999999999999999"])
def test_page_of_impossible_period_says_what_to_send(logged_in: Client, days: str) -> None:
    model = worlds.series(worlds.noisy(40))

    response = logged_in.get(PAGE, {"machine": model.machine_id, "days": days})

    assert response.status_code == 422
    assert "The period must be a whole number of days from 1 to 3,660." in text_of(response)
    assert b"<figure>" not in response.content


def test_page_of_type_that_the_machine_lacks_names_those_it_has(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(40))

    text = show(logged_in, machine=model.machine_id, type="anomaly")

    assert "No model of type anomaly serves this machine. It has baseline ." in text


def test_page_of_unreported_metric_shows_the_judged_one_and_says_so(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(40))

    text = show(logged_in, machine=model.machine_id, metric="f1_score")

    assert "reports “f1_score”; R² is shown" in text


def test_page_of_chosen_metric_draws_it_without_the_verdict_of_another(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(80, fall=0.03, at=60))

    response = logged_in.get(PAGE, {"machine": model.machine_id, "metric": "rmse"})

    figure = response.content.decode().split("<figure>")[1].split("</figure>")[0]
    assert "RMSE" in figure
    assert "changed" not in figure


def test_page_lists_machines_without_evaluations_and_hides_retired_ones(logged_in: Client) -> None:
    worlds.series(worlds.noisy(40), name="seen")
    worlds.machine("never evaluated")
    registry.retire_machine(machine=worlds.machine("gone"), by=worlds.BY)

    text = show(logged_in)

    assert "never evaluated" in text
    assert "gone" not in text


def test_page_of_retired_machine_shows_its_history_with_a_notice(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(40), name="gone")
    registry.retire_machine(machine=model.machine, by=worlds.BY)

    text = show(logged_in, machine=model.machine_id)

    assert "This machine is retired" in text
    assert "gone (retired)" in text


def test_page_shows_stored_markup_as_text(logged_in: Client) -> None:
    machine = worlds.machine(
        worlds.MARKUP,
        location=worlds.MARKUP,
        metadata={"notice": worlds.MARKUP, worlds.MARKUP: worlds.MARKUP, "unit": worlds.MARKUP},
    )
    model = worlds.version(machine)
    worlds.record(model, worlds.noisy(80, fall=0.03, at=60), evaluation_notes=worlds.MARKUP)
    factories.AlertFactory.create(model=model, alert_message=worlds.MARKUP)
    training.trigger(machine=machine, model_type="baseline", reason=worlds.MARKUP, by=worlds.BY)
    other = worlds.version(machine, active=False)
    ab_tests.start(
        test_name=worlds.MARKUP,
        machine=machine,
        model_type="baseline",
        model_a=model,
        model_b=other,
        by=worlds.BY,
    )

    html = logged_in.get(PAGE, {"machine": machine.pk, "find": worlds.MARKUP}).content.decode()

    assert "<script>" not in html
    assert html.count("<script") == 1  # the page's own, while the run is unfinished
    assert "<b>bold" not in html
    assert html.count("&lt;script&gt;alert(1)") >= 7


def test_page_has_no_inline_script_or_style_and_no_other_host(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(80, fall=0.03, at=60))

    response = logged_in.get(PAGE, {"machine": model.machine_id})

    html = response.content.decode()
    assert " style=" not in html
    assert "<style" not in html
    assert "<script" not in html
    assert not re.findall(r'(?:href|src)="(?:https?:)?//', html)
    assert "default-src 'none'" in response["Content-Security-Policy"]


def test_page_calls_samples_samples(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(40))

    text = show(logged_in, machine=model.machine_id)

    assert "Samples in it 1,440" in text
    assert "prediction" not in text.lower()


def test_page_shows_sample_count_that_was_not_given_as_not_reported(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(40), sample_count=0)

    assert "Samples in it not reported" in show(logged_in, machine=model.machine_id)


def test_page_tells_demo_notice_and_shifted_dates(logged_in: Client) -> None:
    machine = worlds.machine(
        metadata={
            "notice": "Simulated usage on real weather.",
            "demo": {"shift_weeks": 458},
            "known_change": {
                "date": "2017-01-04",
                "shown_as": f"{worlds.midnight() - timedelta(days=20):%Y-%m-%d}",
            },
        }
    )
    worlds.record(worlds.version(machine), worlds.noisy(40))

    text = show(logged_in, machine=machine.pk)

    assert "Simulated usage on real weather. All dates are moved forward by 458 weeks" in text
    assert "known change" in text


def test_page_shows_versions_challengers_and_the_running_test(logged_in: Client) -> None:
    machine = worlds.machine()
    first = worlds.version(machine)
    second = worlds.version(machine, active=False)
    worlds.record(first, worlds.noisy(60))
    worlds.record(second, worlds.noisy(40, level=0.95))
    ab_tests.start(
        test_name="is it better",
        machine=machine,
        model_type="baseline",
        model_a=first,
        model_b=second,
        test_start=timezone.now() - timedelta(days=39),
        duration_hours=2000,
        by=worlds.BY,
    )

    response = logged_in.get(PAGE, {"machine": machine.pk})

    text = text_of(response)
    assert "v1 · active" in text
    assert "Running is it better v1 against v2" in text
    assert 'class="l3"' in response.content.decode()
    assert "a version beside the active one" in text


def test_page_shows_alerts_of_the_fleet_beside_those_of_the_series(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(40))
    other = worlds.series(worlds.noisy(40), name="another")
    factories.AlertFactory.create(model=model, alert_message="its own")
    factories.AlertFactory.create(model=other, alert_message="a stranger's")
    factories.AlertFactory.create(fleet=True, alert_message="everybody's", severity="critical")
    factories.AlertFactory.create(model=model, resolved=True, alert_message="long over")

    text = show(logged_in, machine=model.machine_id)

    assert text.index("everybody&#x27;s Fleet") < text.index("its own")
    assert "a stranger" not in text
    assert "long over" not in text.partition("What happened")[0]


def test_page_shows_alerts_of_the_fleet_of_its_own_type_alone(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(40))
    factories.AlertFactory.create(fleet=True, model_type="forecast", alert_message="others fell")

    assert "others fell" not in show(logged_in, machine=model.machine_id)


def test_page_counts_evaluations_only_since_a_change(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(40))
    for alert_type, rule in [
        ("drift_detected", "change_point"),
        ("performance_degradation", "limit"),
        ("data_drift", "data_drift"),
        ("evaluation_missing", "evaluation_missing"),
    ]:
        factories.AlertFactory.create(
            model=model, alert_type=alert_type, occurrences=7, alert_details={"rule": rule}
        )
    factories.AlertFactory.create(
        fleet=True, occurrences=51, alert_details={"rule": "change_point"}
    )

    text = show(logged_in, machine=model.machine_id)

    assert text.count("7 evaluations since") == 2
    assert "7 evaluations since the change" in text
    assert "7 evaluations since it was crossed" in text
    assert "51" not in text


@pytest.mark.parametrize("is_shared", [False, True])
def test_state_has_data_drift_beside_it(logged_in: Client, is_shared: bool) -> None:
    model = worlds.series(worlds.noisy(40))
    worlds.series(worlds.noisy(40), name="another")
    alert = factories.AlertFactory.create(
        **{"fleet": True} if is_shared else {"model": model}, alert_type="data_drift"
    )
    if is_shared:
        alert.members.create(
            machine=model.machine, model=model, condition_key="a", joined_at=timezone.now()
        )

    text = show(logged_in, machine=model.machine_id)

    assert "baseline Stable Data drift No change found" in text
    assert text.count("Stable Data drift") == 2  # in the head and in the list
    alerts.resolve(alert=alert, by="user:ada", action="false_alarm")
    assert "Data drift" not in show(logged_in, machine=model.machine_id)


def test_state_has_missing_evaluations_beside_it_unless_stale_says_so(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(40), last_end=worlds.midnight() - timedelta(days=3))
    factories.AlertFactory.create(model=model, alert_type="evaluation_missing")
    assert "Stable Evaluations missing" in show(logged_in, machine=model.machine_id)

    factories.PolicyFactory.create(expected_cadence_seconds=86400)
    text = show(logged_in, machine=model.machine_id)
    assert "Stale" in text
    assert "Evaluations missing" not in text


def test_page_of_degradation_that_a_person_resolved_says_who_and_what(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(80, fall=0.03, at=60))
    alert = Alert.objects.get(machine_id=model.machine_id)
    seen = show(logged_in, machine=model.machine_id)
    assert f"{alert.occurrences} evaluations since the change" in seen

    alerts.resolve(alert=alert, by="user:ada", action="false_alarm")

    text = show(logged_in, machine=model.machine_id)
    assert re.search(r"None open. This change was resolved by ada on .*: False alarm\.", text)


def test_page_tells_the_slope_of_a_percentage_in_points(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(60, level=12.0), metric="mape", only=True)

    text = show(logged_in, machine=model.machine_id)

    assert re.search(r"Trend, MAPE no slope −?[\d.]+ points a day", text)


def test_page_names_the_leader_of_a_running_test_and_how_to_decide(logged_in: Client) -> None:
    first = worlds.series([value + 0.2 for value in worlds.noisy(40)], metric="mae", only=True)
    second = worlds.version(first.machine, active=False)
    worlds.record(second, worlds.noisy(40), metric="mae", only=True)
    started = ab_tests.start(
        test_name="better?",
        machine=first.machine,
        model_type="baseline",
        model_a=first,
        model_b=second,
        test_start=worlds.midnight() - timedelta(days=40),
        duration_hours=24 * 60,
        by=worlds.BY,
    )

    text = show(logged_in, machine=first.machine_id)

    assert "Leader: v2." in text
    assert f"POST /ab-test/{started.test.pk}/decision" in text


def test_table_has_the_judged_metric_second_and_a_short_window(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(12))

    html = logged_in.get(PAGE, {"machine": model.machine_id}).content.decode()

    assert re.search(r"Window, UTC</th><th[^>]*>R²</th>", html)
    last = worlds.midnight() - timedelta(days=1)
    assert f">{last.day} {last:%b %y} <span" in html


def test_page_shows_confusion_counts_of_a_classifier(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(40), metric="f1_score", true_positives=17)

    text = show(logged_in, machine=model.machine_id)

    assert "True positives 17" in text


def test_page_shows_failed_training_with_its_error(user: User, logged_in: Client) -> None:
    user.user_permissions.add(Permission.objects.get(codename="change_trainingrun"))
    model = worlds.series(worlds.noisy(40))
    factories.TrainingRunFactory.create(
        machine=model.machine, failed=True, error_message="no readings in the window"
    )

    text = show(logged_in, machine=model.machine_id)

    assert "Failed" in text
    assert "no readings in the window" in text


def test_page_finds_machines_by_a_part_of_their_name(logged_in: Client) -> None:
    worlds.series(worlds.noisy(40), name="pump north")
    worlds.series(worlds.noisy(40), name="fan south")

    text = show(logged_in, find="NORTH")

    assert "pump north" in text
    assert "fan south" not in text


def test_page_of_a_name_nobody_has_offers_all(logged_in: Client) -> None:
    worlds.machine()

    assert "No machine is called “turbine”" in show(logged_in, find="turbine")


def test_page_of_many_machines_is_cut_and_says_so(
    logged_in: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelperf.pages.fleet.MOST_MACHINES", 2)
    for name in ("a", "b", "c"):
        worlds.machine(name)
    last = Machine.objects.get(name="c")

    text = show(logged_in, machine=last.pk)

    assert "machines by name" in text
    assert "c pump" in text


def test_page_default_period_follows_the_window_length(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(40))

    html = logged_in.get(PAGE, {"machine": model.machine_id}).content.decode()

    assert '<option value="730" selected>2 years</option>' in html


def test_page_keeps_an_unusual_period_in_its_picker(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(40))

    html = logged_in.get(PAGE, {"machine": model.machine_id, "days": 45}).content.decode()

    assert '<option value="45" selected>45 days</option>' in html


def test_page_is_kept_by_no_cache(logged_in: Client) -> None:
    response = logged_in.get(PAGE)

    assert "no-store" in response["Cache-Control"]
    assert "private" in response["Cache-Control"]


def test_page_refuses_posts(logged_in: Client) -> None:
    assert logged_in.post(PAGE).status_code == 405


def test_page_links_alerts_to_the_admin_for_staff_only(logged_in: Client, superuser: User) -> None:
    model = worlds.series(worlds.noisy(40))
    alert = factories.AlertFactory.create(model=model)
    link = f"/admin/modelperf/alert/{alert.pk}/change/"
    staff = Client()
    staff.force_login(superuser)

    assert link not in logged_in.get(PAGE).content.decode()
    assert link in staff.get(PAGE).content.decode()


def test_page_needs_the_same_queries_for_one_series_and_for_many(logged_in: Client) -> None:
    model = worlds.series(worlds.noisy(80, fall=0.03, at=60))
    with CaptureQueriesContext(connection) as few:
        logged_in.get(PAGE, {"machine": model.machine_id})
    for i in range(5):
        other = worlds.series(worlds.noisy(40), name=f"other {i}")
        worlds.version(model.machine, active=False)
        factories.AlertFactory.create(model=other)
        factories.AlertFactory.create(model=model)

    with CaptureQueriesContext(connection) as many:
        logged_in.get(PAGE, {"machine": model.machine_id})

    # session, user; machines, the chosen one, series, active versions with states, latest rows,
    # policies, alerts beside the states; of the trend: evaluations, active version, policy; A/B
    # tests, versions, alerts, training runs; of the story: alerts, their openings and endings,
    # activations; the user's permissions, his own and his groups'
    assert len(few) == len(many) == 21


def test_page_of_metric_without_direction_draws_it_and_judges_nothing(logged_in: Client) -> None:
    model = worlds.version(worlds.machine())
    worlds.record(model, worlds.noisy(40), metric="oddity", only=True)

    text = show(logged_in, machine=model.machine_id)

    assert "Not judged yet" in text
    assert "oddity of 40 evaluations" in text


@pytest.mark.parametrize("known", ["2017", "2017-02-31", 3, None, ""])
def test_page_with_an_unreadable_known_change_leaves_it_out(
    logged_in: Client, known: object
) -> None:
    machine = worlds.machine(metadata={"known_change": {"shown_as": known}})
    worlds.record(worlds.version(machine), worlds.noisy(40))

    assert "known change" not in show(logged_in, machine=machine.pk)
