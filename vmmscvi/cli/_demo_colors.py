"""Colours of clusters that match the colours of types."""

from __future__ import annotations

import pandas as pd

from vmmscvi.plotting import COLORS, category_colors


def matched_colors(clusters: pd.Series, types: pd.Series) -> list[str]:
    """Colour clusters like the types of their cells, so that two panels can be compared at a glance.

    Parameters
    ----------
    clusters, types
        Categorical labels, shape ``(n,)`` each.

    Returns
    -------
    list of str
        A colour for each cluster, in the order of the categories. A cluster has the colour of its most
        frequent type. If several clusters share a type, the largest receives its colour and the others
        receive colours of no type.
    """
    type_colors = category_colors(types.cat.categories)
    spare = [color for color in COLORS if color not in type_colors.values()] or list(COLORS)
    table = pd.crosstab(clusters, types)
    chosen: dict[str, str] = {}
    for cluster in table.sum(axis=1).sort_values(ascending=False).index:
        color = type_colors[str(table.loc[cluster].idxmax())]
        if color in chosen.values():
            color = spare[len([c for c in chosen.values() if c in spare]) % len(spare)]
        chosen[cluster] = color
    return [chosen[cluster] for cluster in clusters.cat.categories]
