"""The false alarms of a whole fleet, what machines have in common, and declared seasons."""

from collections.abc import Callable
from time import process_time

import numpy as np
from numpy.typing import NDArray

from benchmarks import usual_rules
from benchmarks.statistics_change_point import LEVEL, RULES, noise
from benchmarks.statistics_rows import Row
from benchmarks.statistics_sequential import at_least, at_most, autoregressive
from modelperf.stats import common_cause, season
from modelperf.stats.change_point import scan
from modelperf.stats.fleet import cut_off, tail_p_value
from modelperf.stats.fold import judge
from modelperf.stats.results import Rule

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Generator = np.random.Generator

LENGTH = 200
CHANGE = 100
SHARE_CHANGED = 0.02
Q = 0.05
YEAR = 365.25


def rows(full: bool) -> list[Row]:
    """Return every figure of fleet control.

    Parameters
    ----------
    full : bool
        20 fleets of 1,000 series and 2,000 machines a figure, held to the targets; otherwise two
        fleets of 200 and 80 machines, with binomial bounds.
    """
    seeds, size = (20, 1000) if full else (2, 200)
    machines = 2000 if full else 80
    return [
        *fleets("iid", seeds, size, full=full),
        *fleets("ar.5", seeds, size, full=full),
        *fleets("t4", seeds, size, full=full),
        *common_causes(machines, full=full),
        *own_falls(machines, full=full),
        *seasons(machines // 4, full=full),
        *speed(full=full),
    ]


# One fleet: the alerts of every run, as the check opens them


def folded(values: Floats) -> tuple[Floats, Flags, Flags]:
    """Return p at every prefix, whether an incident is open, and whether it is a collapse."""
    p, is_open = np.full(values.shape, np.nan), np.zeros(values.shape, bool)
    collapsed = np.zeros(values.shape, bool)
    for row, series in enumerate(values):
        answer = judge(series, np.zeros(len(series)), rules=RULES)
        p[row] = tail_p_value(answer.statistics, np.arange(1, len(series) + 1))
        is_open[row] = answer.degraded
        collapsed[row] = _collapses(series, answer.degraded)
    return p, is_open, collapsed


def _collapses(series: Floats, is_open: Flags) -> Flags:
    """Tell which of the open incidents a collapse has opened."""
    edges = np.diff(is_open.astype(int), prepend=0, append=0)
    found = np.zeros(len(series), bool)
    for first, last in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        opened = judge(series[: first + 1], np.zeros(first + 1), rules=RULES).verdict
        found[first:last] = opened.rule is Rule.COLLAPSE
    return found


def alerts(p: Floats, is_open: Flags, collapsed: Flags) -> tuple[Flags, Flags]:
    """Tell where an alert stands: on collapse, or where p was at the cut-off of the run twice.

    First where it was so at any two in a row since the incident opened (`Condition.confirmed_p`:
    whether evaluations come one by one or at once decides nothing), then at the last two alone.
    """
    limits = np.array([cut_off(column).of(Q) for column in p.T])
    before = np.column_stack([np.full(len(p), np.inf), p[:, :-1]])
    pair = np.where(is_open & ~collapsed, np.fmax(p, before), np.inf)
    smallest = pair.copy()
    for at in range(1, p.shape[1]):
        goes_on = is_open[:, at] & is_open[:, at - 1]
        smallest[goes_on, at] = np.minimum(smallest[goes_on, at], smallest[goes_on, at - 1])
    return collapsed | (smallest <= limits), collapsed | (pair <= limits)


def fleets(kind: str, seeds: int, size: int, *, full: bool) -> list[Row]:
    """Count the unchanged series that are ever alerted, and time the changed ones."""
    n_changed = round(SHARE_CHANGED * size)
    false, at_last, delays, usual = [], [], [], []
    for seed in range(seeds):
        rng = np.random.default_rng(1000 + seed)
        values = np.array([noise(rng, LENGTH, kind) for _ in range(size)])
        values[:n_changed, CHANGE:] -= 1
        alerted, newest = alerts(*folded(LEVEL + values))
        false.append(_ever(alerted[n_changed:]))
        at_last.append(_ever(newest[n_changed:]))
        delays += _delays(alerted[:n_changed, CHANGE:])
        usual.append(_ever(usual_rules.three_sigmas(values[n_changed:])))
    counted = {"last two": float(np.mean(at_last)), "3 sigma of 30": float(np.mean(usual))}
    return _fleet_rows(kind, np.array(false), np.array(delays), counted, size, full=full)


def _ever(alerted: Flags) -> int:
    return int(alerted.any(axis=1).sum())


def _delays(alerted: Flags) -> list[float]:
    """Evaluations up to and with the first alert; infinite without one."""
    return [float(row.argmax()) + 1 if row.any() else np.inf for row in alerted]


def _fleet_rows(
    kind: str, false: Floats, delays: Floats, counted: dict[str, float], size: int, *, full: bool
) -> list[Row]:
    name = f"fleet of {size:,}, {kind}"
    is_target = kind == "iid"
    limit, found = 5 * size / 1000, float(np.isfinite(delays).mean())
    slack = 0 if full else 3 * np.sqrt(limit / len(false))
    middle = float(np.median(delays))
    others = ", ".join(f"{rule}: {mean:.2f}" for rule, mean in counted.items())
    return [
        Row(
            name=f"{name}: unchanged series ever alerted",
            target=f"<= {limit:g}" if is_target else "-",
            measured=f"{false.mean():.2f} ({others})",
            met=not is_target or float(false.mean()) <= limit + slack,
        ),
        Row(
            name=f"{name}: falls of 1 sigma found",
            target=">= 95 %" if is_target else "-",
            measured=f"{found:.1%}",
            met=not is_target or at_least(found, 0.95, len(delays), full=full),
        ),
        Row(
            name=f"{name}: median delay of the falls",
            target="<= 26" if is_target else "-",
            measured=f"{middle:g}",
            met=not is_target or middle <= 26 + (0 if full else 8),
        ),
    ]


# Common causes: machines that share a season or a step, with loadings of their own


def machines_with(rng: Generator, cause: str, *, n_machines: int, phi: float = 0.0) -> Floats:
    """Return a block of machines with noise of 1 and a common cause."""
    y = autoregressive(int(rng.integers(2**31)), (n_machines, LENGTH), phi)
    loading = rng.uniform(0.5, 1.5, n_machines) if cause != "common step of 1" else 1.0
    at = np.arange(LENGTH)
    common = {
        "nothing in common": np.zeros(LENGTH),
        "season of 3 sigma": 3 * np.sin(2 * np.pi * (at / LENGTH + rng.random())),
        "common step of 1": -1.0 * (at >= CHANGE),
        "common step of 3": -3.0 * (at >= CHANGE),
    }[cause]
    return np.asarray(LEVEL + y + np.multiply.outer(np.resize(loading, n_machines), common))


CAUSES = ("nothing in common", "season of 3 sigma", "common step of 1", "common step of 3")
EVERY = 10


def common_causes(machines: int, *, full: bool) -> list[Row]:
    """False alarms of own parts over 18 looks, beside plain loadings at the last look."""
    found = []
    for n_machines in (4, 20):
        for cause in CAUSES:
            rng = np.random.default_rng(21)
            ever, one, least = [], [], []
            for _ in range(machines // n_machines):
                y = machines_with(rng, cause, n_machines=n_machines)
                ever += _ever_alarmed(y)
                one += _alarmed(y, _loading_of_one)
                least += _alarmed(y, _least_squares)
            share = float(np.mean(ever))
            found.append(
                Row(
                    name=f"{n_machines} machines, {cause}: own part alarms",
                    target="<= 3 %",
                    measured=f"{share:.1%} (b = 1: {np.mean(one):.0%}, least squares:"
                    f" {np.mean(least):.0%})",
                    met=at_most(share, 0.03, len(ever), full=full),
                )
            )
    return found


def _ever_alarmed(y: Floats) -> list[bool]:
    alarms = np.zeros(len(y), bool)
    for end in range(30, LENGTH + 1, EVERY):
        found = common_cause.split(y[:, :end])
        if found is not None:
            alarms |= scan(found.own).fall.z > RULES.threshold
    return alarms.tolist()


def _alarmed(y: Floats, loading: Callable[[Floats, Floats], Floats]) -> list[bool]:
    deviation = y - np.median(y, axis=1, keepdims=True)
    others = common_cause.median_of_others(deviation)
    own = deviation - loading(deviation, others)[:, None] * others
    return (scan(own).fall.z > RULES.threshold).tolist()


def _loading_of_one(deviation: Floats, _: Floats) -> Floats:
    return np.ones(len(deviation))


def _least_squares(deviation: Floats, others: Floats) -> Floats:
    f = others - others.mean(axis=1, keepdims=True)
    return np.asarray((f * deviation).sum(axis=1) / (f * f).sum(axis=1))


def own_falls(machines: int, *, full: bool) -> list[Row]:
    """Count the machines found that fall by themselves, and what is said of the fleet."""
    found = []
    for cause, target in zip(CAUSES, (0.97, 0.9, 0.8, 0.7), strict=True):
        rng = np.random.default_rng(22)
        told, others, fleet = [], [], []
        for _ in range(machines // 8):
            y = machines_with(rng, cause, n_machines=4)
            y[0, 140:] -= 2
            parts = common_cause.split(y)
            assert parts is not None
            own = common_cause.own_parts_degraded(parts, rules=RULES)
            told.append(bool(own[0]))
            others += own[1:].tolist()
            fleet.append(common_cause.judge(parts, y, rules=RULES) is not None)
        share = float(np.mean(told))
        found.append(
            Row(
                name=f"1 of 4 falls by 2 sigma, {cause}: found",
                target=f">= {target:.0%}",
                measured=f"{share:.1%} (the others: {np.mean(others):.1%},"
                f" fleet: {np.mean(fleet):.0%})",
                met=at_least(share, target, len(told), full=full)
                and at_most(float(np.mean(others)), 0.03, len(others), full=full),
            )
        )
    return found


# A declared season


def seasons(n_series: int, *, full: bool) -> list[Row]:
    """False alarms and power beside a yearly swing of one sigma, removed at every look."""
    found = []
    weekly, daily = (156, 7.0, 2), (730, 1.0, 10)
    targets = (("weekly", weekly, 0.0, 0.03), ("weekly", weekly, 0.5, 0.19))
    targets += (("daily", daily, 0.0, 0.03), ("daily", daily, 0.5, 0.19))
    for name, (length, days, every), phi, target in targets:
        y = _swinging(23, n_series, length, days, phi)
        told = _first_look(y, days, every, is_removed=True)
        bare = float(np.isfinite(_first_look(y, days, every, is_removed=False)).mean())
        share = float(np.isfinite(told).mean())
        found.append(
            Row(
                name=f"yearly swing of 1 sigma, {name}, AR(1) {phi}: any alarm",
                target=f"<= {target:.0%}",
                measured=f"{share:.1%} (no season declared: {bare:.0%})",
                met=at_most(share, target, n_series, full=full),
            )
        )
    return [*found, _fall_beside_season(n_series, *weekly, full=full)]


def _swinging(seed: int, n_series: int, length: int, days: float, phi: float) -> Floats:
    phase = np.random.default_rng(seed + 100).random((n_series, 1))
    swing = np.sin(2 * np.pi * (np.arange(length) * days / YEAR + phase))
    return np.asarray(LEVEL + swing + autoregressive(seed, (n_series, length), phi))


def _first_look(y: Floats, days: float, every: int, *, is_removed: bool) -> Floats:
    """Return how many evaluations each row had when it first alarmed, infinite if never."""
    first = np.full(len(y), np.inf)
    for end in range(30, y.shape[1] + 1, every):
        start = max(0, end - RULES.window)
        seen, at = y[:, start:end], np.arange(start, end) * days
        seen = season.removed(seen, at, period_days=YEAR) if is_removed else seen
        alarms = scan(seen).fall.z > RULES.threshold
        first = np.where(alarms, np.minimum(first, end), first)
    return first


def _fall_beside_season(n_series: int, length: int, days: float, every: int, *, full: bool) -> Row:
    y = _swinging(24, n_series, length, days, 0.0)
    change = int(0.7 * length)
    y[:, change:] -= 1
    told = _first_look(y, days, every, is_removed=True) - change
    share = float(np.isfinite(told).mean())
    return Row(
        name="yearly swing, weekly: fall of 1 sigma found within 47",
        target=">= 90 %",
        measured=f"{share:.1%}, median after {np.median(told):g}",
        met=at_least(share, 0.9, n_series, full=full),
    )


def speed(*, full: bool) -> list[Row]:
    """Time the split of a large fleet and its cut-off: processor time, the best of three."""
    rng = np.random.default_rng(25)
    y, p = rng.normal(size=(10_000, LENGTH)), rng.uniform(size=100_000)
    found = []
    calls: tuple[tuple[str, float, Callable[[], object]], ...] = (
        ("split of 10,000 machines x 200 windows", 2.0, lambda: common_cause.split(y)),
        ("cut-off of 100,000 series", 0.1, lambda: cut_off(p)),
    )
    for name, target, call in calls:
        took = min(_processor_time(call) for _ in range(3))
        met = took <= target or not full
        found.append(
            Row(name=f"speed: {name}", target=f"<= {target:g} s", measured=f"{took:.2f} s", met=met)
        )
    return found


def _processor_time(call: Callable[[], object]) -> float:
    start = process_time()
    call()
    return process_time() - start
