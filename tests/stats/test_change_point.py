"""The change-point scan against the same formulae in slow loops, and at its edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from modelperf.stats import tails
from modelperf.stats.change_point import change_range, scan, standardise
from modelperf.stats.tails import two_sided, z_from_t
from modelperf.stats.weights import fitted_weights
from tests.stats.reference import change_point_loops as loops


def series(seed: int, size: int, fall: float = 0.0) -> np.ndarray:
    y = np.random.default_rng(seed).normal(size=size)
    y[size // 2 :] -= fall
    return y


@pytest.mark.parametrize("fall", [0.0, 1.0, -3.0])
@pytest.mark.parametrize("size", [14, 15, 31, 90])
def test_scan_equals_the_slow_loops(size: int, fall: float):
    y, counts = series(size, size, fall), np.ones(size)
    found = scan(y[None, :], counts[None, :])
    z, split, phi = loops.best_fall(list(y), list(counts))
    assert found.fall.z[0] == pytest.approx(z, rel=1e-9)
    assert (found.fall.split[0], found.n[0]) == (split, size)
    assert found.fall.phi[0] == pytest.approx(phi, rel=1e-9, abs=1e-12)
    z, split, phi = loops.best_fall(list(-y), list(counts))
    assert found.rise.z[0] == pytest.approx(z, rel=1e-9)
    assert found.rise.split[0] == split
    assert found.rise.phi[0] == pytest.approx(phi, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_weighted_scan_equals_the_slow_loops(seed: int):
    rng = np.random.default_rng(seed)
    counts = rng.integers(20, 20_000, 80).astype(float)
    counts[:3] = 0
    y = series(seed, 80, 1.0) * np.sqrt(5000 / np.maximum(counts, 20))
    w = fitted_weights(y[None, :], counts[None, :])[0]
    assert w == pytest.approx(loops.fitted_weights(list(y), list(counts)), rel=1e-9)
    assert w.mean() == pytest.approx(1)
    z, split, _ = loops.best_fall(list(y), list(counts))
    found = scan(y[None, :], counts[None, :])
    assert found.fall.z[0] == pytest.approx(z, rel=1e-9)
    assert found.fall.split[0] == split


def test_four_on_either_side_equal_the_slow_loops():
    y = series(5, 12, 2.0)
    z, split, _ = loops.best_fall(list(y), [1.0] * 12, 4, 4)
    found = scan(y[None, :], fewest_before=4, fewest_after=4)
    assert (found.fall.z[0], found.fall.split[0]) == (pytest.approx(z, rel=1e-9), split)


def test_one_fall_by_hand():
    # Twenty evaluations around 1, twenty around 0, alternating by 1/2, no clipping: d = 1,
    # B = 20*20/40 = 10, SS - B = 40/4 = 10, T = sqrt(10/(10/38)) = sqrt(38), r1 = -39/40.
    y = np.repeat([1.0, 0.0], 20) + np.tile([-0.5, 0.5], 20)
    found = scan(y[None, :])
    expected = stats.norm.isf(stats.t.sf(np.sqrt(38), 38))
    assert found.fall.split[0] == 20
    assert found.fall.phi[0] == 0
    assert found.fall.z[0] == pytest.approx(expected, rel=1e-9)
    assert found.rise.z[0] < 1


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), before=st.integers(0, 7), after=st.integers(0, 7))
def test_padding_and_gaps_change_nothing(seed: int, before: int, after: int):
    rng = np.random.default_rng(seed)
    y, counts = series(seed, 60, 1.0), rng.integers(1, 500, 60).astype(float)
    sparse = np.insert(y, rng.integers(0, 60, 9), np.nan)
    n = np.insert(counts, np.flatnonzero(np.isnan(sparse)) - np.arange(9), 77.0)
    padded = np.concatenate([np.full(before, np.nan), sparse, np.full(after, np.nan)])
    n = np.concatenate([np.zeros(before), n, np.zeros(after)])
    plain, gappy = scan(y[None, :], counts[None, :]), scan(padded[None, :], n[None, :])
    assert gappy.n[0] == 60
    assert gappy.fall.split[0] == plain.fall.split[0]
    assert gappy.fall.z[0] == pytest.approx(plain.fall.z[0], rel=1e-9)
    assert gappy.rise.z[0] == pytest.approx(plain.rise.z[0], rel=1e-9)


def test_fleet_is_judged_as_each_series_alone():
    lengths = [5, 13, 14, 40, 100]
    block = np.full((5, 100), np.nan)
    for row, length in enumerate(lengths):
        block[row, :length] = series(row, length)
    together = scan(block)
    assert together.n.tolist() == lengths
    assert np.isnan(together.fall.z[:2]).all()
    assert together.fall.split[:2].tolist() == [0, 0]
    for row in (2, 3, 4):
        alone = scan(block[row : row + 1, : lengths[row]])
        assert together.fall.z[row] == pytest.approx(alone.fall.z[0], rel=1e-9)


def test_degenerate_series_are_finite():
    constant, step, huge = np.full(50, 3.0), np.repeat([1.0, 0.0], 25), series(1, 50)
    huge[20] = 1e300
    outlier = constant.copy()
    outlier[47] = -1e9
    found = scan(np.array([constant, step, huge, outlier, np.full(50, np.nan)]))
    assert found.fall.z[0] == found.rise.z[0] == 0
    assert found.fall.z[1] > 3.9
    assert np.isfinite(found.fall.z[:4]).all()
    assert found.fall.z[3] < 3.9
    assert np.isnan(found.fall.z[4])


def test_million_does_not_hide_the_others():
    y = series(1, 100, 2.0)
    plain = scan(y[None, :]).fall
    y[10] = 1e6
    spoiled = scan(y[None, :]).fall
    assert spoiled.z[0] == pytest.approx(plain.z[0], rel=0.15)
    assert abs(spoiled.split[0] - 50) <= 3


def test_blocks_of_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="two blocks"):
        scan(np.zeros(20))
    with pytest.raises(ValueError, match="two blocks"):
        scan(np.zeros((2, 20)), np.zeros((2, 19)))


def test_weights_are_one_where_counts_say_nothing():
    y = np.stack([series(1, 50), series(2, 50), np.full(50, 2.0)])
    y[0, 40:] = np.nan
    counts = np.stack([np.full(50, 9.0), np.zeros(50), np.arange(1.0, 51)])
    w = fitted_weights(y, counts)
    assert (w[0, :40] == 1).all()
    assert (w[0, 40:] == 0).all()
    assert (w[1:] == 1).all()


def test_weights_follow_sampling_noise():
    rng = np.random.default_rng(2)
    counts = np.tile([100.0, 10_000.0], 300)[None, :]
    w = fitted_weights(rng.normal(size=(1, 600)) / np.sqrt(counts), counts)
    assert w[0, 1] / w[0, 0] == pytest.approx(100, rel=0.4)
    w = fitted_weights(rng.normal(size=(1, 600)), counts)
    assert w[0, 1] / w[0, 0] == pytest.approx(1, rel=0.4)


def test_standardised_series_is_centred_and_clipped():
    y = series(3, 101)[None, :]
    y[0, 7] = 50
    ready = standardise(y, np.zeros_like(y))
    assert ready.x.sum() == pytest.approx(0, abs=1e-9)
    assert ready.n.tolist() == [101]
    mad = np.median(np.abs(y - np.median(y))) / 0.6745
    assert np.ptp(ready.x) <= 6 * mad
    assert ready.variance_floor[0] > 0


# scipy 1.17: -scipy.special.ndtri_exp(scipy.stats.t.logsf(t, df)), where that is finite
@pytest.mark.parametrize("df", [2, 12, 28, 198, 398])
@pytest.mark.parametrize("t", [-3.0, 0.0, 0.5, 4.0, 9.0, 30.0])
def test_z_from_t_equals_scipy(t: float, df: int):
    z = z_from_t(np.array([t]), np.array([float(df)]))[0]
    expected = -stats.norm.isf(stats.t.sf(-t, df)) if t < 0 else stats.norm.isf(stats.t.sf(t, df))
    assert z == pytest.approx(expected, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("df", [12, 28, 198, 398])
def test_log_tail_equals_scipy_where_scipy_has_one(df: int):
    t = np.array([2.0, 9.0, 15.0, 20.0, 25.0, 30.0])
    expected = np.log(special.stdtr(df, -t))
    assert tails._log_tail(t, np.full(6, float(df))) == pytest.approx(expected, rel=1e-9)


def test_z_from_t_stays_finite_where_the_tail_underflows():
    t = np.array([39.0, 45.0, 1e3, 1e10, 1e200, 1e300, -1e300])
    z = z_from_t(t, np.full(7, 398.0))
    assert np.isfinite(z).all()
    assert (np.diff(z[:6]) > 0).all()
    assert z[6] == -z[5]
    # far out log(sf) falls by df log(10) a decade, and z is nearly sqrt(-2 log(sf))
    far = z_from_t(np.array([1e100, 1e200]), np.full(2, 398.0))
    assert np.diff(far**2)[0] == pytest.approx(2 * 398 * 100 * np.log(10), rel=1e-3)


def test_two_sided_statistic_has_twice_the_tail():
    z = np.array([0.8, 2.0, 3.9, 30.0, 400.0])
    found = two_sided(z)
    assert found[:3] == pytest.approx(stats.norm.isf(2 * stats.norm.sf(z[:3])), rel=1e-9)
    assert found[3:] == pytest.approx(z[3:] - np.log(2) / z[3:], rel=1e-4)
    assert two_sided(np.array([0.5, -3.0])).tolist() == [0, 0]
    assert np.isnan(two_sided(np.array([np.nan]))).all()


def test_change_range_holds_the_change_and_narrows_with_its_size():
    widths = {}
    for size in (1.0, 3.0):
        covered, widths[size] = 0, []
        for seed in range(80):
            y = series(seed, 200, size)
            split = int(scan(y[None, :]).fall.split[0])
            low, high = change_range(y, np.zeros(200), split, 0.0)
            assert low <= split <= high
            covered += low <= 100 <= high
            widths[size].append(high - low)
        assert covered >= 70
    assert np.median(widths[3.0]) < np.median(widths[1.0])
    low, high = change_range(y, np.zeros(200), split, 0.6)
    assert high - low >= widths[3.0][-1]


def test_change_range_of_a_clean_step_is_narrow():
    low, high = change_range(np.repeat([1.0, 0.0], 25), np.zeros(50), 25, 0.0)
    assert 20 <= low <= 25 <= high <= 30
    assert change_range(np.zeros(50), np.zeros(50), 25, 0.0) == (25, 25)
