"""The mixin that every model of this package adds to a model of scvi-tools."""

from __future__ import annotations

from vmmscvi.model._annotation_mixin import AnnotationMixin
from vmmscvi.model._new_data import NewDataMixin
from vmmscvi.model._query_mixin import QueryMixin
from vmmscvi.model._reference_card import ReferenceMixin
from vmmscvi.model._sampling_mixin import SamplingMixin
from vmmscvi.model._setup_checks import ArgumentChecksMixin
from vmmscvi.model._summary_mixin import SummaryMixin
from vmmscvi.model._training_mixin import TrainingMixin


class VMMModelMixin(
    TrainingMixin,
    AnnotationMixin,
    SamplingMixin,
    QueryMixin,
    ReferenceMixin,
    NewDataMixin,
    ArgumentChecksMixin,
    SummaryMixin,
):
    """Training of networks and prior, clusters, tree, novelty, queries, and checks of arguments and data.

    List it before the class of scvi-tools. It inherits from no class of scvi-tools.
    """
