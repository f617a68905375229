"""`manage.py profile`: the same counts whoever counts, within bounded memory, and exit codes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import LocalCluster
from django.core.management import CommandError, call_command
from django.utils.dateparse import parse_datetime

from modelperf.models import FeatureReference, ModelVersion, WindowProfile
from modelperf.services import profiles, profiles_csv, profiles_files, profiles_workers
from modelperf.services.profiles_columns import DataError
from modelperf.stats.profiles import Reference, profile_of, reference_of
from tests import factories

# One process for them all: the cluster is started once.
pytestmark = [pytest.mark.django_db, pytest.mark.xdist_group("cluster")]
ROOT = Path(__file__).resolve().parents[2]
DAY = ("--window-start", "2026-03-01T00:00:00Z", "--window-end", "2026-03-02T00:00:00Z")


def data(n: int, seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    load = rng.normal(3, 2, n)
    load[::50] = np.nan
    site = rng.choice(["north", "so,uth", 'w"e\nst'], n).tolist()
    return {"load": load, "count": rng.integers(0, 9, n), "site": site}


def as_csv(path: Path, columns: dict[str, Any]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for row in zip(*(np.asarray(c).tolist() for c in columns.values()), strict=True):
            writer.writerow(["" if str(value) == "nan" else value for value in row])
    return path


def as_parquet(path: Path, columns: dict[str, Any], rows_a_group: int = 700) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=rows_a_group)
    return path


@pytest.fixture
def model() -> ModelVersion:
    return factories.ModelVersionFactory(is_active=True)


@pytest.fixture
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut small files into many pieces, as large ones are."""
    monkeypatch.setattr(profiles_files, "PIECE_BYTES", 9_000)
    monkeypatch.setattr(profiles_files, "PIECE_ROWS", 700)
    monkeypatch.setattr(profiles_files, "CHUNK_BYTES", 2_000)


def run(*args: Any) -> str:
    out = StringIO()
    call_command("profile", *map(str, args), stdout=out, skip_checks=True)
    return out.getvalue()


def referenced(model: ModelVersion) -> None:
    columns = data(2_000, seed=0)
    held = {n: profiles_csv_column(c) for n, c in columns.items()}
    profiles.record_reference(model=model, columns=held, roles={"count": "target"}, by="a")


def profiles_csv_column(values: Any) -> Any:
    return np.asarray(values, dtype=object if isinstance(values, list) else float)


def digests(*args: Any) -> dict[str, str]:
    document = json.loads(run(*args, "--format", "json", "--dry-run"))
    return {one["feature"]: one["digest"] for one in document["features"]}


@pytest.mark.usefixtures("_small_pieces")
def test_profile_records_the_counts_of_the_whole_file(model: ModelVersion, tmp_path: Path) -> None:
    referenced(model)
    columns = data(5_000)
    file = as_parquet(tmp_path / "a.parquet", columns)
    assert len(profiles_files.pieces_of(file)) == 8

    printed = run(file, "--reference", model.pk, *DAY)

    assert "created" in printed
    for row in WindowProfile.objects.select_related("reference"):
        reference = Reference.from_bytes(bytes(row.reference.profile))
        whole = profile_of(profiles_csv_column(columns[row.feature]), reference)
        assert bytes(row.profile) == whole.to_bytes()
        assert row.window_end == parse_datetime(DAY[3])
    assert WindowProfile.objects.count() == 3
    assert "unchanged" in run(file, "--reference", model.pk, *DAY)


@pytest.mark.usefixtures("_small_pieces")
def test_csv_and_parquet_and_several_files_give_the_same_bytes(
    model: ModelVersion, tmp_path: Path
) -> None:
    referenced(model)
    columns = data(3_000)
    halves = [{n: c[a:b] for n, c in columns.items()} for a, b in ((0, 1_100), (1_100, 3_000))]
    one = as_csv(tmp_path / "a.csv", columns)
    two = [as_csv(tmp_path / "b.csv", halves[0]), as_parquet(tmp_path / "c.parquet", halves[1])]
    assert len(profiles_files.pieces_of(one)) > 5

    found = [digests(*files, "--reference", model.pk) for files in ([one], two, two[::-1])]

    assert found[0] == found[1] == found[2]
    assert found[0].keys() == {"load", "count", "site"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as started:
        yield started.scheduler_address


@pytest.mark.usefixtures("_small_pieces")
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_one_process_four_and_a_cluster_count_the_same_bit_for_bit(
    model: ModelVersion, tmp_path: Path, cluster: str, form: str
) -> None:
    referenced(model)
    file = (as_csv if form == "csv" else as_parquet)(tmp_path / f"a.{form}", data(4_000))
    given = (file, "--reference", model.pk)

    alone = digests(*given)

    assert len(profiles_files.pieces_of(file)) > 4
    assert digests(*given, "--jobs", 4) == alone
    assert digests(*given, "--dask", cluster) == alone
    making = (*given, "--make-reference")
    made = digests(*making)
    assert digests(*making, "--jobs", 4) == made == digests(*making, "--dask", cluster)


def test_an_error_in_a_worker_is_told_as_in_this_process(
    model: ModelVersion, tmp_path: Path, cluster: str
) -> None:
    referenced(model)
    file = as_csv(tmp_path / "a.csv", {"load": [1.0, 2.0], "site": ["a", "b"]})
    other = as_csv(tmp_path / "b.csv", {"load": ["fast"], "site": ["a"]})
    for more in ((), ("--jobs", 2), ("--dask", cluster)):
        with pytest.raises(CommandError, match=r"b\.csv: load does not hold numbers") as refused:
            run(file, other, "--reference", model.pk, "--dry-run", *more)
        assert refused.value.returncode == 1


def test_no_cluster_at_the_address_is_exit_code_3(
    model: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    referenced(model)
    monkeypatch.setattr(profiles_workers, "CLUSTER_SECONDS", 1)
    file = as_csv(tmp_path / "a.csv", data(10))
    with pytest.raises(CommandError, match="No cluster answers") as refused:
        run(file, "--reference", model.pk, "--dry-run", "--dask", "tcp://127.0.0.1:1")
    assert refused.value.returncode == 3


@pytest.mark.usefixtures("_small_pieces")
def test_make_reference_stores_cells_that_windows_are_counted_in(
    model: ModelVersion, tmp_path: Path
) -> None:
    columns = data(4_000)
    file = as_csv(tmp_path / "a.csv", columns)

    making = (file, "--reference", model.pk, "--make-reference", "--role", "load=prediction")
    printed = run(*making, "--categorical", "count", *DAY)

    assert printed.count("created") == 3
    held = {one.name: one for one in FeatureReference.objects.all()}
    assert (held["load"].role, held["count"].kind) == ("prediction", "categorical")
    assert (held["load"].n, held["load"].window_end) == (3_920, parse_datetime(DAY[3]))
    reference = Reference.from_bytes(bytes(held["load"].profile))
    exact = reference_of(columns["load"])
    assert reference.profile.total.exact == pytest.approx(exact.profile.total.exact)
    assert np.diff(np.cumsum(reference.profile.counts) / reference.n).max() < 4 / 2_048
    assert "created" in run(file, "--reference", model.pk, *DAY)
    assert WindowProfile.objects.get(feature="load").n == 3_920


def test_parts_of_a_window_are_added_once(model: ModelVersion, tmp_path: Path) -> None:
    referenced(model)
    file = as_csv(tmp_path / "a.csv", data(50))
    for part, status in (("a", "created"), ("b", "merged"), ("b", "unchanged")):
        printed = run(file, "--reference", model.pk, *DAY, "--part", part)
        assert printed.count(status) == 3
    assert set(WindowProfile.objects.values_list("n", "missing")) == {(98, 2), (100, 0)}


def test_columns_choose_and_columns_without_reference_are_left_out(
    model: ModelVersion, tmp_path: Path
) -> None:
    referenced(model)
    file = as_csv(tmp_path / "a.csv", data(50) | {"speed": np.arange(50.0)})
    assert digests(file, "--reference", model.pk).keys() == {"load", "count", "site"}
    assert digests(file, "--reference", model.pk, "--columns", "load").keys() == {"load"}
    with pytest.raises(CommandError, match="speed has no reference"):
        run(file, "--reference", model.pk, "--columns", "speed", "--dry-run")
    with pytest.raises(CommandError, match="no column pace"):
        run(file, "--reference", model.pk, "--columns", "pace", "--dry-run")


@pytest.mark.parametrize("verb", [DAY, ("--make-reference",)])
def test_a_file_that_lacks_a_column_of_another_is_refused_unless_columns_are_named(
    model: ModelVersion, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    referenced(model)
    whole, short = data(50), data(50)
    del short["load"]
    files = as_csv(tmp_path / "a.csv", whole), as_csv(tmp_path / "b.csv", short)

    with pytest.raises(CommandError, match=r"b\.csv has no column load") as refused:
        run(*files, "--reference", model.pk, *verb)

    assert refused.value.returncode == 1
    assert not WindowProfile.objects.exists()
    named = digests(*files, "--reference", model.pk, *verb, "--columns", "count,site")
    assert named.keys() == {"count", "site"}
    if verb == DAY:  # what has no reference is no matter
        extra = as_csv(tmp_path / "c.csv", whole | {"speed": np.arange(50.0)})
        assert digests(files[0], extra, "--reference", model.pk).keys() == whole.keys()


def test_dry_run_records_nothing_and_table_is_printed(model: ModelVersion, tmp_path: Path) -> None:
    referenced(model)
    printed = run(as_csv(tmp_path / "a.csv", data(50)), "--reference", model.pk, "--dry-run")
    assert printed.splitlines()[0].split()[:4] == ["feature", "role", "kind", "n"]
    assert printed.count("dry run") == 3
    assert not WindowProfile.objects.exists()


@pytest.mark.parametrize(
    ("args", "says", "code"),
    [
        (("--window-start", "2026-03-01T00:00:00Z"), "--window-end", 2),
        ((), "--window-start", 2),
        ((*DAY, "--jobs", "0"), "--jobs", 2),
        ((*DAY, "--role", "load=target"), "--make-reference", 2),
        ((*DAY, "--make-reference", "--part", "a"), "--part", 2),
        ((DAY[0], DAY[3], DAY[2], DAY[1]), "after --window-start", 2),
        (DAY, "no reference yet", 1),
    ],
)
def test_wrong_arguments_say_so_with_their_exit_code(
    model: ModelVersion, tmp_path: Path, args: tuple[str, ...], says: str, code: int
) -> None:
    file = as_csv(tmp_path / "a.csv", data(5))
    with pytest.raises(CommandError, match=says) as refused:
        run(file, "--reference", model.pk, *args)
    assert refused.value.returncode == code


@pytest.mark.parametrize("args", [("--role", "load"), ("--role", "load=king"), ("--format", "xml")])
def test_arguments_of_a_wrong_form_are_refused(model: ModelVersion, args: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        run("a.csv", "--reference", model.pk, "--make-reference", *args)


def test_unknown_model_and_unreadable_files_are_refused(
    model: ModelVersion, tmp_path: Path
) -> None:
    referenced(model)
    broken = tmp_path / "b.parquet"
    broken.write_bytes(b"PAR1")
    (tmp_path / "empty.csv").write_bytes(b"")
    for file, says in (
        ("gone.csv", "cannot be read"),
        (broken, "cannot be read"),
        (tmp_path / "a.xlsx", "neither"),
        (tmp_path / "empty.csv", "names of the columns"),
    ):
        with pytest.raises(CommandError, match=says):
            run(file, "--reference", model.pk, "--dry-run")
    with pytest.raises(CommandError, match="Model not found"):
        run("a.csv", "--reference", "00000000-0000-0000-0000-000000000000", *DAY)


def test_without_pyarrow_parquet_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles_files.profiles_arrow, "IS_INSTALLED", False)
    with pytest.raises(DataError, match=r"pip install .pyarrow"):
        profiles_files.pieces_of(Path("a.parquet"))


def test_cut_csv_holds_every_record_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records with quotes, line ends and blank lines, cut anywhere, are read as csv reads them."""
    monkeypatch.setattr(profiles_csv, "BLOCK", 37)
    rng = np.random.default_rng(3)
    for trial in range(60):
        cells = ["".join(rng.choice(list('ab"\n,1 '), rng.integers(6))) for _ in range(60)]
        file = tmp_path / f"{trial}.csv"
        with file.open("w", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\r\n" if trial % 2 else "\n")
            writer.writerows(
                [["x", "y"], *([a, b] for a, b in zip(cells[::2], cells[1::2], strict=True))]
            )
        expected = cells[::2], cells[1::2]
        with file.open("rb") as stream:
            found, start = profiles_csv.header(stream)
            size = int(rng.integers(1, 90))
            cut = list(profiles_csv.ranges(stream, start, file.stat().st_size, size))
            read = [profiles_csv.read(stream, a, b, names=found, wanted=found) for a, b in cut]
        for name, column in zip(found, expected, strict=True):
            assert [v for piece in read for v in piece[name].values] == list(column)


def test_quote_that_is_never_closed_is_an_error_not_a_full_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles_csv, "LONGEST_LINE", 5_000)
    monkeypatch.setattr(profiles_csv, "BLOCK", 1_000)
    monkeypatch.setattr(profiles_files, "PIECE_BYTES", 1_000)
    file = tmp_path / "a.csv"
    file.write_text('x\n"' + "1\n" * 10_000)
    with pytest.raises(DataError, match="never closed"):
        profiles_files.pieces_of(file)


MEASURED = """
import sys
from pathlib import Path
from modelperf.services.profiles_workers import Workers, columns_of, cut, reference_files
pieces = cut([Path(sys.argv[1])])
references = reference_files(pieces, columns_of(pieces), workers=Workers())
assert "django" not in sys.modules, "workers must need no Django"
# Of this program alone: the largest size that rusage tells begins with that of pytest.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(references["f0"].n, int(status["VmHWM"].split()[0]) // 1024)
"""


def test_millions_of_rows_need_bounded_memory_and_no_django(tmp_path: Path) -> None:
    file = tmp_path / "large.parquet"
    rng = np.random.default_rng(0)
    columns = {f"f{i}": rng.normal(size=250_000) for i in range(3)}
    table = pa.table(columns)
    with pq.ParquetWriter(file, table.schema) as writer:
        for _ in range(12):
            writer.write_table(table)

    done = subprocess.run(
        [sys.executable, "-c", MEASURED, file],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    n, megabytes = map(int, done.stdout.split())
    assert n == 3_000_000
    assert megabytes < 512
