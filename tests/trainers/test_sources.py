"""Sources of readings: the demo's data file, files, queries and web addresses, and their limits."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from django.db import connection
from pytest_django import Settings

from modelperf.models import Machine
from modelperf.trainers import sources
from modelperf.trainers.base import TrainingError, UnavailableError
from modelperf.trainers.sources import Asked, Readings
from tests.sites import LOOPBACK, Site, answering, closed_port, silent, trickling

START = datetime(2021, 1, 1, tzinfo=UTC)


def read(
    document: dict[str, Any], machine: Machine | None = None, start: datetime = START
) -> Readings:
    asked = Asked(
        machine=machine or Machine(name="pump 7"),
        model_type="baseline",
        start=start,
        end=start + timedelta(days=2),
    )
    return sources.read(document, asked)


def csv_of(hours: int = 72, header: str = "time,value,temperature") -> str:
    lines = [f"{START + timedelta(hours=n):%FT%TZ},{n},{n / 10}" for n in range(hours)]
    return "\n".join([header, *lines]) + "\n"


def assert_two_days(found: Readings) -> None:
    """Assert that these are the first 48 hours of `csv_of`."""
    assert found.target.tolist() == list(range(48))
    assert found.starts[0] == np.datetime64("2021-01-01T00:00")
    assert (np.diff(found.starts) == np.timedelta64(1, "h")).all()
    assert found.features["temperature_c"].tolist() == [n / 10 for n in range(48)]
    assert found.features["hour_of_day"].tolist() == [*range(24), *range(24)]


# --- documents ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, '"demo", "files", "query", "url"'),
        ({"kind": "sky"}, '"demo", "files", "query", "url"'),
        ({"kind": ["query"]}, '"demo", "files", "query", "url"'),
        ({"kind": "query"}, "sql"),
        ({"kind": "query", "sql": " "}, "SELECT"),
        ({"kind": "query", "sql": "SELECT 1", "colour": "red"}, "colour"),
        ({"kind": "query", "sql": 5}, "str"),
        ({"kind": "query", "sql": "SELECT 1", "timezone": "Mars/Base"}, "Mars/Base"),
        ({"kind": "query", "sql": "SELECT 1", "timezone": "../etc/passwd"}, "time zone"),
        ({"kind": "demo", "meter": "nowhere"}, "il-gas-hdd-only"),
    ],
)
def test_find_refuses_a_document_that_describes_no_source(
    document: dict[str, Any], says: str
) -> None:
    with pytest.raises(TrainingError, match=says):
        sources.find(document)


# --- the demo -------------------------------------------------------------------------------


def test_demo_returns_the_window_in_order() -> None:
    found = read({"kind": "demo", "meter": "uk-gas"})
    assert len(found) == 48
    assert found.starts[0] == np.datetime64("2021-01-01T00:00")
    assert (np.diff(found.starts) == np.timedelta64(1, "h")).all()
    assert set(found.features) == {"temperature_c", "hour_of_day"}


def test_demo_of_a_moved_machine_returns_the_same_readings_at_the_time_shown() -> None:
    machine = Machine(name="a", metadata={"demo": {"meter": "uk-gas", "shift_weeks": 52}})
    moved = read({"kind": "demo"}, machine, START + timedelta(weeks=52))
    original = read({"kind": "demo", "meter": "uk-gas"})
    assert moved.target.tolist() == original.target.tolist()
    assert (moved.starts - original.starts == np.timedelta64(52, "W")).all()


def test_demo_of_a_machine_without_a_meter_names_the_meters() -> None:
    with pytest.raises(TrainingError, match="il-gas-hdd-only"):
        read({"kind": "demo"})


def test_read_of_an_empty_window_says_which() -> None:
    with pytest.raises(TrainingError, match="no readings of pump 7 from 1999-01-01 to 1999-01-03"):
        read({"kind": "demo", "meter": "uk-gas"}, start=datetime(1999, 1, 1, tzinfo=UTC))


# --- files ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, settings: Settings) -> Path:
    settings.SOURCE_DIR = tmp_path.resolve()
    return tmp_path


def test_files_of_a_machine_are_read_together(folder: Path) -> None:
    lines = csv_of().splitlines(keepends=True)
    (folder / "pump 7").mkdir()
    (folder / "pump 7" / "b.csv").write_text("".join([lines[0], *lines[30:]]))
    packed = "".join([lines[0], *lines[1:30]]).encode()
    (folder / "pump 7" / "a.csv.gz").write_bytes(gzip.compress(packed))
    (folder / "pump 8.csv").write_text("not this one")
    assert_two_days(read({"kind": "files", "pattern": "{machine_name}/*.csv*"}))


def test_files_name_their_columns_and_their_time_zone(folder: Path) -> None:
    lines = [f"2021-07-01 {hour:02}:00;{hour};" for hour in range(3)]
    text = "\n".join(["﻿when;kwh;outside", *lines]).replace(";", ",")
    (folder / "baseline.csv").write_text(text, encoding="utf-8")
    document = {
        "kind": "files",
        "pattern": "{model_type}.csv",
        "time": "when",
        "value": "kwh",
        "temperature": "outside",
        "timezone": "Europe/London",
    }
    found = read(document, start=datetime(2021, 6, 30, tzinfo=UTC))
    assert found.starts[0] == np.datetime64("2021-06-30T23:00")
    assert found.features["hour_of_day"].tolist() == [0, 1, 2]
    assert np.isnan(found.features["temperature_c"]).all()
    assert found.target.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("pattern", ["/etc/*", "../*.csv", "a/../../b.csv", "", "{start}.csv"])
def test_a_pattern_stays_in_the_folder_and_has_known_placeholders(
    folder: Path, pattern: str
) -> None:
    with pytest.raises(TrainingError, match=r"pattern|only"):
        sources.find({"kind": "files", "pattern": pattern})


def test_neither_links_nor_names_lead_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    (folder / "secret.csv").write_text(csv_of())
    (inner / "link.csv").symlink_to(folder / "secret.csv")
    from django.conf import settings

    settings.SOURCE_DIR = inner.resolve()
    for pattern, name in (("link.csv", "a"), ("{machine_name}.csv", "../secret")):
        with pytest.raises(TrainingError, match="outside MODELPERF_SOURCE_DIR"):
            read({"kind": "files", "pattern": pattern}, Machine(name=name))


def test_a_machines_name_is_no_pattern(folder: Path) -> None:
    (folder / "other.csv").write_text(csv_of())
    with pytest.raises(TrainingError, match="No file matches"):
        read({"kind": "files", "pattern": "{machine_name}.csv"}, Machine(name="*"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"time,value\n", "no readings"),
        (b"time,value\n1,2,3\n", "row 2"),
        (b"when,value\n2021-01-01,2\n", "no column 'time'"),
        (b"time,kwh\n2021-01-01,2\n", "no column 'value'"),
        (b"time,value\nyesterday,2\n", "yesterday"),
        (b"time,value\n2021-01-01,much\n", "much"),
        (b"time,value\n2021-01-01,1\n2021-01-01T00:00Z,2\n", "two readings at 2021-01-01T00:00"),
        (b'time,value\n"2021-01-01,1\n', "no CSV"),
        (b"time,value\n2021-01-01,\xff\n", "UTF-8"),
    ],
)
def test_files_that_hold_no_readings_are_refused_with_the_reason(
    folder: Path, content: bytes, says: str
) -> None:
    (folder / "a.csv").write_bytes(content)
    with pytest.raises(TrainingError, match=says):
        read({"kind": "files", "pattern": "a.csv"})


def test_files_of_different_columns_are_refused(folder: Path) -> None:
    (folder / "a.csv").write_text(csv_of(2))
    (folder / "b.csv").write_text(csv_of(2, header="time,value,outside"))
    with pytest.raises(TrainingError, match=r"b\.csv has other columns"):
        read({"kind": "files", "pattern": "*.csv"})


def test_files_are_read_up_to_the_limit_unpacked(folder: Path, settings: Settings) -> None:
    text = csv_of().encode()
    (folder / "a.csv.gz").write_bytes(gzip.compress(text))
    settings.SOURCE_MAX_BYTES = len(text)
    assert_two_days(read({"kind": "files", "pattern": "a.csv.gz"}))
    settings.SOURCE_MAX_BYTES = len(text) - 1
    with pytest.raises(TrainingError, match="MODELPERF_SOURCE_MAX_BYTES"):
        read({"kind": "files", "pattern": "a.csv.gz"})


def test_a_broken_archive_is_told(folder: Path) -> None:
    (folder / "a.csv.gz").write_bytes(gzip.compress(csv_of().encode())[:100])
    with pytest.raises(TrainingError, match="cannot be read"):
        read({"kind": "files", "pattern": "*"})


def test_files_are_off_until_a_folder_is_set() -> None:
    with pytest.raises(TrainingError, match="Set MODELPERF_SOURCE_DIR"):
        sources.find({"kind": "files", "pattern": "*.csv"})


# --- queries --------------------------------------------------------------------------------

HOURS = """
    SELECT {start}::timestamptz + n * interval '1 hour' AS time, n AS value, n / 10.0 AS temperature
    FROM generate_series(0, 71) AS n  -- more than is asked for
"""


@pytest.mark.django_db
def test_query_returns_readings() -> None:
    assert_two_days(read({"kind": "query", "sql": HOURS + ";"}))


@pytest.mark.django_db
def test_query_is_given_parameters_and_keeps_its_own_signs() -> None:
    machine = Machine(name="a'; DROP TABLE machines; --")
    document = {
        "kind": "query",
        "sql": """
            SELECT {start} AS "when", 5 %% 3 AS kwh WHERE {machine_name} LIKE 'a%DROP%'
                AND {machine_id} = '%s'::uuid AND {model_type} = 'baseline' AND '{}'::int[] = '{}'
                AND {end} > {start}
        """.replace("%%", "%").replace("%s", str(machine.pk)),
        "time": "when",
        "value": "kwh",
    }
    assert read(document, machine).target.tolist() == [2.0]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("DELETE FROM machines RETURNING 1", "syntax error"),
        ("SELECT 1) AS a; DELETE FROM machines; SELECT * FROM (SELECT 1", "multiple commands"),
        ("SELECT 1) AS a; COMMIT; DELETE FROM machines; SELECT (1", "multiple commands"),
        ("WITH gone AS (DELETE FROM machines RETURNING 1) SELECT * FROM gone", "top level"),
        ("SELECT nextval('auth_user_id_seq')", "read-only"),
        ("SELECT set_config('transaction_read_only', 'off', true)", "read-write|read-only"),
        ("COMMIT", "syntax error"),
        ("SELECT 1 / 0", "division by zero"),
        ("SELECT * FROM no_such_table", "no_such_table"),
        ("SELECT 1 AS value", "no column 'time'"),
        ("/* SELECT 1", "comment"),
    ],
)
def test_query_can_only_read(sql: str, says: str) -> None:
    machine = Machine.objects.create(name="a")
    with pytest.raises(TrainingError, match=says):
        read({"kind": "query", "sql": sql}, machine)
    assert Machine.objects.filter(pk=machine.pk).exists()
    with connection.cursor() as cursor:  # what was set for the query is gone
        cursor.execute("SELECT current_setting('transaction_read_only')")
        assert cursor.fetchone() == ("off",)


@pytest.mark.django_db
def test_query_in_a_transaction_leaves_it_as_it_was() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout')")
        before = cursor.fetchone()
        read({"kind": "query", "sql": HOURS})
        cursor.execute("SELECT current_setting('statement_timeout')")
        assert cursor.fetchone() == before
    assert Machine.objects.create(name="still writable").pk


@pytest.mark.django_db
def test_query_that_takes_too_long_is_ended(settings: Settings) -> None:
    settings.SOURCE_TIMEOUT_SECONDS = 1
    with pytest.raises(TrainingError, match="statement timeout"):
        read({"kind": "query", "sql": "SELECT pg_sleep(60) AS time, 1 AS value"})


def address_of_database() -> str:
    connection.ensure_connection()
    here = connection.connection.info
    place = {**here.get_parameters(), "password": here.password}
    return psycopg.conninfo.make_conninfo(
        "", **{name: place.get(name) for name in ("host", "port", "user", "password", "dbname")}
    )


@pytest.mark.django_db(transaction=True)
def test_query_runs_in_the_database_that_is_set(settings: Settings) -> None:
    settings.SOURCE_DATABASE_URL = address_of_database()
    here = connection.connection.info
    sql = HOURS + f"\nWHERE pg_backend_pid() <> {here.backend_pid}"
    assert_two_days(read({"kind": "query", "sql": sql}))
    with pytest.raises(TrainingError, match="read-only"):
        read({"kind": "query", "sql": "SELECT nextval('auth_user_id_seq')"})


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_query_whose_database_goes_away_is_tried_again(
    settings: Settings, is_elsewhere: bool
) -> None:
    settings.SOURCE_DATABASE_URL = address_of_database() if is_elsewhere else ""
    own_end = "SELECT now() AS time, 1 AS value FROM pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(UnavailableError, match="query failed: terminating connection"):
        read({"kind": "query", "sql": own_end})
    assert_two_days(read({"kind": "query", "sql": HOURS}))


@pytest.mark.django_db(transaction=True)
def test_query_on_a_connection_that_was_cut_before_is_tried_again() -> None:
    with psycopg.connect(address_of_database(), autocommit=True) as other:
        pid = connection.connection.info.backend_pid
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    with pytest.raises(UnavailableError, match="query failed"):
        read({"kind": "query", "sql": HOURS})
    assert_two_days(read({"kind": "query", "sql": HOURS}))


@pytest.mark.django_db(transaction=True)
def test_query_of_a_database_that_cannot_be_reached_is_tried_again(settings: Settings) -> None:
    settings.SOURCE_DATABASE_URL = f"postgres://nobody@127.0.0.1:{closed_port()}/none"
    with pytest.raises(UnavailableError, match="query failed"):
        read({"kind": "query", "sql": HOURS})


@pytest.mark.django_db
@pytest.mark.parametrize("sql", ["SELECT pg_sleep(60)", "SELECT 1 / 0", "SELECT no_such_thing"])
def test_query_that_can_only_fail_again_fails_for_good(settings: Settings, sql: str) -> None:
    settings.SOURCE_TIMEOUT_SECONDS = 1
    with pytest.raises(TrainingError, match="query failed") as caught:
        read({"kind": "query", "sql": sql})
    assert type(caught.value) is TrainingError


# --- web addresses --------------------------------------------------------------------------


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    settings.SOURCE_HOSTS = ["127.0.0.1", "localhost"]
    settings.SOURCE_NETWORKS = LOOPBACK
    with Site().served() as there:
        yield there


def test_url_is_filled_and_its_csv_read(site: Site) -> None:
    site.answer = answering(csv_of().encode())
    machine = Machine(name="a/b&c")
    url = site.url + "/r/{machine_name}?id={machine_id}&type={model_type}&from={start}&to={end}"
    assert_two_days(read({"kind": "url", "url": url}, machine))
    window = "from=2021-01-01T00%3A00%3A00Z&to=2021-01-03T00%3A00%3A00Z"
    assert site.asked == [f"/r/a%2Fb%26c?id={machine.pk}&type=baseline&{window}"]


def test_url_that_answers_json_is_read(site: Site) -> None:
    rows = [
        {"time": START.timestamp() + 3600 * n, "value": n, "temperature": n / 10} for n in range(60)
    ]
    site.answer = answering(json.dumps(rows).encode(), "application/json; charset=utf-8")
    assert_two_days(read({"kind": "url", "url": site.url}))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (answering(b"", status=400), "answered 400"),
        (answering(b"", status=404), "answered 404"),
        (answering(b"", status=302, Location="http://127.0.0.1/"), "answered 302"),
        (answering(b"{}", "application/json"), "no array of objects"),
        (answering(b"[1]", "application/json"), "no array of objects"),
        (answering(b"[", "application/json"), "no JSON"),
        (answering(b"[]", "application/json"), "no column"),
        (answering(b"x" * 5000), "MODELPERF_SOURCE_MAX_BYTES"),
    ],
)
def test_url_that_answers_no_readings_is_told(
    site: Site, settings: Settings, answer: Any, says: str
) -> None:
    settings.SOURCE_MAX_BYTES = 4000
    site.answer = answer
    with pytest.raises(TrainingError, match=says) as caught:
        read({"kind": "url", "url": site.url})
    assert type(caught.value) is TrainingError
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        *((answering(b"", status=n), f"answered {n}") for n in (408, 425, 429, 500, 502, 503, 504)),
        (answering(b"x" * 5000, status=503), "answered 503"),
        (answering(b"time,value\n", **{"Content-Length": "999"}), "too early"),
        (silent, "longer than MODELPERF_SOURCE_TIMEOUT_SECONDS"),
    ],
)
def test_url_that_cannot_answer_just_now_is_tried_again(
    site: Site, settings: Settings, answer: Any, says: str
) -> None:
    settings.SOURCE_MAX_BYTES, settings.SOURCE_TIMEOUT_SECONDS = 4000, 1
    site.answer = answer
    with pytest.raises(UnavailableError, match=says):
        read({"kind": "url", "url": site.url})
    assert len(site.asked) == 1


def test_url_that_nobody_answers_at_is_tried_again(site: Site) -> None:
    with pytest.raises(UnavailableError, match="refused"):
        read({"kind": "url", "url": f"http://127.0.0.1:{closed_port()}/"})


def test_url_that_trickles_is_hung_up_on(site: Site, settings: Settings) -> None:
    settings.SOURCE_TIMEOUT_SECONDS = 1

    site.answer = trickling(b"HTTP/1.1 200 OK\r\n\r\n", b"time,value\n")
    with pytest.raises(UnavailableError, match="longer than MODELPERF_SOURCE_TIMEOUT_SECONDS"):
        read({"kind": "url", "url": site.url})


def test_url_of_a_private_network_is_refused_unless_allowed(site: Site, settings: Settings) -> None:
    settings.SOURCE_NETWORKS = [ip_network("10.0.0.0/8")]
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(TrainingError, match=r"not public\. Name its network"):
            read({"kind": "url", "url": f"http://{host}:{site.server_port}/"})
    assert site.asked == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://127.0.0.1/a", "https://"),
        ("file:///etc/passwd", "https://"),
        ("127.0.0.1/a", "https://"),
        ("http://", "https://"),
        ("http://127.0.0.1:port/", "Port"),
        ("http://user:secret@127.0.0.1/", "no login"),
        ("http://example.org/", "MODELPERF_SOURCE_HOSTS"),
        ("http://{machine_name}/", "MODELPERF_SOURCE_HOSTS"),
        ("http://127.0.0.1/{colour}", "colour"),
        ("http://127.0.0.1/\r\nHost: x", "https://"),
    ],
)
def test_url_that_may_not_be_asked_is_refused(site: Site, url: str, says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        sources.find({"kind": "url", "url": url})


def test_urls_are_off_until_a_host_is_set() -> None:
    with pytest.raises(TrainingError, match=r"MODELPERF_SOURCE_HOSTS allows \(none\)"):
        sources.find({"kind": "url", "url": "https://example.org/"})
