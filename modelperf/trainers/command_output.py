"""What a command puts out: its last part is kept, and lines of progress are told."""

from __future__ import annotations

import re
from typing import Final

from modelperf.trainers.base import Watch

KEPT: Final = 64 * 1024
LONGEST_MESSAGE: Final = 200
_LONGEST_LINE: Final = 1024
_MARK: Final = b"progress:"
_LINE: Final = re.compile(rb"(?:\A|(?<=[\r\n]))progress:[ \t]*([^\r\n]*)")
_TOLD: Final = re.compile(r"(?:(\d+(?:\.\d+)?)%?(?:\s+|$))?(.*)")


class Output:
    """Collects what is put out, whatever it is; `size` is how many bytes came."""

    def __init__(self) -> None:
        self.size = 0
        self._kept = bytearray()
        self._line = b""  # the last one, not yet ended
        self._progress: tuple[float | None, str] | None = None

    def add(self, chunk: bytes) -> None:
        """Take more."""
        self.size += len(chunk)
        self._kept += chunk
        del self._kept[:-KEPT]
        text = self._line + chunk
        end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        lines, self._line = text[:end], text[end:][:_LONGEST_LINE]
        if _MARK in lines:
            for line in _LINE.finditer(lines):
                self._read(_readable(line[1]))

    def tell(self, watch: Watch) -> None:
        """Tell the newest progress, once."""
        if self._progress is not None:
            watch.progress(*self._progress)
            self._progress = None

    def text(self) -> str:
        """Return the last part as text; what is none is replaced."""
        left_out = self.size - len(self._kept)
        before = f"({left_out:,} bytes before this are left out)\n" if left_out else ""
        return before + _readable(self._kept)

    def _read(self, told: str) -> None:
        found = _TOLD.match(told)
        if found is None:
            return
        percent = None if found[1] is None else float(found[1])
        if percent is None or percent <= 100:
            self._progress = (percent, found[2].strip()[:LONGEST_MESSAGE])


def _readable(content: bytes | bytearray) -> str:
    """Return text without the NUL characters that PostgreSQL cannot hold."""
    return content.decode(errors="replace").replace("\0", "")
