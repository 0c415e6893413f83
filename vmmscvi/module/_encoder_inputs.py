"""Pseudo-inputs: learned inputs of an encoder, one for each component of the prior.

They are what an encoder is given after logarithm, normalisation and concatenation, so that nothing here knows
of counts, peaks or proteins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from scvi.nn import FCLayers
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from vmmscvi.priors._parameters import inverse_softplus

Scale = Literal["linear", "log1p", "expm1"]
"""How values that are not negative are read: the softplus of the parameter, or a function of it."""

SMALLEST_VALUE = 1e-2
"""Stands for zero: small enough to be no expression, large enough to keep a gradient."""
SMALLEST_TOTAL = 1e-6
"""Share of a component's cells below which it has none of a modality."""
SMALLEST_PROBABILITY = 1e-3
"""Probability that stands for a batch or category that a cell does not belong to."""


class EncoderLayout(NamedTuple):
    """What an encoder is called with.

    Attributes
    ----------
    n_values
        Width of its first argument.
    n_categories
        Numbers of categories of the arguments that follow; at most one where the encoder ignores it.
    """

    n_values: int
    n_categories: tuple[int, ...] = ()

    @classmethod
    def of(cls, encoder: nn.Module) -> EncoderLayout:
        """Read the layout from the first :class:`scvi.nn.FCLayers` of an encoder.

        Raises
        ------
        ValueError
            If the encoder has none.
        """
        blocks = next((layer for layer in encoder.modules() if isinstance(layer, FCLayers)), None)
        if blocks is None:
            raise ValueError(f"{type(encoder).__name__} is not made of scvi-tools' FCLayers.")
        linear = next(layer for layer in blocks.modules() if isinstance(layer, nn.Linear))
        categories = tuple(int(n) for n in blocks.n_cat_list)
        return cls(linear.in_features - sum(categories), categories)


class InputValues(NamedTuple):
    """Inputs of an encoder in a relaxed form.

    Attributes
    ----------
    values
        Shape ``(n, n_values)``.
    categories
        Probabilities of the categories of each further argument, shapes ``(n, n_categories)``; empty for
        uniform ones.
    present
        Which of the ``n`` have these inputs at all, shape ``(n,)``; ``None`` for all.
    """

    values: Tensor
    categories: tuple[Tensor, ...] = ()
    present: Tensor | None = None

    @classmethod
    def of_call(cls, arguments: Sequence[Tensor], layout: EncoderLayout) -> InputValues:
        """Read the arguments that an encoder was called with; codes of categories become one-hot vectors."""
        values, *codes = arguments
        categories = (
            one_hot(code.long().ravel(), n).float() if n > 1 else code.new_ones(len(code), 1).float()
            for code, n in zip(codes, layout.n_categories, strict=False)
        )
        return cls(values.float(), tuple(categories))


class EncoderInputs(nn.Module):
    """``K`` learned inputs of an encoder.

    Values that are never negative in the data are kept positive by a softplus, categories on the simplex by a
    softmax.

    Parameters
    ----------
    n_components
        Number ``K`` of inputs.
    layout
        What the encoder is called with.
    scale
        How positive values are read, see :data:`Scale`: it decides whether an optimizer's step means the same
        difference or the same fold change.
    """

    def __init__(self, n_components: int, layout: EncoderLayout, scale: Scale = "linear") -> None:
        super().__init__()
        self.n_components = n_components
        self.layout = layout
        self.scale = scale
        self.n_nonnegative = layout.n_values
        """Number of leading values that are kept positive."""
        self.values = nn.Parameter(torch.zeros(n_components, layout.n_values))
        self.category_logits = nn.ParameterList(
            torch.zeros(n_components, max(n, 1)) for n in layout.n_categories
        )

    @torch.no_grad()
    def initialised_from(self, inputs: InputValues, n_nonnegative: int) -> EncoderInputs:
        """Make inputs of the same kind that start from observed or averaged ones.

        Parameters
        ----------
        inputs
            Values of shape ``(K, n_values)``, and probabilities of categories; ``K`` may be any number.
        n_nonnegative
            Number of leading values that are never negative.

        Raises
        ------
        ValueError
            If the values have another width, or the number or widths of categories differ.
        """
        expected = tuple(max(n, 1) for n in self.layout.n_categories)
        found = tuple(probabilities.shape[-1] for probabilities in inputs.categories)
        if inputs.values.dim() != 2 or inputs.values.shape[1] != self.layout.n_values:
            raise ValueError(
                f"`inputs.values` must have shape (K, {self.layout.n_values}), "
                f"found {tuple(inputs.values.shape)}."
            )
        if inputs.categories and found != expected:
            raise ValueError(f"`inputs.categories` must have widths {expected}, found {found}.")
        fresh = EncoderInputs(len(inputs.values), self.layout, self.scale).to(self.values.device)
        fresh.n_nonnegative = n_nonnegative
        fresh.values.copy_(inputs.values)
        positive = inputs.values[:, :n_nonnegative]
        # data of many zeros have small means, which the floor must not exceed
        floor = min(SMALLEST_VALUE, 0.1 * float(positive.mean())) if positive.numel() else SMALLEST_VALUE
        positive = self._to_softplus(positive.clamp_min(max(floor, 1e-6)))
        fresh.values[:, :n_nonnegative] = inverse_softplus(positive)
        for logits, probabilities in zip(fresh.category_logits, inputs.categories, strict=False):
            logits.copy_(torch.log(probabilities.clamp_min(SMALLEST_PROBABILITY)))
        return fresh

    def forward(self) -> tuple[Tensor, ...]:
        """Return the arguments that the encoder is called with, each with ``K`` rows."""
        n = self.n_nonnegative
        values = self._from_softplus(softplus(self.values[:, :n]))
        if n < self.layout.n_values:
            values = torch.cat((values, self.values[:, n:]), dim=-1)
        return values, *(torch.softmax(logits, dim=-1) for logits in self.category_logits)

    def _from_softplus(self, value: Tensor) -> Tensor:
        if self.scale == "linear":
            return value
        return torch.log1p(value) if self.scale == "log1p" else torch.expm1(value)

    def _to_softplus(self, value: Tensor) -> Tensor:
        if self.scale == "linear":
            return value
        return torch.expm1(value) if self.scale == "log1p" else torch.log1p(value)

    @torch.no_grad()
    def doubt_new_categories(self) -> None:
        """Let inputs hardly belong to batches and categories that scvi-tools has appended for a query.

        Appended are columns of zeros, which would give each as much weight as a batch of the reference, and
        the encoder has learned nothing about them yet.
        """
        for logits in self.category_logits:
            is_new = (logits == 0).all(0)
            if is_new.any() and not is_new.all():
                total = logits[:, ~is_new].logsumexp(1, keepdim=True)
                logits[:, is_new] = total + math.log(SMALLEST_PROBABILITY)

    def get_extra_state(self) -> Tensor:
        """Return what is saved beside the parameters: how many values are kept positive."""
        return torch.tensor([self.n_nonnegative])

    def set_extra_state(self, state: Tensor) -> None:
        """Restore what :meth:`get_extra_state` saved."""
        self.n_nonnegative = int(state[0])


def count_nonnegative(minimum: Tensor) -> int:
    """Count the leading values that are never negative; ``minimum`` is their smallest, shape ``(n_values,)``.

    Expression comes first, continuous covariates and learned representations after it.
    """
    negative = (minimum < 0).nonzero()
    return int(negative[0]) if len(negative) else len(minimum)


class MeanInputs:
    """Weighted means of encoder inputs, summed minibatch by minibatch."""

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self._total: Tensor | None = None
        self._minimum: Tensor | None = None

    def add(self, inputs: InputValues, weights: Tensor) -> None:
        """Add a minibatch of ``n`` inputs; ``weights`` has shape ``(K, n)``."""
        if inputs.present is not None:
            weights = weights * inputs.present
            total = weights.sum(1)
            self._total = total if self._total is None else self._total + total
        parts = [weights @ part for part in (inputs.values, *inputs.categories)]
        self._sums = [s + part for s, part in zip(self._sums, parts, strict=True)] if self._sums else parts
        smallest = inputs.values.amin(0)
        self._minimum = smallest if self._minimum is None else torch.minimum(self._minimum, smallest)

    def result(self) -> tuple[InputValues, int]:
        """Return the means, and the number of leading values that are never negative."""
        if self._minimum is None:
            raise ValueError("There is no minibatch to average.")
        means = self._sums
        if self._total is not None:
            means = [_over(total, self._total) for total in means]
        return InputValues(means[0], tuple(means[1:])), count_nonnegative(self._minimum)


def _over(sums: Tensor, totals: Tensor) -> Tensor:
    """Divide sums ``(K, n_values)`` by totals ``(K,)``; components without a cell get the overall mean."""
    overall = sums.sum(0) / totals.sum().clamp_min(SMALLEST_TOTAL)
    has_cells = (totals > SMALLEST_TOTAL).unsqueeze(1)
    return torch.where(has_cells, sums / totals.clamp_min(SMALLEST_TOTAL).unsqueeze(1), overall)
