"""Replaces each public function of stats/ and services/ by `return None` and runs its tests.

`python -m tests.mutants [--jobs 2] [module:function ..]` prints every function whose absence no
test noticed and fails if there is one. The tests nearest to a function are run first; only where
they stay green, all tests of its room and of the rooms above are.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import CodeType, ModuleType
from typing import Any

from config import postgres
from tests.place import PLACE

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"stats": ["tests/stats"], "services": ["tests/services", "tests/api", "tests/models"]}
VARIABLE = "MODELPERF_MUTANT"


def public_functions() -> Iterator[str]:
    """Yield `module:function` for every public function of the two rooms."""
    for room in ROOMS:
        for path in sorted((ROOT / "modelperf" / room).glob("*.py")):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    yield f"modelperf.{room}.{path.stem}:{node.name}"


class Loader(importlib.machinery.SourceFileLoader):
    """Compiles a module in which one function returns None at once."""

    function: str = ""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source, never a cached and whole one."""
        tree = ast.parse(Path(self.path).read_text())
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == self.function:
                node.body = [ast.Return(value=ast.Constant(value=None))]
        return compile(ast.fix_missing_locations(tree), self.path, "exec")


class Finder(importlib.abc.MetaPathFinder):
    """Hands the one module to the loader above."""

    def __init__(self, mutant: str) -> None:
        """Take `module:function`."""
        self.module, self.function = mutant.split(":")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> Any:
        """Find the module as usual, with another loader."""
        if fullname != self.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.origin is not None:
            spec.loader = Loader(fullname, spec.origin)
            spec.loader.function = self.function
        return spec


if VARIABLE in os.environ:  # loaded as a pytest plugin, before Django
    sys.meta_path.insert(0, Finder(os.environ[VARIABLE]))


def nearest_tests(mutant: str) -> list[str]:
    """Return the test files named after the function's module, or after its first words."""
    _, room, module = mutant.partition(":")[0].split(".")
    folder = ROOT / "tests" / room
    parts = module.split("_")
    for length in range(len(parts), 0, -1):
        found = sorted(folder.glob(f"test_{'_'.join(parts[:length])}*.py"))
        if found:
            return [str(path.relative_to(ROOT)) for path in found]
    return []


def is_noticed(mutant: str, data_dir: str) -> bool:
    """Whether some test fails without the function."""
    room = mutant.split(".")[1]
    rounds = [nearest_tests(mutant), ROOMS[room]]
    return any(tests and _fails(mutant, tests, data_dir) for tests in rounds)


def _fails(mutant: str, tests: list[str], data_dir: str) -> bool:
    command = [sys.executable, "-m", "pytest", "-p", "tests.mutants", "-x", "-q", "--no-header"]
    command += ["--reuse-db", *tests]
    environment = os.environ | {VARIABLE: mutant, "MODELPERF_TEST_DATA_DIR": data_dir}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    return run.returncode != 0


def _try_all(mutants: list[str], folders: list[Path]) -> list[bool]:
    """Try the functions, as many at once as there are folders, each with a server of its own."""
    free: SimpleQueue[Path] = SimpleQueue()
    for folder in folders:
        folder.mkdir()
        postgres.ensure(folder)
        free.put(folder)

    def try_one(mutant: str) -> bool:
        folder = free.get()
        try:
            return is_noticed(mutant, str(folder))
        finally:
            free.put(folder)

    try:
        with ThreadPoolExecutor(len(folders)) as pool:
            return list(pool.map(try_one, mutants))
    finally:
        for folder in folders:
            postgres.release(folder)


def main() -> None:
    """Try the functions named, or all."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("mutants", nargs="*")
    given = arguments.parse_args()
    mutants = given.mutants or list(public_functions())
    with tempfile.TemporaryDirectory(prefix="mutants-", dir=PLACE) as folder:
        noticed = _try_all(mutants, [Path(folder, str(job)) for job in range(given.jobs)])
    missed = [mutant for mutant, was in zip(mutants, noticed, strict=True) if not was]
    for mutant in missed:
        print(f"no test notices: {mutant}")
    print(f"{len(mutants) - len(missed)} of {len(mutants)} functions are noticed by a test.")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
