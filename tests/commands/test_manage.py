"""`manage.py` itself: a setting that is wrong is told in a line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("command", ["check", "migrate", "run_training"])
def test_wrong_setting_is_one_line_and_exit_1(command: str, tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "MODELPERF_DATA_DIR": str(tmp_path),
        "MODELPERF_SECRET_KEY": "x" * 40,
        "MODELPERF_WEB_THREADS": "4",
        "MODELPERF_MAX_BODY_BYTES": "plenty",
    }
    done = subprocess.run(
        [sys.executable, "manage.py", command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("modelperf: ")
    assert "MODELPERF_MAX_BODY_BYTES" in done.stderr
