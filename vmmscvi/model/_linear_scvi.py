"""Linearly decoded scVI with the VampPrior Mixture Model."""

from __future__ import annotations

from typing import Any, Literal

from anndata import AnnData
from scvi.model import LinearSCVI

from vmmscvi.model._importance_mixin import ImportanceWeightsMixin
from vmmscvi.model._markers_mixin import MarkersMixin
from vmmscvi.model._registry import registry_argument
from vmmscvi.model._setup_checks import CountChecksMixin
from vmmscvi.model._validation import check_counts
from vmmscvi.model._vmm_model import VMMModelMixin
from vmmscvi.module import LDVMMVAE
from vmmscvi.priors import Inference, PriorName


class LinearSCVI_VMM(VMMModelMixin, MarkersMixin, ImportanceWeightsMixin, CountChecksMixin, LinearSCVI):
    """Linearly decoded scVI with the VampPrior Mixture Model: clusters, and the genes of each factor.

    The class inherits all of :class:`scvi.model.LinearSCVI`. As in LinearSCVI, the encoder does not see the
    batch.

    Parameters
    ----------
    adata
        AnnData of raw counts, registered with :meth:`setup_anndata`.
    n_hidden, n_latent, n_layers, dropout_rate, dispersion, gene_likelihood
        As in :class:`scvi.model.LinearSCVI`.
    use_observed_lib_size
        ``True``, as in :class:`vmmscvi.SCVI_VMM` (LinearSCVI: ``False``).
    prior, n_components, inference
        As in :class:`vmmscvi.SCVI_VMM`.
    registry
        Registry of a custom data module, instead of ``adata``; needs scvi-tools 1.5.
    **model_kwargs
        Further arguments of :class:`scvi.module.LDVAE` and of :class:`vmmscvi.priors.PriorConfig`.

    References
    ----------
    Svensson et al., Bioinformatics 36 (2020). Stirn & Knowles, arXiv 2402.04412.

    Examples
    --------
    >>> LinearSCVI_VMM.setup_anndata(adata, batch_key="batch")
    >>> model = LinearSCVI_VMM(adata)
    >>> model.train()
    >>> adata.obs["vmm_cluster"] = model.predict()
    >>> loadings = model.get_loadings()
    """

    _module_cls = LDVMMVAE

    def __init__(
        self,
        adata: AnnData | None = None,
        n_hidden: int = 128,
        n_latent: int = 10,
        n_layers: int = 1,
        dropout_rate: float = 0.1,
        dispersion: Literal["gene", "gene-batch", "gene-label", "gene-cell"] = "gene",
        gene_likelihood: Literal["zinb", "nb", "poisson"] = "nb",
        use_observed_lib_size: bool = True,
        prior: PriorName = "vmm",
        n_components: int = 100,
        inference: Inference = "MAP-DP",
        registry: dict[str, Any] | None = None,
        **model_kwargs: Any,
    ) -> None:
        super().__init__(
            adata,
            n_hidden=n_hidden,
            n_latent=n_latent,
            n_layers=n_layers,
            dropout_rate=dropout_rate,
            dispersion=dispersion,
            gene_likelihood=gene_likelihood,
            use_observed_lib_size=use_observed_lib_size,
            prior=prior,
            n_components=n_components,
            inference=inference,
            **registry_argument(type(self), adata, registry),
            **model_kwargs,
        )
        self.init_params_ = self._get_init_params(locals())

    def check_data(self) -> None:
        """Check counts, batches and covariates."""
        check_counts(self.adata_manager)
        super().check_data()
