"""The paper's image experiments: priors in a plain VAE, and VaDE, on digits, MNIST and Fashion-MNIST.

Everything is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmmscvi.benchmark.images._data import ImageData, load_images
    from vmmscvi.benchmark.images._report import write_report
    from vmmscvi.benchmark.images._runner import RunSummary, run_cells
    from vmmscvi.benchmark.images._settings import CellSettings

_HOMES = {
    "CellSettings": "_settings",
    "ImageData": "_data",
    "RunSummary": "_runner",
    "load_images": "_data",
    "run_cells": "_runner",
    "write_report": "_report",
}

__all__ = ["CellSettings", "ImageData", "RunSummary", "load_images", "run_cells", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: Any = getattr(import_module(f"vmmscvi.benchmark.images.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
