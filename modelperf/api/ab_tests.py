"""A/B tests: two versions of one series compared on the same windows."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, ClassVar, Literal

from django_filters import Filter
from msgspec import Meta, Struct

from modelperf.api.ab_observations import observations_of
from modelperf.api.authentication import WRITE
from modelperf.api.base import Answer, Endpoint, call
from modelperf.api.cursors import BY_ID, Page
from modelperf.api.filters import Filters, SeriesFilters
from modelperf.api.parameters import Cursor, Instant, Limit, ModelType, Name, Notes, Time
from modelperf.models import ABTest, ActiveABTest, ModelVersion
from modelperf.models.ab_observations import UNIT_LENGTH
from modelperf.services import ab_tests, ab_tests_assignment, ab_tests_observations
from modelperf.services.ab_tests import LARGEST_CONFIDENCE, LONGEST_TEST_HOURS, SMALLEST_SPLIT
from modelperf.services.ab_tests_assignment import Assignment
from modelperf.services.ab_tests_observations import Observation, Observed
from modelperf.services.ab_tests_results import Results
from modelperf.services.errors import NotFoundError
from modelperf.stats.row_sums import LARGEST_LOSS

Status = Literal["planned", "running", "completed", "cancelled"]
Decision = Literal["promote_a", "promote_b", "no_winner", "manual_review"]


class StartQuery(Struct):
    """The series, its two versions to compare, and for how long."""

    test_name: Name
    model_type: ModelType
    machine_id: uuid.UUID
    model_a_id: uuid.UUID
    model_b_id: uuid.UUID
    duration_hours: Annotated[float, Meta(gt=0, le=LONGEST_TEST_HOURS)] = 24
    test_start: Time | None = None
    traffic_split_a: Annotated[float, Meta(ge=SMALLEST_SPLIT, le=1 - SMALLEST_SPLIT)] = 0.5
    confidence_level: Annotated[float, Meta(ge=0.5, le=LARGEST_CONFIDENCE)] = 0.95
    margin: Annotated[float, Meta(ge=0, le=LARGEST_LOSS)] | None = None


class StartedAnswer(Struct):
    """A test that runs; `message` says so where it is too short to decide anything."""

    test_id: uuid.UUID
    status: Literal["running"]
    test_end: Instant | None
    message: str


class Arm(Struct):
    """Means of one version over the windows compared."""

    r_squared: float | None = None
    rmse: float | None = None
    mae: float | None = None
    sample_count: int = 0


class ResultsAnswer(Struct):
    """Where a test stands. `winner` is null while undecided; `confidence` bears daily looking."""

    test_id: uuid.UUID
    test_name: str
    test_status: Status
    model_a_version: int
    model_b_version: int
    winner: Literal["model_a", "model_b", "no_winner"] | None
    confidence: float
    model_a_metrics: Arm
    model_b_metrics: Arm
    recommendation: str
    metric: str | None
    effect: float | None
    interval: list[float | None]
    evidence: dict[str, Any]
    sample_ratio: dict[str, Any]


class ObservedAnswer(Struct):
    """What became of a batch, and where the test stands; `needed` counts further rows."""

    test_id: uuid.UUID
    created: int
    unchanged: int
    revised: int
    rows_a: int
    rows_b: int
    outcome: Literal["model_a", "model_b", "equivalent", "undecided"]
    needed: int | None


class AssignmentQuery(Struct):
    """The unit that is to be served."""

    unit: Annotated[str, Meta(min_length=1, max_length=UNIT_LENGTH)]


class AssignmentAnswer(Struct):
    """The arm of a unit and the version that serves it: the same for ever."""

    test_id: uuid.UUID
    unit: str
    arm: Literal["model_a", "model_b"]
    model_id: uuid.UUID
    model_version: int


class TestAnswer(Struct):
    """One A/B test as it is stored."""

    id: uuid.UUID
    test_name: str
    model_type: str
    machine_id: uuid.UUID
    model_a_id: uuid.UUID
    model_a_version: int
    model_b_id: uuid.UUID
    model_b_version: int
    test_start: Instant
    test_end: Instant | None
    test_status: Status
    traffic_split_a: float
    traffic_split_b: float
    model_a_metrics: dict[str, Any]
    model_b_metrics: dict[str, Any]
    winner_model_id: uuid.UUID | None
    winner_declared_at: Instant | None
    statistical_significance: float | None
    confidence_level: float
    decision: Decision | None
    decision_notes: str
    decided_by: str | None
    decided_at: Instant | None
    created_by: str
    metadata: dict[str, Any]
    created_at: Instant


class ActiveTest(TestAnswer):
    """A running test, with its machine and its age."""

    machine_name: str
    test_duration_hours: float


class TestFilters(SeriesFilters):
    """By series and by status."""

    test_status = Filter()


class TestQuery(Struct):
    """Which tests are listed."""

    filters: ClassVar[Filters] = TestFilters
    machine_id: uuid.UUID | None = None
    model_type: ModelType | None = None
    test_status: Status | None = None
    cursor: Cursor | None = None
    limit: Limit = 100


class ActiveTestQuery(Struct):
    """Which running tests are listed."""

    filters: ClassVar[Filters] = SeriesFilters
    machine_id: uuid.UUID | None = None
    model_type: ModelType | None = None
    cursor: Cursor | None = None
    limit: Limit = 100


class Deciding(Struct):
    """What was decided, and why."""

    decision: Decision
    notes: Notes = ""


class ABTests(Endpoint):
    """A/B tests of series."""

    @call(takes=StartQuery, answers=StartedAnswer, scope=WRITE, style="either", problems=(404, 409))
    def start(self, given: StartQuery) -> StartedAnswer:
        """Start a test of two versions of one series; one test of a series runs at a time."""
        machine = self.machine(given.machine_id)
        model_a, model_b = self._arms(given.model_a_id, given.model_b_id)
        started = ab_tests.start(
            test_name=given.test_name,
            machine=machine,
            model_type=given.model_type,
            model_a=model_a,
            model_b=model_b,
            duration_hours=given.duration_hours,
            test_start=given.test_start,
            traffic_split_a=given.traffic_split_a,
            confidence_level=given.confidence_level,
            margin=given.margin,
            by=self.actor,
        )
        test = started.test
        return StartedAnswer(test.pk, "running", test.test_end, started.message)

    @call(answers=ResultsAnswer, problems=(404,))
    def results(self, id: uuid.UUID) -> Results:
        """Tell where a test stands; looking as often as one likes changes nothing."""
        return ab_tests.results(test=self._test(id))

    @call(sends=list[Observation], answers=ObservedAnswer, scope=WRITE, problems=(404, 409))
    def observations(self, id: uuid.UUID) -> Observed:
        """Observe the losses of 1 to 5,000 units, all or nothing; again changes nothing.

        Rows are `unit, loss_a, loss_b`, or `unit, arm, loss` where each unit went to one version.
        Losses that differ from those of before are a revision. Refused once the test is over.
        """
        observations = observations_of(self.body())
        return ab_tests_observations.observe(
            test=self._test(id), observations=observations, by=self.actor
        )

    @call(takes=AssignmentQuery, answers=AssignmentAnswer, problems=(404,))
    def assignment(self, given: AssignmentQuery, id: uuid.UUID) -> Assignment:
        """Tell which version a unit goes to, by a hash and the planned split."""
        return ab_tests_assignment.assign(test=self._test(id), unit=given.unit)

    @call(takes=TestQuery, answers=Page[TestAnswer])
    def browse(self, given: TestQuery) -> Answer:
        """List A/B tests, the newest first."""
        found = ABTest.objects.within(self.access.machine_ids)
        return self.page(found, TestAnswer, order=BY_ID, given=given)

    @call(takes=ActiveTestQuery, answers=Page[ActiveTest])
    def active(self, given: ActiveTestQuery) -> Answer:
        """List the running tests with their age, the newest first.

        Those of retired machines are left out unless `machine_id` names one.
        """
        visible = ActiveABTest.objects.within(self.access.machine_ids)
        found = self.current(visible, given.machine_id)
        return self.page(found, ActiveTest, order=BY_ID, given=given)

    @call(answers=TestAnswer, problems=(404,))
    def retrieve(self, id: uuid.UUID) -> ABTest:
        """Tell about a test."""
        return self._test(id)

    @call(answers=TestAnswer, scope=WRITE, problems=(404, 409))
    def cancel(self, id: uuid.UUID) -> ABTest:
        """Stop a running test without a result."""
        return ab_tests.cancel(test=self._test(id), by=self.actor)

    @call(takes=Deciding, answers=TestAnswer, scope=WRITE, style="body", problems=(404, 409))
    def decision(self, given: Deciding, id: uuid.UUID) -> ABTest:
        """Decide a test once and for all; promoting a version activates it."""
        return ab_tests.decide(
            test=self._test(id), decision=given.decision, notes=given.notes, by=self.actor
        )

    def _test(self, id: uuid.UUID) -> ABTest:
        found = ABTest.objects.within(self.access.machine_ids)
        test: ABTest = self.one(found, id, "A/B test not found")
        return test

    def _arms(self, a: uuid.UUID, b: uuid.UUID) -> tuple[ModelVersion, ModelVersion]:
        found = ModelVersion.objects.within(self.access.machine_ids).in_bulk([a, b])
        if a not in found or b not in found:
            raise NotFoundError("One or both models not found")
        return found[a], found[b]
