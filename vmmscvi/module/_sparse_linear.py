"""A linear layer that reads sparse counts, for the first layer of an encoder."""

from __future__ import annotations

from typing import Any

import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from vmmscvi.module._sparse_counts import SparseCounts
from vmmscvi.module._sparse_input import SparseInput

LARGEST_DENSITY = 0.4
"""Share of non-zero entries above which the dense product is faster."""


class SparseLinear(nn.Linear):
    """:class:`torch.nn.Linear` that also reads a :class:`SparseInput`.

    Parameters, names and results are those of the dense layer. Only the order of the weight in memory
    differs: the weights of a gene are contiguous, so they are read and written in one piece.
    """

    @classmethod
    def sharing(cls, linear: nn.Linear) -> SparseLinear:
        """Make a layer that shares the parameters of another, without drawing random numbers.

        Parameters
        ----------
        linear
            The layer whose parameters are shared.

        Returns
        -------
        SparseLinear
            The new layer.
        """
        layer = cls(linear.in_features, linear.out_features, device="meta")
        layer.weight, layer.bias = linear.weight, linear.bias
        layer.weight.data = layer.weight.data.T.contiguous().T
        return layer

    def can_read(self, counts: SparseCounts) -> bool:
        """Return whether the sparse product gives the same result and is faster.

        Parameters
        ----------
        counts
            The layer's first inputs.

        Returns
        -------
        bool
            Whether to read the counts sparsely.
        """
        return counts.value.dtype == self.weight.dtype and counts.density <= LARGEST_DENSITY

    def forward(self, input: Tensor | SparseInput) -> Tensor:
        """Apply the layer.

        Parameters
        ----------
        input
            Inputs of shape ``(n, n_inputs)``, dense or sparse.

        Returns
        -------
        Tensor
            Outputs of shape ``(n, n_outputs)``.
        """
        if not isinstance(input, SparseInput):
            return super().forward(input)
        others = input.covariates(self.weight.dtype)
        product: Tensor = _SparseProduct.apply(input.values(), others, self.weight)  # type: ignore[no-untyped-call]
        return product + self.bias


class _SparseProduct(torch.autograd.Function):
    """Product of the counts and other inputs with the transposed weight."""

    @staticmethod
    def forward(ctx: Any, counts: SparseCounts, others: Tensor, weight: Tensor) -> Tensor:
        ctx.counts = counts
        ctx.save_for_backward(others, weight)
        n_genes = counts.shape[1]
        product = _weighted_sums(
            counts.gene, counts.cell_start, counts.value, weight[:, :n_genes].T.contiguous()
        )
        return product.addmm_(others, weight[:, n_genes:].T)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        others, weight = ctx.saved_tensors
        _, needs_others, needs_weight = ctx.needs_input_grad
        n_obs, n_genes = ctx.counts.shape
        by_others = grad @ weight[:, n_genes:] if needs_others else None
        if not needs_weight:
            return None, by_others, None
        by_cell = csr_array(
            (ctx.counts.value.numpy(), ctx.counts.gene.numpy(), ctx.counts.cell_start.numpy()),
            (n_obs, n_genes),
        )
        by_gene = by_cell.tocsc()
        cells, gene_start, value = map(torch.from_numpy, (by_gene.indices, by_gene.indptr, by_gene.data))
        by_gene_weight = _weighted_sums(cells, gene_start, value, grad.contiguous())
        return None, by_others, torch.cat((by_gene_weight, others.T @ grad)).T


def _weighted_sums(index: Tensor, start: Tensor, value: Tensor, rows: Tensor) -> Tensor:
    """Compute the weighted sum of rows of a matrix for each of several groups.

    Parameters
    ----------
    index, value
        Rows to add and their weights, sorted by group, shape ``(m,)``.
    start
        First entry of each group, and the end of the last, shape ``(n_groups + 1,)``.
    rows
        The matrix, shape ``(n_rows, n_columns)``.

    Returns
    -------
    Tensor
        Sums of shape ``(n_groups, n_columns)``.
    """
    return embedding_bag(index, rows, start[:-1], mode="sum", per_sample_weights=value)
