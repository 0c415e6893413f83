"""Learned observations, one for each component of the prior, directly in the space of the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ArrayPseudoInputs(nn.Module):
    """``K`` learned rows.

    Parameters
    ----------
    n_components
        Number ``K`` of rows.
    n_features
        Number of features of a row.
    """

    is_initialized: Tensor

    def __init__(self, n_components: int, n_features: int) -> None:
        super().__init__()
        self.n_components = n_components
        self.values = nn.Parameter(torch.zeros(n_components, n_features))
        self.register_buffer("is_initialized", torch.tensor(False))

    @torch.no_grad()
    def fill(self, rows: Tensor) -> None:
        """Start from rows, observed or averaged, shape ``(K, n_features)``; their number becomes ``K``."""
        if rows.dim() != 2 or rows.shape[1] != self.values.shape[1]:
            raise ValueError(
                f"`rows` must have shape (K, {self.values.shape[1]}), found {tuple(rows.shape)}."
            )
        self.resize(len(rows))
        self.values.copy_(rows)
        self.is_initialized.fill_(True)

    @torch.no_grad()
    def resize(self, n_components: int) -> None:
        """Change the number of rows; what they were is forgotten."""
        self.n_components = n_components
        self.values.data = self.values.new_zeros(n_components, self.values.shape[1])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # training may have changed the number of components that the constructor was told
        saved = state_dict.get(prefix + "values")
        if saved is not None and len(saved) != self.n_components:
            self.resize(len(saved))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self) -> Tensor:
        """Return the rows, shape ``(K, n_features)``."""
        return self.values
