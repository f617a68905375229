"""Work on the pieces of files: in this process, in several, or on a Dask cluster.

Counts add up exactly, so whoever counts what, and in which order it comes back, is all the same.
Nothing here needs Django.
"""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from modelperf.services.profiles_columns import DataError
from modelperf.services.profiles_files import (
    Piece,
    kinds_of,
    pieces_of,
    profile_piece,
    sketch_piece,
)
from modelperf.stats.profiles import Profile, Reference, merge
from modelperf.stats.sketches import Sketch, merge_sketches

HOW_TO_INSTALL: Final = (
    "A cluster needs distributed, which is not installed: .venv/bin/pip install"
    " 'distributed>=2025.1'. Processes (--jobs) always work."
)
CLUSTER_SECONDS: Final = 10
Made = TypeVar("Made")
Given = TypeVar("Given")
Work = Callable[[Piece, Given], Made]
Progress = Callable[[Piece], None]


class WorkersError(Exception):
    """Workers were lost, or a cluster does not answer; the files may be in order."""


@dataclass(frozen=True)
class Workers:
    """Who does the work: so many processes, or the cluster at an address."""

    jobs: int = 1
    cluster: str | None = None

    def run(
        self, work: Work[Given, Made], pieces: Sequence[Piece], given: Given
    ) -> Iterator[tuple[Piece, Made]]:
        """Work on each piece and yield what becomes of it, in any order."""
        if self.cluster is not None:
            return _on_cluster(self.cluster, work, pieces, given)
        if self.jobs == 1 or len(pieces) == 1:
            return ((piece, work(piece, given)) for piece in pieces)
        return _in_processes(min(self.jobs, len(pieces)), work, pieces, given)


def _in_processes(
    jobs: int, work: Work[Given, Made], pieces: Sequence[Piece], given: Given
) -> Iterator[tuple[Piece, Made]]:
    # Started afresh: a copy of this process would share its database connection.
    context = multiprocessing.get_context("spawn")
    waiting, under_way = iter(pieces), dict[Future[Made], Piece]()
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        try:
            while True:
                while len(under_way) < 2 * jobs and (piece := next(waiting, None)) is not None:
                    under_way[pool.submit(work, piece, given)] = piece
                if not under_way:
                    return
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    yield under_way.pop(future), future.result()
        except BrokenProcessPool:
            raise WorkersError("A process was ended from outside; is there memory left?") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _on_cluster(
    address: str, work: Work[Given, Made], pieces: Sequence[Piece], given: Given
) -> Iterator[tuple[Piece, Made]]:
    try:  # only here: it takes a second, and is an extra
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        raise WorkersError(HOW_TO_INSTALL) from None
    try:
        client = distributed.Client(address, timeout=CLUSTER_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise WorkersError(f"No cluster answers at {address}: {error}") from None
    with client:
        shared = client.scatter([given], broadcast=True)[0]
        futures = {client.submit(work, piece, shared, pure=False): piece for piece in pieces}
        finished = distributed.as_completed(list(futures), loop=client.loop)
        for future in finished:
            piece = futures.pop(future)
            yield piece, _result(future)


def _result(future: Any) -> Any:
    try:
        return future.result()
    except DataError:
        raise
    except Exception as error:  # what a worker may raise is not ours to list
        raise WorkersError(f"A worker of the cluster failed: {error}") from error


def profile_files(
    pieces: Sequence[Piece],
    references: Mapping[str, bytes],
    *,
    workers: Workers,
    progress: Progress = lambda _: None,
) -> dict[str, Profile]:
    """Count the columns of files in the cells of packed references.

    Raises
    ------
    DataError
        A file or a column cannot be profiled.
    WorkersError
        Workers were lost, or a cluster does not answer.
    """
    found: dict[str, Profile] = {}
    for piece, packed in workers.run(profile_piece, pieces, dict(references)):
        for name, one in packed.items():
            profile = Profile.from_bytes(one)
            found[name] = merge([found[name], profile]) if name in found else profile
        progress(piece)
    return found


def reference_files(
    pieces: Sequence[Piece],
    kinds: Mapping[str, bool],
    *,
    workers: Workers,
    progress: Progress = lambda _: None,
) -> dict[str, Reference]:
    """Make references of files too large for memory: cells in one pass, counts in a second.

    `kinds` says of each column whether it holds categories. Errors as in `profile_files`.
    """
    sketches: dict[str, Sketch] = {}
    for piece, each in workers.run(sketch_piece, pieces, dict(kinds)):
        for name, one in each.items():
            sketches[name] = merge_sketches([sketches[name], one]) if name in sketches else one
        progress(piece)
    outlines = {name: one.outline() for name, one in sketches.items()}
    packed = {name: one.to_bytes() for name, one in outlines.items()}
    counted = profile_files(pieces, packed, workers=workers, progress=progress)
    return {name: outlines[name].filled(profile) for name, profile in counted.items()}


def cut(paths: Sequence[Path]) -> list[Piece]:
    """Cut files into pieces."""
    return [piece for path in paths for piece in pieces_of(path)]


def columns_of(pieces: Sequence[Piece]) -> dict[str, bool]:
    """Return the columns that all files have, and whether each holds categories by itself."""
    names = [name for name in pieces[0].names if all(name in piece.names for piece in pieces)]
    return kinds_of(pieces[0], names)
