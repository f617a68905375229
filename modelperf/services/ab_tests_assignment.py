"""Which version a unit goes to: a hash decides, so everybody who asks is told the same for ever."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from modelperf.models import ABTest

_HASHES: Final = 2**64


@dataclass(frozen=True, slots=True)
class Assignment:
    """The arm of a unit and the version that serves it."""

    test_id: uuid.UUID
    unit: str
    arm: str
    model_id: uuid.UUID
    model_version: int


def assign(*, test: ABTest, unit: str) -> Assignment:
    """Return the arm of a unit by the planned split; nothing is stored and no order matters."""
    digest = sha256(test.pk.bytes + unit.encode()).digest()
    is_a = int.from_bytes(digest[:8], "big") < test.traffic_split_a * _HASHES
    if is_a:
        return Assignment(test.pk, unit, "model_a", test.model_a_id, test.model_a_version)
    return Assignment(test.pk, unit, "model_b", test.model_b_id, test.model_b_version)
