"""Pseudo-cells: learned inputs of the encoder, one for each component of the prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from vmmscvi.priors._parameters import inverse_softplus

PseudoInputSpace = Literal["log1p", "counts"]

SMALLEST_EXPRESSION = 1e-2
"""Stands for a count of zero: small enough to be no expression, large enough to keep a gradient."""

SMALLEST_PROBABILITY = 1e-3
"""Probability that stands for a batch or category that a cell does not belong to."""


class PseudoCells(NamedTuple):
    """What an encoder sees of a cell, in a relaxed form that is differentiable.

    Attributes
    ----------
    counts
        Expression on the scale of counts, or of ``log1p(counts)`` where that was asked for, shape
        ``(K, n_genes)``, positive.
    batch
        Probabilities of the batches, shape ``(K, n_batch)``, rows on the simplex; ``None`` for uniform ones.
    continuous
        Continuous covariates, shape ``(K, n_continuous)``, or ``None``.
    categorical
        Probabilities of the categories of every further covariate, shapes ``(K, n_categories)``.
    """

    counts: Tensor
    batch: Tensor | None = None
    continuous: Tensor | None = None
    categorical: tuple[Tensor, ...] = ()


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
    def fill(self, cells: PseudoCells) -> None:
        """Start from cells, observed or averaged; the number of components becomes theirs.

        Parameters
        ----------
        cells
            Counts of shape ``(K, n_genes)``, probabilities of batches and categories, continuous covariates.
            What the encoder does not see may be left out (``None``, an empty tuple).
        """
        if cells.counts.shape[-1] != self.expression.shape[-1]:
            raise ValueError(
                f"`cells.counts` must have shape (K, {self.expression.shape[-1]}), "
                f"found {tuple(cells.counts.shape)}."
            )
        self.resize(len(cells.counts))
        value = torch.log1p(cells.counts) if self.space == "log1p" else cells.counts
        self.expression.copy_(inverse_softplus(value.clamp_min(SMALLEST_EXPRESSION)))
        self.batch_logits.copy_(_logits(cells.batch, self.batch_logits.shape[-1]))
        for logits, probabilities in zip(self.category_logits, cells.categorical, strict=False):
            logits.copy_(_logits(probabilities, logits.shape[-1]))
        if self.continuous is not None and cells.continuous is not None:
            self.continuous.copy_(cells.continuous)
        self.is_initialized.fill_(True)

    @torch.no_grad()
    def resize(self, n_components: int) -> None:
        """Change the number of pseudo-cells; what they were is forgotten."""
        self.n_components = n_components
        for parameter in self.parameters():
            parameter.data = parameter.new_zeros(n_components, parameter.shape[-1])

    @torch.no_grad()
    def doubt_new_categories(self) -> None:
        """Let pseudo-cells hardly belong to batches and categories that scvi-tools has appended for a query.

        Appended are columns of zeros, which would give each as much weight as a batch of the reference, and
        the encoder has learned nothing about them yet.
        """
        for logits in (self.batch_logits, *self.category_logits):
            is_new = (logits == 0).all(0)
            if is_new.any() and not is_new.all():
                total = logits[:, ~is_new].logsumexp(1, keepdim=True)
                logits[:, is_new] = total + math.log(SMALLEST_PROBABILITY)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # training may have changed the number of components that the constructor was told
        saved = state_dict.get(prefix + "expression")
        if saved is not None and len(saved) != self.n_components:
            self.resize(len(saved))
        super()._load_from_state_dict(state_dict, prefix, *args)

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


def _logits(probabilities: Tensor | None, n_categories: int) -> Tensor:
    """Logits of probabilities, with a floor that keeps a gradient; uniform where they are not known."""
    if probabilities is None or probabilities.shape[-1] != n_categories:
        return torch.zeros(1, n_categories)
    return torch.log(probabilities.clamp_min(SMALLEST_PROBABILITY))
