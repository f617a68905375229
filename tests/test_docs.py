"""The documentation names every setting, command and check, and links to what is there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from modelperf.models import Machine
from modelperf.trainers import sources
from tests import factories
from tests.pages import worlds

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
README_REQUESTS = re.findall(r"curl -s \$API(/\S+) .*?-d '(.*?)'\n", README, re.DOTALL)
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
    answers = [
        api.post(f"/api/v1/model-performance{path}", json.loads(body))
        for path, body in README_REQUESTS
    ]

    assert [path for path, _ in README_REQUESTS] == ["/machines", "/models", "/metrics/record"]
    assert [answer.status_code for answer in answers] == [201, 201, 200]


def test_examples_of_the_api_are_accepted_in_their_order(api: APIClient) -> None:
    for path, body in README_REQUESTS:
        api.post(f"/api/v1/model-performance{path}", json.loads(body))
    pump = Machine.objects.get()
    alert = factories.AlertFactory.create(model=pump.model_versions.get(), model_type="forecast")
    known = {"$ALERT": str(alert.pk)}
    answered = []

    for verb, address, form, body in requests_in((ROOT / "docs" / "api.md").read_text()):
        filled = re.sub(r"\$\w+", lambda name: known[name[0]], address)
        answer = api.generic(verb, filled, body, content_type=form)
        answered.append(answer.status_code)
        for name, field in (("$TEST", "test_id"), ("$RUN", "training_job_id")):
            if field in answer.json():
                known[name] = answer.json()[field]

    assert answered == [200, 200, 200, 200, 201, *[200] * 5, 201, *[200] * 5]


def requests_in(page: str) -> list[tuple[str, str, str, str]]:
    """Return verb, address, form and body of the requests under the heading Examples."""
    block = page.split("\n## Examples\n")[1].split("\n## ", maxsplit=1)[0].replace("\\\n", " ")
    found = []
    for command in re.split(r"^    (?=curl )", block, flags=re.MULTILINE)[1:]:
        words = shlex.split(re.split(r"\n\s*(?:\n|#)", command)[0])
        address = next(word for word in words if word.startswith("$API"))
        bodies = [words[words.index(flag) + 1] for flag in ("-d", "--data-binary") if flag in words]
        forms = [word.removeprefix("Content-Type: ") for word in words if "Content-Type" in word]
        verb = words[words.index("-X") + 1] if "-X" in words else "POST" if bodies else "GET"
        address = address.replace("$API", "/api/v1/model-performance")
        found.append((verb, address, *(forms or [""]), *(bodies or [""])))
    return found


def test_verdict_is_computed_again_as_the_handbook_says(api: APIClient, tmp_path: Path) -> None:
    model = worlds.series(worlds.noisy(80, fall=0.03, at=60))
    calls = "/api/v1/model-performance"
    checked = api.post(
        f"{calls}/drift/check?machine_id={model.machine_id}&model_type=baseline&model_id={model.pk}"
    ).json()
    stored = api.get(f"{calls}/verdicts/{checked['verdict_id']}")
    (tmp_path / "v.json").write_bytes(stored.content)
    page = (ROOT / "docs" / "api.md").read_text()
    code = page[page.index("      import json\n") :].split("\n\n  ")
    lines = textwrap.dedent(code[0] + "\n\n  " + code[1]).split("Corrections since")[0]

    told = subprocess.run(
        [sys.executable, "-c", lines],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert told.stdout.startswith("Verdict(")
    assert "degraded" in told.stdout


def test_training_sources_of_the_handbook_are_json_and_accepted(
    settings: Any, tmp_path: Path
) -> None:
    settings.SOURCE_DIR, settings.SOURCE_HOSTS = tmp_path, ["data.example.org"]
    page = (ROOT / "docs" / "operations.md").read_text()
    begins = [
        match.start() for match in re.finditer(r'^    \{"training_source"', page, re.MULTILINE)
    ]

    found = [json.JSONDecoder().raw_decode(page[at:].lstrip())[0] for at in begins]

    assert [one["training_source"]["kind"] for one in found] == ["query", "files", "url"]
    for one in found:
        sources.find(one["training_source"])
