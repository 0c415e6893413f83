"""Models built from the registry of a data module."""

from __future__ import annotations

import inspect
from typing import Any

import scvi


def registry_argument(model_class: type, adata: Any, registry: dict[str, Any] | None) -> dict[str, Any]:
    """Return the argument ``registry`` for the constructor of scvi-tools' model, if there are no data.

    scvi-tools passes both when it loads a model; the registry of the data then takes precedence.

    Parameters
    ----------
    model_class
        A class of this package that inherits from a model of scvi-tools.
    adata, registry
        Arguments of the constructor.

    Returns
    -------
    dict
        The argument; empty if there are data or no registry.

    Raises
    ------
    ValueError
        If the installed version of the model does not support a registry.
    """
    if registry is None or adata is not None:
        return {}
    stock = next(each for each in model_class.__mro__ if each.__module__.startswith("scvi.model."))
    if "registry" not in inspect.signature(stock).parameters:
        raise ValueError(
            f"`registry` is not supported by {stock.__name__} of scvi-tools {scvi.__version__}: pass "
            "`adata`, or install scvi-tools 1.5 or later."
        )
    return {"registry": registry}
