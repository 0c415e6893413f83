"""Data: a simulator of labelled counts, and counts on disk that are streamed into a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmmscvi.data._presets import simulate_preset
from vmmscvi.data._simulate import simulate_counts

if TYPE_CHECKING:
    from vmmscvi.data._stream import StreamedCounts

__all__ = ["StreamedCounts", "simulate_counts", "simulate_preset"]


def __getattr__(name: str) -> Any:
    if name == "StreamedCounts":  # on first use: it needs scvi-tools, which the simulator need not wait for
        from vmmscvi.data._stream import StreamedCounts

        return StreamedCounts
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
