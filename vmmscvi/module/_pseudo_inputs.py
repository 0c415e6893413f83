"""Pseudo-cells: learned inputs of the encoder, one for each component of the prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from vmmscvi.priors._parameters import inverse_softplus

PseudoInputSpace = Literal["log1p", "counts"]

SMALLEST_EXPRESSION = 1e-2
"""Stands for a count of zero: small enough to be no expression, large enough to keep a gradient."""


class PseudoCells(NamedTuple):
    """What an encoder sees of a cell, in a relaxed form that is differentiable.

    Attributes
    ----------
    counts
        Expression on the scale of counts, or of ``log1p(counts)`` where that was asked for, shape
        ``(K, n_genes)``, positive.
    batch
        Probabilities of the batches, shape ``(K, n_batch)``, rows on the simplex.
    continuous
        Continuous covariates, shape ``(K, n_continuous)``, or ``None``.
    categorical
        Probabilities of the categories of every further covariate, shapes ``(K, n_categories)``.
    """

    counts: Tensor
    batch: Tensor
    continuous: Tensor | None
    categorical: tuple[Tensor, ...]


class PseudoInputs(nn.Module):
    """``K`` learned cells: expression and every covariate that the encoder sees.

    Expression is kept positive by a softplus, categories on the simplex by a softmax. Categories start
    uniform, so that a centre belongs to no batch in particular.

    Parameters
    ----------
    n_components
        Number ``K`` of pseudo-cells.
    n_input
        Number of genes.
    n_batch
        Number of batches.
    n_continuous
        Number of continuous covariates.
    n_categories
        Numbers of categories of the further categorical covariates.
    space
        Scale on which the optimizer moves expression: ``"log1p"`` (default), where a step means the same fold
        change for rare and abundant transcripts, or ``"counts"``, as the paper does.
    """

    is_initialized: Tensor

    def __init__(
        self,
        n_components: int,
        n_input: int,
        n_batch: int = 1,
        n_continuous: int = 0,
        n_categories: Sequence[int] = (),
        space: PseudoInputSpace = "log1p",
    ) -> None:
        super().__init__()
        if space not in get_args(PseudoInputSpace):
            raise ValueError(
                f"`pseudo_input_space` must be one of {get_args(PseudoInputSpace)}, found {space!r}."
            )
        self.n_components = n_components
        self.space = space
        self.expression = nn.Parameter(torch.zeros(n_components, n_input))
        self.batch_logits = nn.Parameter(torch.zeros(n_components, max(n_batch, 1)))
        self.category_logits = nn.ParameterList(torch.zeros(n_components, n) for n in n_categories)
        self.continuous = nn.Parameter(torch.zeros(n_components, n_continuous)) if n_continuous else None
        self.register_buffer("is_initialized", torch.tensor(False))

    @torch.no_grad()
    def fill(self, counts: Tensor, continuous: Tensor | None = None) -> None:
        """Start from observed cells.

        Parameters
        ----------
        counts
            Counts of ``K`` cells, shape ``(K, n_genes)``.
        continuous
            Their continuous covariates, shape ``(K, n_continuous)``.
        """
        if counts.shape != self.expression.shape:
            raise ValueError(
                f"`counts` must have shape {tuple(self.expression.shape)}, found {tuple(counts.shape)}."
            )
        value = torch.log1p(counts) if self.space == "log1p" else counts
        self.expression.copy_(inverse_softplus(value.clamp_min(SMALLEST_EXPRESSION)))
        if self.continuous is not None and continuous is not None:
            self.continuous.copy_(continuous)
        self.is_initialized.fill_(True)

    def forward(self, log1p: bool = False) -> PseudoCells:
        """Return the pseudo-cells.

        Parameters
        ----------
        log1p
            Whether their expression is wanted as ``log1p(counts)``, the scale of most encoders.
        """
        value = softplus(self.expression)
        if self.space == "log1p":
            expression = value if log1p else torch.expm1(value)
        else:
            expression = torch.log1p(value) if log1p else value
        return PseudoCells(
            counts=expression,
            batch=torch.softmax(self.batch_logits, dim=-1),
            continuous=self.continuous,
            categorical=tuple(torch.softmax(logits, dim=-1) for logits in self.category_logits),
        )
