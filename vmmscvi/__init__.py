"""vmmscvi: integrate and cluster single-cell counts with scVI and the VampPrior Mixture Model."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmmscvi import data, dataloaders, integration, model, module, plotting, priors, train, vae
    from vmmscvi import plotting as pl
    from vmmscvi.model import SCVI_VMM

try:
    __version__ = version("vmmscvi")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0.0.0"

__all__ = [
    "SCVI_VMM",
    "__version__",
    "data",
    "dataloaders",
    "integration",
    "model",
    "module",
    "pl",
    "plotting",
    "priors",
    "train",
    "vae",
]

# Imported on first use: scvi-tools takes seconds, which `vmmscvi --help` or the simulator alone need not
# wait for.
_MODULES = {
    name: f"vmmscvi.{name}"
    for name in (
        "data",
        "dataloaders",
        "integration",
        "model",
        "module",
        "plotting",
        "priors",
        "train",
        "vae",
    )
}
_MODULES["pl"] = "vmmscvi.plotting"


def __getattr__(name: str) -> Any:
    if name == "SCVI_VMM":
        value: Any = import_module("vmmscvi.model").SCVI_VMM
    elif name in _MODULES:
        value = import_module(_MODULES[name])
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
