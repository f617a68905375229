"""Silences: what nobody is told of for a while, why, by whom and until when."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final

from django.db.models import (
    BooleanField,
    Count,
    ExpressionWrapper,
    F,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
)
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce
from django.utils import timezone
from django_filters import Filter, FilterSet
from msgspec import Meta, Struct
from rest_framework.exceptions import PermissionDenied

from modelperf.api.alerts_answers import Severity, State
from modelperf.api.alerts_verbs import etag
from modelperf.api.authentication import TRIAGE
from modelperf.api.base import Answer, Endpoint, Rows, call, rows
from modelperf.api.cursors import Order, Page
from modelperf.api.filters import Filters
from modelperf.api.parameters import Cursor, Instant, Limit, Time
from modelperf.models import Alert, Silence, SilenceEvent
from modelperf.services import silences
from modelperf.services.matching import Matchers

LAST_END_FIRST: Final = Order(("-ends_at", "-id"), (datetime, uuid.UUID))
MOST_PREVIEWED: Final = 100
MOST_CHANGES: Final = 1000
Reason = Annotated[str, Meta(min_length=1, max_length=silences.LONGEST_REASON)]
Owner = Annotated[str, Meta(min_length=1, max_length=silences.LONGEST_OWNER)]


class SilenceAnswer(Struct):
    """A silence; one that was ended early has that moment as its end.

    `revision` is the number of its changes, the first being that it was set.
    """

    id: uuid.UUID
    matchers: dict[str, list[str]]
    reason: str
    owner: str
    starts_at: Instant
    ends_at: Instant
    in_force: bool
    created_by: str
    created_at: Instant
    revision: int


class SilenceChange(Struct):
    """A silence as it was after it was set, changed or ended."""

    at: Instant
    event: str
    by: str | None
    matchers: dict[str, list[str]]
    reason: str
    owner: str
    starts_at: Instant
    ends_at: Instant


class SilenceDetail(SilenceAnswer):
    """A silence and its changes, the newest first."""

    history: list[SilenceChange]


class SilenceFilters(FilterSet):  # type: ignore[misc]
    """By whether they hold now, and by who answers for them."""

    in_force = Filter()
    owner = Filter()


class SilenceQuery(Struct):
    """Which silences are listed."""

    filters: ClassVar[Filters] = SilenceFilters
    in_force: bool | None = None
    owner: Owner | None = None
    cursor: Cursor | None = None
    limit: Limit = 100


class Silencing(Struct):
    """What is silenced, why, who answers for it, and until when; from now on unless said."""

    matchers: Matchers
    reason: Reason
    owner: Owner
    ends_at: Time
    starts_at: Time | None = None


class SilenceUpdate(Struct):
    """What changes; what is left out or null stays."""

    matchers: Matchers | None = None
    reason: Reason | None = None
    owner: Owner | None = None
    ends_at: Time | None = None
    starts_at: Time | None = None


class Previewing(Struct):
    """Matchers to try."""

    matchers: Matchers


class PreviewedAlert(Struct):
    """An unresolved alert that a silence would be for."""

    id: uuid.UUID
    alert_type: str
    severity: Severity
    model_type: str
    machine_id: uuid.UUID | None
    machine_name: str | None
    alert_message: str
    alert_timestamp: Instant
    state: State


class PreviewAnswer(Struct):
    """How many unresolved alerts it would be for now, and the worst hundred of them."""

    count: int
    alerts: list[PreviewedAlert]


class Silences(Endpoint):
    """Silences, which keep alerts from being told and not from being recorded."""

    @call(takes=SilenceQuery, answers=Page[SilenceAnswer])
    def browse(self, given: SilenceQuery) -> Answer:
        """List silences, those that end last first."""
        return self.page(self._visible(), SilenceAnswer, order=LAST_END_FIRST, given=given)

    @call(takes=Silencing, answers=SilenceAnswer, scope=TRIAGE, style="body")
    def create(self, given: Silencing) -> Answer:
        """Set a silence: 201. A key that is limited to machines names those by their ids."""
        self._refuse_others(given.matchers)
        silence = silences.create(
            matchers=given.matchers.document(),
            reason=given.reason,
            owner=given.owner,
            starts_at=given.starts_at,
            ends_at=given.ends_at,
            by=self.actor,
        )
        return self._answer(silence, status=201)

    @call(answers=SilenceDetail, problems=(404,))
    def retrieve(self, id: uuid.UUID) -> Answer:
        """Tell about a silence, and who changed what of it.

        Its ETag, sent back as If-Match, lets PATCH and DELETE change no other state than this one.
        """
        silence = self._silence(id)
        changes = SilenceEvent.objects.filter(pgh_obj_id=silence.pk).annotate(
            at=F("pgh_created_at"),
            event=Coalesce(KeyTextTransform("verb", "pgh_context"), "pgh_label"),
            by=KeyTextTransform("actor", "pgh_context"),
        )
        history = rows(changes[:MOST_CHANGES], SilenceChange).shaped
        return self._answer(silence, history=history)

    @call(
        takes=SilenceUpdate,
        answers=SilenceAnswer,
        scope=TRIAGE,
        style="body",
        problems=(404, 409),
        if_match=True,
    )
    def partial_update(self, given: SilenceUpdate, id: uuid.UUID) -> Answer:
        """Change a silence that is not over."""
        silence = self._silence(id)
        if given.matchers is not None:
            self._refuse_others(given.matchers)
        changed = silences.change(
            silence=silence,
            matchers=None if given.matchers is None else given.matchers.document(),
            reason=given.reason,
            owner=given.owner,
            starts_at=given.starts_at,
            ends_at=given.ends_at,
            by=self.actor,
            revision=self.revision,
        )
        return self._answer(changed)

    @call(answers=SilenceAnswer, scope=TRIAGE, problems=(404, 409), if_match=True)
    def destroy(self, id: uuid.UUID) -> Answer:
        """End a silence now; it stays in the list, and so does its history."""
        silence, revision = self._silence(id), self.revision
        return self._answer(silences.end(silence=silence, by=self.actor, revision=revision))

    @call(takes=Previewing, answers=PreviewAnswer, style="body")
    def preview(self, given: Previewing) -> PreviewAnswer:
        """Tell which unresolved alerts a silence with these matchers would be for now."""
        found = silences.preview(
            matchers=given.matchers.document(), machine_ids=self.access.machine_ids
        )
        return PreviewAnswer(len(found), [_previewed(alert) for alert in found[:MOST_PREVIEWED]])

    def _visible(self) -> QuerySet[Silence]:
        """Return the silences, to a key that is limited to machines those of its own alone."""
        now = timezone.now()
        holds = ExpressionWrapper(
            Q(starts_at__lte=now, ends_at__gt=now), output_field=BooleanField()
        )
        changes = SilenceEvent.objects.filter(pgh_obj_id=OuterRef("pk")).order_by()
        counted = changes.values("pgh_obj_id").annotate(n=Count("pk")).values("n")
        found = Silence.objects.annotate(in_force=holds, revision=Subquery(counted))
        ids = self.access.machine_ids
        if ids is None:
            return found
        own = sorted(map(str, ids))
        return found.filter(matchers__has_key="machine", matchers__machine__contained_by=own)

    def _silence(self, id: uuid.UUID) -> Silence:
        silence: Silence = self.one(self._visible(), id, "Silence not found")
        return silence

    def _answer(self, silence: Silence, *, status: int = 200, **more: Any) -> Answer:
        (told,) = rows(self._visible().filter(pk=silence.pk), SilenceAnswer).shaped
        return Answer(Rows({**told, **more}), status, etag(told["revision"]))

    def _refuse_others(self, matchers: Matchers) -> None:
        """Refuse to a limited key what is not about named machines of its own.

        They are named by id: another machine may be given any name.
        """
        ids = self.access.machine_ids
        if ids is None:
            return
        if not matchers.machine or not {*map(silences.machine_id, matchers.machine)} <= ids:
            msg = "A key that is limited to machines may only silence those: send their ids."
            raise PermissionDenied(msg)


def _previewed(alert: Alert) -> PreviewedAlert:
    values = {
        name: getattr(alert, name)
        for name in PreviewedAlert.__struct_fields__
        if name != "machine_name"
    }
    return PreviewedAlert(**values, machine_name=alert.machine.name if alert.machine else None)
