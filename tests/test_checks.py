"""The system checks: each fails where the installation would be unsafe, and only there."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from pytest_django import Settings


def ids(**options: Any) -> set[str]:
    found = checks.run_checks(**options)
    return {message.id for message in found if message.id and message.id.startswith("modelperf.")}


def test_checks_of_the_tests_own_settings_find_nothing() -> None:
    assert ids() == set()


def test_short_secret_key_is_e001(settings: Settings) -> None:
    settings.SECRET_KEY = "short"

    assert ids() == {"modelperf.E001"}


@pytest.mark.parametrize(("mode", "found"), [(0o644, {"modelperf.E001"}), (0o600, set())])
def test_secret_key_that_others_can_read_is_e001(
    settings: Settings, tmp_path: Path, mode: int, found: set[str]
) -> None:
    settings.STATIC_ROOT = tmp_path / "static"
    (tmp_path / "secret_key").write_text("x" * 50)
    (tmp_path / "secret_key").chmod(mode)

    assert ids() == found


@pytest.mark.parametrize("hosts", [["*"], ["models.example.org", "*"], []])
def test_any_host_is_e002(settings: Settings, hosts: list[str]) -> None:
    settings.ALLOWED_HOSTS = hosts

    assert ids() == {"modelperf.E002"}


@pytest.mark.parametrize(("demo", "found"), [(False, {"modelperf.E003"}), (True, set())])
def test_debug_outside_the_demo_is_e003(settings: Settings, demo: bool, found: set[str]) -> None:
    settings.DEBUG, settings.DEMO = True, demo

    assert ids() == found


@pytest.mark.parametrize(("lease", "found"), [(10, {"modelperf.E007"}), (11, set())])
def test_a_lease_no_longer_than_sending_is_e007(
    settings: Settings, lease: int, found: set[str]
) -> None:
    settings.OUTGOING_TIMEOUT_SECONDS, settings.NOTIFICATION_LEASE_SECONDS = 10, lease

    assert ids() == found


def test_data_folder_below_a_file_is_e004(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings.STATIC_ROOT = tmp_path / "file" / "data" / "static"

    assert ids() == {"modelperf.E004"}


def test_data_folder_that_does_not_exist_yet_is_fine(settings: Settings, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path / "new" / "data" / "static"

    assert ids() == set()


def test_plain_http_outside_the_demo_is_e005_for_deployment(settings: Settings) -> None:
    settings.HTTPS, settings.DEMO = False, False

    assert "modelperf.E005" in ids(include_deployment_checks=True)
    assert ids() == set()


def test_plain_http_in_the_demo_is_fine(settings: Settings) -> None:
    settings.HTTPS, settings.DEMO = False, True

    assert "modelperf.E005" not in ids(include_deployment_checks=True)


def test_any_origin_is_e006(settings: Settings) -> None:
    settings.CORS_ALLOW_ALL_ORIGINS = True

    assert "modelperf.E006" in ids()


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"MODELPERF_DEBUG": "1"}, "modelperf.E003"),
        ({"MODELPERF_ALLOWED_HOSTS": "*"}, "modelperf.E002"),
        ({"MODELPERF_ALLOWED_ORIGINS": "*"}, "modelperf.E006"),
        ({}, ""),
    ],
)
def test_the_web_server_refuses_what_is_unsafe(
    tmp_path: Path, variables: dict[str, str], sentence: str
) -> None:
    kept = {name: value for name, value in os.environ.items() if "MODELPERF_" not in name}
    given = {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "MODELPERF_SECRET_KEY": "x" * 50,
        "MODELPERF_DATA_DIR": str(tmp_path),
        "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nothing",
    }

    served = subprocess.run(
        [sys.executable, "-c", "import config.wsgi"],
        env=kept | given | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (served.returncode == 0) == (not sentence), served.stderr
    assert sentence in served.stderr
    assert ("ImproperlyConfigured" in served.stderr) == bool(sentence)
