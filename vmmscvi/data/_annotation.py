"""Annotation of a simulated AnnData: cells, features and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vmmscvi.data._design import CellDesign
from vmmscvi.data._profiles import Features, Genes, softmax
from vmmscvi.data._settings import SimulationSettings

#: True profiles and batch effects with more entries than this are not stored.
MAX_STORED_ENTRIES = 1_000_000


def record(
    settings: SimulationSettings,
    shares: NDArray[np.float64],
    features: Features,
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the content of ``uns["simulation"]``: arguments, names, proportions and true profiles."""
    return {
        "settings": storable(arguments),
        "types": np.array(settings.tree.leaves),
        "batches": np.array(settings.batches),
        "proportions": shares,
        **true_profiles(features),
    }


def true_profiles(features: Features) -> dict[str, NDArray[np.float32]]:
    """Return profiles of the types and log effects of the batches, unless they are large."""
    truth = {"profiles": softmax(features.log_types), "batch_effects": features.log_batches}
    return {
        name: array.astype(np.float32) for name, array in truth.items() if array.size <= MAX_STORED_ENTRIES
    }


def cell_table(settings: SimulationSettings, cells: CellDesign) -> pd.DataFrame:
    """Return ``obs``: batch, types, expected library size and, on a continuum, pseudotime."""
    tree = settings.tree
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical.from_codes(cells.batch, categories=list(settings.batches)),
            "cell_type": pd.Categorical.from_codes(cells.leaf, categories=list(tree.leaves)),
            "cell_type_coarse": pd.Categorical.from_codes(
                tree.parent[cells.leaf], categories=list(tree.coarse)
            ),
            "expected_library_size": cells.library_size,
        },
        index=[f"cell{i}" for i in range(settings.n_cells)],
    )
    if settings.continuum:
        obs["pseudotime"] = cells.position / (len(tree.leaves) - 1)
    return obs


def feature_table(settings: SimulationSettings, genes: Genes, prefix: str = "gene") -> pd.DataFrame:
    """Return ``var``: means, dispersions and markers; features are named ``prefix`` and a number."""
    tree = settings.tree
    # The names of a type that is not split stand for both levels, so the categories are made unique.
    names = list(dict.fromkeys([*tree.coarse, *tree.leaves]))
    of_coarse = np.array([names.index(name) for name in tree.coarse])
    of_leaf = np.array([names.index(name) for name in tree.leaves])
    is_coarse, is_leaf = genes.marked_coarse >= 0, genes.marked_leaf >= 0
    codes = np.where(
        is_coarse, of_coarse[genes.marked_coarse], np.where(is_leaf, of_leaf[genes.marked_leaf], -1)
    )
    level = np.where(is_coarse, 0, np.where(is_leaf, 1, -1))
    return pd.DataFrame(
        {
            "mean": genes.mean,
            "dispersion": genes.dispersion,
            "marker_of": pd.Categorical.from_codes(codes, categories=names),
            "marker_level": pd.Categorical.from_codes(level, categories=["type", "subtype"]),
            "marker_log_fold_change": genes.log_fold_change,
        },
        index=[f"{prefix}{i}" for i in range(settings.n_genes)],
    )


def storable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that an h5ad file can hold: ``None`` becomes ``"default"``, a generator its name."""
    stored: dict[str, Any] = {}
    for name, value in settings.items():
        if value is None:
            stored[name] = "default"
        elif isinstance(value, Mapping):
            stored[name] = storable(value)
        elif isinstance(value, np.random.Generator):
            stored[name] = "generator"
        elif isinstance(value, Sequence) and not isinstance(value, str):
            stored[name] = np.asarray(value)
        else:
            stored[name] = value
    return stored
