"""Time and memory that a block of code takes."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


@dataclass
class Usage:
    """What a block took; filled when it ends.

    Parameters
    ----------
    seconds
        Wall time.
    cpu_seconds
        CPU time of all threads of this process.
    peak_memory_mb
        Largest resident memory of this process, in megabytes (of 10^6 bytes): what libraries and data take is
        part of it.
    """

    seconds: float = float("nan")
    cpu_seconds: float = float("nan")
    peak_memory_mb: float = float("nan")


@contextmanager
def measured() -> Iterator[Usage]:
    """Measure the block.

    The peak is that of the block on Linux; elsewhere that of the process since its start, which may be
    larger.
    """
    usage = Usage()
    _reset_peak()
    start, cpu_start = time.perf_counter(), time.process_time()
    try:
        yield usage
    finally:
        usage.seconds = time.perf_counter() - start
        usage.cpu_seconds = time.process_time() - cpu_start
        usage.peak_memory_mb = _peak_bytes() / 1e6


def _reset_peak() -> None:
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:  # no Linux, or not allowed in this container
        pass


def _peak_bytes() -> float:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024
    except OSError:
        pass
    peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else peak * 1024
