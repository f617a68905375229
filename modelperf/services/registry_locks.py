"""Who may change a series: one at a time, and no check that still reads it."""

from __future__ import annotations

from modelperf.models import Machine, Series
from modelperf.services.errors import ConflictError


def lock_machine_in_service(machine: Machine, verb: str) -> None:
    """Lock a machine, which may not be retired meanwhile; `verb` says what for."""
    refuse_retired(Machine.objects.select_for_update(no_key=True).get(pk=machine.pk), verb)


def refuse_retired(machine: Machine, verb: str) -> None:
    """Refuse what machines in service alone are for."""
    if not machine.is_active:
        raise ConflictError(
            f"The machine {machine.name} is retired. Return it to service to {verb}.",
            is_active=False,
        )


def lock_series(*, machine: Machine, model_type: str) -> Series:
    """Lock the row of a series, which is made with its first model."""
    Series.objects.bulk_create(
        [Series(machine=machine, model_type=model_type)], ignore_conflicts=True
    )
    # A statement of its own: what it waits for must be seen by what follows.
    series = Series.objects.select_for_update().get(machine=machine, model_type=model_type)
    if series.check_id is not None:
        # What a check that runs has read of it is changing.
        Series.objects.filter(pk=series.pk).update(check_id=None)
    return series


def take_from_check(machine: Machine) -> None:
    """Lock all series of a machine and take them away from a check that runs."""
    found = Series.objects.filter(machine=machine).order_by("machine_id", "model_type")
    locked = [series.pk for series in found.select_for_update() if series.check_id is not None]
    if locked:
        Series.objects.filter(pk__in=locked).update(check_id=None)
