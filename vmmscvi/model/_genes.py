"""The genes of new data, which must be those of the model in the same order."""

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
    """Reorder the genes of new data like those of the model.

    Parameters
    ----------
    adata
        New data; not changed.
    known
        Names of the model's genes in order; several lists if they have been renamed.
    class_name
        The model's class, for messages.

    Returns
    -------
    AnnData
        ``adata`` itself if its genes are in order, else a reordered copy.

    Raises
    ------
    ValueError
        If the genes differ.
    """
    found = as_names(adata.var_names)
    expected = [as_names(names) for names in known]
    if not expected or any(found.equals(names) for names in expected):
        return adata
    for names in expected:
        if len(found) == len(names) and found.is_unique and names.is_unique and names.isin(found).all():
            logger.warning(
                f"`adata` has the model's {len(names)} genes in another order: using a copy with the genes "
                f"in the model's order."
            )
            return _reordered(adata, found.get_indexer(names))
    raise ValueError(_describe_difference(found, expected[0], class_name))


def require_same_genes(found: Iterable[Any], known: Sequence[Iterable[Any]], what: str) -> None:
    """Check the genes of data that cannot be reordered.

    Parameters
    ----------
    found
        Names of the genes.
    known
        As in :func:`in_order_of`.
    what
        Name of the argument, for the message.

    Raises
    ------
    ValueError
        If the genes or their order differ.
    """
    names = as_names(found)
    expected = [as_names(each) for each in known]
    if not expected or any(names.equals(each) for each in expected):
        return
    if set(names) == set(expected[0]):
        raise ValueError(
            f"`{what}` has the model's {len(expected[0])} genes in another order: write the file with genes "
            "in the model's order."
        )
    n_missing = int((~expected[0].isin(names)).sum())
    raise ValueError(
        f"`{what}` has {len(names)} genes, but {n_missing} of the model's {len(expected[0])} genes are "
        f"missing, and the model does not have {int((~names.isin(expected[0])).sum())} of them."
    )


def registered_genes(registry: Mapping[str, Any]) -> list[np.ndarray]:
    """Return the names of the registered genes in a list of one; empty if the registry has no names."""
    field = registry.get("field_registries", {}).get(REGISTRY_KEYS.X_KEY, {})
    names = field.get("state_registry", {}).get("column_names")
    return [] if names is None else [np.asarray(names)]


def as_names(names: Iterable[Any]) -> pd.Index:
    """Return the names of genes as strings."""
    return pd.Index(np.asarray(list(names), dtype=object).astype(str), dtype=object)


def _reordered(adata: AnnData, order: np.ndarray) -> AnnData:
    ordered = adata[:, order]
    # copying a backed view would need a new file
    return ordered.to_memory() if adata.isbacked else ordered.copy()


def _describe_difference(found: pd.Index, expected: pd.Index, class_name: str) -> str:
    missing = expected[~expected.isin(found)]
    n_unknown = int((~found.isin(expected)).sum())
    message = (
        f"The genes of `adata` differ from those of the model: {len(missing)} of the model's {len(expected)} "
        f"genes are missing{_examples(missing)}, and the model lacks {n_unknown} of the {len(found)} genes "
        "of `adata`. "
    )
    if len(missing) == len(expected):
        message += (
            f"The names may be of another type: set `adata.var_names` to names such as {expected[0]!r}. "
        )
    elif not found.is_unique:
        message += "Some names occur more than once: call `adata.var_names_make_unique()` first. "
    return message + (
        f"`{class_name}.prepare_query_anndata(adata, model)` reorders the genes, drops others, and fills in "
        "missing ones with zeros."
    )


def _examples(names: pd.Index) -> str:
    return f" (for example {list(names[:3])})" if len(names) else ""
