"""A reference for other users: a folder with the model and a card with contents and instructions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS
from torch import as_tensor

from vmmscvi._annotation import versions
from vmmscvi.model._quality_mixin import QualityMixin

CARD = "README.md"
N_LISTED = 20
"""Largest number of names of genes or batches on a card."""


class ReferenceMixin(QualityMixin):
    """Export of a trained model as a reference for query mapping."""

    registry_: dict[str, Any]

    def save_reference(self, dir_path: str | Path, overwrite: bool = False) -> None:
        """Save a reference for query mapping by others: the model without its data, and a card.

        The model includes the clusters, their names, and the positions of at most 10,000 reference cells,
        which calibrate novelty. Counts are not saved.

        Parameters
        ----------
        dir_path
            The folder; created if it does not exist.
        overwrite
            Whether to write to an existing folder.

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        """
        card = self.reference_card()
        self.save(str(dir_path), overwrite=overwrite, save_anndata=False)  # type: ignore[attr-defined]
        (Path(dir_path) / CARD).write_text(card, encoding="utf-8")

    def reference_card(self) -> str:
        """Describe the reference in Markdown: mapping instructions, genes, batches, clusters, versions.

        Returns
        -------
        str
            The text of the card.
        """
        self._mixture_prior()
        name = type(self).__name__
        setup = self.registry_.get("setup_args", {})
        batch_key = setup.get("batch_key") or "the batch"
        genes = self.get_var_names()  # type: ignore[attr-defined]
        parts = [
            f"# A reference for {name}",
            "## Map your cells",
            "```python",
            f"from vmmscvi import {name}",
            "",
            f'{name}.prepare_query_anndata(query, "THIS_FOLDER")  # raw counts',
            f'mapped = {name}.load_query_data(query, "THIS_FOLDER")',
            "mapped.train(max_epochs=20)",
            "mapped.annotate()",
            "```",
            f"Raw counts; batches of the query in `obs[{batch_key!r}]`.",
            "## Contents",
            f"- Features ({len(genes):,}): {_listed(genes)}",
            f"- Batches: {_listed(self._batches())}",
            "## Clusters",
            "```text",
            self._table_of_clusters().to_string(float_format="{:.3f}".format),
            "```",
            "## Versions",
            *(f"- {library} {version}" for library, version in versions().items()),
        ]
        return "\n".join(parts) + "\n"

    def _table_of_clusters(self) -> pd.DataFrame:
        """Weights, names and quality of the clusters, from the stored reference cells."""
        weights = self.get_cluster_weights()
        table = pd.DataFrame({"weight": weights})
        if self.reference_cells_ is not None:
            z = as_tensor(self.reference_cells_["z"], device=self.module.device)
            quality = self._quality_at(z, self.reference_cells_.get("batch"))
            table = quality[["share", "mean_probability", "low_density", "catch_all"]].join(table)
        names = self.cluster_names_ or {}
        table.insert(0, "name", [names.get(cluster, cluster) for cluster in table.index])
        table.index.name = "cluster"
        return table

    def _batches(self) -> np.ndarray:
        field = self.registry_.get("field_registries", {}).get(REGISTRY_KEYS.BATCH_KEY, {})
        return np.asarray(field.get("state_registry", {}).get("categorical_mapping", []), dtype=str)


def _listed(names: Any) -> str:
    found = [str(name) for name in names]
    more = f" and {len(found) - N_LISTED:,} more" if len(found) > N_LISTED else ""
    return ", ".join(found[:N_LISTED]) + more
