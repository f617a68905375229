"""How rules are stored with a drift state."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Any

from modelperf.stats.results import Rules


@lru_cache(maxsize=1024)
def rules_document(rules: Rules) -> dict[str, Any]:
    """Return the rules as stored with a state, which is only good under the same rules."""
    return asdict(rules) | {"kind": rules.kind.value}
