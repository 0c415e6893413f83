"""Labels of a minibatch's cells, for the prior."""

from __future__ import annotations

from collections.abc import Mapping

from scvi import REGISTRY_KEYS
from torch import Tensor

from vmmscvi.priors import LabelledMixturePrior, Prior


class LabelsMixin:
    """Access to the labels of a minibatch; the only place where a module reads them for its prior."""

    latent_prior: Prior

    def label_log_likelihood(self, tensors: Mapping[str, Tensor]) -> Tensor | None:
        """Log-probability of the minibatch's labels given each component; ``None`` without labels.

        Parameters
        ----------
        tensors
            The minibatch.

        Returns
        -------
        Tensor | None
            Log-likelihoods of shape ``(n, K)``.
        """
        prior = self.latent_prior
        if not isinstance(prior, LabelledMixturePrior):
            return None
        return prior.label_log_likelihood(tensors.get(REGISTRY_KEYS.LABELS_KEY))
