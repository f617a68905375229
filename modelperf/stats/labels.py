"""Categories as labels of bounded length, counted."""

from __future__ import annotations

import numbers
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

LONGEST = 48  # bytes of UTF-8
MOST_CATEGORIES = 200
MOST_NEW = 100
_CLEAR = 4.0  # standard deviations of a count
_KEPT = 29  # bytes of a longer label, before the digest that keeps it apart from its like


def label(value: Any) -> str:
    """Return the label of a category: text as it is, booleans as in JSON, numbers as written.

    Whole numbers have no point, be they integers or floats. More than 48 bytes of UTF-8 are cut to
    their first 29, an ellipsis and 16 digits of a digest.
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool | np.bool_):
        text = "true" if value else "false"
    elif isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
    elif isinstance(value, float | np.floating) and value.is_integer():
        text = str(int(value))
    else:
        text = str(value)
    written = text.encode("utf-8", "surrogatepass")
    if len(written) <= LONGEST:
        return text
    digest = blake2b(written, digest_size=8).hexdigest()
    return written[:_KEPT].decode("utf-8", "ignore") + "…" + digest


def is_missing(value: Any) -> bool:
    """Tell None, NaN and NaT, the values that are not equal to themselves."""
    return value is None or bool(value != value)  # noqa: PLR0124 - so is a missing one told


def is_number(value: Any) -> bool:
    """Tell numbers, of which booleans are none here."""
    return isinstance(value, numbers.Number) and not isinstance(value, bool)


def count_labels(values: Iterable[Any]) -> tuple[Counter[str], int]:
    """Return how often each label occurs, and how many values are missing."""
    return add_labels(Counter(values))


def add_labels(counts: Mapping[Any, int]) -> tuple[Counter[str], int]:
    """Return counts of values as counts of their labels, and how many of them are missing."""
    labels: Counter[str] = Counter()
    missing = 0
    for value, count in counts.items():
        if is_missing(value):
            missing += count
        elif count:
            labels[label(value)] += count
    return labels, missing


def top(counts: Mapping[str, int], most: int = MOST_CATEGORIES) -> tuple[str, ...]:
    """Return the most frequent labels, ties by their digest.

    Where there are more, only those clearly more frequent than the first that is left out: labels
    that came to the top by chance would seem to become rarer ever after.
    """
    order = sorted(counts, key=lambda name: (-counts[name], digest(name)))
    if len(order) <= most:
        return tuple(order)
    left_out = counts[order[most]]
    enough = left_out + _CLEAR * left_out**0.5
    return tuple(name for name in order[:most] if counts[name] >= enough)


def sample(counts: Mapping[str, int], most: int = MOST_NEW) -> dict[str, int]:
    """Return the labels with the smallest digests, in that order.

    A label among the smallest of a whole is among the smallest of every part it occurs in: samples
    of parts add up to the sample of the whole, with exact counts.
    """
    return {name: counts[name] for name in sorted(counts, key=digest)[:most]}


def digest(name: str) -> bytes:
    """Return what orders labels, whatever they mean."""
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
