"""Readings from files: CSV, plain or gzipped, below a folder that a setting allows."""

from __future__ import annotations

import csv
import glob
import gzip
import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

from django.conf import settings

from modelperf.trainers.base import TrainingError
from modelperf.trainers.sources import Asked, filled, refuse_unknown_placeholders, register
from modelperf.trainers.sources_table import Columns, TableSource, columns

_PLACEHOLDERS: Final = ("machine_id", "machine_name", "model_type")


@register("files")
class FilesSource(TableSource, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """CSV files with a header that match a pattern, such as `{machine_name}/*.csv.gz`."""

    pattern: str

    def check(self) -> None:
        """Refuse a pattern that leads out of the folder."""
        TableSource.check(self)
        refuse_unknown_placeholders(self.pattern, _PLACEHOLDERS)
        path = PurePosixPath(self.pattern)
        if not self.pattern.strip() or "\0" in self.pattern:
            raise TrainingError("The training source: pattern names files.")
        if path.is_absolute() or ".." in path.parts:
            msg = "The training source: its pattern leads out of MODELPERF_SOURCE_DIR."
            raise TrainingError(msg)
        _folder()

    def table(self, asked: Asked) -> Columns:
        """Return the rows of all files that match."""
        paths = list(self._paths(asked))
        if not paths:
            raise TrainingError(
                f"No file matches the training source's pattern {self._pattern(asked)!r}."
            )
        return _table(paths)

    def _pattern(self, asked: Asked) -> str:
        return filled(
            self.pattern, {name: glob.escape(str(asked.values[name])) for name in _PLACEHOLDERS}
        )

    def _paths(self, asked: Asked) -> Iterator[Path]:
        """Yield the files below the folder, links followed."""
        folder = _folder()
        for found in self._matching(folder, self._pattern(asked)):
            path = found.resolve()
            if not path.is_relative_to(folder):
                raise TrainingError(f"{found.name} lies outside MODELPERF_SOURCE_DIR.")
            if path.is_file():
                yield path

    def _matching(self, folder: Path, pattern: str) -> list[Path]:
        try:
            return sorted(folder.glob(pattern))
        except (ValueError, NotImplementedError, OSError) as error:
            raise TrainingError(f"The training source's pattern {pattern!r}: {error}.") from None


def _folder() -> Path:
    if settings.SOURCE_DIR is None:
        raise TrainingError(
            "Training sources of files are off. Set MODELPERF_SOURCE_DIR to the folder they may"
            " be read from."
        )
    folder: Path = settings.SOURCE_DIR
    return folder


def _table(paths: list[Path]) -> Columns:
    names: list[str] | None = None
    rows: list[list[str]] = []
    left = settings.SOURCE_MAX_BYTES
    for path in paths:
        content = _content(path, left)
        left -= len(content)
        header, found = parsed(decoded(content, path.name), path.name)
        if names not in (None, header):
            raise TrainingError(f"{path.name} has other columns than the file before.")
        names, rows = header, rows + found if rows else found
    return columns(rows, names or [])


def _content(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as packed, _unpacking(packed, path) as stream:
            content = stream.read(most + 1)
    except (OSError, EOFError) as error:
        raise TrainingError(f"{path.name} cannot be read: {error}.") from error
    if len(content) > most:
        raise TrainingError(
            "The files of the training source hold more than MODELPERF_SOURCE_MAX_BYTES"
            f" ({settings.SOURCE_MAX_BYTES:,})."
        )
    return content


def _unpacking(stream: IO[bytes], path: Path) -> IO[bytes] | gzip.GzipFile:
    return gzip.GzipFile(fileobj=stream) if path.suffix == ".gz" else stream


def decoded(content: bytes, name: str) -> str:
    """Return text of UTF-8, with or without a mark in front."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TrainingError(f"{name} is not UTF-8.") from None


def parsed(text: str, name: str) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a CSV text."""
    try:
        lines = [line for line in csv.reader(io.StringIO(text), strict=True) if line]
    except csv.Error as error:
        raise TrainingError(f"{name} is no CSV: {error}.") from None
    if not lines:
        raise TrainingError(f"{name} is empty.")
    header, *rows = lines
    wrong = next((place for place, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if wrong:
        raise TrainingError(f"{name} has a row of another length than its header: row {wrong}.")
    return [column.strip() for column in header], rows
