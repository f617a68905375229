"""What a message says: a subject, one block a condition, ends apart, nothing that can be forged."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from modelperf.notifications.rendering import headline, news, subject, text
from tests.notifications.news import PUBLIC, envelope, fleet, item, over


def test_a_condition_is_told_with_its_figures_and_where_it_is() -> None:
    assert text(envelope(item())) == (
        "Critical: pump 1 · baseline: bias is worse since 2017-01-06.\n"
        "  −1.25 → 18.6 · limit 15 · since 6 Jan 2017 00:00 UTC · seen 42 times · version 3\n"
        f"  {PUBLIC}/admin/modelperf/alert/1/\n"
        "\n"
        "--\n"
        'Sent by modelperf, since the route "operators" tells of it.\n'
        f"{PUBLIC}\n"
    )


def test_where_this_is_reached_may_be_unknown_and_figures_too() -> None:
    bare = item(
        link="",
        metric=None,
        current=None,
        threshold=86400.0,
        threshold_of="seconds",
        changed_at=None,
        opened_at=None,
    )
    told = text(envelope(bare, public_url=""))
    assert told.splitlines()[1] == "  seen 42 times · version 3"
    assert "http" not in told
    assert "86" not in told  # the limit of something without a metric is none to be shown


@pytest.mark.parametrize(
    ("says", "figures"),
    [
        ({"threshold": 3.9, "threshold_of": "z"}, "−1.25 → 18.6 · limit Z 3.90 · "),
        ({"threshold": 15.0, "threshold_of": None}, "−1.25 → 18.6 · limit 15 · "),
        (
            {"current": 0.42, "baseline": None, "threshold": 0.1, "threshold_of": "ks"}
            | {"metric": None},
            "KS 0.420 (limit KS 0.100) · ",
        ),
        ({"threshold": None, "threshold_of": None}, "−1.25 → 18.6 · since"),
    ],
)
def test_a_limit_says_what_it_is_one_of(says: dict[str, Any], figures: str) -> None:
    assert text(envelope(item(**says))).splitlines()[1].startswith(f"  {figures}")


def test_what_machines_share_is_told_as_z() -> None:
    assert "  Z 11.5 (limit Z 10) · since " in text(envelope(fleet(30)))


def test_what_goes_on_in_a_fleet_alert_is_not_told_to_be_over() -> None:
    gathered = over(1, resolution_action="in_fleet_alert")
    assert headline(gathered).startswith("Now part of a fleet alert: pump 1 · ")
    told = text(envelope(gathered, over(2), fleet(3)))
    assert [
        one for one in told.splitlines() if one in {"Now", "Part of a fleet alert", "Over"}
    ] == [
        "Now",
        "Part of a fleet alert",
        "Over",
    ]
    assert "in a fleet alert since 7 Jan 2017 09:30 UTC, by modelperf\n" in told
    assert subject(envelope(gathered, over(2), fleet(3))) == (
        "Critical: 1 condition opened, 1 over, 1 now part of a fleet alert"
    )


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("opened", "Critical"),
        ("reopened", "Critical, again"),
        ("severity_rose", "Now critical"),
        ("snooze_over", "Critical, its snooze is over"),
        ("silence_over", "Critical, no longer silenced"),
        ("resolved", "Over"),
    ],
)
def test_headline_says_what_happened(kind: str, head: str) -> None:
    told = headline(item(kind=kind))
    assert told == f"{head}: pump 1 · baseline: bias is worse since 2017-01-06."
    assert subject(envelope(item(kind=kind))) == told.removesuffix(".")


def test_subject_of_many_says_the_worst_and_how_many() -> None:
    warning = item(2, severity="warning")
    assert subject(envelope(warning, item(1), item(3), over(4))) == (
        "Critical: 3 conditions opened, 1 over"
    )
    assert subject(envelope(over(1), over(2))) == "2 conditions over"
    again, rose = item(1, kind="reopened", severity="warning"), item(5, kind="severity_rose")
    assert subject(envelope(again, rose)) == "Critical: 1 condition opened again, 1 got worse"
    assert subject(envelope(warning, over(4))) == "Warning: 1 condition opened, 1 over"


def test_ends_stand_apart_and_say_by_whom() -> None:
    told = text(
        envelope(over(1), item(2), over(3, resolved_by="user:anna", resolution_action="fixed"))
    )
    headings = [one for one in told.splitlines() if one in {"Now", "Over"}]
    assert headings == ["Now", "Over"]
    assert told.index("pump 2") < told.index("\nOver\n") < told.index("pump 1")
    assert "over at 7 Jan 2017 09:30 UTC, by modelperf (recovered)" in told
    assert "by anna (fixed)" in told


def test_an_alert_is_told_once_a_message_as_it_is_in_the_end() -> None:
    opened = item(1, severity="warning")
    rose = item(1, kind="severity_rose")
    kinds = [
        [(one.kind, one.says["severity"]) for one in news(envelope(*items))]
        for items in (
            [opened, rose],
            [rose],
            [opened, over(1)],
            [over(1), item(1, kind="reopened")],
            [over(1), rose],
        )
    ]
    assert kinds == [
        [("opened", "critical")],
        [("severity_rose", "critical")],
        [("resolved", "critical")],
        [("reopened", "critical")],
        [("severity_rose", "critical")],
    ]


def test_worst_first() -> None:
    told = text(envelope(item(1, severity="normal"), item(2, severity="warning"), item(3)))
    assert told.index("pump 3") < told.index("pump 2") < told.index("pump 1")


def test_every_machine_of_a_fleet_alert_is_named() -> None:
    told = text(envelope(fleet(300)))
    names = [word.rstrip(",") for word in told.split() if word.startswith("machine-")]
    assert names == [f"machine-{number:03}" for number in range(300)]
    assert "300 machines: machine-000, " in told
    assert max(map(len, told.splitlines())) <= 100


@pytest.mark.parametrize("sign", ["\r\nBcc: all@example.org", "\n", "\x00", "\u2028", "\u202e"])
def test_what_comes_with_a_name_starts_no_line_of_its_own(sign: str) -> None:
    forged = item(message=f"pump{sign} 1 is worse.", members=(f"pump{sign}1",))
    assert sign not in subject(envelope(forged, route=f"night{sign}"))
    assert sign not in subject(envelope(is_test=True, route=f"night{sign}"))
    forged_text, plain = text(envelope(forged)), text(envelope(item(members=("pump 1",))))
    assert forged_text.count("\n") == plain.count("\n")


def test_a_long_subject_is_cut() -> None:
    told = subject(envelope(item(message="x" * 5000)))
    assert len(told) == 180
    assert told.endswith("…")


def test_a_test_says_that_nothing_happened() -> None:
    test = envelope(is_test=True)
    assert subject(test) == "Test of operators: nothing happened"
    assert 'This is a test of "operators". Nothing happened.' in text(test)


@pytest.mark.parametrize(
    "unreadable", [{"current": "Infinity"}, {"changed_at": "some day"}, {"message": None}]
)
def test_what_cannot_be_read_is_told_barely_and_blocks_nothing(unreadable: dict[str, Any]) -> None:
    told = text(envelope(item(1, **unreadable), item(2)))
    assert "Critical: pump 2 · baseline: bias is worse" in told
    bare = f"alert {uuid.UUID(int=1)}" if "message" in unreadable else "pump 1 · baseline: bias"
    assert f"Critical: {bare}" in told
