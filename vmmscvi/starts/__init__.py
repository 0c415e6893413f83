"""How a prior is initialised: from clusters of the embedding, from cells, or from labels.

Knows of encoder inputs, not of counts or genes.
"""

from vmmscvi.starts._callback import InitialisePrior
from vmmscvi.starts._cells import FromCells
from vmmscvi.starts._clusters import FromEmbedding, embed
from vmmscvi.starts._labels import FromLabels
from vmmscvi.starts._protocol import InitialPrior, Start

__all__ = ["FromCells", "FromEmbedding", "FromLabels", "InitialPrior", "InitialisePrior", "Start", "embed"]
