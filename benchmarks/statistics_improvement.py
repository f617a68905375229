"""What the proof of a better version does: unchanged versions it believes, good ones it finds."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.statistics_change_point import LEVEL, RULES
from benchmarks.statistics_rows import Row
from benchmarks.statistics_sequential import Floats, at_least, at_most, autoregressive
from modelperf.stats.fleet_fold import Series, judge_fleet
from modelperf.stats.fold import judge
from modelperf.stats.improvement import FEWEST_AFTER, proved_better
from modelperf.stats.results import MetricKind

BASE = 60
LOOKS = 120
UNTIL = BASE + 60  # a fall that is not alarmed by then is left out
AFTER_ALARM = 2  # further evaluations of the old version, before the new one serves
NEVER = 10 * LOOKS
# AR(1) of both versions, degrees of freedom of the noise (None: normal).
Noise = tuple[str, float, int | None]
UNCHANGED: tuple[Noise, ...] = (
    ("iid", 0.0, None),
    ("AR(1) .5", 0.5, None),
    ("AR(1) .7", 0.7, None),
    ("t4", 0.0, 4),
)
LIMIT = 0.05
# The fall in sigmas, how often it must be proved within the looks, after how many in the median.
BACK = ((1.0, 0.85, 25), (2.0, 0.99, 12), (3.0, 0.99, 12))


def rows(full: bool) -> list[Row]:
    """Return false proofs of an unchanged version, and how soon a good one is proved."""
    n = 1000 if full else 60
    return [
        *(unchanged(like, size, n, full=full) for like in UNCHANGED for size in (5, 20)),
        more_autocorrelated(n, full=full),
        *(alarmed(like, fall, n, full=full) for like in UNCHANGED for fall in (1.0, 2.0)),
        *(back(*promise, n, full=full) for promise in BACK),
        *(back_correlated(fall, n, full=full) for fall in (1.0, 2.0)),
    ]


def noise(seed: int, shape: tuple[int, int], phi: float, df: int | None) -> Floats:
    """Return rows of noise of one sigma."""
    if df is None:
        return autoregressive(seed, shape, phi)
    tails: Floats = np.random.default_rng(seed).standard_t(df, shape) / np.sqrt(df / (df - 2))
    return tails


def proved_after(fallen: Floats, new: Floats, earlier: Floats) -> int:
    """Return how many evaluations of the new version it took, NEVER where they do not do."""
    found = proved_better(
        LEVEL + fallen,
        LEVEL + new,
        earlier=LEVEL + earlier,
        kind=MetricKind.HIGHER,
        min_effect=0.0,
    )
    return found.n_after if found.is_better else NEVER


def unchanged(like: Noise, size: int, n: int, *, full: bool) -> Row:
    """Count proofs where both versions are at one level."""
    name, phi, df = like
    y, new = noise(41, (n, BASE + size), phi, df), noise(42, (n, LOOKS), phi, df)
    found = [proved_after(y[at, BASE:], new[at], y[at, :BASE]) for at in range(n)]
    share = float(np.mean(np.array(found) < NEVER))
    return Row(
        name=f"unchanged, {name}, {size} since the fall: ever proved better",
        target=f"<= {LIMIT:.0%}",
        measured=f"{share:.1%}",
        met=at_most(share, LIMIT, n, full=full),
    )


def more_autocorrelated(n: int, *, full: bool) -> Row:
    """Count proofs where the new version alone is autocorrelated."""
    y, new = noise(43, (n, BASE + 20), 0.0, None), noise(44, (n, LOOKS), 0.5, None)
    found = [proved_after(y[at, BASE:], new[at], y[at, :BASE]) for at in range(n)]
    share = float(np.mean(np.array(found) < NEVER))
    return Row(
        name="unchanged, iid before, AR(1) .5 now: ever proved better",
        target="<= 5%",
        measured=f"{share:.1%}",
        met=at_most(share, 0.05, n, full=full),
    )


def alarms(phi: float, df: int | None, fall: float, n: int) -> list[tuple[Floats, Floats]]:
    """Return falls as they are alarmed and dated: what lies before each, and what since."""
    y = noise(45, (n, UNTIL), phi, df)
    y[:, BASE:] -= fall
    none = np.zeros(UNTIL)
    judged = judge_fleet(Series(LEVEL + row, none, RULES) for row in y)
    found = []
    for row, one in zip(y, judged, strict=True):
        end = int(one.degraded.argmax()) + 1
        if not one.degraded.any():
            continue
        incident = judge(LEVEL + row[:end], none[:end], rules=RULES).state.incident
        if incident is not None and incident.change >= BASE - 15:
            found.append((row[: incident.change], row[incident.change : end + AFTER_ALARM]))
    return found


def alarmed(like: Noise, fall: float, n: int, *, full: bool) -> Row:
    """Count proofs of a version as bad as the one that was alarmed, by what alarmed it."""
    name, phi, df = like
    found = alarms(phi, df, fall, n)
    new = noise(46, (len(found), LOOKS), phi, df) - fall
    share = _share(found, new)
    # At AR(1) .7 few falls of 1 sigma alarm, those that chance has made much deeper.
    promised = LIMIT if (phi, fall) != (0.7, 1.0) else 0.12
    return Row(
        name=f"as bad as what alarmed, {name}, fall of {fall:g} sigma",
        target=f"<= {promised:.0%}",
        measured=f"{share:.1%} of {len(found)} alarms",
        met=at_most(share, promised, len(found), full=full),
    )


def _share(found: list[tuple[Floats, Floats]], new: Floats) -> float:
    return float(np.mean(_when(found, new) < NEVER))


def _when(found: list[tuple[Floats, Floats]], new: Floats) -> NDArray[np.int64]:
    pairs = zip(found, new, strict=True)
    return np.array([proved_after(since, row, before) for (before, since), row in pairs])


def back(fall: float, least: float, soon: int, n: int, *, full: bool) -> Row:
    """Tell how soon a version at the level before the fall is proved."""
    found = alarms(0.0, None, fall, n // 2)
    when = _when(found, noise(47, (len(found), LOOKS), 0.0, None))
    share, early = float(np.mean(when < NEVER)), float(np.mean(when <= soon))
    is_soon = at_least(early, 0.5, len(found), full=full)
    return Row(
        name=f"back at the level before a fall of {fall:g} sigma",
        target=f">= {least:.0%}, median <= {soon}",
        measured=f"{share:.1%}, median {np.median(when):g}",
        met=at_least(share, least, len(found), full=full) and is_soon,
    )


def back_correlated(fall: float, n: int, *, full: bool) -> Row:
    """Tell the same of autocorrelated versions."""
    found = alarms(0.5, None, fall, n)
    when = _when(found, noise(48, (len(found), LOOKS), 0.5, None))
    share, least = float(np.mean(when < NEVER)), 0.65 if fall < 2 else 0.95
    return Row(
        name=f"back, AR(1) .5, fall of {fall:g} sigma",
        target=f">= {least:.0%}",
        measured=f"{share:.1%}, median {np.median(when):g}, at least {FEWEST_AFTER}",
        met=at_least(share, least, len(found), full=full),
    )
