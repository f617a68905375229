"""A fleet judged together: each series bit by bit as alone, at once or in parts."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from modelperf.stats.fleet_fold import Series, judge_fleet, judgements
from modelperf.stats.fold import Judgement, judge
from modelperf.stats.results import FoldState, MetricKind, Rule, Rules, Status
from modelperf.stats.warm_start import first_state

SCALES = {
    MetricKind.R_SQUARED: lambda y: 1 - np.exp(-y / 10),
    MetricKind.LOSS: lambda y: np.exp(-y / 10),
    MetricKind.PROPORTION: lambda y: 0.9 + 0.003 * (y - 20),
    MetricKind.HIGHER: lambda y: y,
    MetricKind.LOWER: lambda y: 40 - y,
    MetricKind.TARGET_ZERO: lambda y: 0.05 * (y - 20),
}


def history(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise around 20, with falls and gains that come and go, collapses, ties and gaps."""
    y = 20 + rng.normal(size=size)
    if rng.random() < 0.15:
        y[size // 3 : 2 * size // 3] += 2
        return y
    for _ in range(rng.integers(0, 4)):
        start, length = rng.integers(0, size + 1), rng.integers(1, 80)
        y[start : start + length] += rng.choice([-15, -6, -3, -2, 2])
    if rng.random() < 0.2:
        y = np.round(y, rng.integers(0, 3))
    return y


def a_series(seed: int) -> Series:
    rng = np.random.default_rng(seed)
    size = int(rng.choice([0, 1, rng.integers(2, 40), *rng.integers(40, 330, 4)]))
    kind = list(MetricKind)[seed % len(MetricKind)]
    values = SCALES[kind](history(rng, size))
    values[rng.random(size) < rng.choice([0.0, 0.0, 0.2])] = np.nan
    values[rng.random(size) < rng.choice([0.0, 0.0, 0.0, 0.05])] = 0.0
    counts = (
        np.zeros(size),
        np.full(size, 500.0),
        rng.integers(0, 20_000, size).astype(float),
        np.where(np.arange(size) < 100, 50.0, 80.0),
    )[rng.integers(4)]
    rules = Rules(
        kind=kind,
        min_effect=float(rng.choice([0.0, 0.02])),
        window=int(rng.choice([40, 75, 400])),
        min_evaluations=int(rng.choice([15, 30])),
        limit=float(rng.choice([0.1, 18.0])) if rng.random() < 0.4 else None,
    )
    return Series(values, counts, rules, first_state_of(kind, seed, rules))


def first_state_of(kind: MetricKind, seed: int, rules: Rules) -> FoldState | None:
    """Every other series begins with the noise of a version before it."""
    if seed // len(MetricKind) % 2:
        return None
    before = SCALES[kind](20 + np.random.default_rng(1000 + seed).normal(size=60))
    return first_state(before, np.full(60, 500.0), rules=rules)


def alone(series: Series) -> Judgement:
    return judge(
        series.values,
        series.counts,
        rules=series.rules,
        state=series.state,
        offset=series.offset,
    )


def part(series: Series, cut: int, state: FoldState) -> Series:
    """The evaluations up to a cut, from where the state needs them."""
    span = slice(state.needs_from, cut)
    return replace(
        series,
        values=series.values[span],
        counts=series.counts[span],
        state=state,
        offset=state.needs_from,
    )


def assert_same(found: Judgement, expected: Judgement) -> None:
    assert found.verdict == expected.verdict
    assert found.state == expected.state
    for name in ("statistics", "degraded", "crossed"):
        assert np.array_equal(
            getattr(found, name), getattr(expected, name), equal_nan=name == "statistics"
        )


@pytest.fixture(scope="module")
def fleet() -> list[Series]:
    return [a_series(seed) for seed in range(180)]


@pytest.fixture(scope="module")
def together(fleet: list[Series]) -> list[Judgement]:
    return judge_fleet(fleet)


def test_the_fleet_holds_every_case(together: list[Judgement]):
    assert {one.verdict.status for one in together} == set(Status)
    assert {one.verdict.rule for one in together} >= {Rule.CHANGE_POINT, Rule.COLLAPSE, None}
    assert any(one.state.dropped for one in together)
    assert any(one.crossed.any() and not one.crossed.all() for one in together)
    assert any(one.verdict.outlier_window for one in together)
    early = [one for one in together if one.state.n_seen and np.isfinite(one.statistics[:14]).any()]
    assert len(early) > 40
    assert any(one.degraded[:29].any() for one in early)


def test_each_series_is_judged_as_alone(fleet: list[Series], together: list[Judgement]):
    for series, judgement in zip(fleet, together, strict=True):
        assert_same(judgement, alone(series))


def test_order_and_company_change_nothing(fleet: list[Series], together: list[Judgement]):
    order = np.random.default_rng(1).permutation(len(fleet))
    for at, judgement in zip(order, judge_fleet([fleet[at] for at in order]), strict=True):
        assert_same(judgement, together[at])


def test_parts_end_as_the_whole(fleet: list[Series], together: list[Judgement]):
    states = [series.state or FoldState() for series in fleet]
    found: list[list[Judgement]] = [[] for _ in fleet]
    for share in (0.3, 0.31, 0.7, 0.9, 1.0):
        parts = [
            part(series, int(share * len(series.values)), state)
            for series, state in zip(fleet, states, strict=True)
        ]
        answers = judge_fleet(parts)
        states = [answer.state for answer in answers]
        for one, answer in zip(found, answers, strict=True):
            one.append(answer)
    for answers, whole in zip(found, together, strict=True):
        assert_same(
            replace(
                answers[-1],
                statistics=np.concatenate([one.statistics for one in answers]),
                degraded=np.concatenate([one.degraded for one in answers]),
                crossed=np.concatenate([one.crossed for one in answers]),
            ),
            whole,
        )


def test_one_more_evaluation_each(fleet: list[Series], together: list[Judgement]):
    longer = [series for series in fleet if len(series.values)]
    before = judge_fleet(
        [replace(one, values=one.values[:-1], counts=one.counts[:-1]) for one in longer]
    )
    after = judge_fleet(
        [
            part(series, len(series.values), judged.state)
            for series, judged in zip(longer, before, strict=True)
        ]
    )
    whole = [one for one, series in zip(together, fleet, strict=True) if len(series.values)]
    for found, expected in zip(after, whole, strict=True):
        assert found.verdict == expected.verdict
        assert found.state == expected.state
        assert len(found.statistics) == 1


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_change_nothing(workers: int, fleet: list[Series], together: list[Judgement]):
    found = judge_fleet(iter(fleet * 3), workers=workers)
    for judgement, expected in zip(found, together * 3, strict=True):
        assert_same(judgement, expected)


def test_no_series_and_no_worker():
    assert judge_fleet([]) == []
    assert judge_fleet([], workers=2) == []
    with pytest.raises(ValueError, match="at least 1"):
        judge_fleet([], workers=0)


def test_wrong_input_of_one_is_refused(fleet: list[Series]):
    wrong = Series(np.zeros(3), np.zeros(2), fleet[0].rules)
    for workers in (1, 2):
        with pytest.raises(ValueError, match="one length"):
            judge_fleet([fleet[0], wrong], workers=workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_series_are_taken_as_they_are_judged(workers: int):
    taken = 0

    def many() -> Iterator[Series]:
        nonlocal taken
        for _ in range(20_000):
            taken += 1
            yield Series(np.zeros(1), np.zeros(1), Rules(kind=MetricKind.HIGHER))

    answers = judgements(many(), workers=workers)
    next(answers)
    answers.close()
    assert taken < 2000


def test_memory_does_not_grow_with_the_fleet():
    y, counts = np.random.default_rng(1).normal(9, 1, 50), np.full(50, 9.0)
    rules = Rules(kind=MetricKind.HIGHER, min_evaluations=15, window=50)

    def peak(size: int) -> int:
        tracemalloc.start()
        for _ in judgements(Series(y, counts, rules) for _ in range(size)):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(1024) < 1.3 * peak(256)
