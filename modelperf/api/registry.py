"""Machines and model versions."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from django.db import transaction
from django.db.models import Q
from django_filters import Filter, FilterSet
from msgspec import UNSET, Meta, Struct, UnsetType

from modelperf.api.authentication import TRAIN, WRITE
from modelperf.api.base import Answer, Endpoint, Rows, call, rows
from modelperf.api.cursors import BY_ID, Order, Page
from modelperf.api.filters import Filters, SeriesFilters, Text
from modelperf.api.parameters import Cursor, Instant, Limit, ModelType, Name, Time
from modelperf.models import Machine, ModelActivation, ModelVersion
from modelperf.services import registry

Kind = Annotated[str, Meta(max_length=100)]
Location = Annotated[str, Meta(max_length=200)]
Interval = Annotated[int, Meta(ge=1, le=2**31 - 1, description="Seconds between two samples.")]
Reason = Annotated[str, Meta(max_length=2000)]
Version = Annotated[int, Meta(ge=1, le=2**31 - 1)]
BY_NAME: Final = Order(("name", "id"), (str, uuid.UUID))
MOST_ACTIVATIONS: Final = 100


class MachineName(Struct):
    """A machine as existing pages know it."""

    id: uuid.UUID
    name: str
    type: str
    location: str


class MachineAnswer(MachineName):
    """A machine."""

    is_active: bool
    data_interval_seconds: int | None
    metadata: dict[str, Any]
    created_at: Instant


class MachineFilters(FilterSet):  # type: ignore[misc]
    """By kind, which may be empty, and by whether they are in service."""

    is_active = Filter()
    type = Text()


class MachineQuery(Struct):
    """What machines are listed: those in service unless `is_active` says otherwise."""

    filters: ClassVar[Filters] = MachineFilters
    is_active: bool = True
    type: Kind | None = None
    cursor: Cursor | None = None
    limit: Limit = 100


class NewMachine(Struct):
    """A machine to add. With an `id` of the client's the call can be repeated."""

    name: Name
    type: Kind
    id: uuid.UUID | None = None
    location: Location = ""
    data_interval_seconds: Interval | None = None
    metadata: dict[str, Any] = {}


class MachineChanges(Struct):
    """What changes of a machine; one that is not active is retired: hidden and kept."""

    name: Name | UnsetType = UNSET
    type: Kind | UnsetType = UNSET
    location: Location | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    data_interval_seconds: Interval | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class Machines(Endpoint):
    """The things that models serve."""

    @call(answers=list[MachineName])
    def names(self) -> Rows:
        """List the machines in service as a bare array."""
        found = Machine.objects.in_service().within(self.access.machine_ids)
        return rows(found, MachineName)

    @call(takes=MachineQuery, answers=Page[MachineAnswer])
    def browse(self, given: MachineQuery) -> Answer:
        """List machines by name, those in service unless asked otherwise."""
        found = Machine.objects.within(self.access.machine_ids)
        return self.page(found, MachineAnswer, order=BY_NAME, given=given)

    @call(takes=NewMachine, answers=MachineAnswer, scope=WRITE, style="body", problems=(403, 409))
    def create(self, given: NewMachine) -> Answer:
        """Add a machine: 201, or 200 where the same is there under its id already."""
        self.refuse_limited("add machines")
        machine, created = registry.create_machine(**msgspec.structs.asdict(given), by=self.actor)
        return Answer(machine, 201 if created else 200)

    @call(answers=MachineAnswer, problems=(404,))
    def retrieve(self, id: uuid.UUID) -> Machine:
        """Tell about a machine, retired ones included."""
        return self.machine(id)

    @call(
        takes=MachineChanges, answers=MachineAnswer, scope=WRITE, style="body", problems=(404, 409)
    )
    @transaction.atomic
    def partial_update(self, given: MachineChanges, id: uuid.UUID) -> Machine:
        """Change what is said of a machine; `is_active` retires it or returns it to service."""
        machine = self.machine(id)
        given_values = msgspec.structs.asdict(given).items()
        changes = {name: value for name, value in given_values if value is not UNSET}
        is_active = changes.pop("is_active", machine.is_active)
        if changes:
            machine = registry.update_machine(machine=machine, changes=changes, by=self.actor)
        if is_active == machine.is_active:
            return machine
        verb = registry.return_machine if is_active else registry.retire_machine
        return verb(machine=machine, by=self.actor)


class ModelAnswer(Struct):
    """A model version, without the artefact."""

    id: uuid.UUID
    machine_id: uuid.UUID
    model_type: str
    model_version: int
    is_active: bool
    trained_at: Instant | None
    feature_names: list[str]
    hyperparameters: dict[str, Any]
    metadata: dict[str, Any]
    created_at: Instant


class ActivationAnswer(Struct):
    """When a version came to serve its series, in place of which, by whom, and why."""

    model_id: uuid.UUID
    model_version: int
    previous_id: uuid.UUID | None
    previous_version: int | None
    kind: Literal["activated", "promoted", "rolled_back"]
    reason: str
    activated_by: str
    activated_at: Instant


class ModelDetail(ModelAnswer, kw_only=True):
    """A model version. `artefact` is there only for callers who may train.

    `activations` are those by which it came to serve, and by which another took its place: the
    newest hundred, newest first.
    """

    activations: list[ActivationAnswer]
    artefact: dict[str, Any] | UnsetType | None = UNSET


class ModelFilters(SeriesFilters):
    """By series and by whether they serve it."""

    is_active = Filter()


class ModelQuery(Struct):
    """What model versions are listed."""

    filters: ClassVar[Filters] = ModelFilters
    machine_id: uuid.UUID | None = None
    model_type: ModelType | None = None
    is_active: bool | None = None
    cursor: Cursor | None = None
    limit: Limit = 100


class NewModel(Struct):
    """A model version to register: the next number of its series unless one is given."""

    machine_id: uuid.UUID
    model_type: ModelType
    model_version: Version | None = None
    id: uuid.UUID | None = None
    is_active: bool = False
    trained_at: Time | None = None
    artefact: dict[str, Any] | None = None
    feature_names: list[Annotated[str, Meta(max_length=1000)]] = []
    hyperparameters: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class Activation(Struct):
    """Why a version is to serve; the reason is kept with its activation."""

    reason: Reason = ""


class Rollback(Struct):
    """The series to go back in, and why."""

    machine_id: uuid.UUID
    model_type: ModelType
    reason: Annotated[Reason, Meta(min_length=1)]


class Models(Endpoint):
    """Versions of models within their series."""

    @call(takes=ModelQuery, answers=Page[ModelAnswer])
    def browse(self, given: ModelQuery) -> Answer:
        """List model versions, the newest registered first.

        Those of retired machines are left out unless `machine_id` names one.
        """
        visible = ModelVersion.objects.within(self.access.machine_ids)
        found = self.current(visible, given.machine_id)
        return self.page(found, ModelAnswer, order=BY_ID, given=given)

    @call(takes=NewModel, answers=ModelAnswer, scope=WRITE, style="body", problems=(404, 409))
    def create(self, given: NewModel) -> Answer:
        """Register a version: 201, or 200 where the same is there under its id already."""
        values = msgspec.structs.asdict(given)
        machine = self.machine(values.pop("machine_id"))
        model, created = registry.register_model(machine=machine, **values, by=self.actor)
        return Answer(model, 201 if created else 200)

    @call(answers=ModelDetail, problems=(404,))
    def retrieve(self, id: uuid.UUID) -> ModelDetail:
        """Tell about a version; its artefact only to who may train, since it is the model."""
        model = self.model(id)
        told = msgspec.convert(model, ModelAnswer, from_attributes=True)
        return ModelDetail(
            **msgspec.structs.asdict(told),
            activations=_activations(model),
            artefact=model.artefact if self.access.allows(TRAIN) else UNSET,
        )

    @call(takes=Activation, answers=ModelAnswer, scope=WRITE, style="body", problems=(404, 409))
    def activate(self, given: Activation, id: uuid.UUID) -> ModelVersion:
        """Let a version serve its series in place of the one that did."""
        return registry.activate_model(model=self.model(id), reason=given.reason, by=self.actor)


def _activations(model: ModelVersion) -> list[ActivationAnswer]:
    concerned = ModelActivation.objects.filter(Q(model=model) | Q(previous=model))
    newest = concerned.order_by("-activated_at", "-id")[:MOST_ACTIVATIONS]
    return msgspec.convert(list(newest), list[ActivationAnswer], from_attributes=True)


class ModelSeries(Endpoint):
    """The series of models: a machine and a model type."""

    @call(takes=Rollback, answers=ModelAnswer, scope=WRITE, style="body", problems=(404, 409))
    def rollback(self, given: Rollback) -> ModelVersion:
        """Let the version serve again that served before, and answer it.

        Again goes back further. 409 where no version is known to have served before.
        """
        return registry.rollback(
            machine=self.machine(given.machine_id),
            model_type=given.model_type,
            reason=given.reason,
            by=self.actor,
        )
