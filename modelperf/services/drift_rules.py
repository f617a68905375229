"""By which metric and which rules a series is judged: its type's policy, or the defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Final

from modelperf.models import Policy
from modelperf.models.metrics import REGISTERED_METRICS
from modelperf.stats.orientation import kind_of
from modelperf.stats.results import HIGHER_IS_BETTER, MetricKind, Rules

FALSE_DISCOVERY_RATE: Final = 0.05


@dataclass(frozen=True, slots=True)
class PolicyValues:
    """What a policy says; as it stands here it is the default of a type without one."""

    primary_metric: str = ""
    directions: Mapping[str, str] = field(default_factory=dict)
    min_effect: float = 0.02
    limit_value: float | None = None
    clear_value: float | None = None

    def kind(self, metric: str) -> MetricKind | None:
        """Return how a metric is read, or None where nobody said."""
        declared = self.directions.get(metric)
        return MetricKind(declared) if declared else kind_of(metric)

    def judged_metric(self, reported: Iterable[str]) -> str | None:
        """Return the metric to judge by: the policy's, else R², else the first with a direction.

        The choice depends on which metrics are reported, never on the order of their arrival.
        """
        if self.primary_metric:
            return self.primary_metric
        candidates = [name for name in reported if self.kind(name)]
        return min(candidates, key=_preference, default=None)

    def rules(self, metric: str) -> Rules | None:
        """Return the rules for a metric, or None where its direction is unknown."""
        kind = self.kind(metric)
        if kind is None:
            return None
        return Rules(
            kind=kind,
            min_effect=self.min_effect,
            limit=self.limit_value,
            clear_limit=self.clear_value if self.clears_on_the_better_side(kind) else None,
        )

    def clears_on_the_better_side(self, kind: MetricKind) -> bool:
        """Whether the second limit is better than the first, as it has to be."""
        if self.limit_value is None or self.clear_value is None:
            return True
        if kind in HIGHER_IS_BETTER:
            return self.clear_value >= self.limit_value
        return self.clear_value <= self.limit_value


def policy_values(policy: Policy) -> PolicyValues:
    """Return what a stored policy says."""
    return PolicyValues(
        policy.primary_metric,
        policy.directions,
        policy.min_effect,
        policy.limit_value,
        policy.clear_value,
    )


def _preference(metric: str) -> tuple[int, str]:
    registered = metric in REGISTERED_METRICS
    return (REGISTERED_METRICS.index(metric) if registered else len(REGISTERED_METRICS), metric)


@lru_cache(maxsize=1024)
def rules_document(rules: Rules) -> dict[str, Any]:
    """Return the rules as stored with a state, which is only good under the same rules."""
    return asdict(rules) | {"kind": rules.kind.value}
