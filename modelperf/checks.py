"""System checks: an installation that would be unsafe or could not work says so at start."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register

LEAST_SECRET = 32


@register(Tags.security)
def secret_key_is_secret(
    *, app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """E001: the secret key is long, and its file is nobody else's to read."""
    if len(settings.SECRET_KEY) < LEAST_SECRET:
        return [
            Error(
                f"The secret key has fewer than {LEAST_SECRET} characters.",
                hint="Set MODELPERF_SECRET_KEY to a long random string.",
                id="modelperf.E001",
            )
        ]
    stored = _data_dir() / "secret_key"
    if stored.is_file() and stored.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return [
            Error(
                f"{stored} can be read by other users of this machine.",
                hint=f"Run: chmod 600 {stored}",
                id="modelperf.E001",
            )
        ]
    return []


@register(Tags.security)
def hosts_are_named(
    *, app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """E002: the hosts that are answered for are named."""
    if not settings.ALLOWED_HOSTS or "*" in settings.ALLOWED_HOSTS:
        return [
            Error(
                "MODELPERF_ALLOWED_HOSTS accepts any host, so links and redirects can be forged.",
                hint="Name the hosts: MODELPERF_ALLOWED_HOSTS=models.example.org",
                id="modelperf.E002",
            )
        ]
    return []


@register(Tags.security)
def debug_stays_in_the_demo(
    *, app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """E003: error pages with source and settings are never served to others."""
    if settings.DEBUG and not settings.DEMO:
        return [
            Error(
                "MODELPERF_DEBUG is on outside the demo: error pages would show settings.",
                hint="Remove MODELPERF_DEBUG, or set MODELPERF_DEMO=true on your own machine.",
                id="modelperf.E003",
            )
        ]
    return []


@register(Tags.files)
def data_folder_is_writable(
    *, app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """E004: the data folder, or the nearest folder above it that exists, can be written."""
    folder = _data_dir()
    nearest = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return []
    return [
        Error(
            f"The data folder {folder} cannot be written.",
            hint="Set MODELPERF_DATA_DIR to a folder of the user that runs modelperf.",
            id="modelperf.E004",
        )
    ]


@register(Tags.security, deploy=True)
def traffic_is_encrypted(
    *, app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """E005: keys and passwords do not travel in the clear."""
    if settings.HTTPS or settings.DEMO:
        return []
    return [
        Error(
            "MODELPERF_HTTPS is off: keys, passwords and sessions travel unencrypted.",
            hint="Serve through a proxy with TLS and leave MODELPERF_HTTPS at its default, true.",
            id="modelperf.E005",
        )
    ]


@register(Tags.security)
def origins_are_named(
    *, app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """E006: pages of other sites may call only where they are named."""
    if "*" in settings.CORS_ALLOWED_ORIGINS or getattr(settings, "CORS_ALLOW_ALL_ORIGINS", False):
        return [
            Error(
                "MODELPERF_ALLOWED_ORIGINS lets pages of any site call the API.",
                hint="Name them: MODELPERF_ALLOWED_ORIGINS=https://dashboard.example.org",
                id="modelperf.E006",
            )
        ]
    return []


@register("notifications")
def leases_outlast_sending(
    *, app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """E007: nobody takes a message over while it is being sent."""
    if settings.NOTIFICATION_LEASE_SECONDS > settings.OUTGOING_TIMEOUT_SECONDS:
        return []
    return [
        Error(
            "MODELPERF_NOTIFICATION_LEASE_SECONDS is no longer than"
            " MODELPERF_OUTGOING_TIMEOUT_SECONDS: messages would be sent twice.",
            hint=f"Set it to more than {settings.OUTGOING_TIMEOUT_SECONDS}.",
            id="modelperf.E007",
        )
    ]


def _data_dir() -> Path:
    # collectstatic's target lies in the data folder whatever the database is.
    return Path(settings.STATIC_ROOT).parent
