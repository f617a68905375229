"""Where throw-away folders lie: in memory where there is room, for a cluster has many files."""

import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")
PLACE = (
    _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 2 * 1024**3 else Path("/tmp")
)
