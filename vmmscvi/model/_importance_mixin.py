"""Importance weights of posterior samples under the learned prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from pyro.distributions.util import deep_to
from scvi import REGISTRY_KEYS
from torch import Tensor
from torch.distributions import Distribution

from vmmscvi._upstream import subset_distribution


class ImportanceWeightsMixin:
    """Importance weights for ``weights="importance"``; scvi-tools' version hard-codes a N(0, I) prior."""

    module: Any

    @torch.inference_mode()
    def get_importance_weights(
        self,
        adata: AnnData | None,
        indices: Sequence[int] | np.ndarray,
        qz: Distribution,
        px: Distribution,
        zs: Tensor,
        max_cells: int = 1024,
        truncation: bool = False,
        n_mc_samples: int = 500,
        n_mc_samples_per_pass: int = 250,
        **data_loader_kwargs: Any,
    ) -> np.ndarray:
        r"""Compute weights that turn samples of approximate posteriors into samples of exact posteriors.

        ``get_normalized_expression`` and ``differential_expression`` call this method for
        ``weights="importance"``. Its time grows with samples times anchor cells times genes: minutes for a
        few hundred cells.

        Parameters
        ----------
        adata
            Registered AnnData; the training data by default.
        indices
            The population: positions of the cells whose posteriors were sampled.
        qz
            Their approximate posteriors, ``Normal`` with batch shape ``(n_cells, p)``.
        px
            Likelihoods at the samples, batch shape ``([n_samples,] n_cells, n_genes)``.
        zs
            The samples, shape ``([n_samples,] n_cells, p)``.
        max_cells
            Largest number of random anchor cells that represent the population.
        truncation
            Whether to raise weights below the mean to the mean, as in scvi-tools.
        n_mc_samples, n_mc_samples_per_pass
            Samples for each anchor's marginal likelihood; see :meth:`vmmscvi.module.VMMVAE.marginal_ll`.
        **data_loader_kwargs
            Arguments of the data loader of anchor cells.

        Returns
        -------
        numpy.ndarray
            Weights of shape ``([n_samples *] n_cells,)`` that sum to one.

        Raises
        ------
        ValueError
            If the likelihood is ``"normal"``.

        Notes
        -----
        With anchors :math:`a`,
        :math:`w(z) \propto p(z) \sum_a \frac{p(x_a|z)}{p(x_a)} / \sum_a q(z|x_a)`: the ratio of the
        population's mean exact and mean approximate posterior (Boyeau et al., PNAS 2023). :math:`p(z)` is
        the model's own prior. As in scvi-tools, every sample is decoded in the batch of its own cell, so the
        weights are exact for a population of one batch. A latent library size is replaced by the observed
        one in :math:`p(x_a|z)`.
        """
        if self.module.gene_likelihood == "normal":
            raise ValueError(
                "`weights='importance'` needs a count likelihood, found `gene_likelihood='normal'`: use "
                "`weights='uniform'`."
            )
        indices = np.asarray(indices)
        # the global generators in scvi-tools' order, so the same seed gives the same anchors
        anchors = (
            np.random.choice(len(indices), size=max_cells, replace=False)  # noqa: NPY002
            if len(indices) > max_cells
            else np.arange(len(indices))
        )
        log_px: Tensor = self.get_marginal_ll(  # type: ignore[attr-defined]
            adata,
            indices=indices[anchors],
            return_mean=False,
            n_mc_samples=n_mc_samples,
            n_mc_samples_per_pass=n_mc_samples_per_pass,
        )
        loader = self._make_data_loader(  # type: ignore[attr-defined]
            adata=adata, indices=indices[anchors], batch_size=1, **data_loader_kwargs
        )
        log_px_z = self._log_likelihoods(loader, px)
        log_pz = self.module.prior_in_use.log_prob(zs.to(self.module.device), self.module.centers()).cpu()
        q_anchors = subset_distribution(qz, torch.as_tensor(anchors), 0)
        log_qz = q_anchors.log_prob(zs.cpu().unsqueeze(-2)).sum(-1)
        # log-likelihoods of thousands of genes are large: float32 would round their differences
        log_ratio = torch.logsumexp(log_px_z.double() - log_px.double(), -1) - torch.logsumexp(
            log_qz.double(), -1
        )
        log_weights = (log_pz.double() + log_ratio).ravel()
        if truncation:
            log_mean = torch.logsumexp(log_weights, 0) - np.log(len(log_weights))
            log_weights = log_weights.clamp(min=log_mean)
        weights: np.ndarray = torch.softmax(log_weights, 0).numpy()
        return weights

    def _log_likelihoods(self, anchors: Any, likelihood: Distribution) -> Tensor:
        """Log-likelihood of every anchor at every sample, shape ``([n_samples,] n_cells, n_anchors)``."""
        px: Any = deep_to(likelihood, device=self.module.device)  # type: ignore[no-untyped-call]
        columns = []
        for tensors in anchors:
            counts = tensors[REGISTRY_KEYS.X_KEY].to(self.module.device)
            if self.module.use_size_factor_key:
                library = tensors[REGISTRY_KEYS.SIZE_FACTOR_KEY].to(self.module.device)
            else:
                library = counts.sum(-1)
            # decode every sample with the library size of the anchor
            setattr(px, "rate" if self.module.gene_likelihood == "poisson" else "mu", px.scale * library)
            columns.append(px.log_prob(counts).sum(-1).cpu())
        return torch.stack(columns, dim=-1)
