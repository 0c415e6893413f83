"""Data modules: counts on disk that are streamed into a model."""

from vmmscvi.dataloaders._streamed_counts import StreamedCounts

__all__ = ["StreamedCounts"]
