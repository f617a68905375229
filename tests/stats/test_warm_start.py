"""New versions judged by the noise of the version before: formulae and figures."""

import numpy as np
import pytest
from scipy import stats

from benchmarks import statistics_warm_start as benchmark
from modelperf.stats.warm_start import Prior, prior, warm_fall


def noise(size: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, size))


def test_prior_is_the_noise_around_the_best_change():
    y = 2 * noise(400, seed=2)
    stepped = y.copy()
    stepped[:, 80:] += 30
    found = prior(stepped)
    assert found.variance[0] == pytest.approx(y.var(), rel=0.1)
    assert found.phi[0] <= 0.1
    assert prior(-stepped).variance[0] == pytest.approx(found.variance[0])
    smooth = np.cumsum(noise(400), axis=1)
    assert prior(smooth).phi[0] > 0.8
    assert np.isnan(prior(y[:, :13]).variance[0])


def test_statistic_equals_the_formulae_by_loops():
    y = noise(18, seed=3)
    y[:, 9:] -= 1.5
    before = Prior(variance=np.array([0.7]), phi=np.array([0.2]))
    x = y[0] - np.median(y[0])
    bound = 3 * np.median(np.abs(x)) / 0.6745
    x = np.clip(x, -bound, bound)
    split = max(range(5, 14), key=lambda k: (x[:k].mean() - x[k:].mean()) * np.sqrt(k * (18 - k)))
    d = x[:split].mean() - x[split:].mean()
    residual = np.append(x[:split] - x[:split].mean(), x[split:] - x[split:].mean())
    s0 = max(0.7, np.sum(np.diff(x) ** 2) / (2 * 17))
    s = np.sqrt((20 * s0 + residual @ residual) / 36)
    t = d * np.sqrt(split * (18 - split) / 18) / s
    r1 = residual[1:] @ residual[:-1] / (residual @ residual)
    phi = np.clip(r1 + (2 + 4 * r1) / 18, 0, 0.9)
    phi = max(phi, (18 * phi + 30 * 0.2) / 48)
    z = stats.norm.isf(stats.t.sf(t, 36)) * np.sqrt((1 - phi) / (1 + phi))
    found = warm_fall(y, None, before)
    assert found.split[0] == split
    assert found.phi[0] == pytest.approx(phi)
    assert found.z[0] == pytest.approx(z)


def test_fewer_than_ten_or_no_prior_say_nothing():
    before = Prior(variance=np.ones(1), phi=np.zeros(1))
    assert np.isnan(warm_fall(noise(9), None, before).z[0])
    assert np.isfinite(warm_fall(noise(10), None, before).z[0])
    unknown = Prior(variance=np.full(1, np.nan), phi=np.zeros(1))
    assert np.isnan(warm_fall(noise(20), None, unknown).z[0])


def test_counts_weigh_and_padding_counts_for_nothing():
    y, before = noise(20, seed=5), Prior(variance=np.ones(1), phi=np.zeros(1))
    counts = np.resize([50.0, 5000.0], y.shape)
    y /= np.sqrt(counts / 500)
    padded = np.append(y, np.full((1, 7), np.nan), axis=1)
    plain, weighted = warm_fall(y, None, before), warm_fall(y, counts, before)
    assert weighted.z[0] != plain.z[0]
    again = warm_fall(padded, np.append(counts, np.zeros((1, 7)), axis=1), before)
    assert again.z[0] == pytest.approx(weighted.z[0])


def test_promises_are_kept():
    rows = benchmark.rows(full=False)
    assert len(rows) == 13
    assert [row for row in rows if not row.met] == []
