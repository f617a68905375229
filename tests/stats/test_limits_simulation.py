"""A value that swings around its limit is one crossing; one that is well again ends it soon."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from modelperf.stats.limits import fold_limit
from modelperf.stats.results import FoldState, MetricKind, Rules

Floats = NDArray[np.float64]
RNG = np.random.Generator

SEEDS = 200
SWINGS = 200
LIMIT = 20.0
RULES = Rules(kind=MetricKind.LOSS, limit=LIMIT)
CLEARS = 5  # windows in a row


def iid(rng: RNG) -> Floats:
    return rng.normal(0, 1, SWINGS)


def autocorrelated(rng: RNG) -> Floats:
    noise = rng.normal(0, 1, SWINGS)
    for at in range(1, SWINGS):
        noise[at] = 0.5 * noise[at - 1] + 0.75**0.5 * noise[at]
    return noise


def square(rng: RNG) -> Floats:
    half = rng.integers(1, CLEARS)
    return np.where(np.arange(SWINGS) // half % 2, -1.0, 1.0) + rng.normal(0, 0.2, SWINGS)


def sine(rng: RNG) -> Floats:
    at = np.arange(SWINGS) / rng.uniform(6, 20) + rng.random()
    return 1.5 * np.sin(2 * np.pi * at) + rng.normal(0, 0.2, SWINGS)


def changes(values: Floats) -> list[int]:
    """Return at which evaluations the limit became crossed, or kept again."""
    found = fold_limit(values, np.arange(len(values)), FoldState(), RULES)
    crossed = np.array([False, *(one is not None for one in found)])
    return np.flatnonzero(np.diff(crossed)).tolist()


@pytest.mark.parametrize("swings", [iid, autocorrelated, square, sine])
def test_a_value_around_its_limit_opens_once_and_ends_once(swings: Callable[[RNG], Floats]) -> None:
    n_good = 0
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        well = rng.normal(LIMIT - 10, 1, 60), rng.normal(LIMIT - 10, 1, 15)
        at = changes(np.concatenate([well[0], LIMIT + swings(rng), well[1]]))
        n_good += len(at) == 2 and at[0] >= 60 and at[1] >= 60 + SWINGS - CLEARS
    # Where 95 % are, fewer than this are seen once in a thousand times.
    assert n_good >= binom.ppf(0.001, SEEDS, 0.95)
    assert n_good >= 0.95 * SEEDS


@pytest.mark.parametrize("before", [20, 60, 200])
@pytest.mark.parametrize("crossed", [3, 8, 30])
def test_a_value_that_is_well_again_ends_it_within_two_windows_more(
    before: int, crossed: int
) -> None:
    delays = []
    for seed in range(SEEDS // 2):
        rng = np.random.default_rng(seed)
        values = rng.normal(0, 1, before + crossed + 20)
        values += np.repeat([LIMIT - 6, LIMIT + 6, LIMIT - 6], [before, crossed, 20])
        at = changes(values)
        assert len(at) == 2
        delays.append(at[1] + 1 - before - crossed)
    assert min(delays) == CLEARS
    assert np.mean(np.array(delays) <= CLEARS + 2) >= 0.95
