"""Data drift: unchanged features that alarm, shifts that are found, sizes against scipy's."""

from collections.abc import Callable

import numpy as np
from scipy import signal, spatial, stats

from benchmarks.statistics_rows import Row
from benchmarks.statistics_sequential import Floats, at_least, at_most
from modelperf.stats.distances import population_stability_index
from modelperf.stats.distributions import FeatureStatus, compare
from modelperf.stats.histograms import bars
from modelperf.stats.profiles import Profile, Reference, profile_of, reference_of

FEATURES = 10
MERGED = 16
NOMINAL = 0.001  # alarms a check of a model, promised
SHARE = 0.2  # of unchanged models that may ever alarm in 200 checks

Draw = Callable[[np.random.Generator, int], Floats]


def rows(full: bool) -> list[Row]:
    """Simulate models of ten features; quick mode takes few and allows for binomial error."""
    cells = [
        unchanged("100 rows", normal, 100, 10_000, full=full),
        unchanged("1,000 rows", normal, 1_000, 20_000, full=full),
        unchanged("10 rows", normal, 10, 5_000, full=full),
        unchanged("1,000 rows, counts", poisson, 1_000, 20_000, full=full),
        unchanged("200 rows, categories", categories, 200, 10_000, full=full),
        unchanged("200 rows AR(1) .7, 40 windows", autoregressive, 200, 8_000, full=full),
    ]
    return [
        *(row for row, _, _ in cells),
        nominal(sum(raised for _, raised, _ in cells), sum(looks for _, _, looks in cells)),
        found(0.2, 1_000, full=full),
        *sizes(full=full),
    ]


def nominal(raised: int, looks: int) -> Row:
    """Hold alarms of single features against the level they promise, however few models there are.

    What a drift that lasts for several looks says again is not counted again.
    """
    level = NOMINAL / FEATURES
    return Row(
        name=f"all of these: alarms raised in {looks:,} looks at a feature",
        target=f"<= {level:g} a look",
        measured=f"{raised}, {raised / looks:.1e} a look",
        met=bool(stats.binom.sf(raised - 1, looks, level) > 1e-3),
    )


def normal(chance: np.random.Generator, size: int) -> Floats:
    """Draw independent rows."""
    return chance.standard_normal(size)


def poisson(chance: np.random.Generator, size: int) -> Floats:
    """Draw whole numbers with many ties."""
    return chance.poisson(3.0, size).astype(np.float64)


def categories(chance: np.random.Generator, size: int) -> Floats:
    """Draw labels, some of them rare."""
    shares = 1.0 / np.arange(1, 31) ** 1.5
    return chance.choice(np.char.add("c", np.arange(30).astype(str)), size, p=shares / shares.sum())


def autoregressive(chance: np.random.Generator, size: int) -> Floats:
    """Draw rows of which each depends on the one before."""
    noise = chance.standard_normal(size + 100) * np.sqrt(1 - 0.7**2)
    return np.asarray(signal.lfilter([1], [1, -0.7], noise)[100:])


def heavy_tailed(chance: np.random.Generator, size: int) -> Floats:
    """Draw rows without a variance."""
    return chance.standard_t(2, size)


def skewed(chance: np.random.Generator, size: int) -> Floats:
    """Draw rows of which a few are hundreds of medians."""
    return chance.lognormal(0, 2, size)


def humps(chance: np.random.Generator, size: int) -> Floats:
    """Draw rows from two places far apart."""
    return 100.0 * (chance.random(size) < 0.5) + chance.standard_normal(size)


def unchanged(
    name: str, draw: Draw, size: int, reference: int, *, full: bool
) -> tuple[Row, int, int]:
    """Count models of which any feature alarms at any check, the usual rules beside it.

    Besides the row: how many alarms were raised, in how many looks at a feature.
    """
    models, checks = (50, 200) if full else (4, 24)
    chance, alarms = np.random.default_rng(41), np.zeros((models, 3), dtype=bool)
    spread, raised = 40 if draw is autoregressive else 0, 0
    for model in range(models):
        for _ in range(FEATURES):
            values = draw(chance, reference + checks * size)
            own, after = values[:reference], np.split(values[reference:], checks)
            known = reference_of(own)
            calm = np.split(own[: spread * size], spread or 1)
            there = [profile_of(part, known) for part in calm]
            ours, ks, psi = looked_at(known, own, after, there if spread else [])
            alarms[model] |= bool(ours), ks, psi
            raised += ours
    ever, ks, psi = alarms.mean(axis=0).tolist()
    limit, count = SHARE * checks / 200, int(alarms[:, 0].sum())
    most = float(stats.beta.ppf(0.95, count + 1, models - count)) if count < models else 1.0
    row = Row(
        name=f"unchanged, windows of {name}: any alarm in {checks} checks",
        target=f"<= {limit:.0%} of models",
        measured=f"{ever:.0%}, surely < {most:.0%} (KS at .05: {ks:.0%}, PSI > .1: {psi:.0%})",
        met=at_most(ever, limit, models, full=full),
    )
    return row, raised, models * FEATURES * checks


def looked_at(
    known: Reference, own: Floats, windows: list[Floats], there: list[Profile]
) -> tuple[int, bool, bool]:
    """Tell how often `compare` raises an alarm, and whether KS at .05 and PSI above .1 ever do."""
    seen: list[Profile] = []
    raised, was, ks, psi = 0, False, False, False
    for window in windows:
        seen = [*seen[1 - MERGED :], profile_of(window, known)]
        verdict = compare(known, seen, n_features=FEATURES, reference_windows=there)
        drifted = verdict.status is FeatureStatus.DRIFTED
        raised, was = raised + (drifted and not was), drifted
        psi = psi or population_stability_index(*bars(known, seen[-1])) > 0.1
        if not ks and window.dtype.kind == "f":
            ks = stats.ks_2samp(own, window, method="asymp").pvalue < 0.05
    return raised, ks, psi


def found(shift: float, size: int, *, full: bool) -> Row:
    """Count shifted features that are told within two checks."""
    runs, chance = (1000 if full else 60), np.random.default_rng(42)
    known = reference_of(chance.standard_normal(20_000))
    within, once, psi = 0, 0, 0
    for _ in range(runs):
        before = [profile_of(chance.standard_normal(size), known) for _ in range(MERGED - 2)]
        after = [profile_of(chance.standard_normal(size) + shift, known) for _ in range(2)]
        verdicts = [
            compare(known, [*before, *after[:checks]], n_features=FEATURES) for checks in (1, 2)
        ]
        told = [verdict.status is FeatureStatus.DRIFTED for verdict in verdicts]
        within, once = within + any(told), once + told[0]
        psi += population_stability_index(*bars(known, after[0])) > 0.1
    share = within / runs
    return Row(
        name=f"shift of {shift} sigma, windows of {size:,} rows: found within 2 checks",
        target=">= 98 %",
        measured=f"{share:.1%}, at the first {once / runs:.0%} (PSI > .1: {psi / runs:.0%})",
        met=at_least(share, 0.98, runs, full=full),
    )


def sizes(*, full: bool) -> list[Row]:
    """Compare sizes with scipy's on the sample itself."""
    chance, few, many = np.random.default_rng(43), [0.0], [0.0]
    heavy, runs = [0.0], 60 if full else 6
    for run in range(runs):
        own, after = chance.poisson(3, 4_000) * 0.1, chance.poisson(3.2, 900) * 0.1
        few.append(worst(own, after[np.isin(after, own)], bins=True))
        draw = (normal, autoregressive, np.random.Generator.random)[run % 3]
        own = draw(chance, 20_000)
        many.append(worst(own, draw(chance, 2_000) * 1.1 + 0.1 * (run % 4)))
        hard, size = ((heavy_tailed, 20_000), (skewed, 20_000), (humps, 20_000), (normal, 1_500))[
            run % 4
        ]
        own = hard(chance, size)
        heavy.append(worst(own, hard(chance, 2_000) * 1.1 + 0.1 * (run % 3)))
    return [
        within("D, W1, JS (same bars) of a sample with few values, off scipy's", few, 1e-9),
        within("D and W1 (in sigmas) of profiles, light tails, off scipy's", many, 5e-4),
        within(".. t of 2, lognormal, two humps; normal with 1,500 rows", heavy, 3e-3),
    ]


def within(name: str, errors: list[float], limit: float) -> Row:
    """Hold the largest error against its limit."""
    target, largest = f"<= {limit:.0e}", max(errors)
    return Row(name=name, target=target, measured=f"{largest:.1e}", met=largest <= limit)


def worst(own: Floats, after: Floats, *, bins: bool = False) -> float:
    """Return the largest error of D, of W1 in sigmas and of JS in the same bars."""
    known = reference_of(own)
    verdict = compare(known, [profile_of(after, known)], n_features=1)
    assert verdict.ks_distance is not None
    assert verdict.wasserstein_sigmas is not None
    errors = [
        verdict.ks_distance - stats.ks_2samp(own, after, method="asymp").statistic,
        verdict.wasserstein_sigmas - stats.wasserstein_distance(own, after) / own.std(ddof=1),
    ]
    if bins:
        assert verdict.js_distance is not None
        edges = verdict.histogram.edges
        shares = [np.histogram(part, edges)[0] / part.size for part in (own, after)]
        errors.append(verdict.js_distance - spatial.distance.jensenshannon(*shares))
    return float(np.abs(errors).max())
