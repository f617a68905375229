"""The Django application."""

from django.apps import AppConfig


class ModelperfConfig(AppConfig):
    """modelperf as one application."""

    name = "modelperf"
    verbose_name = "Model performance"
