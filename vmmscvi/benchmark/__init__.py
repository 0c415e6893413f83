"""The paper's single-cell experiments, on any data: datasets x methods x seeds, scores, tables, figures.

Everything is imported on first use: a benchmark needs libraries that other work does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmmscvi.benchmark._config import load_config
    from vmmscvi.benchmark._datasets import load_dataset
    from vmmscvi.benchmark._datasets_download import DownloadError
    from vmmscvi.benchmark._runner import run
    from vmmscvi.benchmark._scheduler import BenchmarkRun, collect
    from vmmscvi.benchmark._specs import BenchmarkConfig, DatasetSpec, MethodSpec
    from vmmscvi.benchmark._tuning import tune

_HOMES = {
    "BenchmarkConfig": "_specs",
    "BenchmarkRun": "_scheduler",
    "DatasetSpec": "_specs",
    "DownloadError": "_datasets_download",
    "MethodSpec": "_specs",
    "collect": "_scheduler",
    "load_config": "_config",
    "load_dataset": "_datasets",
    "report": "_report",
    "run": "_runner",
    "tune": "_tuning",
}

__all__ = [
    "BenchmarkConfig",
    "BenchmarkRun",
    "DatasetSpec",
    "DownloadError",
    "MethodSpec",
    "collect",
    "load_config",
    "load_dataset",
    "report",
    "run",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: Any = getattr(import_module(f"vmmscvi.benchmark.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
