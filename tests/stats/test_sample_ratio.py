"""The check of the split against scipy, at its edges, and how often it alarms by chance."""

import numpy as np
import pytest
from scipy import stats

from modelperf.stats.sample_ratio import sample_ratio

LOOKS = range(50, 1501, 50)


@pytest.mark.parametrize(("a", "b", "planned"), [(520, 480, 0.5), (90, 10, 0.8), (0, 30, 0.1)])
def test_p_value_is_that_of_scipys_chi_square(a: int, b: int, planned: float) -> None:
    expected = stats.chisquare([a, b], [(a + b) * planned, (a + b) * (1 - planned)]).pvalue
    seen = sample_ratio(a, b, planned_a=planned)
    assert seen.p_value == pytest.approx(expected, rel=1e-9)
    assert seen.share == a / (a + b)


def test_off_is_certain_and_large() -> None:
    assert sample_ratio(5600, 4400, planned_a=0.5).is_off
    assert not sample_ratio(5600, 4400, planned_a=0.56).is_off
    assert not sample_ratio(56, 44, planned_a=0.5).is_off  # chance
    assert not sample_ratio(5_090_000, 4_910_000, planned_a=0.5).is_off  # certain, and small
    assert sample_ratio(5_110_000, 4_890_000, planned_a=0.5).is_off


def test_no_units_are_no_deviation() -> None:
    seen = sample_ratio(0, 0, planned_a=0.5)
    assert (seen.share, seen.p_value, seen.is_off) == (None, 1.0, False)


@pytest.mark.parametrize(("a", "b", "planned"), [(1, 1, 0.0), (1, 1, 1.0), (-1, 1, 0.5)])
def test_impossible_input_is_refused(a: int, b: int, planned: float) -> None:
    with pytest.raises(ValueError, match="planned_a"):
        sample_ratio(a, b, planned_a=planned)


def test_a_split_as_planned_is_rarely_off_in_thirty_looks() -> None:
    to_a = np.cumsum(np.random.default_rng(36).random((1000, 1500)) < 0.3, axis=1)
    ever = [
        any(sample_ratio(int(at[n - 1]), n - int(at[n - 1]), planned_a=0.3).is_off for n in LOOKS)
        for at in to_a
    ]
    assert stats.binom.sf(sum(ever) - 1, len(ever), 0.01) > 1e-3
