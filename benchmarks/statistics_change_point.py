"""How often an unchanged series alarms, and how soon a changed one does: every rule together.

Each figure comes from replaying whole histories through `fold.judge`, so change point, collapse,
latch, up-then-back and weights all take part.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from benchmarks.statistics_rows import Row
from benchmarks.usual_rules import ks_of_the_last, r_squared, relative_change, three_sigmas
from modelperf.stats.change_point import scan
from modelperf.stats.fold import judge
from modelperf.stats.results import MetricKind, Rule, Rules, Status

Floats = NDArray[np.float64]
Generator = np.random.Generator

RULES = Rules(kind=MetricKind.HIGHER, min_effect=0.0)
LEVEL = 100.0
LENGTH = 200


@dataclass(frozen=True, slots=True)
class Sample:
    """How many series a figure rests on, and whether it must keep its target to the letter."""

    size: int
    is_exact: bool

    def at_most(self, name: str, alarms: Sequence[bool], target: float) -> Row:
        """Judge a share of false alarms."""
        rate = float(np.mean(alarms))
        bound = target + self._error(target, len(alarms))
        return Row(name=name, target=f"<= {target:.1%}", measured=f"{rate:.1%}", met=rate <= bound)

    def at_least(self, name: str, found: Sequence[bool], target: float) -> Row:
        """Judge a share of changes found."""
        rate = float(np.mean(found))
        bound = target - self._error(target, len(found))
        return Row(name=name, target=f">= {target:.1%}", measured=f"{rate:.1%}", met=rate >= bound)

    def median(self, name: str, delays: Sequence[float], target: float) -> Row:
        """Judge a median delay; a few series may be one evaluation late."""
        measured = float(np.median(delays))
        met = measured <= target + (0 if self.is_exact else 1)
        return Row(name=name, target=f"<= {target:g}", measured=f"{measured:g}", met=met)

    def _error(self, rate: float, size: int) -> float:
        """Three binomial standard errors (of a rate not taken smaller than 2 %), or nothing."""
        rate = min(max(rate, 0.02), 0.98)
        return 0.0 if self.is_exact else 3 * math.sqrt(rate * (1 - rate) / size)


def rows(full: bool) -> list[Row]:
    """Return every figure of performance drift on one series.

    Parameters
    ----------
    full : bool
        5,000 unchanged series a kind of noise, 2,000 or 1,000 for the other figures, held to the
        targets; otherwise 40, with binomial bounds.
    """
    sample = Sample(2000, is_exact=True) if full else Sample(40, is_exact=False)
    return [
        *unchanged(Sample(5000, is_exact=True) if full else sample),
        *watched_both_ways(sample),
        *unchanged_with_counts(sample),
        *changed(sample),
        *gains(sample),
        *latch(sample),
        *collapse(sample),
        *usual_rules(sample),
        *speed(full),
    ]


def noise(rng: Generator, size: int, kind: str) -> Floats:
    """Return stationary noise of standard deviation 1: iid, t3, t4, ar.5 or ar.8."""
    if kind.startswith("t"):
        df = int(kind[1:])
        return rng.standard_t(df, size) / math.sqrt(df / (df - 2))
    phi = 0.0 if kind == "iid" else float(kind[2:])
    shocks = rng.normal(size=size + 100) * math.sqrt(1 - phi**2)
    for i in range(1, len(shocks)):
        shocks[i] += phi * shocks[i - 1]
    return np.asarray(shocks[100:])


def degraded(values: Floats, counts: Floats | None = None) -> NDArray[np.bool_]:
    """Whether an incident is open after each evaluation."""
    counts = np.zeros(len(values)) if counts is None else counts
    return judge(LEVEL + values, counts, rules=RULES).degraded


def first_rule(values: Floats) -> Rule | None:
    """Return the rule of the first incident."""
    alarms = degraded(values)
    if not alarms.any():
        return None
    end = int(alarms.argmax()) + 1
    return judge(LEVEL + values[:end], np.zeros(end), rules=RULES).verdict.rule


def unchanged(sample: Sample) -> list[Row]:
    """False alarms of series that do not change, by rule, over 170 checks."""
    found = []
    targets = {"iid": (0.03, 0.01), "t4": (0.03, 0.01), "ar.5": (0.08, 0.01)}
    targets |= {"ar.8": (math.nan, 0.01), "t3": (math.nan, 0.05)}
    for kind, (target, collapse_target) in targets.items():
        rng = np.random.default_rng(11)
        rules = [first_rule(noise(rng, LENGTH, kind)) for _ in range(sample.size)]
        if not math.isnan(target):
            alarms = [rule is not None for rule in rules]
            found.append(sample.at_most(f"unchanged, {kind}: any alarm", alarms, target))
        collapses = [rule is Rule.COLLAPSE for rule in rules]
        found.append(sample.at_most(f"unchanged, {kind}: collapse", collapses, collapse_target))
    return found


def watched_both_ways(sample: Sample) -> list[Row]:
    """False alarms of a bias, which gets worse by falling and by rising."""
    rng = np.random.default_rng(12)
    bias = Rules(kind=MetricKind.TARGET_ZERO, min_effect=0.0)
    none = np.zeros(LENGTH)
    alarms = [
        bool(judge(noise(rng, LENGTH, "iid"), none, rules=bias).degraded.any())
        for _ in range(sample.size)
    ]
    return [sample.at_most("unchanged, iid bias watched on both sides", alarms, 0.03)]


def unchanged_with_counts(sample: Sample) -> list[Row]:
    """False alarms of series whose sample counts vary, with and without their noise."""
    found = []
    for name, counts, relative_noise in _counts():
        rng = np.random.default_rng(12)
        alarms = []
        for _ in range(sample.size):
            n = counts(rng)
            values = rng.normal(size=LENGTH) * relative_noise(n)
            alarms.append(bool(degraded(values, n).any()))
        found.append(sample.at_most(f"unchanged, {name}", alarms, 0.03))
    return found


def _counts() -> list[tuple[str, Callable[[Generator], Floats], Callable[[Floats], Floats]]]:
    def any_size(rng: Generator) -> Floats:
        return np.round(np.exp(rng.uniform(math.log(20), math.log(20_000), LENGTH)))

    def jump(_: Generator) -> Floats:
        return np.repeat([100.0, 10_000.0], LENGTH // 2)

    def drop(_: Generator) -> Floats:
        return np.repeat([10_000.0, 100.0], LENGTH // 2)

    def sampling(n: Floats) -> Floats:
        return np.asarray(np.sqrt(np.median(n) / n))

    return [
        ("n of 20 to 20,000, noise as 1/sqrt(n)", any_size, sampling),
        ("n of 20 to 20,000, noise the same", any_size, np.ones_like),
        ("n jumps a hundredfold, noise the same", jump, np.ones_like),
        ("n drops a hundredfold, noise the same", drop, np.ones_like),
        ("n drops a hundredfold, noise as 1/sqrt(n)", drop, sampling),
    ]


def changed(sample: Sample) -> list[Row]:
    """How soon a fall after 100 evaluations is found, and how well it is dated."""
    found = []
    for size, longest, share in ((1.0, 22, 0.95), (2.0, 7, 1.0)):
        rng = np.random.default_rng(13)
        delays, covered = [], []
        for _ in range(sample.size // 2):
            values = noise(rng, LENGTH, "iid")
            values[100:] -= size
            answer = judge(LEVEL + values, np.zeros(LENGTH), rules=RULES)
            delays.append(_delay(answer.degraded[100:]))
            if answer.verdict.change_low is not None and answer.verdict.change_high is not None:
                low, high = answer.verdict.change_low, answer.verdict.change_high
                covered.append(low <= 100 <= high)
        found += [
            sample.median(f"fall of {size:g} sigma: median delay", delays, longest),
            sample.at_least(f"fall of {size:g} sigma: found", np.isfinite(delays).tolist(), share),
            sample.at_least(f"fall of {size:g} sigma: date in its range", covered, 0.90),
        ]
    return found


def _delay(states: NDArray[np.bool_]) -> float:
    """Evaluations up to and with the first that is True; infinite without one."""
    return float(states.argmax()) + 1 if states.any() else math.inf


def gains(sample: Sample) -> list[Row]:
    """Improvements, kept or lost again, are no alarm."""
    rng = np.random.default_rng(14)
    kept, back, told = [], [], []
    for _ in range(sample.size // 2):
        values = noise(rng, LENGTH, "iid")
        values[50:] += 2
        kept.append(bool(degraded(values).any()))
        values[120:] -= 2
        answer = judge(LEVEL + values, np.zeros(LENGTH), rules=RULES)
        back.append(bool(answer.degraded.any()))
        told.append(answer.verdict.status is Status.IMPROVEMENT_LOST)
    found = [
        sample.at_most("up 2 sigma at 50: any alarm", kept, 0.03),
        sample.at_most("up 2 sigma at 50, back at 120: any alarm", back, 0.03),
    ]
    share = f"{np.mean(told):.1%}"
    return [*found, Row(name=".. told as improvement lost", target="-", measured=share, met=True)]


def latch(sample: Sample) -> list[Row]:
    """A degradation stays until it has recovered, and the next one is raised anew."""
    rng = np.random.default_rng(15)
    cleared, delays, again = [], [], []
    for _ in range(sample.size // 2):
        values = noise(rng, 300, "iid")
        values[100:] -= 2
        states = degraded(values)
        opened = 100 + int(states[100:].argmax())
        cleared.append(bool(states[opened] and not states[opened:].all()))
        values[150:200] += 2
        states = degraded(values)
        if states[149]:
            delays.append(_delay(~states[150:200]))
            again.append(bool(not states[150:200].all() and states[200:250].any()))
    return [
        sample.at_most("fall of 2 sigma, 200 evaluations on: falsely cleared", cleared, 0.01),
        sample.median("back to the old level: median evaluations to recovery", delays, 6),
        sample.at_least("second fall of 2 sigma: raised anew", again, 0.98),
    ]


def collapse(sample: Sample) -> list[Row]:
    """Falls off a cliff, by how many evaluations they take to be told."""
    found = []
    for kind in ("iid", "ar.5", "ar.8"):
        for size in (8.0, 12.0):
            rng = np.random.default_rng(16)
            at_once, within_two = [], []
            for _ in range(sample.size // 2):
                values = noise(rng, 102, kind)
                values[100:] -= size
                states = degraded(values)
                at_once.append(bool(states[100]))
                within_two.append(bool(states[101]))
            name = f"{kind}: fall of {size:g} sigma"
            share = 0.89 if size < 12 else 0.995
            found.append(sample.at_least(f"{name} within 2", within_two, share))
            if size == 12:
                found.append(sample.at_least(f"{name} at once", at_once, 0.54))
    return found


def usual_rules(sample: Sample) -> list[Row]:
    """What common rules do to the same series, none of which gets worse."""
    size, found = min(sample.size, 200), []
    counts, noise_of = next((n, relative) for name, n, relative in _counts() if "1/sqrt" in name)
    for name in ("iid", "ar.5", "iid, up 2 sigma at 50", "iid, n of 20 to 20,000"):
        rng = np.random.default_rng(11)
        values = np.array([noise(rng, LENGTH, name.split(",")[0]) for _ in range(size)])
        if "up" in name:
            values[:, 50:] += 2
        if "n of" in name:
            values *= np.array([noise_of(counts(rng)) for _ in range(size)])
        shares = {
            "3 sigma": three_sigmas(values),
            "R² 10 %": relative_change(r_squared(values)),
            "KS .05": ks_of_the_last(values),
        }
        measured = ", ".join(f"{rule} {a.any(axis=1).mean():.0%}" for rule, a in shares.items())
        found.append(Row(name=f"usual rules, {name}", target="-", measured=measured, met=True))
    return found


def speed(full: bool) -> list[Row]:
    """Fleet scan, replay and single step, the best of some runs on one core."""
    rng = np.random.default_rng(17)
    fleet = rng.normal(size=(1000, 200))
    counts = rng.integers(20, 20_000, fleet.shape).astype(float)
    values, none = LEVEL + rng.normal(size=400), np.zeros(400)
    state = judge(values[:399], none[:399], rules=RULES).state
    timed = [
        ("scan of 1,000 x 200", 0.05, lambda: scan(fleet)),
        ("scan of 1,000 x 200, counts that vary", 0.05, lambda: scan(fleet, counts)),
        ("replay of 400 evaluations", 0.06, lambda: judge(values, none, rules=RULES)),
        ("one step, 400 before", 0.001, lambda: judge(values, none, rules=RULES, state=state)),
    ]
    found = []
    for name, target, call in timed:
        seconds = _best(call, 20)
        is_met = seconds <= target or not full
        text = f"<= {1000 * target:g} ms"
        found.append(
            Row(name=f"speed: {name}", target=text, measured=f"{1000 * seconds:.2f} ms", met=is_met)
        )
    return found


def _best(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return min(times)
