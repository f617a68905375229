"""Every factory writes a row that the database's constraints accept."""

import pytest
from factory.django import DjangoModelFactory

from tests import factories

FACTORIES = [
    kind
    for kind in vars(factories).values()
    if isinstance(kind, type) and issubclass(kind, DjangoModelFactory) and not kind._meta.abstract
]


@pytest.mark.django_db
@pytest.mark.parametrize("kind", FACTORIES, ids=lambda kind: kind.__name__)
def test_factory_row_is_stored(kind: type[DjangoModelFactory]) -> None:
    row = kind.create()
    assert kind._meta.model.objects.filter(pk=row.pk).exists()


@pytest.mark.django_db
@pytest.mark.parametrize("trait", ["running", "completed", "failed"])
def test_training_run_trait_is_stored(trait: str) -> None:
    assert factories.TrainingRunFactory(**{trait: True}).training_status == trait


@pytest.mark.django_db
def test_alert_traits_are_stored() -> None:
    alert = factories.AlertFactory(fleet=True, resolved=True)
    assert (alert.machine_id, alert.is_resolved) == (None, True)


@pytest.mark.django_db
def test_latest_row_of_a_metric_is_stored() -> None:
    metric = factories.ModelPerformanceMetricFactory()
    assert factories.LatestPerformanceFactory.of(metric).id == metric.id
