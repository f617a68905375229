"""CSV of any size, cut at the ends of lines so that each piece is read by itself.

Nothing here needs Django: workers of a cluster import it too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import IO, Final

from modelperf.services.profiles_columns import DataError, Text, texts

BLOCK: Final = 1 << 20
LONGEST_LINE: Final = 64 << 20
_BOM: Final = b"\xef\xbb\xbf"


def header(stream: IO[bytes]) -> tuple[list[str], int]:
    """Return the names of the first line without spaces around, and where the second begins."""
    stream.seek(0)
    line = stream.readline(LONGEST_LINE)
    first = _parsed(line.removeprefix(_BOM))
    names = [name.strip() for name in first[0]] if first else []
    if not names or not all(names):
        raise DataError("The first line of CSV holds the names of the columns, none of them empty.")
    if len(set(names)) < len(names):
        raise DataError("Two columns have the same name.")
    return names, len(line)


def ranges(stream: IO[bytes], start: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut what lies between two places into pieces of at least a size, whole lines each.

    A line may go on within quotes. Quotes come in pairs, doubled ones too, so the end of a line is
    the end of a record where their number before it is even.
    """
    begin = place = start
    is_quoted = 0
    while place < end:
        stream.seek(place)
        block = stream.read(min(BLOCK, end - place))
        if not block:
            break
        while (cut := _line_end(block, begin + size - place, is_quoted)) is not None:
            yield begin, place + cut
            begin = place + cut
        is_quoted ^= block.count(b'"') & 1
        place += len(block)
        if place - begin > size + LONGEST_LINE:
            raise DataError(f"After byte {begin} a quote is never closed.")
    if begin < place:
        yield begin, place


def _line_end(block: bytes, at: int, is_quoted: int) -> int | None:
    """Return where the first record that ends at or after a place ends within a block."""
    at = max(0, at)
    is_quoted ^= block.count(b'"', 0, at) & 1
    while (found := block.find(b"\n", at)) >= 0:
        is_quoted ^= block.count(b'"', at, found) & 1
        if not is_quoted:
            return found + 1
        at = found + 1
    return None


def read(
    stream: IO[bytes], start: int, end: int, *, names: Sequence[str], wanted: Sequence[str]
) -> dict[str, Text]:
    """Return the wanted columns of the records between two places, as text."""
    stream.seek(start)
    rows = [row for row in _parsed(stream.read(end - start)) if row]
    if ragged := next((row for row in rows if len(row) != len(names)), None):
        raise DataError(
            f"A line after byte {start} has {len(ragged)} fields, the header {len(names)}:"
            f" {','.join(ragged)[:80]}"
        )
    columns = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}
    return {name: Text(texts(columns.get(name, ()))) for name in wanted}


def _parsed(data: bytes) -> list[list[str]]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"The CSV is not UTF-8: {error}.") from None
    try:
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise DataError(f"This is not CSV: {error}.") from None
