"""Files of any size as pieces, and what a worker makes of a piece: sketches or profiles.

Nothing here needs Django: workers of a cluster need the package alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from modelperf.services import profiles_arrow, profiles_csv
from modelperf.services.profiles_columns import Column, DataError, fitted, natural
from modelperf.stats.profiles import FeatureKind, Profile, Reference, merge, profile_of
from modelperf.stats.sketches import Sketch, merge_sketches

PIECE_BYTES: Final = 32 << 20
PIECE_ROWS: Final = 1 << 19
CHUNK_BYTES: Final = 4 << 20
Form = Literal["csv", "parquet"]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one worker reads at a time: a range of bytes of CSV, or of row groups of Parquet.

    Pieces depend on the file alone, never on how many workers there are; `size` is in bytes or
    rows, for the progress bar.
    """

    path: str
    form: Form
    start: int
    end: int
    names: tuple[str, ...]
    text: tuple[str, ...] = ()
    size: int = 0


def pieces_of(path: Path) -> list[Piece]:
    """Cut a file into pieces; its name says what it is.

    Raises
    ------
    DataError
        It cannot be read, or pyarrow is not installed.
    """
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return _of_parquet(path)
        if path.suffix.lower() == ".csv":
            return _of_csv(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    raise DataError(f"{path} is neither .csv nor .parquet.")


def _of_csv(path: Path) -> list[Piece]:
    with path.open("rb") as stream:
        names, start = profiles_csv.header(stream)
        end = path.stat().st_size
        return [
            Piece(str(path), "csv", begin, after, tuple(names), size=after - begin)
            for begin, after in profiles_csv.ranges(stream, start, end, PIECE_BYTES)
        ] or [Piece(str(path), "csv", start, start, tuple(names))]


def _of_parquet(path: Path) -> list[Piece]:
    if not profiles_arrow.IS_INSTALLED:
        raise DataError(profiles_arrow.HOW_TO_INSTALL)
    names, text, rows = profiles_arrow.outline(str(path))
    found: list[Piece] = []
    start = size = 0
    for group, n in enumerate(rows):
        size += n
        if size >= PIECE_ROWS or group + 1 == len(rows):
            found.append(Piece(str(path), "parquet", start, group + 1, names, text, size))
            start, size = group + 1, 0
    return found or [Piece(str(path), "parquet", 0, 0, names, text)]


def kinds_of(piece: Piece, wanted: Sequence[str]) -> dict[str, bool]:
    """Return whether each column holds categories: as its type says, or its first rows in CSV."""
    if piece.form == "parquet":
        return {name: name in piece.text for name in wanted}
    first = next(chunks(piece, wanted), {})
    return {name: natural(name, first[name]).dtype == object for name in wanted if name in first}


def chunks(piece: Piece, wanted: Sequence[str]) -> Iterator[Mapping[str, Column]]:
    """Read a piece bit by bit."""
    if piece.form == "parquet":
        groups = range(piece.start, piece.end)
        text = [name for name in piece.text if name in wanted]
        yield from profiles_arrow.batches(piece.path, groups, wanted, text)
        return
    with Path(piece.path).open("rb") as stream:
        for start, end in profiles_csv.ranges(stream, piece.start, piece.end, CHUNK_BYTES):
            yield profiles_csv.read(stream, start, end, names=piece.names, wanted=wanted)


def profile_piece(piece: Piece, references: Mapping[str, bytes]) -> dict[str, bytes]:
    """Count a piece's columns in the cells of their references; all of it packed."""
    held = {name: _unpacked(packed) for name, packed in references.items()}
    found: dict[str, Profile] = {}

    def add(name: str, column: Column) -> None:
        reference = held[name]
        is_categorical = reference.kind == FeatureKind.CATEGORICAL
        profile = profile_of(fitted(name, column, is_categorical=is_categorical), reference)
        found[name] = merge([found[name], profile]) if name in found else profile

    _each(piece, list(held), add)
    return {name: profile.to_bytes() for name, profile in found.items()}


def sketch_piece(piece: Piece, kinds: Mapping[str, bool]) -> dict[str, Sketch]:
    """Sketch a piece's columns, from which the cells of a new reference are made."""
    found: dict[str, Sketch] = {}

    def add(name: str, column: Column) -> None:
        kind = FeatureKind.CATEGORICAL if kinds[name] else FeatureKind.NUMERIC
        sketch = Sketch.of(fitted(name, column, is_categorical=kinds[name]), kind)
        found[name] = merge_sketches([found[name], sketch]) if name in found else sketch

    _each(piece, list(kinds), add)
    return found


def _each(piece: Piece, wanted: Sequence[str], add: Callable[[str, Column], None]) -> None:
    try:
        for chunk in chunks(piece, wanted):
            for name in wanted:
                add(name, chunk[name])
    except (ValueError, OSError) as error:
        raise DataError(f"{piece.path}: {error}") from None


@lru_cache(maxsize=512)
def _unpacked(packed: bytes) -> Reference:
    """Unpack a reference once a worker: finding cells fast takes preparation."""
    return Reference.from_bytes(packed)
