"""Models that are built from the registry of a data module."""

from __future__ import annotations

import inspect
from typing import Any

import scvi


def registry_argument(model_class: type, adata: Any, registry: dict[str, Any] | None) -> dict[str, Any]:
    """Return the argument for the constructor of scvi-tools' model, if there is a registry and no data.

    scvi-tools passes both when it loads a model; the registry of the data is then the one that counts.

    Parameters
    ----------
    model_class
        A class of ours; the model of scvi-tools is among those that it inherits from.
    adata, registry
        What was given.

    Raises
    ------
    ValueError
        If the model of the installed scvi-tools takes no registry.
    """
    if registry is None or adata is not None:
        return {}
    stock = next(each for each in model_class.__mro__ if each.__module__.startswith("scvi.model."))
    if "registry" not in inspect.signature(stock).parameters:
        raise ValueError(
            f"`registry` was given, but {stock.__name__} of scvi-tools {scvi.__version__} needs `adata`: "
            "install scvi-tools 1.5 or later."
        )
    return {"registry": registry}
