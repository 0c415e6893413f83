"""Unknown keyword arguments, with a suggestion of the intended one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any

MEANT: dict[str, str] = {
    "batch": "`batch_key`, the name of a column of `adata.obs`",
    "batches": "`batch_key`, the name of a column of `adata.obs`",
    "label": "`labels_key`, the name of a column of `adata.obs`",
    "labels": "`labels_key`, the name of a column of `adata.obs`",
    "label_key": "`labels_key`",
    "covariates": "`categorical_covariate_keys` and `continuous_covariate_keys`, lists of columns",
    "categorical_covariates": "`categorical_covariate_keys`",
    "continuous_covariates": "`continuous_covariate_keys`",
    "size_factors": "`size_factor_key`",
    "counts": "`layer`, the name of the layer of raw counts",
    "n_clusters": (
        "`n_components`, the largest number of clusters, of the model; or "
        "`model.get_cluster_tree().cut(n_clusters=...)` after training"
    ),
    "resolution": (
        "`n_effective`, the granularity, of `train`; or `model.get_cluster_tree().cut(...)` after training"
    ),
    "latent_dim": "`n_latent`",
    "n_epochs": "`max_epochs` of `train`",
    "epochs": "`max_epochs` of `train`",
    "likelihood": "`gene_likelihood`",
}
"""Names used in other tools, and the corresponding arguments here."""


def keyword_names(*functions: Callable[..., Any]) -> set[str]:
    """Return the names of the keyword arguments of functions, without ``*args`` and ``**kwargs``."""
    gathering = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {
        name
        for function in functions
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind not in gathering and name not in ("self", "cls")
    }


def known_keywords(method: str, *classes: type) -> set[str]:
    """Return the names of the keyword arguments of a method, including base classes.

    Parameters
    ----------
    method
        Name of the method.
    *classes
        Classes that pass unknown arguments to their base classes.

    Returns
    -------
    set of str
        The names.
    """
    ways = [vars(base)[method] for cls in classes for base in cls.__mro__ if method in vars(base)]
    return keyword_names(*(getattr(way, "__func__", way) for way in ways if way is not object.__init__))


def check_keywords(kwargs: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Check that keyword arguments exist.

    Parameters
    ----------
    kwargs
        The arguments.
    known
        Names of existing arguments.
    where
        Name of the function, for the message.

    Raises
    ------
    TypeError
        If an argument does not exist; the message suggests the intended one.
    """
    for name in kwargs:
        if name in known:
            continue
        meant = MEANT.get(name)
        if meant is None:
            similar = get_close_matches(name, known, n=1, cutoff=0.7)
            meant = f"`{similar[0]}`" if similar else None
        advice = f"Did you mean {meant}?" if meant else f"Its arguments are {sorted(known)}."
        raise TypeError(f"`{where}` has no argument `{name}`. {advice}")
