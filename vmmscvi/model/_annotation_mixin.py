"""Write all results of a model to an AnnData.

Nothing here depends on counts or genes: any model with an embedding and a prior of this package can use it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS, settings
from torch import Tensor

from vmmscvi._annotation import (
    CLUSTER,
    ENTROPY,
    LABEL,
    LABEL_PROBABILITY,
    LEAF,
    NAME,
    NOVELTY,
    PROBABILITY,
    SECOND,
    VERDICT,
    Annotation,
    Column,
    foreign_entries,
    storable,
    versions,
)
from vmmscvi.model._clustering_mixin import by_chunks
from vmmscvi.model._features import with_features_of
from vmmscvi.model._labels_mixin import LabelsMixin, most_probable
from vmmscvi.model._quality_mixin import FALSE_ALARM_RATE, QualityMixin
from vmmscvi.model._tree_mixin import ClusterTreeMixin
from vmmscvi.priors import ClusterTree, MixturePrior
from vmmscvi.priors import functional as F

logger = logging.getLogger(__name__)

UNDECIDED = 0.8
"""Cells whose largest probability is below this value are undecided."""


class AnnotationMixin(LabelsMixin, ClusterTreeMixin, QualityMixin):
    """Results where scanpy and other tools look for them."""

    n_reference_batches_: int | None
    """Number of batches of a query's reference, see :class:`QueryMixin`; ``None`` in other models."""

    def annotate(
        self,
        adata: AnnData | None = None,
        *,
        tree: bool = True,
        n_effective: float | None = None,
        batch_size: int | None = None,
        seed: int | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write embedding and clusters into an AnnData.

        ===================================  ===============================================================
        ``obsm["X_vmm"]``                    embedding
        ``obs["vmm_cluster"]``               most probable cluster
        ``obs["vmm_cluster_name"]``          its name, if clusters have been named (:meth:`rename_clusters`)
        ``obs["vmm_cluster_probability"]``   probability of the most probable cluster
        ``obs["vmm_second_cluster"]``        second most probable cluster, if there are at least two
        ``obs["vmm_entropy"]``               entropy of the probabilities, in nats: 0 is certain
        ``obs["vmm_novelty"]``               share of the cluster's reference cells that fit it better
        ``obs["vmm_verdict"]``               queries only: the cluster's name or ``"unknown"``
        ``obs["vmm_leaf"]``                  subcluster, a leaf of the tree
        ``obs["vmm_label"]``                 most probable label or free cluster, with ``start="labels"``
        ``obs["vmm_label_probability"]``     probability of that label
        ``uns["vmmscvi"]``                   settings, versions, weights, history, tree, table of clusters
        ===================================  ===============================================================

        All of these can be saved to h5ad; :meth:`vmmscvi.priors.ClusterTree.from_anndata` restores the tree.
        A second call replaces the results of the first.

        Parameters
        ----------
        adata
            Cells to annotate; the training data by default. It may have more genes than the model, so you
            can train on variable genes and annotate the complete data.
        tree
            Whether to search for finer and coarser clusters, see :meth:`get_cluster_tree`. This is the
            slowest step. Without it there are no leaves.
        n_effective
            Granularity of the leaves, as in :meth:`get_cluster_tree`.
        batch_size
            Minibatch size of the encoder; ``scvi.settings.batch_size`` by default.
        seed
            Seed of the search for leaves; ``scvi.settings.seed`` by default.
        overwrite
            Whether to replace columns of these names that this method did not write.

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        ValueError
            If ``adata`` has columns of these names that this method did not write, or lacks genes of the
            model.

        Examples
        --------
        >>> SCVI_VMM.setup_anndata(adata, batch_key="batch")
        >>> model = SCVI_VMM(adata)
        >>> model.train()
        >>> model.annotate()
        >>> table = adata.uns["vmmscvi"]["clusters"]
        """
        self._trained_prior()
        if adata is None:
            adata = self.adata
        if adata is None:
            raise ValueError("The model holds no data: pass `adata`.")
        if not overwrite:
            _check_nothing_foreign(adata)
        annotation = annotation_of(self, adata, tree, n_effective, batch_size, seed)
        annotation.write_to(adata)
        logger.info(f"Annotated {len(annotation.embedding):,} cells, {annotation.n_clusters} clusters.")


def _check_nothing_foreign(adata: Any) -> None:
    if foreign := foreign_entries(adata):
        raise ValueError(
            f"`adata` already has {', '.join(foreign)}, not written by `annotate`. Rename or delete them, or "
            "pass `overwrite=True` to replace them."
        )


def annotation_of(
    model: AnnotationMixin,
    adata: AnnData | None = None,
    tree: bool = True,
    n_effective: float | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    settings_of_run: Mapping[str, Any] | None = None,
) -> Annotation:
    """Collect the results of a trained model, encoding the cells once.

    Parameters
    ----------
    model
        The trained model.
    adata, tree, n_effective, batch_size, seed
        As in :meth:`AnnotationMixin.annotate`.
    settings_of_run
        Settings to store beside the model's own.

    Returns
    -------
    Annotation
        Embedding, columns of ``obs`` and entries of ``uns``.
    """
    z = model._latent_tensor(with_features_of(model, adata), None, batch_size)
    obs_names = (model.adata if adata is None else adata).obs_names
    prior = model._trained_prior()
    columns: dict[str, Column] = {}
    uns: dict[str, Any] = {
        "settings": {**_settings_of(model), **storable(settings_of_run or {})},
        "versions": versions(),
        **_history_of(model),
    }
    if isinstance(prior, MixturePrior):
        columns.update(_assignments(z, prior))
    if getattr(prior, "labels", None) is not None:
        probabilities = model._label_probabilities(z)
        columns[LABEL] = most_probable(probabilities).array
        columns[LABEL_PROBABILITY] = probabilities.max(axis=1).to_numpy(np.float32)
    if model.reference_log_densities_ is not None:
        columns[NOVELTY] = model._novelty_at(z).astype(np.float32)
    if isinstance(prior, MixturePrior):
        clusters: Any = columns[CLUSTER]
        weights = model.get_cluster_weights()
        uns["weights"] = {name: float(weights[name]) for name in clusters.categories}
        if model.cluster_names_ is not None:
            columns[NAME] = model._named(pd.Series(clusters)).array
        if model.n_reference_batches_ is not None and NOVELTY in columns:
            novelty: Any = columns[NOVELTY]
            columns[VERDICT] = model._verdict(pd.Series(clusters), novelty, FALSE_ALARM_RATE)
        found: ClusterTree | None = None
        if tree:
            found = model._tree_of(z, pd.Series(clusters, index=obs_names), n_effective, seed)
            columns[LEAF] = pd.Categorical(found.assignments)
            uns["cluster_tree"] = found.to_dict()
        uns["clusters"] = _table(columns, weights, model, found).join(_quality(model, z, adata))
    return Annotation(z.cpu().numpy().astype(np.float32), columns, uns)


def _quality(model: AnnotationMixin, z: Tensor, adata: AnnData | None) -> pd.DataFrame:
    """Quality of the clusters: the columns that the table of clusters lacks."""
    codes = (model.adata if adata is None else adata).obs.get(f"_scvi_{REGISTRY_KEYS.BATCH_KEY}")
    quality = model._quality_at(z, None if codes is None else codes.to_numpy())
    return quality.drop(columns=["n_cells", "share", "mean_probability"])


def _assignments(z: Tensor, prior: MixturePrior) -> dict[str, Column]:
    """Best and second cluster of every cell, the probability of the best, and the entropy."""
    n_ranked = min(2, prior.n_components)

    def ranked(chunk: Tensor) -> Tensor:
        log_prob = prior.component_log_prob(chunk, density="expected")
        r = F.responsibilities(log_prob, prior.pi_logits)
        # the second probability may underflow to zero; its logarithm still ranks the components
        component = (log_prob + prior.pi_logits).topk(n_ranked, dim=1).indices
        probability = r.gather(1, component)
        entropy = -torch.xlogy(r, r).sum(1, keepdim=True)
        return torch.cat((component.double(), probability[:, :1].double(), entropy.double()), dim=1)

    with torch.inference_mode():
        values = by_chunks(z, prior, ranked).numpy()
    used = np.unique(values[:, 0]).astype(int)
    columns: dict[str, Column] = {
        CLUSTER: _categories(values[:, 0], used),
        PROBABILITY: values[:, n_ranked].astype(np.float32),
        ENTROPY: np.maximum(values[:, n_ranked + 1], 0.0).astype(np.float32),
    }
    if n_ranked == 2:
        columns[SECOND] = _categories(values[:, 1], np.unique(values[:, 1]).astype(int))
    return columns


def _categories(components: Any, used: Any) -> pd.Categorical:
    return pd.Categorical.from_codes(np.searchsorted(used, components.astype(int)), [str(i) for i in used])


def _table(
    columns: Mapping[str, Column], weights: pd.Series, model: AnnotationMixin, tree: ClusterTree | None
) -> pd.DataFrame:
    """Describe each non-empty cluster in one row."""
    obs = pd.DataFrame(dict(columns))
    by_cluster = obs.groupby(CLUSTER, observed=True)
    table = pd.DataFrame({"n_cells": by_cluster.size()})
    table.index = pd.Index([str(name) for name in table.index], name="cluster")
    if model.cluster_names_ is not None:
        table.insert(0, "name", [model.cluster_names_.get(name, name) for name in table.index])
    table["share"] = table["n_cells"] / len(obs)
    table["weight"] = weights.loc[table.index].to_numpy(float)
    table["mean_probability"] = by_cluster[PROBABILITY].mean().to_numpy(float)
    table["undecided"] = (obs[PROBABILITY] < UNDECIDED).groupby(obs[CLUSTER], observed=True).mean().to_numpy()
    if SECOND in obs:
        # the most frequent second choice of the cluster's cells
        table["nearest"] = by_cluster[SECOND].agg(lambda names: names.mode()[0]).astype(str).to_numpy()
    if NOVELTY in obs:
        table["median_novelty"] = by_cluster[NOVELTY].median().to_numpy(float)
    if tree is not None:
        table["n_leaves"] = [tree.clusters.count(name) for name in table.index]
    return table


def _settings_of(model: AnnotationMixin) -> dict[str, Any]:
    """Return the arguments of constructor and registration that are plain values."""
    params: dict[str, Any] = getattr(model, "init_params_", {})
    found: dict[str, Any] = {**params.get("non_kwargs", {})}
    for more in params.get("kwargs", {}).values():
        found.update(more)
    registry: dict[str, Any] = getattr(model, "registry_", None) or {}
    found.update(registry.get("setup_args", {}))
    found.update(model=type(model).__name__, seed=settings.seed, embedding="X_vmm")
    return storable(found)


def _history_of(model: AnnotationMixin) -> dict[str, Any]:
    logged: Mapping[str, pd.DataFrame] = getattr(model, "history", None) or {}
    if not logged:
        return {}
    # some quantities are not logged in every epoch: fill with NaN to align the epochs
    table = pd.concat([values.iloc[:, 0] for values in logged.values()], axis=1, keys=logged)
    table = table.sort_index().astype(np.float64)
    return {"history": {name: table[name].to_numpy() for name in table}, "n_epochs": len(table)}
