"""What recording costs when it is written as usual: the peer that ingest is measured against.

A `ModelSerializer(many=True)` and `bulk_create`, on the same tables with the same keys, the same
authentication and the same latest row. It is a good one: models come in one query, foreign keys
are plain ids, and uniqueness is left to the database, so nothing is asked row by row.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.db import transaction
from django.urls import include, path
from django.utils import timezone
from rest_framework import serializers
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from modelperf.models import LatestPerformance, ModelPerformanceMetric, ModelVersion
from modelperf.models.metrics import CONFUSION_COUNTS, REGISTERED_METRICS

# Everything the product's own endpoint takes.
TAKEN = (
    "model_id",
    "model_type",
    "machine_id",
    "evaluation_start",
    "evaluation_end",
    "sample_count",
    "metrics",
    "evaluation_date",
    *REGISTERED_METRICS,
    *CONFUSION_COUNTS,
    "outlier_percentage",
    "evaluation_notes",
    "metadata",
)
_COPIED = [
    field.attname
    for field in LatestPerformance._meta.concrete_fields  # noqa: SLF001
    if field.attname not in ("pk", "machine_id", "model_type")
]


class EvaluationSerializer(serializers.ModelSerializer[ModelPerformanceMetric]):
    """An evaluation as it is sent."""

    model_id = serializers.UUIDField()
    machine_id = serializers.UUIDField()
    metrics = serializers.DictField(child=serializers.FloatField())

    class Meta:
        model = ModelPerformanceMetric
        fields = TAKEN
        validators: ClassVar[list[Any]] = []
        extra_kwargs: ClassVar = {"evaluation_date": {"required": False}}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse what the table would refuse, and models of another series."""
        model = self.context["models"].get(attrs["model_id"])
        if model is None or model.machine_id != attrs["machine_id"]:
            raise serializers.ValidationError("Model not found")
        if attrs["evaluation_end"] <= attrs["evaluation_start"]:
            raise serializers.ValidationError("evaluation_end must be after evaluation_start")
        attrs["model_version"] = model.model_version
        attrs.setdefault("evaluation_date", attrs["evaluation_end"])
        attrs |= {name: attrs["metrics"].get(name) for name in REGISTERED_METRICS}
        return attrs


class YardstickView(APIView):
    """Record one evaluation or many."""

    parser_classes: ClassVar = [JSONParser]

    def post(self, request: Request) -> Response:
        """Store the evaluations and the latest row of each series."""
        sent = request.data if isinstance(request.data, list) else [request.data]
        ids = {uuid.UUID(row["model_id"]) for row in sent}
        context = {"models": ModelVersion.objects.in_bulk(ids)}
        serializer = EvaluationSerializer(data=sent, many=True, context=context)
        serializer.is_valid(raise_exception=True)
        now = timezone.now()
        rows = [
            ModelPerformanceMetric(**values, created_at=now, created_by="yardstick")
            for values in serializer.validated_data
        ]
        with transaction.atomic():
            ModelPerformanceMetric.objects.bulk_create(rows)
            LatestPerformance.objects.bulk_create(
                _newest(rows),
                update_conflicts=True,
                unique_fields=["machine", "model_type"],
                update_fields=[
                    name.removesuffix("_id") if name == "model_id" else name for name in _COPIED
                ],
            )
        return Response([{"metric_id": row.pk, "status": "created"} for row in rows])


def _newest(rows: list[ModelPerformanceMetric]) -> list[LatestPerformance]:
    newest: dict[Any, ModelPerformanceMetric] = {}
    for row in rows:
        key = (row.machine_id, row.model_type)
        if key not in newest or row.evaluation_end > newest[key].evaluation_end:
            newest[key] = row
    names = [*_COPIED, "machine_id", "model_type"]
    return [
        LatestPerformance(**{name: getattr(row, name) for name in names}) for row in newest.values()
    ]


urlpatterns = [path("yardstick", YardstickView.as_view()), path("", include("config.urls"))]
