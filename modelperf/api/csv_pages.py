"""Pages as CSV that a spreadsheet can open without running what somebody wrote into a text."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.http import HttpResponse

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_NONE: Final[Mapping[str, Any]] = {}


def answer(
    rows: list[dict[str, Any]],
    columns: tuple[str, ...],
    *,
    name: str,
    headers: Mapping[str, str] = _NONE,
) -> HttpResponse:
    """Return rows as CSV; every metric becomes a column `metrics.<name>`."""
    metrics = sorted({metric for row in rows for metric in row.get("metrics", ())})
    plain = [column for column in columns if column not in {"metrics", "metadata"}]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*plain, *(f"metrics.{metric}" for metric in metrics)])
    for row in rows:
        measured = row.get("metrics", _NONE)
        cells = [*(row[column] for column in plain), *(measured.get(metric) for metric in metrics)]
        writer.writerow([_cell(value) for value in cells])
    headers = {**headers, "Content-Disposition": f'attachment; filename="{name}.csv"'}
    return HttpResponse(text.getvalue(), "text/csv; charset=utf-8", headers=headers)


def _cell(value: Any) -> Any:
    """Return a cell; text that a spreadsheet would take for a formula begins with a quote."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
