"""Differential accessibility between several groups, for models of peaks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd


class AccessibilityMixin:
    """One comparison for each group. List this mixin before the class of scvi-tools."""

    def differential_accessibility(
        self,
        adata: Any = None,
        groupby: str | None = None,
        group1: Iterable[str] | None = None,
        group2: str | None = None,
        **kwargs: Any,
    ) -> pd.DataFrame:
        """Compare the accessibility of peaks; see :meth:`scvi.model.PEAKVI.differential_accessibility`.

        The column ``group1`` names the group of each row. With several groups, scvi-tools omits the group
        (PeakVI) or fails (MultiVI).

        Parameters
        ----------
        adata, groupby, group1, group2, **kwargs
            As in :meth:`scvi.model.PEAKVI.differential_accessibility`. By default each group of ``groupby``
            is compared with all other cells.

        Returns
        -------
        DataFrame
            Table of scvi-tools with one row for each peak and group; the column ``group1`` is added if
            ``groupby`` is given.

        Raises
        ------
        ValueError
            If ``groupby`` is not a column of ``obs``, or there is only one group.
        """
        inherited: Any = super().differential_accessibility  # type: ignore[misc]
        if groupby is None:
            table: pd.DataFrame = inherited(adata, group1=group1, group2=group2, **kwargs)
            return table
        cells = self.adata if adata is None else adata  # type: ignore[attr-defined]
        if groupby not in cells.obs:
            raise ValueError(f"`groupby` is {groupby!r}; expected a column of `obs`.")
        groups = list(cells.obs[groupby].astype("category").cat.remove_unused_categories().cat.categories)
        if len(groups) < 2:
            raise ValueError(f"Found only one group, {groups}; expected two or more.")
        names = groups if group1 is None else [group1] if isinstance(group1, str) else list(group1)
        tables = []
        for name in names:
            table = inherited(adata, groupby, name, group2, **kwargs)
            table.insert(0, "group1", name)
            tables.append(table)
        return pd.concat(tables)
