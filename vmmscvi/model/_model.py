"""SCVI_VMM: scVI with a mixture prior."""

from __future__ import annotations

from typing import Any, Literal

from anndata import AnnData
from scvi.model import SCVI

from vmmscvi.model._conversion_mixin import ConversionMixin
from vmmscvi.model._importance_mixin import ImportanceWeightsMixin
from vmmscvi.model._markers_mixin import MarkersMixin
from vmmscvi.model._setup_checks import CountChecksMixin
from vmmscvi.model._validation import check_counts, check_keys
from vmmscvi.model._vmm_model import VMMModelMixin
from vmmscvi.module import VMMVAE, PseudoInputSpace
from vmmscvi.priors import Inference, PriorName, WishartScale
from vmmscvi.train import EmpiricalBayesTrainingPlan


class SCVI_VMM(
    VMMModelMixin,
    MarkersMixin,
    ImportanceWeightsMixin,
    ConversionMixin,
    CountChecksMixin,
    SCVI,
):
    """scVI with the VampPrior Mixture Model: integrates and clusters single-cell counts in one training.

    A Bayesian mixture of Gaussians replaces the N(0, I) prior of :class:`scvi.model.SCVI`. Its components
    are the clusters. The class inherits all methods of scVI.

    Parameters
    ----------
    adata
        AnnData of raw counts, registered with :meth:`setup_anndata`.
    registry
        Registry of a custom data module, instead of ``adata``.
    prior
        ``"vmm"`` (default), ``"gmm"`` (the same mixture without pseudo-inputs), ``"vampprior"`` or
        ``"standard_normal"`` (scVI's prior).
    n_components
        Largest number of clusters. Superfluous components lose their weight.
    inference
        Hyper-priors of the mixture: ``"MAP-DP"`` (default), ``"MAP"`` or ``"MLE"``.
    n_hidden
        Width of the hidden layers of encoder and decoder.
    n_latent
        Dimension of the latent space.
    n_layers
        Number of hidden layers of encoder and decoder.
    dropout_rate
        Dropout in the hidden layers of the encoder.
    dispersion
        Dispersion parameters: one for each gene, gene and batch, gene and label, or gene and cell.
    gene_likelihood
        Likelihood of the counts: zero-inflated negative binomial (default), negative binomial or Poisson.
        Use ``"normal"`` for values that are not counts.
    use_observed_lib_size
        Whether to use a cell's total count as its library size; otherwise the library size is a latent
        variable.
    encode_covariates
        Whether the encoder sees the batch: ``True``, as in the paper (scVI: ``False``).
    responsibilities_in_gradient, wishart_scale
        See :class:`vmmscvi.priors.BayesianMixturePrior`.
    pseudo_input_space
        See :class:`vmmscvi.module.VMMVAE`.
    **kwargs
        Further arguments of :class:`scvi.module.VAE`.

    References
    ----------
    Stirn & Knowles, The VampPrior Mixture Model, arXiv 2402.04412. Lopez et al., Nature Methods 15 (2018).

    Examples
    --------
    >>> SCVI_VMM.setup_anndata(adata, batch_key="batch")
    >>> model = SCVI_VMM(adata)
    >>> model.train()
    >>> model.annotate()  # obsm["X_vmm"], obs["vmm_cluster"], ...
    """

    _module_cls = VMMVAE
    _training_plan_cls = EmpiricalBayesTrainingPlan

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        prior: PriorName = "vmm",
        n_components: int = 100,
        inference: Inference = "MAP-DP",
        n_hidden: int = 128,
        n_latent: int = 10,
        n_layers: int = 1,
        dropout_rate: float = 0.1,
        dispersion: Literal["gene", "gene-batch", "gene-label", "gene-cell"] = "gene",
        gene_likelihood: Literal["zinb", "nb", "poisson", "normal"] = "zinb",
        use_observed_lib_size: bool = True,
        encode_covariates: bool = True,
        responsibilities_in_gradient: bool | None = None,
        wishart_scale: WishartScale = "learned",
        pseudo_input_space: PseudoInputSpace = "log1p",
        **kwargs: Any,
    ) -> None:
        if adata is None and not use_observed_lib_size:
            raise ValueError(
                "`use_observed_lib_size=False` needs `adata`, because the prior on the library size is "
                "computed from it; found only a registry. Pass `adata`."
            )
        super().__init__(
            adata,
            registry,
            n_hidden=n_hidden,
            n_latent=n_latent,
            n_layers=n_layers,
            dropout_rate=dropout_rate,
            dispersion=dispersion,
            gene_likelihood=gene_likelihood,
            use_observed_lib_size=use_observed_lib_size,
            encode_covariates=encode_covariates,
            prior=prior,
            n_components=n_components,
            inference=inference,
            responsibilities_in_gradient=responsibilities_in_gradient,
            wishart_scale=wishart_scale,
            pseudo_input_space=pseudo_input_space,
            **kwargs,
        )
        self._model_summary_string = (
            f"SCVI_VMM model with the following parameters: \ninference: {inference}, n_hidden: {n_hidden}, "
            f"n_latent: {n_latent}, n_layers: {n_layers}, "
            f"dropout_rate: {dropout_rate}, dispersion: {dispersion}, gene_likelihood: {gene_likelihood}."
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Register an AnnData: name the counts, batches and covariates.

        Parameters
        ----------
        adata
            The data. Columns ``_scvi_...`` are added to ``obs`` and an identifier to ``uns``.
        layer
            Layer of raw counts; ``adata.X`` by default.
        batch_key
            Column of ``adata.obs`` with the batch of each cell.
        labels_key
            Column of ``adata.obs`` with cell types. Only ``train(start="labels")`` uses them.
        size_factor_key
            Column of ``adata.obs`` with size factors, which replace the library size.
        categorical_covariate_keys, continuous_covariate_keys
            Columns of ``adata.obs`` with further covariates. Their effects are removed as well.
        **kwargs
            Further arguments of :meth:`scvi.model.SCVI.setup_anndata`.

        Raises
        ------
        ValueError
            If the layer or a column does not exist.
        """
        keys = {
            "batch_key": batch_key,
            "labels_key": labels_key,
            "size_factor_key": size_factor_key,
            "categorical_covariate_keys": categorical_covariate_keys,
            "continuous_covariate_keys": continuous_covariate_keys,
        }
        check_keys(adata, layer, keys)
        super().setup_anndata(adata, layer=layer, **keys, **kwargs)

    def check_data(self) -> None:
        """Check counts, batches and covariates; raise a ``ValueError`` if one is invalid."""
        check_counts(self.adata_manager, require_counts=self.module.gene_likelihood != "normal")
        super().check_data()
