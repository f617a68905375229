"""Observations of A/B tests: stored once a unit, weighed in order, refused once a test is over."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from scipy import stats

from modelperf.models import ABLook, ABObservation, ABRowState, ABTest, ModelVersion
from modelperf.services import ab_tests, ab_tests_observations, metrics
from modelperf.services.ab_tests_assignment import assign
from modelperf.services.ab_tests_evidence import MOST_LOOKS, over_time
from modelperf.services.ab_tests_observations import Observation, Observed
from modelperf.services.ab_tests_results import ratio_of
from modelperf.services.errors import ConflictError, InvalidError
from modelperf.stats import sequential
from modelperf.stats.row_losses import paired_rows
from tests.factories import ABTestFactory, ModelVersionFactory
from tests.services.builders import noisy, series
from tests.services.concurrency import at_once

pytestmark = pytest.mark.django_db

SHARED = np.random.default_rng(40).normal(0, 1, 3000)
LOSS_A = ((SHARED + 0.4 * np.random.default_rng(41).normal(0, 1, 3000)) ** 2).tolist()
LOSS_B = (SHARED**2).tolist()
# Of test 0192a000-0000-7000-8000-000000000001, units 0 to 19.
EXPECTED = "baaabbbbbbbbaababaab"


def observe(test: ABTest, rows: list[Observation], by: str = "user:ada") -> Observed:
    return ab_tests_observations.observe(test=test, observations=rows, by=by)


def pairs(begin: int, end: int) -> list[Observation]:
    return [
        Observation(unit=f"row {n}", loss_a=LOSS_A[n], loss_b=LOSS_B[n]) for n in range(begin, end)
    ]


def arms(test: ABTest, begin: int, end: int, *, factor: float = 1.0) -> list[Observation]:
    """Return rows of the arm that each unit is assigned to; losses of A times a factor."""
    rows = []
    for n in range(begin, end):
        arm = assign(test=test, unit=f"row {n}").arm
        loss = factor * LOSS_B[n] if arm == "model_a" else LOSS_B[n]
        rows.append(Observation(unit=f"row {n}", arm=arm, loss=loss))  # type: ignore[arg-type]
    return rows


@pytest.fixture
def test() -> ABTest:
    return ABTestFactory.create()


def kept(test: ABTest) -> tuple[list[Any], dict[str, Any]]:
    """Return the looks and the state of a test as they are stored."""
    looks = ABLook.objects.filter(test=test).order_by("rows")
    names = ("rows", "n", "mean_difference", "low", "high", "e_value", "p_value")
    return list(looks.values_list(*names)), ABRowState.objects.get(test=test).fold


# --- storing ----------------------------------------------------------------------------------


def test_pairs_are_stored_in_order_and_weighed(test: ABTest) -> None:
    answer = observe(test, pairs(0, 700))
    assert (answer.created, answer.unchanged, answer.revised) == (700, 0, 0)
    assert (answer.rows_a, answer.rows_b, answer.outcome, answer.needed) == (
        700,
        700,
        "model_b",
        None,
    )
    stored = ABObservation.objects.filter(test=test).order_by("id")
    assert list(stored.values_list("unit", flat=True)) == [f"row {n}" for n in range(700)]
    direct = paired_rows(LOSS_A[:700], LOSS_B[:700])
    looks = ABLook.objects.filter(test=test)
    assert [look.rows for look in looks] == direct.ns.tolist()
    assert [look.e_value for look in looks] == pytest.approx(direct.e_values.tolist(), rel=1e-12)
    assert [look.low for look in looks][1:] == pytest.approx(direct.lows[1:].tolist(), rel=1e-12)


def test_few_rows_say_how_many_are_needed(test: ABTest) -> None:
    answer = observe(test, pairs(0, 30))
    assert (answer.outcome, answer.needed) == ("undecided", 70)


@pytest.mark.parametrize("size", [37, 500])
def test_batches_are_weighed_like_all_at_once(test: ABTest, size: int) -> None:
    other = ABTestFactory.create()
    observe(other, pairs(0, 1000))
    for begin in range(0, 1000, size):
        observe(test, pairs(begin, min(begin + size, 1000)))
    looks, fold = kept(test)
    expected, whole = kept(other)
    assert np.array(looks, dtype=float) == pytest.approx(
        np.array(expected, dtype=float), rel=1e-9, nan_ok=True
    )
    assert (fold["outcome"], fold["decided_at"]) == (whole["outcome"], whole["decided_at"])


def test_the_same_again_changes_nothing(test: ABTest) -> None:
    observe(test, pairs(0, 200))
    before = kept(test)
    answer = observe(test, pairs(0, 200))
    assert (answer.created, answer.unchanged, answer.revised) == (0, 200, 0)
    assert kept(test) == before
    answer = observe(test, pairs(100, 300))
    assert (answer.created, answer.unchanged) == (100, 100)
    fresh = ABTestFactory.create()
    observe(fresh, pairs(0, 200))
    observe(fresh, pairs(200, 300))
    assert kept(test) == kept(fresh)
    assert observe(test, pairs(0, 1) * 2).unchanged == 1


def test_a_correction_is_a_revision_that_keeps_the_old_loss(test: ABTest) -> None:
    wrong = pairs(0, 400)
    wrong[7].loss_a = 1e6
    observe(test, wrong[:150])
    observe(test, wrong[150:])
    answer = observe(test, pairs(0, 400))
    assert (answer.created, answer.unchanged, answer.revised) == (0, 399, 1)
    row = ABObservation.objects.get(test=test, unit="row 7")
    assert (row.loss_a, row.revision) == (LOSS_A[7], 2)
    assert [(one["loss_a"], one["by"]) for one in row.replaced] == [(1e6, "user:ada")]
    assert datetime.fromisoformat(row.replaced[0]["at"]) <= timezone.now()
    fresh = ABTestFactory.create()
    observe(fresh, pairs(0, 400))
    looks, fold = kept(test)
    expected, whole = kept(fresh)
    assert np.array(looks, dtype=float) == pytest.approx(
        np.array(expected, dtype=float), rel=1e-9, nan_ok=True
    )
    assert fold["decided_at"] == whole["decided_at"]


def test_new_rows_in_a_correcting_batch_come_last(test: ABTest) -> None:
    first = pairs(0, 100)
    first[0].loss_b = 5.0
    observe(test, first)
    answer = observe(test, [*pairs(100, 120), *pairs(0, 1)])
    assert (answer.created, answer.revised, answer.rows_a) == (20, 1, 120)
    fresh = ABTestFactory.create()
    observe(fresh, pairs(0, 120))
    for name in ("products", "tail"):
        assert kept(test)[1]["a"][name] == pytest.approx(kept(fresh)[1]["a"][name])


def test_the_forms_do_not_mix(test: ABTest) -> None:
    observe(test, pairs(0, 1))
    with pytest.raises(ConflictError, match="do not mix") as caught:
        observe(test, arms(test, 5, 6))
    assert caught.value.state == {"form": "pairs"}
    with pytest.raises(InvalidError, match="alike") as refused:
        observe(test, [*pairs(1, 2), *arms(test, 5, 6)])
    assert [error.loc for error in refused.value.errors] == [("body", 1)]
    assert ABObservation.objects.count() == 1


@pytest.mark.parametrize(
    "row",
    [
        Observation(unit="u"),
        Observation(unit="u", loss_a=1.0),
        Observation(unit="u", arm="model_a"),
        Observation(unit="u", loss=1.0),
        Observation(unit="u", loss_a=1.0, loss_b=1.0, loss=1.0),
        Observation(unit="u", loss_a=1.0, arm="model_b", loss=1.0),
    ],
)
def test_a_row_of_neither_form_is_refused(test: ABTest, row: Observation) -> None:
    with pytest.raises(InvalidError, match="alike"):
        observe(test, [row])


def test_a_unit_with_two_values_in_a_batch_is_refused(test: ABTest) -> None:
    rows = [*pairs(0, 3), Observation(unit="row 1", loss_a=9.0, loss_b=1.0)]
    with pytest.raises(InvalidError, match="two values") as caught:
        observe(test, rows)
    assert caught.value.errors[0].loc == ("body", 3, "unit")
    assert not ABObservation.objects.exists()


def test_a_unit_of_the_other_arm_is_refused_with_the_whole_batch(test: ABTest) -> None:
    observe(test, [Observation(unit="u", arm="model_b", loss=1.0)])
    rows = [
        Observation(unit="new", arm="model_a", loss=1.0),
        Observation(unit="u", arm="model_a", loss=1.0),
    ]
    with pytest.raises(ConflictError, match="model_b") as caught:
        observe(test, rows)
    assert caught.value.state == {"unit": "u", "arm": "model_b"}
    assert ABObservation.objects.count() == 1


def test_tests_do_not_share_units(test: ABTest) -> None:
    other = ABTestFactory.create()
    observe(test, pairs(0, 10))
    assert observe(other, pairs(0, 10)).created == 10


@pytest.mark.parametrize("status", ["planned", "completed", "cancelled"])
def test_a_test_that_does_not_run_takes_none(status: str) -> None:
    ended = ABTestFactory.create(test_status=status)
    with pytest.raises(ConflictError, match=status):
        observe(ended, pairs(0, 1))
    assert not ABObservation.objects.exists()


def test_a_test_whose_end_has_passed_takes_none() -> None:
    start = timezone.now() - timedelta(hours=3)
    over = ABTestFactory.create(test_start=start, test_end=start + timedelta(hours=2))
    with pytest.raises(ConflictError, match="no more observations"):
        observe(over, pairs(0, 1))


@pytest.mark.django_db(transaction=True)
def test_batches_at_once_are_all_counted() -> None:
    test = ABTestFactory.create()
    same = at_once(6, lambda n: observe(test, pairs(100 * (n // 2), 100 * (n // 2) + 100)))
    assert [one for one in same if isinstance(one, Exception)] == []
    assert sum(one.created for one in same if isinstance(one, Observed)) == 300
    assert sum(one.unchanged for one in same if isinstance(one, Observed)) == 300
    state = ABRowState.objects.get()
    order = list(ABObservation.objects.order_by("id").values_list("loss_a", "loss_b"))
    direct = paired_rows(*np.array(order).T)
    assert state.rows_a == 300
    looks = ABLook.objects.values_list("e_value", flat=True)
    assert list(looks) == pytest.approx(direct.e_values.tolist(), rel=1e-9)


@pytest.mark.django_db(transaction=True)
def test_observing_and_ending_at_once_leaves_no_row_out_of_the_result() -> None:
    test = ABTestFactory.create()
    observe(test, pairs(0, 100))

    def act(n: int) -> object:
        if n == 0:
            return ab_tests.complete(test=test, by="user:ada")
        return observe(test, pairs(100 * n, 100 * n + 100))

    at_once(5, act)
    test.refresh_from_db()
    assert test.test_status == "completed"
    assert test.evidence["rows_a"] == ABObservation.objects.count()


# --- results ----------------------------------------------------------------------------------


def test_observations_decide_where_there_are_any(test: ABTest) -> None:
    for model, level in ((test.model_a, 1.0), (test.model_b, 9.0)):
        metrics.record_batch(evaluations=series(model, noisy(1, 30, level=level)), by="a")
    ABTest.objects.filter(pk=test.pk).update(test_start=datetime.fromisoformat("2026-01-01T00Z"))
    test.refresh_from_db()
    assert ab_tests.results(test=test).evidence["source"] == "windows"
    observe(test, pairs(0, 700))
    found = ab_tests.results(test=test)
    assert (found.evidence["source"], found.metric, found.winner) == (
        "observations",
        "loss",
        "model_b",
    )
    assert found.model_a_metrics["sample_count"] == 700
    assert found.model_a_metrics["mae"] == pytest.approx(1, rel=0.1)
    looks = found.evidence["over_time"]
    assert [look["n"] for look in looks] == [*range(50, 701, 50)]
    assert looks[-1]["p_value"] == pytest.approx(1 - found.confidence)
    assert datetime.fromisoformat(looks[0]["at"]) <= timezone.now()
    assert "Promote v2: its loss is better on 700 rows" in found.recommendation
    assert found.sample_ratio["checked"] is False


def test_window_looks_have_their_times(test: ABTest) -> None:
    ABTest.objects.filter(pk=test.pk).update(test_start=datetime.fromisoformat("2026-01-01T00Z"))
    test.refresh_from_db()
    for model in (test.model_a, test.model_b):
        metrics.record_batch(evaluations=series(model, noisy(1, 12)), by="a")
    looks = ab_tests.results(test=test).evidence["over_time"]
    assert [look["at"] for look in looks][:2] == ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]
    assert len(looks) == 12


def test_arms_find_the_better_one_and_check_the_split(test: ABTest) -> None:
    observe(test, arms(test, 0, 3000, factor=4.0))
    found = ab_tests.results(test=test)
    assert (found.winner, found.evidence["design"]) == ("model_b", "two_sample")
    ratio = found.sample_ratio
    assert (ratio["checked"], ratio["is_off"]) == (True, False)
    assert sum(ratio["rows"]) == 3000
    assert "rows an arm" in found.recommendation


def test_a_split_that_is_off_blocks_the_winner(test: ABTest) -> None:
    rows = [
        row
        for n, row in enumerate(arms(test, 0, 3000, factor=4.0))
        if row.arm != "model_b" or n % 3
    ]
    observe(test, rows)
    found = ab_tests.results(test=test)
    assert found.evidence["outcome"] == "model_b"
    assert (found.winner, found.sample_ratio["is_off"]) == (None, True)
    assert "50.0% were planned" in found.recommendation
    ended = ab_tests.complete(test=test, by="a")
    assert (ended.winner_model_id, ab_tests.results(test=ended).winner) == (None, "no_winner")
    assert ratio_of(ended, ended.evidence) == found.sample_ratio


def test_a_margin_of_the_test_makes_equivalent(test: ABTest) -> None:
    ABTest.objects.filter(pk=test.pk).update(margin=0.5)
    assert observe(test, pairs(0, 1500)).outcome == "equivalent"
    found = ab_tests.results(test=test)
    assert (found.winner, found.evidence["margin"]) == ("no_winner", 0.5)
    assert "less than what matters" in found.recommendation


def test_undecided_rows_say_how_many_more(test: ABTest) -> None:
    observe(test, pairs(0, 100))
    found = ab_tests.results(test=test)
    assert (found.winner, found.evidence["outcome"]) == (None, "undecided")
    assert f"about {found.evidence['needed']:,} more" in found.recommendation


def test_nothing_is_decided_before_one_window_has_passed() -> None:
    model = ModelVersionFactory.create()
    rival = ModelVersionFactory.create(machine=model.machine)
    metrics.record_batch(evaluations=series(model, [1.0] * 10), by="a")  # a day each
    given: dict[str, Any] = {
        "test_name": "t",
        "machine": model.machine,
        "model_type": model.model_type,
        "model_a": model,
        "model_b": rival,
        "duration_hours": 48,
        "by": "a",
    }
    young = ab_tests.start(**given).test
    assert young.min_duration_seconds == 86400
    assert observe(young, pairs(0, 700)).outcome == "undecided"
    found = ab_tests.results(test=young)
    assert found.confidence == 0
    assert f"nothing before {young.counts_from:%d %B, %H:%M} UTC" in found.recommendation
    now = timezone.now()
    ABTest.objects.filter(pk=young.pk).update(test_start=now - timedelta(hours=25))
    ABObservation.objects.update(observed_at=now - timedelta(hours=2))
    assert observe(young, pairs(700, 750)).outcome == "model_b"
    assert ABRowState.objects.get(test=young).fold["decided_at"] == 750
    # a correction replays the looks of before as they were: too early to decide
    observe(young, [Observation(unit="row 0", loss_a=1.0, loss_b=1.0)])
    assert ABRowState.objects.get(test=young).fold["decided_at"] == 750


def test_start_takes_split_confidence_and_margin() -> None:
    model = ModelVersionFactory.create()
    rival = ModelVersionFactory.create(machine=model.machine)
    given: dict[str, Any] = {
        "test_name": "t",
        "machine": model.machine,
        "model_type": model.model_type,
        "model_a": model,
        "model_b": rival,
        "by": "a",
    }
    for name, value in (
        ("traffic_split_a", 0.0),
        ("traffic_split_a", float("nan")),
        ("confidence_level", 1.0),
        ("margin", -1.0),
        ("margin", float("inf")),
    ):
        with pytest.raises(InvalidError) as caught:
            ab_tests.start(**given, **{name: value})
        assert caught.value.errors[0].loc == ("body", name)
    test = ab_tests.start(**given, traffic_split_a=0.9, confidence_level=0.99, margin=0.1).test
    test.refresh_from_db()
    assert (test.traffic_split_b, test.confidence_level, test.margin) == (
        pytest.approx(0.1),
        0.99,
        0.1,
    )
    assert test.min_duration_seconds == 0


# --- the end ----------------------------------------------------------------------------------


def test_the_end_looks_at_every_row_and_stands(test: ABTest) -> None:
    observe(test, pairs(0, 730))
    assert ab_tests.results(test=test).evidence["n"] == 700
    ABTest.objects.filter(pk=test.pk).update(
        test_start=timezone.now() - timedelta(hours=2),
        test_end=timezone.now() - timedelta(hours=1),
    )
    test.refresh_from_db()
    over = ab_tests.results(test=test)
    assert over.evidence["n"] == 730
    assert over.effect == pytest.approx(np.mean(LOSS_A[:730]) - np.mean(LOSS_B[:730]))
    ended = ab_tests.complete_expired(by="command:tests").ended
    assert [one.pk for one in ended] == [test.pk]
    assert ab_tests.complete_expired(by="command:tests") == ([], [])
    test.refresh_from_db()
    stored = ab_tests.results(test=test)
    assert stored.evidence == over.evidence
    assert (test.winner_model_id, test.metadata["completed_by"]) == (
        test.model_b_id,
        "command:tests",
    )
    assert test.winner_declared_at is not None
    with pytest.raises(ConflictError, match="completed"):
        observe(test, pairs(730, 1500))
    ABObservation.objects.filter(test=test).delete()
    assert ab_tests.results(test=test) == stored


@pytest.mark.parametrize("status", ["completed", "cancelled"])
@pytest.mark.parametrize(
    "change",
    [
        {"evidence": {"outcome": "model_a"}},
        {"statistical_significance": 0.5},
        {"test_status": "running"},
        {"traffic_split_a": 0.4, "traffic_split_b": 0.6},
        {"margin": 9.0},
        {"winner_declared_at": None, "winner_model": None},
        {"model_b_metrics": {"mae": 1.0}},
    ],
)
def test_the_database_lets_nobody_change_a_result(status: str, change: dict[str, Any]) -> None:
    test = ABTestFactory.create()
    ABTest.objects.filter(pk=test.pk).update(
        test_status=status, winner_model=test.model_a_id, winner_declared_at=timezone.now()
    )
    with pytest.raises(IntegrityError, match="stands"), transaction.atomic():
        ABTest.objects.filter(pk=test.pk).update(**change)
    ABTest.objects.filter(pk=test.pk).update(metadata={"note": "may be written"})


def test_the_database_lets_nobody_change_a_decision(test: ABTest) -> None:
    ab_tests.decide(test=test, decision="no_winner", by="user:ada")
    with pytest.raises(IntegrityError, match="stands"), transaction.atomic():
        ABTest.objects.filter(pk=test.pk).update(decision="promote_a")


@pytest.mark.django_db(transaction=True)
def test_an_expired_test_is_ended_once_by_many() -> None:
    start = timezone.now() - timedelta(hours=3)
    for _ in range(3):
        ABTestFactory.create(test_start=start, test_end=start + timedelta(hours=2))
    running = ABTestFactory.create()
    ended = at_once(4, lambda n: [t.pk for t in ab_tests.complete_expired(by=f"command:{n}").ended])
    found = [pk for one in ended if isinstance(one, list) for pk in one]
    assert [one for one in ended if isinstance(one, Exception)] == []
    assert len(found) == len(set(found)) == 3
    assert ABTest.objects.running().get() == running


# --- assignment -------------------------------------------------------------------------------


def test_an_assignment_is_the_same_for_ever() -> None:
    test = ABTest(
        pk=uuid.UUID("0192a000-0000-7000-8000-000000000001"),
        model_a_id=uuid.UUID(int=1),
        model_b_id=uuid.UUID(int=2),
        model_a_version=3,
        model_b_version=4,
    )
    # worked out once, by hashlib alone: a change would send units to the other version mid-test
    told = "".join(assign(test=test, unit=str(n)).arm[-1] for n in range(20))
    assert told == EXPECTED
    a = next(assign(test=test, unit=str(n)) for n in range(20) if EXPECTED[n] == "a")
    assert (a.model_id, a.model_version) == (uuid.UUID(int=1), 3)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.99])
def test_assignments_follow_the_planned_split(share: float) -> None:
    test = ABTest(traffic_split_a=share, traffic_split_b=1 - share)
    units = [f"unit {n}" for n in range(20_000)]
    to_a = sum(assign(test=test, unit=unit).arm == "model_a" for unit in units)
    assert stats.binomtest(to_a, len(units), share).pvalue > 1e-3


def test_assignments_of_two_tests_are_independent() -> None:
    first, second = ABTest(), ABTest()
    units = [f"unit {n}" for n in range(5000)]
    together = np.zeros((2, 2))
    for unit in units:
        place = [int(assign(test=one, unit=unit).arm == "model_a") for one in (first, second)]
        together[tuple(place)] += 1
    assert stats.chi2_contingency(together).pvalue > 1e-3


def test_stored_rows_take_part_in_nothing_of_another_model(test: ABTest) -> None:
    assert ModelVersion.objects.count() == 2
    observe(test, pairs(0, 1))
    assert str(ABObservation.objects.get()) == "row 0"
    assert str(ABRowState.objects.get()) == "1 and 1 rows"


def test_many_window_looks_are_thinned_to_an_even_choice() -> None:
    a = 1 + 0.5 * np.tile([0.0, 1.0], 1000) + 0.02
    seen = sequential.paired(a, a - 0.02 - np.tile([0.0, 0.001], 1000), margin=0.0)
    times = [timezone.now()] * 2000
    shown = over_time(seen, times)
    ns = [look["n"] for look in shown]
    assert len(ns) <= MOST_LOOKS
    assert (ns[0], ns[-1]) == (1, 2000)
    assert seen.decided_at in ns
    assert max(np.diff(ns)) <= 5
    assert [look["n"] for look in over_time(sequential.paired(a[:9], a[:9]), times[:9])] == [
        *range(1, 10)
    ]
