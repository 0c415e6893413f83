"""Pseudo-inputs: learned inputs of an encoder, one for each component of the prior.

Pseudo-inputs are inputs of an encoder after logarithm, normalisation and concatenation, so nothing here
depends on counts, peaks or proteins.
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
"""Parametrisation of non-negative values: the softplus of the parameter, or a function of it."""

SMALLEST_VALUE = 1e-2
"""Value that replaces zero: small enough to mean no expression, large enough to keep a gradient."""
SMALLEST_TOTAL = 1e-6
"""A component with a smaller share of cells has no cells of a modality."""
SMALLEST_PROBABILITY = 1e-3
"""Probability of a batch or category to which a cell does not belong."""


class EncoderLayout(NamedTuple):
    """Layout of an encoder's arguments.

    Attributes
    ----------
    n_values
        Width of the first argument.
    n_categories
        Number of categories of each further argument; at most one if the encoder ignores it.
    """

    n_values: int
    n_categories: tuple[int, ...] = ()

    @classmethod
    def of(cls, encoder: nn.Module) -> EncoderLayout:
        """Read the layout from the first :class:`scvi.nn.FCLayers` of an encoder.

        Parameters
        ----------
        encoder
            The encoder.

        Returns
        -------
        EncoderLayout
            The layout.

        Raises
        ------
        ValueError
            If the encoder has no such layers.
        """
        blocks = next((layer for layer in encoder.modules() if isinstance(layer, FCLayers)), None)
        if blocks is None:
            raise ValueError(
                f"{type(encoder).__name__} has no FCLayers of scvi-tools; expected an encoder made of them."
            )
        linear = next(layer for layer in blocks.modules() if isinstance(layer, nn.Linear))
        categories = tuple(int(n) for n in blocks.n_cat_list)
        return cls(linear.in_features - sum(categories), categories)


class InputValues(NamedTuple):
    """Inputs of an encoder in a relaxed form.

    Attributes
    ----------
    values
        Values of the first argument, shape ``(n, n_values)``.
    categories
        Probabilities of the categories of each further argument, shapes ``(n, n_categories)``; empty for
        uniform probabilities.
    present
        Whether each of the ``n`` has these inputs, shape ``(n,)``; ``None`` if all have.
    """

    values: Tensor
    categories: tuple[Tensor, ...] = ()
    present: Tensor | None = None

    @classmethod
    def of_call(cls, arguments: Sequence[Tensor], layout: EncoderLayout) -> InputValues:
        """Convert the arguments of a call of an encoder; codes of categories become one-hot vectors.

        Parameters
        ----------
        arguments
            Arguments of the call: values, then codes of categories.
        layout
            Layout of the arguments.

        Returns
        -------
        InputValues
            The inputs in relaxed form.
        """
        values, *codes = arguments
        categories = (
            one_hot(code.long().ravel(), n).float() if n > 1 else code.new_ones(len(code), 1).float()
            for code, n in zip(codes, layout.n_categories, strict=False)
        )
        return cls(values.float(), tuple(categories))


class EncoderInputs(nn.Module):
    """``K`` learned inputs of an encoder.

    A softplus keeps values positive that are never negative in the data; a softmax keeps categories on the
    simplex.

    Parameters
    ----------
    n_components
        Number ``K`` of inputs.
    layout
        Layout of the encoder's arguments.
    scale
        Parametrisation of positive values, see :data:`Scale`. It determines whether a step of the optimizer
        is a constant difference or a constant fold change.
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
        """Make inputs of the same layout, initialised with observed or averaged inputs.

        Parameters
        ----------
        inputs
            Values of shape ``(K, n_values)``, and probabilities of categories, for any ``K``.
        n_nonnegative
            Number of leading values that are never negative.

        Returns
        -------
        EncoderInputs
            The new inputs.

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
        # data with many zeros have small means, which the floor must not exceed
        floor = min(SMALLEST_VALUE, 0.1 * float(positive.mean())) if positive.numel() else SMALLEST_VALUE
        positive = self._to_softplus(positive.clamp_min(max(floor, 1e-6)))
        fresh.values[:, :n_nonnegative] = inverse_softplus(positive)
        for logits, probabilities in zip(fresh.category_logits, inputs.categories, strict=False):
            logits.copy_(torch.log(probabilities.clamp_min(SMALLEST_PROBABILITY)))
        return fresh

    def forward(self) -> tuple[Tensor, ...]:
        """Return the arguments of the encoder, each with ``K`` rows."""
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
        """Give little weight to batches and categories that scvi-tools has appended for a query.

        scvi-tools appends columns of zeros. They would have as much weight as a batch of the reference,
        although the encoder has learned nothing about them.
        """
        for logits in self.category_logits:
            is_new = (logits == 0).all(0)
            if is_new.any() and not is_new.all():
                total = logits[:, ~is_new].logsumexp(1, keepdim=True)
                logits[:, is_new] = total + math.log(SMALLEST_PROBABILITY)

    def get_extra_state(self) -> Tensor:
        """Return the number of values kept positive, which is saved beside the parameters."""
        return torch.tensor([self.n_nonnegative])

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the state returned by :meth:`get_extra_state`."""
        self.n_nonnegative = int(state[0])


def count_nonnegative(minimum: Tensor) -> int:
    """Count the leading values that are never negative, given their minima, shape ``(n_values,)``.

    Expression comes first, followed by continuous covariates and learned representations.
    """
    negative = (minimum < 0).nonzero()
    return int(negative[0]) if len(negative) else len(minimum)


class MeanInputs:
    """Weighted means of encoder inputs, accumulated over minibatches."""

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
            raise ValueError("No minibatch was added; expected at least one to average.")
        means = self._sums
        if self._total is not None:
            means = [_over(total, self._total) for total in means]
        return InputValues(means[0], tuple(means[1:])), count_nonnegative(self._minimum)


def _over(sums: Tensor, totals: Tensor) -> Tensor:
    """Divide sums ``(K, n_values)`` by totals ``(K,)``; components without cells receive the overall mean."""
    overall = sums.sum(0) / totals.sum().clamp_min(SMALLEST_TOTAL)
    has_cells = (totals > SMALLEST_TOTAL).unsqueeze(1)
    return torch.where(has_cells, sums / totals.clamp_min(SMALLEST_TOTAL).unsqueeze(1), overall)
