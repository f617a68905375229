"""How lists are filtered: a query's struct says what is read, its filterset what that keeps."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, TypeAlias

from django.db.models import QuerySet
from django_filters import Filter, FilterSet

Filters: TypeAlias = type[FilterSet]


class Filtered(Protocol):
    """The parameters of a list, with one for each filter."""

    filters: ClassVar[Filters]


class SeriesFilters(FilterSet):  # type: ignore[misc]
    """By series: what most lists have."""

    machine_id = Filter()
    model_type = Filter()


class Text(Filter):  # type: ignore[misc]
    """By text, of which none at all is one too."""

    def filter(self, qs: QuerySet[Any], value: str | None) -> QuerySet[Any]:
        """Keep the rows with the text, all where it is not given."""
        return qs if value is None else self.get_method(qs)(**{self.field_name: value})


def filtered(found: QuerySet[Any], given: Filtered) -> QuerySet[Any]:
    """Return the rows that the filters keep. The values are read already: no form does it again."""
    for name, one in given.filters(queryset=found).filters.items():
        found = one.filter(found, getattr(given, name))
    return found
