"""New versions judged by the noise of the version before: formulae and figures."""

import numpy as np
import pytest
from scipy import stats

from benchmarks import statistics_warm_start as benchmark
from modelperf.stats.explanation import explain
from modelperf.stats.fleet import tail_p_value
from modelperf.stats.fold import judge
from modelperf.stats.results import FoldState, MetricKind, Rules, Status
from modelperf.stats.warm_start import Prior, first_state, prior, split_statistics, warm_fall

HIGHER = Rules(kind=MetricKind.HIGHER, min_effect=0.0)


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


def test_first_state_holds_the_prior_of_the_version_before():
    y, counts = noise(60)[0], np.full(60, 500.0)
    state = first_state(np.append(100 + y, np.nan), np.append(counts, 0), rules=HIGHER)
    expected = prior(100 + y[None, :], counts[None, :])
    assert (state.prior_variance, state.prior_phi) == (expected.variance[0], expected.phi[0])
    assert FoldState.from_document(state.to_document()) == state
    assert state.at_first() == state
    losses = np.exp(y / 10)
    loss = first_state(losses, counts, rules=Rules(kind=MetricKind.LOSS))
    assert loss.prior_variance == pytest.approx(expected.variance[0] / 100)


def test_without_values_or_a_better_side_there_is_no_prior():
    y, counts = noise(60)[0], np.zeros(60)
    assert first_state(y, counts, rules=Rules(kind=MetricKind.TARGET_ZERO)) == FoldState()
    assert first_state(y[:13], counts[:13], rules=HIGHER) == FoldState()
    assert first_state(np.full(60, np.nan), counts, rules=HIGHER) == FoldState()
    document = FoldState().to_document()
    old = {name: document[name] for name in document if not name.startswith("prior")}
    assert FoldState.from_document(old) == FoldState()


def test_the_fold_judges_a_new_version_from_its_tenth_evaluation():
    y = 100 + noise(40, seed=6)[0]
    y[14:] -= 3
    state = first_state(100 + noise(100)[0], np.zeros(100), rules=HIGHER)
    answer = judge(y, np.zeros(40), rules=HIGHER, state=state)
    before = Prior(variance=np.array([state.prior_variance]), phi=np.array([state.prior_phi]))
    early = [float(warm_fall(y[None, :n], None, before).z[0]) for n in range(10, 30)]
    assert np.isnan(answer.statistics[:9]).all()
    assert answer.statistics[9:29] == pytest.approx(early, rel=1e-12)
    cold = judge(y, np.zeros(40), rules=HIGHER)
    assert np.isnan(cold.statistics[:29]).all()
    assert np.array_equal(answer.statistics[29:], cold.statistics[29:])
    assert 18 <= np.argmax(answer.degraded) < 25
    assert answer.state.at_first() == state


def test_the_verdict_on_a_short_new_version():
    y = 100 + noise(29, seed=6)[0]
    y[14:] -= 3
    state = first_state(100 + noise(100)[0], np.zeros(100), rules=HIGHER)

    def verdict(n: int, start: FoldState | None = state):
        return judge(y[:n], np.zeros(n), rules=HIGHER, state=start).verdict

    assert (verdict(6).status, verdict(6).needed) == (Status.INSUFFICIENT_DATA, 4)
    assert (verdict(0).needed, verdict(0, None).needed) == (10, 30)
    assert (verdict(10).status, verdict(10).needed) == (Status.STABLE, 0)
    fallen = verdict(29)
    assert (fallen.status, fallen.change_index) == (Status.DEGRADED, 14)
    assert fallen.p_value == tail_p_value(fallen.statistic, 29, fewest=(5, 5))
    assert fallen.conditions[0].confirmed_p < 0.001
    assert verdict(29, None).status is Status.INSUFFICIENT_DATA


def test_no_improvement_is_told_by_the_noise_of_the_version_before():
    y = 100 + noise(30, seed=6)[0]
    y[14:] += 5
    state = first_state(100 + noise(100)[0], np.zeros(100), rules=HIGHER)
    short = judge(y[:29], np.zeros(29), rules=HIGHER, state=state).verdict
    assert short.status is Status.STABLE
    assert judge(y, np.zeros(30), rules=HIGHER, state=state).verdict.status is Status.IMPROVED


def test_rules_that_ask_for_more_evaluations_are_started_warm_up_to_there():
    rules = Rules(kind=MetricKind.HIGHER, min_effect=0.0, min_evaluations=100)
    y, state = 100 + noise(120)[0], FoldState(prior_variance=1.0, prior_phi=0.0)
    answer = judge(y, np.zeros(120), rules=rules, state=state)
    assert np.isfinite(answer.statistics[9:]).all()


def test_tail_of_early_falls_is_that_of_a_simulation():
    y = np.random.default_rng(9).normal(size=(20_000, 20))
    before = Prior(variance=np.ones(len(y)), phi=np.zeros(len(y)))
    z = warm_fall(y, None, before).z
    for limit in (2.0, 2.5):
        p = float(tail_p_value(limit, 20, fewest=(5, 5)))
        assert 0.1 * p <= np.mean(z > limit) <= 1.3 * p


def test_the_explanation_of_an_early_verdict_peaks_where_the_fall_is():
    y = (100 + noise(24, seed=6)[0]).tolist()
    y[14:] = [value - 3 for value in y[14:]]
    state = first_state(100 + noise(100)[0], np.zeros(100), rules=HIGHER)
    found = explain(y, [0.0] * 24, rules=HIGHER, fold=state, first_position=0)
    assert found.verdict == judge(y, np.zeros(24), rules=HIGHER, state=state).verdict
    assert np.nanmax(found.statistic) == pytest.approx(found.verdict.statistic, rel=1e-12)
    assert np.nanargmax(found.statistic) == found.verdict.change_index
    assert np.flatnonzero(np.isfinite(found.statistic)).tolist() == list(range(5, 20))


def test_the_best_of_all_splits_is_the_fall():
    y, before = noise(18, seed=3), Prior(variance=np.array([0.7]), phi=np.array([0.2]))
    every = split_statistics(y, np.zeros_like(y), before)[0]
    found = warm_fall(y, None, before)
    assert np.nanmax(every) == pytest.approx(found.z[0], rel=1e-12)
    assert np.nanargmax(every) + 1 == found.split[0]


def test_promises_are_kept():
    rows = benchmark.rows(full=False)
    assert len(rows) == 13
    assert [row for row in rows if not row.met] == []
