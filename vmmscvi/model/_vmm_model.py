"""What every model of this package adds to one of scvi-tools'."""

from __future__ import annotations

from vmmscvi.model._new_data import NewDataMixin
from vmmscvi.model._novelty_mixin import NoveltyMixin
from vmmscvi.model._query_mixin import QueryMixin
from vmmscvi.model._sampling_mixin import SamplingMixin
from vmmscvi.model._training_mixin import TrainingMixin
from vmmscvi.model._tree_mixin import ClusterTreeMixin


class VMMModelMixin(TrainingMixin, ClusterTreeMixin, SamplingMixin, NoveltyMixin, QueryMixin, NewDataMixin):
    """Training with the prior's own steps, clusters and their tree, novelty, queries, checks of new data.

    Comes before the model's class; inherits from none of scvi-tools'.
    """
