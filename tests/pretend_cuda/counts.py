"""What ran on the pretend device, and which line of the project caused it"""

import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

PROJECT = "/tsae_nb/"  # a file whose path holds this is the project's


def _innermost(frame: FrameType | None) -> str | None:
    """`file.py:line` of the innermost frame in the project."""
    while frame is not None:
        _, found, name = frame.f_code.co_filename.replace("\\", "/").rpartition(PROJECT)
        if found:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def project_line() -> str:
    """The line of the project that runs now; of what autograd runs in its own thread, the line that waits for it."""
    if (here := _innermost(sys._getframe(1))) is not None:
        return here
    main = threading.main_thread().ident
    waiting = _innermost(sys._current_frames().get(main)) if threading.get_ident() != main and main else None
    return f"{waiting} (backward)" if waiting else "elsewhere"


@dataclass
class Counts:
    """Counters of (what, line of the project)."""

    kernels: Counter[tuple[str, str]] = field(default_factory=Counter)  # launches
    syncs: Counter[tuple[str, str]] = field(default_factory=Counter)  # the processor waits for the device
    copies: Counter[tuple[str, str]] = field(default_factory=Counter)  # host to device; they wait too unless pinned
    copied_bytes: int = 0

    def reset(self) -> None:
        """Begin anew."""
        for counter in (self.kernels, self.syncs, self.copies):
            counter.clear()
        self.copied_bytes = 0

    def totals(self) -> dict[str, int]:
        """How many of each."""
        return {"kernels": self.kernels.total(), "syncs": self.syncs.total(), "copies": self.copies.total()}

    def lines(self, counter: str) -> str:
        """One text line for each line of the project in a counter, the most frequent first."""
        found: Counter[tuple[str, str]] = getattr(self, counter)
        return "\n".join(f"{count:6d}  {what:24s} {line}" for (what, line), count in found.most_common())

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        named = {name: {f"{what} {line}": count for (what, line), count in getattr(self, name).items()}
                 for name in ("kernels", "syncs", "copies")}
        return {**named, "totals": self.totals(), "copied_bytes": self.copied_bytes}
