"""The documentation names every setting, command and check, and links to what is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rest_framework.test import APIClient

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def settings_read() -> set[str]:
    """Return the environment variables that the readers in config/ are asked for."""
    code = "".join(path.read_text() for path in sorted((ROOT / "config").rglob("*.py")))
    names = re.findall(r'"(MODELPERF_[A-Z_]+|PORT|HOST|DATABASE_URL)"', code)
    return set(names) - {"MODELPERF_DEMO_KEY"}


def commands() -> list[str]:
    """Return the names of the management commands."""
    folder = ROOT / "modelperf" / "management" / "commands"
    return sorted(path.stem for path in folder.glob("[a-z]*.py"))


@pytest.mark.parametrize("name", sorted(settings_read()))
def test_readme_names_every_setting(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("name", commands())
def test_readme_names_every_command(name: str) -> None:
    assert f"manage.py {name}" in README


@pytest.mark.parametrize(
    "check", re.findall(r'"(modelperf\.[EW]\d{3})"', (ROOT / "modelperf/checks.py").read_text())
)
def test_operations_name_every_check(check: str) -> None:
    assert check in (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_readmes_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"^    make (\w+)", README, re.MULTILINE))
    assert named == {"run", "test"}
    assert all(f"\n{target}:" in makefile for target in named)


def test_readmes_requests_are_accepted_in_their_order(api: APIClient) -> None:
    requests = re.findall(r"curl -s \$API(/\S+) .*?-d '(.*?)'\n", README, re.DOTALL)

    answers = [api.post(f"/api/v1/model-performance{path}", json.loads(b)) for path, b in requests]

    assert [path for path, _ in requests] == ["/machines", "/models", "/metrics/record"]
    assert [answer.status_code for answer in answers] == [201, 201, 200]
