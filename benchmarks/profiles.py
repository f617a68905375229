"""How fast columns are profiled: against np.sort, against evidently, and in 512 MB.

`python -m benchmarks.profiles [--rows N] [--parquet-rows N] [--evidently]`. Ratios are of medians
of neighbours in one run; one thread, one process.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.distributions import compare
from modelperf.stats.profiles import Reference, profile_of, reference_of

COLUMNS = 10
REPEATS = 5
LIMIT_BYTES = 20_000
LIMIT_MEGABYTES = 512
ELSEWHERE = Path(tempfile.gettempdir(), "modelperf-bench-evidently")

EVIDENTLY = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np, pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
reference, current = (pd.DataFrame(np.load(path)) for path in sys.argv[1:3])
reference.columns = current.columns = [f"x{number}" for number in range(reference.shape[1])]
times = []
for _ in range(int(sys.argv[3])):
    start = time.perf_counter()
    Report([DataDriftPreset()]).run(current, reference).dict()
    times.append(time.perf_counter() - start)
print(json.dumps(times))
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return 1 where a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--parquet-rows", type=int, default=20_000_000)
    parser.add_argument("--evidently", action="store_true", help="install it, and compare")
    parser.add_argument("--profile", type=Path, help=argparse.SUPPRESS)  # what is run apart
    given = parser.parse_args(arguments)
    if given.profile:
        profile_apart(given.profile)
        return 0
    met = [against_sort(given.rows)]
    if given.evidently:
        met.append(against_evidently(given.rows))
    met.append(in_little_memory(given.parquet_rows))
    return 0 if all(met) else 1


def say(name: str, measured: float, limit: float, unit: str, *, more: bool = False) -> bool:
    """Print what was measured, its limit and their ratio; tell whether it is kept."""
    kept = measured >= limit if more else measured <= limit
    sign = ">=" if more else "<="
    print(f"{' ' if kept else '!'} {name:<58} {measured:9.2f} {sign} {limit:.2f} {unit}", end="")
    print(f"   ({measured / limit:.2f} of the limit)", flush=True)
    return kept


def columns(rows: int, seed: int) -> list[NDArray[np.float64]]:
    """Return ten columns as they come: normal, offset, skewed, heavy-tailed, with ties, missing."""
    chance = np.random.default_rng(seed)
    gaps = np.where(chance.random(rows) < 0.1, np.nan, chance.standard_normal(rows))
    humps = np.where(chance.random(rows) < 0.5, 0.0, 100.0) + chance.standard_normal(rows)
    return [
        chance.standard_normal(rows),
        1013 + 10 * chance.standard_normal(rows),
        chance.lognormal(0, 2, rows),
        chance.standard_t(2, rows),
        chance.random(rows),
        chance.poisson(6, rows).astype(np.float64),
        np.round(chance.gamma(2, 50, rows), 1),
        np.where(chance.random(rows) < 0.6, 0.0, chance.exponential(1, rows)),
        gaps,
        humps,
    ]


def seconds(work: Callable[[], object]) -> float:
    """Return how long it takes."""
    start = perf_counter()
    work()
    return perf_counter() - start


def against_sort(rows: int) -> bool:
    """Profile columns against stored references, and sort the same columns, in turns."""
    references = [reference_of(column).to_bytes() for column in columns(rows, 1)]
    current = columns(rows, 2)

    def profiled() -> None:
        for packed, column in zip(references, current, strict=True):
            profile_of(column, Reference.from_bytes(packed)).to_bytes()

    def ordered() -> None:
        for column in current:
            np.sort(column)

    ours, sort = [], []
    for _ in range(REPEATS):
        ours.append(seconds(profiled))
        sort.append(seconds(ordered))
    sizes = [len(packed) for packed in references]
    for packed, column in zip(references, current, strict=True):
        sizes.append(len(profile_of(column, Reference.from_bytes(packed)).to_bytes()))
    name = f"{rows:,} rows x {COLUMNS} columns, over np.sort of them"
    print(f"  profiled in {median(ours):.3f} s, sorted in {median(sort):.3f} s")
    kept = say(name, median(ours) / median(sort), 1.0, "of its time")
    return say("the largest reference or profile", max(sizes), LIMIT_BYTES, "bytes") and kept


def against_evidently(rows: int) -> bool:
    """Compare columns with a stored reference, and by evidently's preset of data drift."""
    own, current = columns(rows, 1), columns(rows, 2)
    references = [reference_of(column).to_bytes() for column in own]

    def judged() -> None:
        for packed, column in zip(references, current, strict=True):
            reference = Reference.from_bytes(packed)
            compare(reference, [profile_of(column, reference)], n_features=COLUMNS)

    python = ELSEWHERE / "bin" / "python"
    if not python.exists():
        venv.create(ELSEWHERE, with_pip=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "evidently", "pandas<3"],
        check=True,
        timeout=1800,
    )
    with tempfile.TemporaryDirectory(prefix="modelperf-bench-") as folder:
        paths = [Path(folder, name) for name in ("reference.npy", "current.npy")]
        for path, part in zip(paths, (own, current), strict=True):
            np.save(path, np.column_stack(part))
        ran = subprocess.run(
            [python, "-c", EVIDENTLY, *map(str, paths), "3"],
            check=True,
            timeout=1800,
            capture_output=True,
            text=True,
        )
    theirs = median(json.loads(ran.stdout.splitlines()[-1]))
    ours = median(seconds(judged) for _ in range(REPEATS))
    print(f"  judged in {ours:.3f} s, by evidently in {theirs:.2f} s")
    name = f"{rows:,} rows x {COLUMNS} columns: evidently's drift preset over ours"
    return say(name, theirs / ours, 20.0, "times", more=True)


def in_little_memory(rows: int) -> bool:
    """Profile a large Parquet file in a process of its own, and read its peak memory."""
    with tempfile.TemporaryDirectory(prefix="modelperf-bench-") as folder:
        path = Path(folder, "large.parquet")
        write(path, rows)
        print(f"  {path.stat().st_size / 1e6:,.0f} MB of Parquet, 4 columns")
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.profiles", "--profile", path],
            check=True,
            capture_output=True,
            text=True,
        )
    measured = json.loads(ran.stdout.splitlines()[-1])
    for name in ("reference", "profile"):
        each = measured[name] / (rows / 1e6)
        print(f"  {name:<10} {each:.2f} s per million rows and core, {each / 4:.3f} s a column")
    return say(f"{rows:,} rows of Parquet, peak", measured["megabytes"], LIMIT_MEGABYTES, "MB")


def write(path: Path, rows: int, group: int = 500_000) -> None:
    """Write a file of a number, a skewed number with gaps, a count and a category."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chance, writer = np.random.default_rng(3), None
    for start in range(0, rows, group):
        size = min(group, rows - start)
        skewed = chance.lognormal(0, 1, size)
        kinds = pa.array([f"kind {number}" for number in range(40)])
        table = pa.table(
            {
                "number": chance.standard_normal(size),
                "skewed": pa.array(skewed, mask=chance.random(size) < 0.05),
                "count": chance.poisson(5, size),
                "category": pa.DictionaryArray.from_arrays(
                    chance.integers(0, 40, size).astype(np.int8), kinds
                ).cast(pa.string()),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=group)
    if writer:
        writer.close()


def profile_apart(path: Path) -> None:
    """Make references of a file in two passes, profile it, and print processor times and memory."""
    from modelperf.services import profiles_workers as work

    pieces, workers = work.cut([path]), work.Workers()
    start = process_time()
    references = work.reference_files(pieces, work.columns_of(pieces), workers=workers)
    between = process_time()
    packed = {name: reference.to_bytes() for name, reference in references.items()}
    found = work.profile_files(pieces, packed, workers=workers)
    end = process_time()
    assert {profile.rows for profile in found.values()} == {sum(piece_rows(path))}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times = {"reference": between - start, "profile": end - between}
    print(json.dumps({**times, "megabytes": peak}))


def piece_rows(path: Path) -> list[int]:
    """Return the rows of each row group of a Parquet file."""
    import pyarrow.parquet as pq

    found = pq.ParquetFile(path).metadata
    return [found.row_group(number).num_rows for number in range(found.num_row_groups)]


if __name__ == "__main__":
    sys.exit(main())
