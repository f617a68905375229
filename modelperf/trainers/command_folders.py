"""The folders of a command: one to work in, which goes, and one for artefacts, which may stay."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from django.conf import settings

_LEAST: Final = 512  # what an entry counts at least: a disc also runs out of empty files


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """The folders of one attempt."""

    work: Path
    artefacts: Path

    @property
    def all(self) -> tuple[Path, Path]:
        """Both."""
        return self.work, self.artefacts


@contextmanager
def opened(*, run_id: uuid.UUID, attempt: int) -> Iterator[Folders]:
    """Make the folders of an attempt; the artefacts stay where it ends well and there are any."""
    artefacts = _root("artefacts") / f"{run_id}-{attempt}"
    discard_artefacts(run_id=run_id, up_to=attempt)
    with _work(f"{run_id}-{attempt}-") as work:
        artefacts.mkdir()
        try:
            yield Folders(work=work, artefacts=artefacts)
        except BaseException:
            _remove(artefacts)
            raise
        with suppress(OSError):
            artefacts.rmdir()  # only where it is empty


def discard_artefacts(*, run_id: uuid.UUID, up_to: int | None = None) -> None:
    """Remove the artefacts of a run's attempts, or of those up to a number.

    A later attempt may be at work already while an earlier one has not yet seen that it is no
    longer wanted. So each has a folder of its own, and an earlier one removes no later one's.
    """
    for folder in _root("artefacts").glob(f"{run_id}-*"):
        number = folder.name.removeprefix(f"{run_id}-")
        if number.isdecimal() and (up_to is None or int(number) <= up_to):
            _remove(folder)


def written(folders: tuple[Path, ...], *, most: int) -> int:
    """Return how much folders hold; counting ends where it is more than `most`."""
    size = 0
    for taken in _sizes(list(folders)):
        size += taken
        if size > most:
            break
    return size


def _sizes(folders: list[Path]) -> Iterator[int]:
    seen: set[int] = set()
    waiting = [os.fspath(folder) for folder in folders]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:  # it may just be removed
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(entry.path)
                    if status.st_nlink > 1 and status.st_ino in seen:
                        continue
                    seen.add(status.st_ino)
                    yield max(status.st_size, status.st_blocks * 512, _LEAST)


@contextmanager
def _work(prefix: str) -> Iterator[Path]:
    """Make a folder to work in, locked as long as this process lives, and remove it."""
    root = _root("work")
    with _locked(root):
        _remove_abandoned(root)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def _remove_abandoned(root: Path) -> None:
    """Remove the folders of processes that died: nobody holds their locks."""
    for folder in root.iterdir():
        with suppress(OSError), _locked(folder, wait=False):
            _remove(folder)


@contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _root(name: str) -> Path:
    folder: Path = settings.TRAINING_DIR / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _remove(folder: Path) -> None:
    """Remove a folder, also where a command took the right to do so away."""
    for path, names, _ in os.walk(folder):
        for inner in (Path(path) / name for name in names):
            if not inner.is_symlink():
                with suppress(OSError):
                    inner.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
