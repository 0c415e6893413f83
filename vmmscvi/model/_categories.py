"""Checks of categorical columns: no missing values, a single type, and only known values in new data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from scvi import REGISTRY_KEYS

ARGUMENTS = {
    REGISTRY_KEYS.BATCH_KEY: "batch_key",
    REGISTRY_KEYS.LABELS_KEY: "labels_key",
    REGISTRY_KEYS.CAT_COVS_KEY: "categorical_covariate_keys",
}
"""Arguments of ``setup_anndata``, by the name of their columns in scvi-tools' registry."""


class KnownColumn(NamedTuple):
    """A registered categorical column.

    Attributes
    ----------
    argument
        The argument of ``setup_anndata`` that names the column.
    name
        Name of the column.
    categories
        Values in the training data.
    """

    argument: str
    name: str
    categories: Sequence[Any]


def registered_columns(registry: Mapping[str, Any]) -> Iterator[KnownColumn]:
    """Yield the categorical columns of a registry, except those that scvi-tools fills in itself."""
    for key, field in registry["field_registries"].items():
        state = field["state_registry"]
        argument = ARGUMENTS.get(key, key)
        name = state.get("original_key")
        if name is not None and "categorical_mapping" in state and not str(name).startswith("_scvi_"):
            yield KnownColumn(argument, name, state["categorical_mapping"])
        for name, categories in (state.get("mappings") or {}).items():
            yield KnownColumn(argument, name, categories)


def check_categories(column: pd.Series, argument: str) -> None:
    """Check a column before registration.

    Parameters
    ----------
    column
        The column of ``adata.obs``.
    argument
        The argument that names it.

    Raises
    ------
    ValueError
        If values are missing, or text and numbers are mixed.
    """
    n_missing = int(column.isna().sum())
    if n_missing:
        unlabeled = (
            " and `train(start='labels', unlabeled_category='unknown')`" if argument == "labels_key" else ""
        )
        raise ValueError(
            f"`{argument}`: {column.name!r} has no value (NaN) for {n_missing} of {len(column)} cells. "
            f"Remove these cells, or give them a separate value: `adata.obs[{column.name!r}] = "
            f"adata.obs[{column.name!r}].astype(object).fillna('unknown')`{unlabeled}."
        )
    texts = [value for value in column.unique() if isinstance(value, str)]
    others = [value for value in column.unique() if not isinstance(value, str)]
    if texts and others:
        raise ValueError(
            f"`{argument}`: {column.name!r} mixes text and numbers (for example {texts[0]!r} and "
            f"{_plain(others[0])!r}). Convert all values to text: `adata.obs[{column.name!r}].astype(str)`."
        )


def check_known_categories(
    obs: pd.DataFrame, known: KnownColumn, class_name: str, may_be_new: bool = False
) -> None:
    """Check a column of new data; missing columns are handled by scvi-tools.

    Parameters
    ----------
    obs
        Table of the new cells.
    known
        The column and its known values.
    class_name
        The model's class, for messages.
    may_be_new
        Whether unknown values are allowed.

    Raises
    ------
    ValueError
        If values are missing, unknown, or of another type than the known ones.
    """
    if known.name not in obs:
        return
    column = obs[known.name]
    check_categories(column, known.argument)
    categories = list(known.categories)
    unknown = sorted(set(column.unique()) - set(categories), key=str)
    same_text = {str(value): value for value in categories}
    for value in unknown:
        if str(value) in same_text:
            expected = same_text[str(value)]
            raise ValueError(
                f"`obs[{known.name!r}]` has values of another type than the training data: "
                f"found {_plain(value)!r} ({_type(value)}), expected {_plain(expected)!r} "
                f"({_type(expected)}). Convert the column with `.astype({_type(expected)})`."
            )
    if unknown and not may_be_new:
        what = {"batch_key": "batches", "labels_key": "labels"}.get(known.argument, "categories")
        raise ValueError(
            f"`obs[{known.name!r}]` has {what} that the model was not trained with: "
            f"{[str(value) for value in unknown[:5]]}; it knows {[str(name) for name in categories[:20]]}. "
            f"Correct the names, leave out these cells, or map them with `{class_name}.load_query_data`."
        )


def _plain(value: Any) -> Any:
    """Convert a NumPy scalar to a Python scalar."""
    return value.item() if hasattr(value, "item") else value


def _type(value: Any) -> str:
    return type(_plain(value)).__name__
