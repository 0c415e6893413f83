"""Figures of AnnData and models, also available as ``vmmscvi.pl``.

Nothing here trains a model or computes an embedding.

As in scanpy, every function takes ``ax`` (if it draws on one), ``palette`` and ``save``, returns Axes or a
Figure, and does not change the AnnData. Functions need the results of :meth:`vmmscvi.SCVI_VMM.annotate` or of
the command line: ``obs["vmm_cluster"]``, ``obs["vmm_cluster_probability"]``, ``obsm["X_vmm"]`` and
``uns["vmmscvi"]``. Instead of an AnnData you can pass a model that has annotated its data.
"""

from __future__ import annotations

from vmmscvi.plotting._clusters import assignment_confidence, cluster_weights, composition
from vmmscvi.plotting._cuts import cluster_cuts
from vmmscvi.plotting._embedding import embedding
from vmmscvi.plotting._generated import generated_cells, generated_expression
from vmmscvi.plotting._markers import markers
from vmmscvi.plotting._palette import COLORS, category_colors
from vmmscvi.plotting._panels import embedding_panels
from vmmscvi.plotting._training import training_curve, training_history
from vmmscvi.plotting._tree import cluster_tree

__all__ = [
    "COLORS",
    "assignment_confidence",
    "category_colors",
    "cluster_cuts",
    "cluster_tree",
    "cluster_weights",
    "composition",
    "embedding",
    "embedding_panels",
    "generated_cells",
    "generated_expression",
    "markers",
    "training_curve",
    "training_history",
]
