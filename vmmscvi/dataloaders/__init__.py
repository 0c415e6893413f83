"""Data modules that stream counts from disk."""

from vmmscvi.dataloaders._streamed_counts import StreamedCounts

__all__ = ["StreamedCounts"]
