"""The unresolved alerts in one statement of its own.

It is what dashboards ask for all the time. Through the ORM most of the time goes into making the
statement and into its rows, so it stands here as PostgreSQL is sent it, and its values are read in
binary.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from modelperf.api.alerts_answers import ActiveAlert
from modelperf.api.cursors import Order
from modelperf.api.filters import Filtered
from modelperf.services.database import execute

# The order must be that of the index model_alerts_worst_first, to the letter.
_RANK: Final = (
    "CASE WHEN a.severity = 'critical' THEN 0 WHEN a.severity = 'warning' THEN 1 ELSE 2 END"
)
_COLUMNS: Final = {
    "machine_name": "m.name",
    "count": "a.occurrences",
    "assignee": "u.username",
    "team": "t.name",
}
_SELECT: Final = f"""
    SELECT {", ".join(_COLUMNS.get(name, f"a.{name}") for name in ActiveAlert.__struct_fields__)},
        {_RANK}
    FROM model_alerts AS a
    LEFT JOIN machines AS m ON m.id = a.machine_id
    LEFT JOIN auth_user AS u ON u.id = a.assignee_id
    LEFT JOIN auth_group AS t ON t.id = a.team_id
    WHERE NOT a.is_resolved
"""
_ORDER: Final = f" ORDER BY {_RANK}, a.alert_timestamp DESC, a.id DESC LIMIT %s"
_BEYOND: Final = f"""
    ({_RANK} > %s::int4 OR {_RANK} = %s::int4 AND (a.alert_timestamp, a.id) < (%s, %s))
"""


def rows(
    given: Any, order: Order, *, within: frozenset[uuid.UUID] | None
) -> tuple[list[ActiveAlert], str | None]:
    """Return a page of the unresolved alerts, and the cursor of the next where there is one.

    `within` are the machines whose alerts may be seen, None where all are.
    """
    clauses, params = _kept(given)
    if given.machine_id is None:
        clauses.append("m.is_active IS NOT FALSE")
    if within is not None:
        clauses.append("a.machine_id = ANY(%s)")
        params.append(list(within))
    if given.cursor:
        rank, opened_at, alert_id = order.values(given.cursor)
        clauses.append(_BEYOND)
        params += [rank, rank, opened_at, alert_id]
    sql = " AND ".join([_SELECT, *clauses]) + _ORDER
    found = execute(sql, [*params, given.limit + 1], binary=True).fetchall()
    alerts = [ActiveAlert(*row[:-1]) for row in found[: given.limit]]
    if len(found) <= given.limit:
        return alerts, None
    last = alerts[-1]
    place = {"rank": found[len(alerts) - 1][-1], "alert_timestamp": last.alert_timestamp}
    return alerts, order.cursor(place | {"id": last.id})


def _kept(given: Filtered) -> tuple[list[str], list[Any]]:
    """Return the conditions of the filters, each of which is about a column's value."""
    values = {
        f"a.{one.field_name} = %s": getattr(given, name)
        for name, one in given.filters.base_filters.items()
    }
    asked = {clause: value for clause, value in values.items() if value is not None}
    return list(asked), list(asked.values())
