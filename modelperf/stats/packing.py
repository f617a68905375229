"""Whole numbers, floats and labels as few bytes, the same on every machine."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Packer:
    """Appends fields one after the other."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def number(self, value: int) -> None:
        """Append a whole number of any size and sign."""
        size = value.bit_length() // 8 + 1
        self.parts += [size.to_bytes(2, "little"), value.to_bytes(size, "little", signed=True)]

    def real(self, value: float | None) -> None:
        """Append a float, or that there is none."""
        self.parts.append(struct.pack("<d", np.nan if value is None else value))

    def blob(self, value: bytes) -> None:
        """Append bytes, at most 65,535."""
        self.parts += [len(value).to_bytes(2, "little"), value]

    def text(self, value: str) -> None:
        """Append a label."""
        self.blob(value.encode("utf-8", "surrogatepass"))

    def counts(self, values: NDArray[Any]) -> None:
        """Append counts; where most are zero, only the others with the gaps between them."""
        dense = varints(values)
        places = np.flatnonzero(values)
        gaps = np.diff(places, prepend=-1) - 1
        sparse = varints(np.stack([gaps, values[places]], axis=1).ravel())
        short = min(dense, sparse, key=len)
        self.parts.append(b"\x01" if short is sparse else b"\x00")
        self.number(values.size)
        self.blob(short)

    def done(self) -> bytes:
        """Return all of it."""
        return b"".join(self.parts)


class Unpacker:
    """Takes the fields of a `Packer` off, in the same order."""

    def __init__(self, packed: bytes) -> None:
        self.rest = memoryview(packed)

    def take(self, size: int) -> bytes:
        """Take so many bytes."""
        if len(self.rest) < size:
            raise ValueError("the bytes of a profile end early")
        taken, self.rest = bytes(self.rest[:size]), self.rest[size:]
        return taken

    def number(self) -> int:
        """Take a whole number."""
        size = int.from_bytes(self.take(2), "little")
        return int.from_bytes(self.take(size), "little", signed=True)

    def real(self) -> float | None:
        """Take a float, or None."""
        value = float(struct.unpack("<d", self.take(8))[0])
        return None if np.isnan(value) else value

    def blob(self) -> bytes:
        """Take bytes."""
        return self.take(int.from_bytes(self.take(2), "little"))

    def text(self) -> str:
        """Take a label."""
        return self.blob().decode("utf-8", "surrogatepass")

    def counts(self) -> NDArray[np.int64]:
        """Take counts."""
        sparse = self.take(1) == b"\x01"
        size = self.number()
        values = numbers(self.blob()).astype(np.int64)
        if not sparse:
            if values.size != size:
                raise ValueError("the bytes of a profile do not hold its counts")
            return values
        counts = np.zeros(size, dtype=np.int64)
        pairs = values.reshape(-1, 2)
        counts[np.cumsum(pairs[:, 0] + 1) - 1] = pairs[:, 1]
        return counts


def varints(values: NDArray[Any]) -> bytes:
    """Return unsigned numbers as seven bits a byte, the lowest first, the last without its top bit.

    Parameters
    ----------
    values : ndarray
        Whole numbers from 0 to 2**64 - 1.

    Returns
    -------
    bytes
        LEB128, one number after the other.
    """
    left = np.asarray(values).astype(np.uint64)
    digits = np.zeros((left.size, 10), dtype=np.uint8)
    used = np.zeros((left.size, 10), dtype=bool)
    used[:, 0] = True
    for place in range(10):
        digits[:, place] = left & np.uint64(0x7F)
        left >>= np.uint64(7)
        if place < 9:
            used[:, place + 1] = left > 0
            digits[used[:, place + 1], place] |= 0x80
    return digits[used].tobytes()


def numbers(packed: bytes) -> NDArray[np.uint64]:
    """Return the unsigned numbers of `varints`."""
    digits = np.frombuffer(packed, dtype=np.uint8)
    ends = np.flatnonzero(digits < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1])[: ends.size]
    values = np.zeros(ends.size, dtype=np.uint64)
    for place in range(int((ends - starts).max(initial=-1)) + 1):
        at = starts + place
        inside = at <= ends
        digit = digits[at[inside]].astype(np.uint64) & np.uint64(0x7F)
        values[inside] |= digit << np.uint64(7 * place)
    return values
