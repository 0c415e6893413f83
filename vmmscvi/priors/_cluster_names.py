"""Names of clusters, their parts (``"3.1"``) and their unions (``"0+3"``)."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

NUMBER = re.compile(r"((?:^-)?\d+)")
"""A minus is a sign only at the beginning of a name; in ``"T-2"`` and ``"0+-1"`` it is a hyphen."""


def in_order(name: str) -> tuple[list[Any], str]:
    """Return a key that sorts names by the numbers in them and by the text between.

    ``"2"`` comes before ``"10"``, and ``"3"`` before ``"3+4"`` and ``"3.0"``.

    Parameters
    ----------
    name
        Any name.

    Returns
    -------
    tuple
        The key.
    """
    parts = NUMBER.split(name)  # alternately text and numbers, so keys are comparable
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def named_in_order(clusters: pd.Series, n_obs: int) -> pd.Series:
    """Return clusters as ordered string categories, without unused ones.

    Parameters
    ----------
    clusters
        Cluster of every cell, with names of any type.
    n_obs
        Number of cells.

    Returns
    -------
    Series
        Categorical clusters.

    Raises
    ------
    ValueError
        If the length differs from the number of cells, a value is missing, or the name of a cluster could be
        that of another cluster, a part or a union.
    """
    if len(clusters) != n_obs:
        raise ValueError(
            f"`clusters` must have a value for each row of `z` ({n_obs}), found {len(clusters)}."
        )
    if n_missing := int(clusters.isna().sum()):
        raise ValueError(f"`clusters` must have a value for each row of `z`, found {n_missing} missing.")
    categories = clusters.astype("category").cat.remove_unused_categories()
    names = [str(name) for name in categories.cat.categories]
    if len(set(names)) < len(names):
        raise ValueError(f"`clusters` must have different names for different clusters, found {names}.")
    if ambiguous := [name for name in names if _could_be_made_of(name, set(names))]:
        raise ValueError(
            f"`clusters`: {ambiguous[:5]} could be parts ('a.0') or unions ('a+b') of other clusters. Rename "
            "them."
        )
    return categories.cat.rename_categories(names).cat.reorder_categories(sorted(names, key=in_order))


def _could_be_made_of(name: str, names: set[str]) -> bool:
    """Return whether a part or union of other clusters would have this name."""
    whole, _, number = name.rpartition(".")
    united = name.split("+")
    return (whole in names and number.isdecimal()) or (len(united) > 1 and names.issuperset(united))
