"""Factories of what people are told of alerts, and of what stands beside an alert."""

from __future__ import annotations

from datetime import timedelta

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from modelperf.models import (
    AlertComment,
    AlertMember,
    Channel,
    Delivery,
    Message,
    Notice,
    Route,
    Silence,
)
from tests.factories import AlertFactory, ModelVersionFactory


class AlertMemberFactory(DjangoModelFactory[AlertMember]):
    class Meta:
        model = AlertMember

    alert = factory.SubFactory(AlertFactory, fleet=True)
    model = factory.SubFactory(ModelVersionFactory)
    machine = factory.SelfAttribute("model.machine")
    condition_key = factory.Sequence(lambda n: f"member:{n}")
    joined_at = factory.LazyFunction(timezone.now)


class CommentFactory(DjangoModelFactory[AlertComment]):
    class Meta:
        model = AlertComment

    alert = factory.SubFactory(AlertFactory)
    text = "The bearings are worn."
    created_by = "user:anna"


class SilenceFactory(DjangoModelFactory[Silence]):
    class Meta:
        model = Silence

    reason = "The pump is being replaced."
    owner = "user:anna"
    starts_at = factory.LazyFunction(timezone.now)
    ends_at = factory.LazyAttribute(lambda silence: silence.starts_at + timedelta(hours=1))
    created_by = "user:anna"


class ChannelFactory(DjangoModelFactory[Channel]):
    class Meta:
        model = Channel

    name = factory.Sequence(lambda n: f"channel {n}")
    kind = "webhook"
    settings = factory.LazyFunction(lambda: {"url": "https://hooks.example.org/alerts"})


class RouteFactory(DjangoModelFactory[Route]):
    class Meta:
        model = Route

    name = factory.Sequence(lambda n: f"route {n}")
    channel = factory.SubFactory(ChannelFactory)


class NoticeFactory(DjangoModelFactory[Notice]):
    class Meta:
        model = Notice

    alert = factory.SubFactory(AlertFactory)
    kind = "opened"
    occurred_at = factory.LazyFunction(timezone.now)


class MessageFactory(DjangoModelFactory[Message]):
    class Meta:
        model = Message

    route = factory.SubFactory(RouteFactory)
    channel = factory.SelfAttribute("route.channel")
    due_at = factory.LazyFunction(timezone.now)


class DeliveryFactory(DjangoModelFactory[Delivery]):
    class Meta:
        model = Delivery

    notice = factory.SubFactory(NoticeFactory)
    route = factory.SubFactory(RouteFactory)
    message = factory.SubFactory(MessageFactory, route=factory.SelfAttribute("..route"))
    route_name = factory.SelfAttribute("route.name")
    decision = "told"
    decided_at = factory.LazyFunction(timezone.now)
