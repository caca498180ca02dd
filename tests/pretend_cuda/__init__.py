"""A pretend CUDA device, for tests on a machine without a GPU

Tensors say they are on cuda:0 and hold their data on the processor. Each operation is asked whether its tensors are on
one device, as ATen asks on CUDA (rules.py); kernels, waits of the processor for the device and copies to it are counted
with the line of the project that caused them (counts.py). `torch.autocast("cuda")` is really on. torch's own fake
tensors let numbers of the processor pass where CUDA refuses them, and have no values.

    from pretend_cuda import switch_on   # before torch is imported, in a process of its own
    device = switch_on()
    device.counts.reset(); ...; print(device.counts.totals(), device.counts.lines("syncs"))

It changes torch for the whole process and for good, so no process that goes on to test something else may load it. In
any other Python process that a test starts, a command or a Jupyter kernel, an environment variable switches it on
(`environment`). The main thread must be the one that imports torch, and is the one that sees the device. With
TSAE_PRETEND_CUDA_REPORT set to a folder, a process leaves its counts there when it ends.

What it cannot show: a kernel that CUDA lacks, or lacks for a dtype (the processor's kernels run), rounding, memory,
streams, speed. Attention runs as its written-out products; the GRU is the processor's, in float16 under autocast, as
cuDNN's is there.
"""

import atexit
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import guard

if TYPE_CHECKING:
    from .tensor import PretendDevice

VARIABLE, REPORT = "TSAE_PRETEND_CUDA", "TSAE_PRETEND_CUDA_REPORT"
UNCOUNTED = "TSAE_PRETEND_CUDA_UNCOUNTED"
SITE = Path(__file__).parent / "site"
_device: Any = None


def environment(
    report: Path | None = None, base: Mapping[str, str] | None = None, counting: bool = True
) -> dict[str, str]:
    """The environment of a process that shall see the device.

    `report`: the folder where each leaves its counts; `counting` false: nothing is counted, which is faster.
    """
    given = dict(os.environ if base is None else base)
    path = os.pathsep.join(part for part in (str(SITE), given.get("PYTHONPATH")) if part)
    chosen = {REPORT: str(report) if report else "", UNCOUNTED: "" if counting else "1"}
    return {**given, "PYTHONPATH": path, VARIABLE: "1", **{name: value for name, value in chosen.items() if value}}


def load_guard() -> None:
    """The first half of switching on, before torch is imported."""
    assert "torch" not in sys.modules, "torch is imported already: it has asked for a GPU, and there was none"
    guard.load()


def switch_on() -> "PretendDevice":
    """Make this process believe in a CUDA device, in this thread; the device counts what runs on it."""
    global _device
    if _device is None:
        if "torch" not in sys.modules:
            load_guard()
        assert threading.current_thread() is threading.main_thread(), "the main thread must be the one to import torch"
        from . import patches, tensor

        patches.apply()
        _device = tensor.DEVICE
        _device.counting = not os.environ.get(UNCOUNTED)
        _device.__enter__()
        atexit.register(_end)
        if os.environ.get(REPORT):  # a kernel may be killed when its work is done
            threading.Thread(target=_report_again_and_again, daemon=True).start()
    return _device


def _report_again_and_again() -> None:
    while True:
        time.sleep(0.25)
        _report()


def _report() -> None:
    """Leave the counts so far as a file, whole."""
    folder = Path(os.environ[REPORT])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = {"command": sys.argv, **_device.counts.plain()}
    except RuntimeError:  # something was counted meanwhile: the next time
        return
    unfinished = folder / f"{os.getpid()}.unfinished"
    unfinished.write_text(json.dumps(found))
    unfinished.replace(folder / f"{os.getpid()}.json")


def _end() -> None:
    _device.__exit__(None, None, None)
    time.sleep(0.1)  # autograd's thread for the device lets go of its last Python objects, or Python's end aborts it
    if os.environ.get(REPORT):
        _report()
