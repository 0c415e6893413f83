"""The genes of new data: the same as the model's, and in the same order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scvi import REGISTRY_KEYS

logger = logging.getLogger(__name__)


def in_order_of(adata: AnnData, known: Sequence[Iterable[Any]], class_name: str) -> AnnData:
    """Put the genes of new data in the order of the model's.

    Parameters
    ----------
    adata
        New data; not changed.
    known
        Names of the model's genes, in its order; several such lists if they have been renamed.
    class_name
        The model's class, for messages.

    Returns
    -------
    ``adata`` itself if its genes are in order, else a copy whose genes are.

    Raises
    ------
    ValueError
        If the genes are others.
    """
    found = as_names(adata.var_names)
    expected = [as_names(names) for names in known]
    if not expected or any(found.equals(names) for names in expected):
        return adata
    for names in expected:
        if len(found) == len(names) and found.is_unique and names.is_unique and names.isin(found).all():
            logger.warning(
                f"`adata` has the model's {len(names)} genes in another order: a copy with the genes in the "
                f"model's order is used."
            )
            return _reordered(adata, found.get_indexer(names))
    raise ValueError(_describe_difference(found, expected[0], class_name))


def require_same_genes(found: Iterable[Any], known: Sequence[Iterable[Any]], what: str) -> None:
    """Check the genes of data that cannot be reordered.

    Parameters
    ----------
    found
        Names of their genes.
    known
        As in :func:`in_order_of`.
    what
        The argument that they were passed as, for the message.

    Raises
    ------
    ValueError
        If the genes are others or in another order.
    """
    names = as_names(found)
    expected = [as_names(each) for each in known]
    if not expected or any(names.equals(each) for each in expected):
        return
    if set(names) == set(expected[0]):
        raise ValueError(
            f"`{what}` has the model's {len(expected[0])} genes in another order: write the file with the "
            "genes in the model's order."
        )
    n_missing = int((~expected[0].isin(names)).sum())
    raise ValueError(
        f"`{what}` has {len(names)} genes, but {n_missing} of the model's {len(expected[0])} genes are "
        f"missing and {int((~names.isin(expected[0])).sum())} are unknown to it."
    )


def registered_genes(registry: Mapping[str, Any]) -> list[np.ndarray]:
    """Names of the genes that were registered, as a list of one; empty if the registry does not tell."""
    field = registry.get("field_registries", {}).get(REGISTRY_KEYS.X_KEY, {})
    names = field.get("state_registry", {}).get("column_names")
    return [] if names is None else [np.asarray(names)]


def as_names(names: Iterable[Any]) -> pd.Index:
    """Names of genes as strings."""
    return pd.Index(np.asarray(list(names), dtype=object).astype(str), dtype=object)


def _reordered(adata: AnnData, order: np.ndarray) -> AnnData:
    ordered = adata[:, order]
    # a backed view cannot be copied without a new file
    return ordered.to_memory() if adata.isbacked else ordered.copy()


def _describe_difference(found: pd.Index, expected: pd.Index, class_name: str) -> str:
    missing = expected[~expected.isin(found)]
    n_unknown = int((~found.isin(expected)).sum())
    message = (
        f"`adata` has other genes than the model: {len(missing)} of the model's {len(expected)} genes are "
        f"missing{_examples(missing)}, {n_unknown} of the {len(found)} genes of `adata` are unknown to it. "
    )
    if len(missing) == len(expected):
        message += (
            f"Are the names of another kind? Set `adata.var_names` to names such as {expected[0]!r} first. "
        )
    elif not found.is_unique:
        message += "Some names occur more than once: call `adata.var_names_make_unique()` first. "
    return message + (
        f"`{class_name}.prepare_query_anndata(adata, model)` puts the model's genes in order, drops others, "
        "and fills in missing ones with zeros."
    )


def _examples(names: pd.Index) -> str:
    return f" (for example {list(names[:3])})" if len(names) else ""
