"""The state of a test of row losses: small, plain, and the same however the rows came."""

from dataclasses import asdict, dataclass
from math import inf, isfinite
from typing import Any, Literal, NamedTuple

from modelperf.stats.evidence import Outcome
from modelperf.stats.row_sums import RowSums

MIN_ROWS = 100
LOOK_EVERY = 50

Form = Literal["pairs", "arms"]


class RowRules(NamedTuple):
    """What a test of row losses is decided by."""

    confidence_level: float = 0.95
    margin: float | None = None  # in the unit of the loss; None: 1 % of the mean absolute loss
    min_rows: int = MIN_ROWS  # of either arm

    @property
    def alpha(self) -> float:
        """The probability of a wrong winner."""
        return 1 - self.confidence_level


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen at one number of rows. Differences are loss_a - loss_b: positive, B leads.

    `rows` counts all of them, `n` the pairs or the rows of the smaller arm; `variance` is that of
    one pair. The interval is the running intersection; E is 1 where a look counts for nothing.
    """

    rows: int
    n: int
    mean_difference: float
    variance: float
    margin: float
    low: float | None
    high: float | None
    e_value: float
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFold:
    """The state of a test after some rows: sums, what all looks so far have shown, the decision."""

    form: Form
    a: RowSums  # pairs: of the differences
    b: RowSums
    size_a: float = 0.0  # sums of |loss|
    size_b: float = 0.0
    largest: float = 0.0
    next_look: int = LOOK_EVERY
    low: float = -inf
    high: float = inf
    most_log_e: float = 0.0
    outcome: Outcome = Outcome.UNDECIDED
    decided_at: int | None = None
    last: Look | None = None

    @property
    def rows(self) -> int:
        """Rows so far: pairs, or those of both arms."""
        return self.a.n + self.b.n

    @property
    def n(self) -> int:
        """Pairs, or rows of the smaller arm."""
        return self.a.n if self.form == "pairs" else min(self.a.n, self.b.n)

    def document(self) -> dict[str, Any]:
        """Return the state as plain values, from which `of_document` makes it again."""
        last = None if self.last is None else asdict(self.last)
        plain = {name: getattr(self, name) for name in _PLAIN}
        bounds = {"low": finite(self.low), "high": finite(self.high)}
        return {**plain, **bounds, "a": self.a.document(), "b": self.b.document(), "last": last}

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> "RowFold":
        """Return the state a document was made of."""
        last = document["last"]
        low, high = document["low"], document["high"]
        changed = {
            "a": RowSums.of_document(document["a"]),
            "b": RowSums.of_document(document["b"]),
            "low": -inf if low is None else low,
            "high": inf if high is None else high,
            "outcome": Outcome(document["outcome"]),
            "last": None if last is None else Look(**last),
        }
        return cls(**{**document, **changed})


_PLAIN = (
    "form",
    "size_a",
    "size_b",
    "largest",
    "next_look",
    "most_log_e",
    "outcome",
    "decided_at",
)


def begin(form: Form) -> RowFold:
    """Return the state before the first row."""
    return RowFold(form=form, a=RowSums(), b=RowSums())


def finite(value: float) -> float | None:
    """Return the value, None where it is infinite."""
    return value if isfinite(value) else None
