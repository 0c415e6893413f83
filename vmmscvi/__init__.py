"""vmmscvi: integrate and cluster single-cell counts with scVI and the VampPrior Mixture Model."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmmscvi import data, dataloaders, integration, model, module, plotting, priors, train, vae
    from vmmscvi import plotting as pl
    from vmmscvi.model import (
        MULTIVI_VMM,
        PEAKVI_VMM,
        POISSONVI_VMM,
        SCVI_VMM,
        TOTALVI_VMM,
        LinearSCVI_VMM,
        with_vmm,
    )

try:
    __version__ = version("vmmscvi")
except PackageNotFoundError:  # source tree without installation
    __version__ = "0.0.0"

__all__ = [
    "MULTIVI_VMM",
    "PEAKVI_VMM",
    "POISSONVI_VMM",
    "SCVI_VMM",
    "TOTALVI_VMM",
    "LinearSCVI_VMM",
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
    "with_vmm",
]

# Imported on first use: scvi-tools takes seconds to import, and `vmmscvi --help` and the simulator do not
# need it.
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
    if name in __all__ and name not in _MODULES:
        value: Any = getattr(import_module("vmmscvi.model"), name)
    elif name in _MODULES:
        value = import_module(_MODULES[name])
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
