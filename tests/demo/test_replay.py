"""The replay: days in order, every version on the days after its training, and what is told."""

from datetime import date
from io import StringIO

import pytest
from django.core.management import call_command
from django.db.models import QuerySet

from modelperf.demo.evaluation import evaluate, held_back_days
from modelperf.demo.load import shift_of
from modelperf.demo.meters import MODEL_TYPE, REPLAYED
from modelperf.demo.readings import midnight
from modelperf.demo.replay import Replayed, replay, replayed_machine
from modelperf.demo.story import Story
from modelperf.models import ABTest, ModelPerformanceMetric, ModelVersion
from modelperf.services import ab_tests, metrics, registry, training

pytestmark = pytest.mark.django_db

JANUARY = [f"2017-01-{day:02}" for day in range(5, 32)]


def seen(step: list[Replayed]) -> list[tuple[str, int]]:
    return [(line.data_day, line.model_version) for line in step]


def versions() -> QuerySet[ModelVersion]:
    return ModelVersion.objects.of_series(machine_id=REPLAYED.machine_id, model_type=MODEL_TYPE)


def play(days: int) -> list[list[tuple[str, int]]]:
    """Replay some days, each by a replay that goes on where the one before ended."""
    return [seen(next(replay())) for _ in range(days)]


def train(up_to: date) -> ModelVersion:
    """Train a version on the days before the given one."""
    machine = replayed_machine()
    training.trigger(
        machine=machine,
        model_type=MODEL_TYPE,
        reason="The test asks for it.",
        data_start=midnight(REPLAYED.first_training[0], REPLAYED) + shift_of(machine),
        data_end=midnight(up_to, REPLAYED) + shift_of(machine),
        by="user:tests",
    )
    training.run_pending(machine=machine, by="user:tests")
    return versions().latest("model_version")


def test_replay_records_the_held_back_days_in_order_and_goes_on_where_it_ended(demo):
    step = next(replay())
    assert seen(step) == [(JANUARY[0], 1)]
    assert step[0].recorded.status == "created"
    assert step[0].recorded.verdict is not None
    assert play(3) == [[(day, 1)] for day in JANUARY[1:4]]
    going_on = replay()
    assert [seen(next(going_on)) for _ in range(2)] == [[(day, 1)] for day in JANUARY[4:6]]


def test_replay_judges_a_version_that_was_trained_meanwhile_from_its_first_day_on(demo):
    going_on = replay()
    for _ in range(5):
        next(going_on)
    train(up_to=date(2017, 1, 7))
    assert seen(next(going_on)) == [
        *((day, 2) for day in JANUARY[2:5]),
        (JANUARY[5], 1),
        (JANUARY[5], 2),
    ]
    assert seen(next(going_on)) == [(JANUARY[6], 1), (JANUARY[6], 2)]


def test_replay_judges_no_version_on_days_that_it_was_trained_on(demo):
    version = train(up_to=date(2017, 1, 7))
    assert play(3) == [
        [(JANUARY[0], 1)],
        [(JANUARY[1], 1)],
        [(JANUARY[2], 1), (JANUARY[2], 2)],
    ]
    run = version.training_runs.get()
    within = ModelPerformanceMetric.objects.filter(
        model=version, evaluation_start__lt=run.training_data_end
    )
    assert not within.exists()


def test_replay_at_its_end_still_judges_a_version_that_was_trained_last(demo):
    days = held_back_days(REPLAYED)
    first, shift = versions().get(), shift_of(replayed_machine())
    all_but_one = [evaluate(first, day, shift=shift) for day in days[:-1]]
    metrics.record_batch(evaluations=all_but_one, by="user:tests", judge=False)
    train(up_to=days[-2].day)
    last = [day.day.isoformat() for day in days[-2:]]
    assert [seen(step) for step in replay()] == [[(last[0], 2), (last[1], 1), (last[1], 2)]]
    train(up_to=days[-1].day)
    assert [seen(step) for step in replay()] == [[(last[1], 3)]]
    assert list(replay()) == []


def test_replay_demo_command_prints_each_verdict_and_stops_after_the_days_asked_for(demo):
    out = StringIO()
    call_command("replay_demo", days=2, every=0, stdout=out, skip_checks=True)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert "data of 2017-01-05" in lines[0]
    assert " Z " in lines[0]
    assert lines[-1] == "2 days recorded."


# --- the story ------------------------------------------------------------------------------


def test_story_tells_nothing_of_what_was_there_before(demo):
    assert Story(replayed_machine()).news() == []


def test_story_tells_of_trainings_tests_and_versions_once_and_in_the_datas_own_dates(demo):
    machine = replayed_machine()
    story = Story(machine)
    first = versions().get()
    second = train(up_to=date(2017, 4, 1))
    test = "A/B test of version 1 against version 2"
    assert story.news() == [
        "Training asked for by user:tests (manual): The test asks for it.",
        "Version 2 is trained on 11,903 readings (data of 2015-11-22 up to 2017-04-01).",
        f"{test} on the days from 2017-04-01 of the data on.",
    ]
    ab_tests.decide(test=ABTest.objects.get(model_b=second), decision="promote_b", by="user:tests")
    assert story.news() == [
        f"{test}: user:tests decided promote_b.",
        "Version 2 promoted in place of version 1.",
    ]
    registry.activate_model(model=first, by="user:tests")
    assert story.news() == ["Version 1 activated in place of version 2."]
    assert story.news() == []


def test_story_tells_why_a_training_failed(demo):
    machine = replayed_machine()
    story = Story(machine)
    training.trigger(
        machine=machine,
        model_type=MODEL_TYPE,
        reason="A window without readings.",
        data_start=midnight(date(1999, 1, 1), REPLAYED),
        data_end=midnight(date(1999, 6, 1), REPLAYED),
        by="user:tests",
    )
    training.run_pending(machine=machine, by="user:tests")
    _, *told = story.news()
    assert any(line.startswith("Alert: ") for line in told)
    (failed,) = [line for line in told if line.startswith("Training failed. ")]
    assert "holds no readings" in failed
