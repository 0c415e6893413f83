"""Names of clusters, of their parts (``"3.1"``) and of unions (``"0+3"``)."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

NUMBER = re.compile(r"((?:^-)?\d+)")
"""A sign is one at the start only: in ``"T-2"`` and ``"0+-1"`` it is a hyphen."""


def in_order(name: str) -> tuple[list[Any], str]:
    """Key that sorts names by the numbers in them, and by the text around these.

    ``"2"`` comes before ``"10"``, and ``"3"`` before ``"3+4"`` and ``"3.0"``.

    Parameters
    ----------
    name
        Name of any kind.
    """
    parts = NUMBER.split(name)  # text and numbers in turn, so that keys can be compared
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def named_in_order(clusters: pd.Series, n_obs: int) -> pd.Series:
    """Return clusters as categories whose names are strings, in order, and all in use.

    Parameters
    ----------
    clusters
        Cluster of every cell, names of any kind.
    n_obs
        Number of cells.

    Raises
    ------
    ValueError
        If there are more or fewer values than cells, one is missing, or two clusters, or one and the parts or
        a union of others, could have the same name.
    """
    if len(clusters) != n_obs:
        raise ValueError(
            f"`clusters` must have a value for each row of `z` ({n_obs}), found {len(clusters)}."
        )
    if n_missing := int(clusters.isna().sum()):
        raise ValueError(f"`clusters` must have a value for each row of `z`; {n_missing} are missing.")
    categories = clusters.astype("category").cat.remove_unused_categories()
    names = [str(name) for name in categories.cat.categories]
    if len(set(names)) < len(names):
        raise ValueError(f"`clusters` must have different names for different clusters, found {names}.")
    if ambiguous := [name for name in names if _could_be_made_of(name, set(names))]:
        raise ValueError(
            f"`clusters`: {ambiguous[:5]} could be parts or unions of other clusters, which are named with a "
            "full stop and a number ('a.0') and with a plus sign ('a+b'). Rename them."
        )
    return categories.cat.rename_categories(names).cat.reorder_categories(sorted(names, key=in_order))


def _could_be_made_of(name: str, names: set[str]) -> bool:
    """Whether a part of another cluster, or a union of others, would have this name."""
    whole, _, number = name.rpartition(".")
    united = name.split("+")
    return (whole in names and number.isdecimal()) or (len(united) > 1 and names.issuperset(united))
