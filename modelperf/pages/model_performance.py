"""The page of one series, with the machines it can be chosen from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from modelperf.models import Machine
from modelperf.pages import fleet as fleets
from modelperf.pages import selection, series, training
from modelperf.pages.fleet import MOST_MACHINES, Fleet, Row
from modelperf.pages.selection import PERIODS, Asked
from modelperf.pages.series import SeriesView

TEMPLATE = "pages/model_performance.html"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is on screen: at most one machine and one of its series."""

    machine: Machine | None
    row: Row | None


@require_safe
@never_cache  # neither a proxy nor the way back may show numbers that are over
@login_required
def model_performance(request: HttpRequest) -> HttpResponse:
    """Show one series. What cannot be shown is said; nothing of another series stays."""
    asked = selection.read(request.GET)
    now = timezone.now()
    fleet = fleets.load(find=asked.find, chosen=asked.machine, now=now)
    chosen = _choose(asked, fleet)
    is_unknown = asked.is_unknown_machine or (asked.machine is not None and not chosen.machine)
    view = None
    if chosen.row is not None and chosen.row.model_type and not asked.problem:
        days = _days_shown(asked, chosen)
        view = series.load(chosen.row, fleet, days=days, metric=asked.metric, now=now)
    context = _context(request, asked, fleet, chosen, view)
    status = 404 if is_unknown else 422 if asked.problem else 200
    return render(request, TEMPLATE, context | {"is_unknown": is_unknown}, status=status)


def _choose(asked: Asked, fleet: Fleet) -> Chosen:
    """Return the machine and series asked for; where none is named, the one to look at first."""
    if asked.is_unknown_machine:
        return Chosen(None, None)
    if asked.machine is None:
        of_type = [
            r for r in fleet.rows if not asked.model_type or r.model_type == asked.model_type
        ]
        row = fleets.worst(of_type)
        return Chosen(row.machine if row else None, row)
    if fleet.chosen is None:
        return Chosen(None, None)
    own = [r for r in fleet.rows if r.machine.pk == fleet.chosen.pk]
    if asked.model_type:
        own = [r for r in own if r.model_type == asked.model_type]
    return Chosen(fleet.chosen, fleets.worst(own))


def _context(
    request: HttpRequest, asked: Asked, fleet: Fleet, chosen: Chosen, view: SeriesView | None
) -> dict[str, object]:
    return {
        "asked": asked,
        "machine": chosen.machine,
        "model_type": (chosen.row.model_type if chosen.row else "") or asked.model_type,
        "types": sorted({r.model_type for r in fleet.rows if r.model_type}),
        "own_types": fleet.types_of(chosen.machine) if chosen.machine else [],
        "machines": fleet.machines,
        "rows": fleet.listed,
        "row": chosen.row,
        "is_cut": fleet.is_cut,
        "most_machines": MOST_MACHINES,
        "days": _days_shown(asked, chosen),
        "periods": _periods(_days_shown(asked, chosen)),
        "view": view,
        "verbs": training.verbs(chosen.row, request.user) if view and chosen.row else None,
        "metadata": _shown_metadata(chosen.machine),
        "shift": _shift(chosen.machine),
        "site": request.build_absolute_uri("/").rstrip("/"),
    }


def _days_shown(asked: Asked, chosen: Chosen) -> int:
    latest = chosen.row.latest if chosen.row else None
    if asked.days is not None:
        return asked.days
    day = timedelta(days=1)
    return selection.usual_days(latest.evaluation_end - latest.evaluation_start if latest else day)


def _periods(days: int) -> list[tuple[int, str]]:
    """Return the periods to choose from, the one asked for among them."""
    return sorted((PERIODS | {days: PERIODS.get(days, f"{days} days")}).items())


def _shown_metadata(machine: Machine | None) -> dict[str, object]:
    """Return what a machine's metadata says to its readers, as far as it is text or a number."""
    stored = machine.metadata if machine else {}
    return {
        key: value
        for key, value in stored.items()
        if isinstance(value, str | int | float) and value != "" and key != "notice"
    }


def _shift(machine: Machine | None) -> dict[str, object]:
    """Return by how many weeks the demo's dates are moved, and where its known change is shown."""
    stored = machine.metadata if machine else {}
    demo, known = stored.get("demo"), stored.get("known_change")
    if not isinstance(demo, dict) or not isinstance(demo.get("shift_weeks"), int):
        return {}
    return {"weeks": demo["shift_weeks"], "known": known if isinstance(known, dict) else {}}
