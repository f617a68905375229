"""What Slack is told: within its limits, and nothing that others wrote does anything."""

from __future__ import annotations

import re
from typing import Any

import pytest

from modelperf.notifications import Envelope
from modelperf.notifications.slack import dead, document, escaped, plain
from tests.notifications.news import PUBLIC, envelope, fleet, item, over


def blocks(told: Envelope) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document(told)["blocks"]
    return found


def texts(found: list[dict[str, Any]]) -> list[str]:
    return [one["text"]["text"] for one in found if one["type"] == "section"]


def test_slack_gets_a_header_a_section_a_condition_and_a_foot() -> None:
    found = blocks(envelope(item(1), over(2)))
    assert [one["type"] for one in found] == [
        "header",
        *["section"] * 4,  # two headings, two conditions
        "context",
    ]
    assert texts(found)[1] == (
        ":red_circle: Critical: pump 1 · baseline: bias is worse since 2017-01-06.\n"
        "−1.25 → 18.6 · limit 15 · since 6 Jan 2017 00:00 UTC · seen 42 times · version 3\n"
        f"<{PUBLIC}/admin/modelperf/alert/1/|Open the alert>"
    )
    assert (
        document(envelope(item(1), over(2)))["text"]
        == found[0]["text"]["text"]
        == "Critical: 1 condition opened, 1 over"
    )


LIVE = (
    "@channel",
    "@all",
    "@Here",
    "@anna",
    "<!channel>",
    "<http://evil|here>",
    "http://evil.example",
    "HTTPS://evil.example",
    "www.evil.example",
    "[here](//evil.example)",
    "![](//evil.example/x.png)",
    "*bold*",
    "`code`",
    "~gone~",
)


@pytest.mark.parametrize("live", LIVE)
def test_nothing_that_others_wrote_mentions_links_or_formats(live: str) -> None:
    """Wherever it stands: in a message, in the name of a machine, in that of a route."""
    named = item(message=f"pump {live}.", members=(f"fan {live}",), link="")
    told = document(envelope(named, route=f"night {live}", public_url=""))
    header, section, foot = (block.get("text") or block["elements"][0] for block in told["blocks"])
    assert [one for one in (told["text"], section["text"], foot["text"]) if live in one] == []
    assert "<" in live or live not in header["text"]  # where not even Slack reads a `<`
    assert section["text"].count(escaped(dead(live), 99)) == 2
    assert section["verbatim"] is foot["verbatim"] is True


def test_what_is_dead_reads_as_it_did_and_our_own_links_live() -> None:
    harmless = "il_gas-1: 5 % (é) [1] (2) a:b / http"
    assert dead(harmless) == harmless
    assert dead("ops@example.org") == "ops@\u200dexample.org"
    link = f"<{PUBLIC}/admin/modelperf/alert/1/|Open the alert>"
    assert texts(blocks(envelope(item())))[0].endswith(link)
    assert "@c" not in plain("@channel" * 1000, 300)


@pytest.mark.parametrize("n", [40, 300])
def test_slack_is_given_no_more_than_it_takes(n: int) -> None:
    many = [item(number, message="<&>" * 2000) for number in range(n)]
    found = blocks(envelope(*many))
    assert len(found) == min(n + 2, 50)
    assert max(map(len, texts(found))) <= 3000
    assert len(found[0]["text"]["text"]) <= 150
    if n == 300:
        assert texts(found)[-1] == (f"And 253 more: <{PUBLIC}/admin/modelperf/alert/|all alerts>.")


def test_300_machines_are_counted_and_some_named_with_a_link_to_all() -> None:
    told = texts(blocks(envelope(fleet(300))))[0]
    named = len(re.findall(r"machine-\d{3}", told))
    assert "300 machines: machine-000, machine-001, " in told
    assert f" and {300 - named} more\n" in told
    assert 50 < named < 300
    assert told.endswith("|Open the alert>")
    assert len(told) <= 3000
