"""Profiles over HTTP: the same columns in five forms, every refusal, and the lists."""

from __future__ import annotations

import functools
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import override_settings
from rest_framework.test import APIClient

from modelperf.models import FeatureReference, ModelVersion, WindowProfile
from modelperf.services import profiles_arrow
from tests import factories
from tests.api.calls import NOWHERE, ROOT, places, problem

pytestmark = pytest.mark.django_db
URL = f"{ROOT}/profiles/record"
DAY = {"window_start": "2026-03-01T00:00:00Z", "window_end": "2026-03-02T00:00:00Z"}
COLUMNS: dict[str, list[Any]] = {
    "load": [0.25, 1.5, None, -3.0],
    "count": [1, 2, 3, 4],
    "site": ["north", "south", None, "north"],
    "is_open": [True, False, True, None],
}
PARQUET = "application/vnd.apache.parquet"
STREAM = "application/vnd.apache.arrow.stream"
FILE = "application/vnd.apache.arrow.file"


@pytest.fixture
def model() -> ModelVersion:
    return factories.ModelVersionFactory(is_active=True)


def send(api: APIClient, given: dict[str, Any]) -> Any:
    return api.post(URL, given)


def referenced(api: APIClient, model: ModelVersion, **more: Any) -> dict[str, Any]:
    given = {"model_id": str(model.pk), "role": "reference", "columns": COLUMNS} | more
    response = send(api, given)
    assert response.status_code == 200, response.content
    answer: dict[str, Any] = response.json()
    return answer


def window(model: ModelVersion, **more: Any) -> dict[str, Any]:
    return {"model_id": str(model.pk), **DAY, "columns": COLUMNS} | more


def as_csv() -> bytes:
    lines = [",".join(COLUMNS)]
    for row in zip(*COLUMNS.values(), strict=True):
        cells = ("" if v is None else str(v).lower() for v in row)
        lines.append(",".join(cells))
    return "\n".join(lines).encode()


def as_arrow(form: str) -> bytes:
    table = pa.table(COLUMNS)
    table = table.set_column(2, "site", table.column("site").dictionary_encode())
    sink = io.BytesIO()
    if form == PARQUET:
        pq.write_table(table, sink)
    else:
        writer = pa.ipc.new_stream if form == STREAM else pa.ipc.new_file
        with writer(sink, table.schema) as opened:
            opened.write_table(table, max_chunksize=3)
    return sink.getvalue()


BODIES = {
    "text/csv": as_csv,
    **{form: lambda f=form: as_arrow(f) for form in (PARQUET, STREAM, FILE)},
}


def post(api: APIClient, body: bytes, form: str, **query: Any) -> Any:
    return api.generic("POST", f"{URL}?{urlencode(query)}", body, form)


def test_reference_answers_each_column_and_stores_it(api: APIClient, model: ModelVersion) -> None:
    answer = referenced(api, model, predictions=["load"], targets="count", **DAY)

    assert (answer["model_id"], answer["role"]) == (str(model.pk), "reference")
    assert (answer["window_start"], answer["window_end"]) == tuple(DAY.values())
    told = {one["feature"]: one for one in answer["features"]}
    assert {name: one["role"] for name, one in told.items()} == {
        "load": "prediction",
        "count": "target",
        "site": "feature",
        "is_open": "feature",
    }
    assert {one["kind"] for one in (told["load"], told["count"])} == {"numeric"}
    assert {one["kind"] for one in (told["site"], told["is_open"])} == {"categorical"}
    assert (told["load"]["n"], told["load"]["missing"], told["load"]["status"]) == (3, 1, "created")
    assert FeatureReference.objects.get(pk=told["load"]["id"]).created_by == "key:tests"


def test_window_answers_each_column_and_stores_it(api: APIClient, model: ModelVersion) -> None:
    referenced(api, model)
    answer = send(api, window(model)).json()

    assert [one["status"] for one in answer["features"]] == ["created"] * 4
    row = WindowProfile.objects.get(feature="load")
    assert (row.n, row.missing, row.revision, row.created_by) == (3, 1, 1, "key:tests")
    assert f"{row.window_end:%FT%TZ}" == DAY["window_end"]


@pytest.mark.parametrize("form", BODIES)
def test_every_form_of_a_window_is_the_same_to_the_byte(
    api: APIClient, model: ModelVersion, form: str
) -> None:
    referenced(api, model)
    send(api, window(model))

    response = post(api, BODIES[form](), form, model_id=model.pk, **DAY)

    assert response.status_code == 200, response.content
    assert {one["status"] for one in response.json()["features"]} == {"unchanged"}


@pytest.mark.parametrize("form", BODIES)
def test_every_form_of_a_reference_is_the_same_to_the_byte(
    api: APIClient, model: ModelVersion, form: str
) -> None:
    referenced(api, model, targets=["load"])
    given = {"model_id": model.pk, "role": "reference", "targets": "load"}

    answer = post(api, BODIES[form](), form, **given).json()

    assert {one["status"] for one in answer["features"]} == {"unchanged"}


@pytest.mark.parametrize("form", BODIES)
def test_names_choose_the_columns(api: APIClient, model: ModelVersion, form: str) -> None:
    referenced(api, model, columns={"load": [1.0, 2.0]})

    refused = post(api, BODIES[form](), form, model_id=model.pk, **DAY)
    chosen = post(api, BODIES[form](), form, model_id=model.pk, names="load", **DAY)
    unknown = post(api, BODIES[form](), form, model_id=model.pk, names="speed", **DAY)

    assert places(refused) == [["body", name] for name in ("count", "site", "is_open")]
    assert [one["feature"] for one in chosen.json()["features"]] == ["load"]
    assert "no column speed" in problem(unknown, 422)["detail"]


def test_counts_are_taken_ready_made(api: APIClient, model: ModelVersion) -> None:
    referenced(api, model)
    send(api, window(model))
    counts = {
        "load": {"values": [0.25, 1.5, -3], "counts": [1, 1, 1], "missing": 1},
        "site": {"values": ["north", "south"], "counts": [2, 1], "missing": 1},
        "is_open": {"values": [True, False], "counts": [2, 1], "missing": 1},
    }

    answer = send(api, window(model, columns={}, counts=counts)).json()

    assert {one["status"] for one in answer["features"]} == {"unchanged"}


def test_parts_are_added_once(api: APIClient, model: ModelVersion) -> None:
    referenced(api, model)
    for part, status in (("a", "created"), ("b", "merged"), ("b", "unchanged")):
        answer = send(api, window(model, merge=True, part=part)).json()
        assert {one["status"] for one in answer["features"]} == {status}
    assert answer["features"][0]["n"] == 6
    changed = send(api, window(model, merge=True, part="b", columns={"load": [9.0]}))
    assert problem(changed, 409)["state"]["parts"] == ["a", "b"]


def test_window_before_any_reference_is_409_and_says_what_to_send(
    api: APIClient, model: ModelVersion
) -> None:
    document = problem(send(api, window(model)), 409)
    assert "role reference" in document["detail"]


WRONG: list[tuple[dict[str, Any], list[str | int]]] = [
    ({"window_start": None, "window_end": None}, ["body", "window_start"]),
    ({"window_end": None}, ["body", "window_end"]),
    ({"window_end": DAY["window_start"]}, ["body", "window_end"]),
    ({"role": "past"}, ["body", "role"]),
    ({"columns": {}}, ["body", "columns"]),
    ({"columns": {"load": [1], "count": [1, 2]}}, ["body", "columns"]),
    ({"columns": {"load": [[1]]}}, ["body", "columns"]),
    ({"columns": {"load": {"a": 1}}}, ["body", "columns"]),
    ({"columns": {"load": [1, "a"]}}, ["body"]),
    ({"columns": {"load": [10**400]}}, ["body"]),
    ({"columns": {"load": ["a"]}}, ["body", "load"]),
    ({"columns": {"speed": [1]}}, ["body", "speed"]),
    ({"columns": {"": [1]}}, ["body", "columns"]),
    ({"counts": {"load": {"values": [1], "counts": [1]}}}, ["body", "columns"]),
    ({"columns": {}, "counts": {"load": {"values": [1], "counts": [-1]}}}, ["body", "counts"]),
    ({"columns": {}, "counts": {"load": {"values": [1], "counts": [1, 2]}}}, ["body"]),
    ({"columns": {}, "counts": {"load": {"values": [1, 1.0], "counts": [1, 2]}}}, ["body"]),
    ({"columns": {}, "counts": {"load": {"values": [1, "a"], "counts": [1, 2]}}}, ["body"]),
    ({"names": "load"}, ["body", "names"]),
    ({"targets": "load"}, ["body", "targets"]),
    ({"merge": True}, ["body", "part"]),
    ({"part": "a"}, ["body", "part"]),
    ({"role": "reference", "merge": True}, ["body", "merge"]),
    ({"role": "reference", "targets": "load", "predictions": ["load"]}, ["body", "targets"]),
    ({"role": "reference", "targets": "speed"}, ["body", "speed"]),
    ({"role": "reference", "window_end": None}, ["body", "window_end"]),
    ({"colums": {}}, ["body", "colums"]),
]


@pytest.mark.parametrize(("change", "place"), WRONG)
def test_wrong_parameters_are_422_and_name_their_place(
    api: APIClient, model: ModelVersion, change: dict[str, Any], place: list[str | int]
) -> None:
    referenced(api, model)
    given = {name: one for name, one in window(model, **change).items() if one is not None}
    stored = FeatureReference.objects.count()

    assert places(send(api, given))[0] == place
    assert not WindowProfile.objects.exists()
    assert FeatureReference.objects.count() == stored


@pytest.mark.parametrize(
    ("form", "body", "says"),
    [
        ("text/csv", b"", "columns"),
        ("text/csv", b"load,load\n1,2\n", "same name"),
        ("text/csv", b"load,\n1,2\n", "empty"),
        ("text/csv", b"load,count\n1\n", "1 fields"),
        ("text/csv", b"load\n\xff\n", "UTF-8"),
        ("text/csv", b'load\n"1\n', "not CSV"),
        ("text/csv", b"load\nfast\n", "numbers everywhere"),
        ("text/csv", b"load\n1_000\n", "numbers everywhere"),
        ("text/csv", "load\n\n１\n".encode(), "numbers everywhere"),
        (PARQUET, b"PAR1", "cannot be read"),
        (STREAM, b"x" * 40, "cannot be read"),
        (FILE, b"ARROW1", "cannot be read"),
    ],
)
def test_unreadable_bodies_are_422_and_say_why(
    api: APIClient, model: ModelVersion, form: str, body: bytes, says: str
) -> None:
    referenced(api, model)
    document = problem(post(api, body, form, model_id=model.pk, **DAY), 422)
    assert says in document["detail"]


def test_column_of_dates_is_refused(api: APIClient, model: ModelVersion) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"day": [datetime(2026, 3, 1, tzinfo=UTC)]}), sink)
    response = post(api, sink.getvalue(), PARQUET, model_id=model.pk, role="reference")
    assert "timestamp" in problem(response, 422)["detail"]


def test_small_body_of_many_rows_is_refused(api: APIClient, model: ModelVersion) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"load": np.zeros(5_000_001)}), sink)
    assert len(sink.getvalue()) < 100_000
    response = post(api, sink.getvalue(), PARQUET, model_id=model.pk, role="reference")
    assert "5,000,000" in problem(response, 422)["detail"]


@pytest.mark.parametrize("encoding", ["PLAIN", "PLAIN_DICTIONARY", "DELTA_BYTE_ARRAY"])
@pytest.mark.parametrize("form", [PARQUET, STREAM])
def test_small_body_of_long_text_is_refused_unless_the_column_is_not_wanted(
    api: APIClient, model: ModelVersion, form: str, encoding: str
) -> None:
    """It would take gigabytes unpacked; but the sum of what is unpacked is known before."""
    different = [f"{n}{'a' * 2_000_000}" for n in range(160)]
    text = ["a" * 5_000_000] * 160 if encoding == "DELTA_BYTE_ARRAY" else different
    table = pa.table({"text": text, "load": np.arange(160.0)})
    sink = io.BytesIO()
    if form == PARQUET:
        packed = {"text": encoding} if encoding != "PLAIN_DICTIONARY" else None
        pq.write_table(
            table,
            sink,
            compression="zstd",
            use_dictionary=packed is None,
            column_encoding=packed,
        )
    else:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(sink, table.schema, options=options) as opened:
            opened.write_table(table)
    assert len(sink.getvalue()) < 1_000_000

    sent = functools.partial(post, api, sink.getvalue(), form, model_id=model.pk, role="reference")

    assert "DELTA_BYTE_ARRAY" in (found := problem(sent(), 422)["detail"]) or "256 MiB" in found
    assert sent(names="load").status_code == 200
    assert "nowhere" in problem(sent(names="nowhere"), 422)["detail"]


def test_long_labels_are_the_same_in_every_form(api: APIClient, model: ModelVersion) -> None:
    text = ["x" * 500 + str(n % 3) for n in range(300)]
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": text}), sink)
    post(api, sink.getvalue(), PARQUET, model_id=model.pk, role="reference")
    found = send(api, {"model_id": str(model.pk), "role": "reference", "columns": {"text": text}})
    assert found.json()["features"][0]["status"] == "unchanged"


def test_without_pyarrow_its_forms_are_415_and_say_what_to_install(
    api: APIClient, model: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles_arrow, "IS_INSTALLED", False)
    response = post(api, as_arrow(PARQUET), PARQUET, model_id=model.pk, role="reference")
    assert (
        ".venv/bin/pip install 'pyarrow>=18'. CSV and JSON always"
        in (problem(response, 415)["detail"])
    )


@pytest.mark.parametrize("form", ["text/plain", "application/xml", "multipart/form-data"])
def test_other_forms_are_415(api: APIClient, model: ModelVersion, form: str) -> None:
    problem(post(api, b"load\n1\n", form, model_id=model.pk, role="reference"), 415)


@pytest.mark.parametrize("form", ["application/json", *BODIES])
def test_body_beyond_the_limit_is_413(api: APIClient, model: ModelVersion, form: str) -> None:
    body = json.dumps(window(model)).encode() if form == "application/json" else BODIES[form]()
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=len(body) - 1):
        query = {} if form == "application/json" else {"model_id": model.pk, **DAY}
        problem(post(api, body, form, **query), 413)


def test_recording_needs_write_and_the_machine(client_with: Any, model: ModelVersion) -> None:
    problem(send(client_with("read"), window(model)), 403)
    other = factories.MachineFactory()
    limited = client_with("write", name="limited", machines=[other])
    problem(send(limited, window(model)), 404)
    problem(send(limited, window(model, model_id=NOWHERE)), 404)


def test_a_body_in_chunks_is_411(api: APIClient, model: ModelVersion) -> None:
    response = api.generic(
        "POST",
        f"{URL}?model_id={model.pk}&role=reference",
        b"load\n1\n",
        "text/csv",
        HTTP_TRANSFER_ENCODING="chunked",
    )
    problem(response, 411)


# --- lists ----------------------------------------------------------------------------------


def test_profiles_are_listed_newest_window_first_and_filtered(api: APIClient) -> None:
    reference = factories.FeatureReferenceFactory()
    for day in (2, 0, 1):
        factories.WindowProfileFactory(reference=reference, day=day)
    factories.WindowProfileFactory()
    start = factories.START

    def listed(**query: Any) -> list[str]:
        answer = api.get(f"{ROOT}/profiles", query).json()
        return [one["window_start"][:10] for one in answer["results"]]

    machine = str(reference.model.machine_id)
    assert listed(machine_id=machine) == ["2024-01-03", "2024-01-02", "2024-01-01"]
    assert len(listed()) == 4
    assert len(listed(model_id=str(reference.model_id))) == 3
    assert listed(feature="speed") == listed(role="target") == []
    assert len(listed(feature="load", role="feature")) == 4
    assert listed(machine_id=machine, start=f"{start + timedelta(days=3):%FT%TZ}") == ["2024-01-03"]
    assert listed(machine_id=machine, end=f"{start + timedelta(days=2):%FT%TZ}") == ["2024-01-01"]
    page = api.get(f"{ROOT}/profiles", {"machine_id": machine, "limit": 2}).json()
    rest = api.get(page["next"]).json()
    assert (len(page["results"]), len(rest["results"]), rest["next"]) == (2, 1, None)


def test_profile_tells_what_it_is(api: APIClient, model: ModelVersion) -> None:
    referenced(api, model, targets=["load"])
    send(api, window(model, merge=True, part="a", columns={"load": [1.0, None]}))
    (found,) = api.get(f"{ROOT}/profiles").json()["results"]
    assert (found["role"], found["kind"], found["n"], found["missing"]) == (
        "target",
        "numeric",
        1,
        1,
    )
    assert list(found["parts"]) == ["a"]
    assert (found["model_id"], found["model_version"]) == (str(model.pk), model.model_version)


def test_references_are_listed_with_their_history(api: APIClient, model: ModelVersion) -> None:
    referenced(api, model)
    referenced(api, model, columns={"load": [5.0, 6.0]})
    url = f"{ROOT}/profiles/references"

    def listed(**query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = api.get(url, query).json()["results"]
        return found

    newest, *_, oldest = listed(feature="load")
    assert (newest["n"], newest["replaced_at"], newest["replaced_by"]) == (2, None, None)
    assert (oldest["n"], oldest["replaced_by"]) == (3, "key:tests")
    assert len(listed(model_id=str(model.pk))) == 5
    assert len(listed(is_current="true")) == 4
    assert len(listed(is_current="false")) == 1
    assert listed(machine_id=NOWHERE) == listed(role="target") == []
    assert newest["machine_id"] == str(model.machine_id)


def test_lists_leave_out_what_a_limited_key_may_not_see(client_with: Any) -> None:
    factories.WindowProfileFactory()
    mine = factories.WindowProfileFactory()
    limited = client_with("read", name="limited", machines=[mine.machine])
    assert [one["id"] for one in limited.get(f"{ROOT}/profiles").json()["results"]] == [
        str(mine.pk)
    ]
    references = limited.get(f"{ROOT}/profiles/references").json()["results"]
    assert [one["id"] for one in references] == [str(mine.reference_id)]


def test_names_of_csv_have_no_spaces_around(api: APIClient, model: ModelVersion) -> None:
    body = b"load, speed\n1,2\n3,4\n"
    response = post(api, body, "text/csv", model_id=model.pk, role="reference")
    assert [one["feature"] for one in response.json()["features"]] == ["load", "speed"]


def test_a_window_of_the_future_is_refused(api: APIClient, model: ModelVersion) -> None:
    referenced(api, model)
    day = {"window_start": "2150-01-01T00:00:00Z", "window_end": "2150-01-02T00:00:00Z"}
    document = problem(post(api, b"load\n1\n", "text/csv", model_id=model.pk, **day), 422)
    assert "future" in document["detail"]
