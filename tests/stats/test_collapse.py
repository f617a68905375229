"""A fall off a cliff, against the evaluations just before it."""

import numpy as np
import pytest
from scipy import stats

from modelperf.stats.collapse import depth, is_back


def rows(base: np.ndarray, newest: float, counts: np.ndarray | None = None):
    y = np.append(base, newest)[None, :]
    return depth(y, np.zeros_like(y) if counts is None else counts[None, :])


def test_depth_is_a_robust_z_by_scipy():
    base = np.random.default_rng(1).normal(5, 2, 60)
    found = rows(base, -3.0)
    mad = stats.median_abs_deviation(base) / 0.6745
    scale = max(mad, np.subtract(*np.quantile(base, (0.9, 0.1))) / 2.563)
    assert found.scale[0] == pytest.approx(scale, rel=1e-9)
    assert found.before[0] == np.median(base)
    assert found.z[0] == pytest.approx((np.median(base) + 3) / scale, rel=1e-9)
    assert rows(base, 13.0).z[0] < 0


def test_bound_for_one_alone_grows_with_the_tails():
    rng = np.random.default_rng(2)
    light, heavy = rng.normal(size=60), rng.standard_t(2, size=60)
    bound = rows(light, 0.0).alone_beyond[0]
    found = rows(light, 0.0)
    largest = np.abs(light - np.median(light)).max() / found.scale[0]
    assert bound == pytest.approx(np.clip(4.5 * largest, 10, 40), rel=1e-9)
    assert rows(heavy, 0.0).alone_beyond[0] > bound
    assert rows(np.append(light[:-1], 1e6), 0.0).alone_beyond[0] == 40


def test_fewer_than_twenty_before_say_nothing():
    base = np.random.default_rng(1).normal(size=60)
    short = base.copy()
    short[:41] = np.nan
    assert np.isnan(rows(short, -50.0).z[0])
    short[40] = 0.0
    assert rows(short, -50.0).z[0] > 10
    alone = rows(base[40:], -50.0)
    short[40:] = base[40:]
    assert rows(short, -50.0).z[0] == pytest.approx(alone.z[0], rel=1e-12)


def test_forty_before_are_needed_for_one_alone():
    base = np.random.default_rng(1).normal(size=60)
    assert np.isinf(rows(base[:39], 0.0).alone_beyond[0])
    assert rows(base[:40], 0.0).alone_beyond[0] <= 40


def test_constant_base_has_no_bound_for_one_alone():
    found = rows(np.full(60, 4.0), 4.0)
    assert found.z[0] == 0
    assert np.isinf(found.alone_beyond[0])
    assert 1e6 < rows(np.full(60, 4.0), 3.0).z[0] < np.inf
    assert np.isfinite(rows(np.zeros(60), 0.0).z[0])


def test_mostly_equal_base_is_measured_by_its_deviants():
    base = np.append(np.full(57, 1.0), [0.9, 0.9, 0.9])
    found = rows(base, 0.9)
    assert found.scale[0] == pytest.approx(np.sqrt(3 * 0.01 / 60))
    assert np.isinf(found.alone_beyond[0])


def test_few_rows_behind_the_newest_are_trusted_less():
    base = np.random.default_rng(3).normal(size=60)
    counts = np.append(np.full(60, 10_000.0), 100.0)
    alike = rows(base, -20.0, np.full(61, 10_000.0)).z[0]
    assert rows(base, -20.0, counts).z[0] <= alike / 10 * 1.001
    counts[-1] = 0
    assert rows(base, -20.0, counts).z[0] == pytest.approx(alike, rel=0.2)


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ([-10, 0, 0, 0, 0], True),
        ([-10, -10, 0.5, -2, -0.5, 1], True),
        ([-10, 0, 0, 0], False),
        ([-10, 0, 0, -6, 0], False),
        ([-10, -3, -3, -3, -3], False),
        ([-10, -10, -10, -10, -10, -10], False),
        ([-10], False),
    ],
)
def test_four_near_the_old_level_are_back(since: list[float], expected: bool):
    assert is_back(np.array(since, float), before=0.0) is expected
