"""Initialisation of a prior: from clusters of the embedding, from cells, or from labels.

Uses encoder inputs; nothing here depends on counts or genes.
"""

from vmmscvi.starts._callback import InitialisePrior
from vmmscvi.starts._cells import FromCells
from vmmscvi.starts._clusters import FromEmbedding, embed
from vmmscvi.starts._labels import FromLabels
from vmmscvi.starts._protocol import InitialPrior, Start

__all__ = ["FromCells", "FromEmbedding", "FromLabels", "InitialPrior", "InitialisePrior", "Start", "embed"]
