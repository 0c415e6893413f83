r"""Labels of the components of a mixture, and the probability of a cell's label given its component.

.. math::
    p(y | k) = 1 - \epsilon \text{ if component } k \text{ has the label } y, \text{ else }
    \epsilon / (L - 1)

with ``L`` labels and a share :math:`\epsilon` of wrong labels. This is a further term in the joint
log-density of position, component and label. With :math:`\epsilon = 0`, a labelled cell can only be in
components of its label.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FREE = -1
"""Code of components without a label."""


def right_and_wrong(noise: float, n_labels: int, impossible: float = -math.inf) -> tuple[float, float]:
    """Log-probabilities of the component's own label, and of each other label, for a cell."""
    wrong = noise / max(n_labels - 1, 1)
    return math.log1p(-noise), math.log(wrong) if wrong > 0 else impossible


def log_probabilities(of_components: Tensor, n_codes: int, noise: float) -> Tensor:
    """Log-probability of every label given every component.

    Parameters
    ----------
    of_components
        Code of each component's label, ``FREE`` for none; shape ``(K,)``.
    n_codes
        Number of codes that a cell may have.
    noise
        Share of wrong labels.

    Returns
    -------
    Tensor
        Log-probabilities of shape ``(n_codes + 1, K)``. Rows of codes that no component has are zero, as is
        the last row, for unlabelled cells: these codes carry no information.
    """
    codes = torch.arange(n_codes, device=of_components.device).unsqueeze(1)
    own = codes == of_components
    is_label = own.any(1, keepdim=True)
    right, wrong = right_and_wrong(noise, int(is_label.sum()))
    table = torch.full(own.shape, wrong, dtype=torch.float64, device=own.device).masked_fill(own, right)
    table = table.masked_fill(~is_label, 0.0)
    return torch.cat((table, table.new_zeros(1, len(of_components))))


class ComponentLabels(nn.Module):
    """Labels of a prior's components; they are not trained.

    Parameters
    ----------
    of_components
        Code of each component's label, ``FREE`` for none; shape ``(K,)``.
    noise
        Share of wrong labels, at least 0 and less than 1.
    """

    of_components: Tensor
    table: Tensor

    def __init__(self, of_components: Tensor, noise: float) -> None:
        super().__init__()
        of_components = of_components.long()
        if not 0 <= noise < 1:
            raise ValueError(f"`noise` must be at least 0 and less than 1, found {noise}.")
        if not (of_components >= 0).any():
            raise ValueError("`of_components` must have a label for at least one component, found none.")
        self.noise = noise
        # saved in the prior's extra state, so checkpoints of priors without labels do not change
        self.register_buffer("of_components", of_components, persistent=False)
        table = log_probabilities(of_components, int(of_components.max()) + 1, noise)
        self.register_buffer("table", table.to(torch.get_default_dtype()), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Log-probability of cells' labels given each component.

        Parameters
        ----------
        codes
            Code of every cell's label, shape ``(n,)`` or ``(n, 1)``. Codes that no component has are treated
            as no label.

        Returns
        -------
        Tensor
            Log-probabilities of shape ``(n, K)``.
        """
        return self.table[codes.view(-1).long().clamp_max(len(self.table) - 1)]

    @property
    def n_labels(self) -> int:
        """Number of labels that components have."""
        return len(set(self.of_components.tolist()) - {FREE})

    def state(self) -> Tensor:
        """Return the saved state: the noise, then the labels; shape ``(1 + K,)``."""
        noise = torch.tensor([self.noise], dtype=torch.float64)
        return torch.cat((noise, self.of_components.double().cpu()))

    @staticmethod
    def no_state(n_components: int) -> Tensor:
        """Return the saved state of a prior without labels.

        Parameters
        ----------
        n_components
            Number ``K`` of components.
        """
        return torch.full((1 + n_components,), float(FREE), dtype=torch.float64)

    @classmethod
    def from_state(cls, state: Tensor) -> ComponentLabels | None:
        """Restore labels from the saved state; ``None`` if there were none.

        Parameters
        ----------
        state
            Result of :meth:`state` or :meth:`no_state`.
        """
        if not len(state) or state[0] < 0:
            return None
        return cls(state[1:], float(state[0]))
