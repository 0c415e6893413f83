"""User-given names of clusters. Components keep their numbers, and probabilities their columns."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from vmmscvi.model._clustering_mixin import ClusteringMixin


class ClusterNamesMixin(ClusteringMixin):
    """Cluster names that are saved with a model and passed on to its queries."""

    cluster_names_: dict[str, str] | None = None
    """Names by component; a component without an entry keeps its number as name."""

    def rename_clusters(self, names: Mapping[str, str] | pd.Series | None) -> None:
        """Give names to clusters, for :meth:`annotate`, plots, saved models and queries.

        Parameters
        ----------
        names
            Names by cluster. Clusters may share a name; clusters that are left out keep theirs. ``None``
            removes all names.

        Raises
        ------
        ValueError
            If a cluster is unknown, or a name is empty or the number of another cluster.

        Examples
        --------
        >>> model.train()
        >>> model.rename_clusters({"0": "T cells", "1": "B cells"})
        >>> model.annotate()
        >>> list(model.get_cluster_names()[:2])
        ['T cells', 'B cells']
        """
        components = self.component_names()
        if names is None:
            self.cluster_names_ = None
            return
        given = {str(cluster): name for cluster, name in names.items()}
        if unknown := [cluster for cluster in given if cluster not in components]:
            raise ValueError(
                f"`names` has unknown clusters {unknown}; expected some of '0' to '{len(components) - 1}'."
            )
        for cluster, name in given.items():
            if not isinstance(name, str) or not name.strip():
                raise ValueError(f"`names` has {name!r} for cluster {cluster!r}; expected a name.")
            if name in components and name != cluster:
                raise ValueError(
                    f"`names` maps cluster {cluster!r} to {name!r}, the number of another cluster: choose "
                    "another name."
                )
        self.cluster_names_ = {**(self.cluster_names_ or {}), **given}

    def get_cluster_names(self) -> pd.Series:
        """Return the names of all components.

        Returns
        -------
        Series
            Names of length ``K``, indexed by component number ``"0"`` to ``"K-1"``. Components without a
            name keep their number.
        """
        components = self.component_names()
        names = self.cluster_names_ or {}
        return pd.Series([names.get(i, i) for i in components], index=components, name="name", dtype=object)

    def _named(self, clusters: pd.Series) -> pd.Series:
        """Replace clusters by their names, as categories in the order of the clusters."""
        names = (self.cluster_names_ or {}).get
        categories = [names(i, i) for i in clusters.cat.categories]
        values = [categories[code] for code in clusters.cat.codes]
        return pd.Series(pd.Categorical(values, list(dict.fromkeys(categories))), index=clusters.index)
