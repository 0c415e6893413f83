"""MultiVI with the VampPrior Mixture Model."""

from __future__ import annotations

from typing import Any, Literal

from scvi import REGISTRY_KEYS
from scvi.model import MULTIVI

from vmmscvi.model._accessibility_mixin import AccessibilityMixin
from vmmscvi.model._feature_checks import check_features
from vmmscvi.model._markers_mixin import MarkersMixin
from vmmscvi.model._training_facts import TrainingDefaults
from vmmscvi.model._vmm_model import VMMModelMixin
from vmmscvi.module import MULTIVMMVAE
from vmmscvi.priors import Inference, PriorName
from vmmscvi.train import AdversarialEmpiricalBayesPlan


class MULTIVI_VMM(VMMModelMixin, MarkersMixin, AccessibilityMixin, MULTIVI):
    """MultiVI with the VampPrior Mixture Model: integrates and clusters RNA, peaks and proteins (multiome).

    The class inherits all of :class:`scvi.model.MULTIVI`, including its networks. Cells may lack modalities.

    Parameters
    ----------
    adata
        MuData registered with :meth:`setup_mudata`.
    n_genes, n_regions, modality_weights, modality_penalty, n_hidden, n_latent, n_layers_encoder, \
n_layers_decoder, dropout_rate, gene_likelihood, use_batch_norm, use_layer_norm, encode_covariates
        As in :class:`scvi.model.MULTIVI`.
    prior, n_components, inference
        As in :class:`vmmscvi.SCVI_VMM`.
    **model_kwargs
        Further arguments of :class:`scvi.model.MULTIVI`, of its module and of
        :class:`vmmscvi.priors.PriorConfig`.

    References
    ----------
    Ashuach et al., Nature Methods 20 (2023). Stirn & Knowles, arXiv 2402.04412.

    Examples
    --------
    >>> MULTIVI_VMM.setup_mudata(mdata, modalities={"rna_layer": "rna", "atac_layer": "atac"})
    >>> model = MULTIVI_VMM(mdata)
    >>> model.train()
    >>> mdata.obs["vmm_cluster"] = model.predict()
    """

    _module_cls = MULTIVMMVAE
    _training_plan_cls = AdversarialEmpiricalBayesPlan
    training_defaults = TrainingDefaults(kl_warmup=0.5, plan={"scale_adversarial_loss": 1})

    def __init__(
        self,
        adata: Any,
        n_genes: int | None = None,
        n_regions: int | None = None,
        modality_weights: Literal["equal", "cell", "universal"] = "equal",
        modality_penalty: Literal["Jeffreys", "MMD", "None"] = "Jeffreys",
        n_hidden: int | None = None,
        n_latent: int | None = None,
        n_layers_encoder: int = 2,
        n_layers_decoder: int = 2,
        dropout_rate: float = 0.1,
        gene_likelihood: Literal["zinb", "nb", "poisson"] = "zinb",
        use_batch_norm: Literal["encoder", "decoder", "none", "both"] = "none",
        use_layer_norm: Literal["encoder", "decoder", "none", "both"] = "both",
        encode_covariates: bool = False,
        prior: PriorName = "vmm",
        n_components: int = 100,
        inference: Inference = "MAP-DP",
        **model_kwargs: Any,
    ) -> None:
        super().__init__(
            adata,
            n_genes=n_genes,
            n_regions=n_regions,
            modality_weights=modality_weights,
            modality_penalty=modality_penalty,
            n_hidden=n_hidden,
            n_latent=n_latent,
            n_layers_encoder=n_layers_encoder,
            n_layers_decoder=n_layers_decoder,
            dropout_rate=dropout_rate,
            gene_likelihood=gene_likelihood,
            use_batch_norm=use_batch_norm,
            use_layer_norm=use_layer_norm,
            encode_covariates=encode_covariates,
            prior=prior,
            n_components=n_components,
            inference=inference,
            **model_kwargs,
        )
        self.init_params_ = self._get_init_params(locals())

    def train(  # type: ignore[override]
        self,
        max_epochs: int | None = None,
        *,
        plan_kwargs: dict[str, Any] | None = None,
        adversarial_mixing: bool = True,
        **kwargs: Any,
    ) -> None:
        """Train networks and prior.

        Parameters
        ----------
        max_epochs, plan_kwargs
            As in :meth:`vmmscvi.SCVI_VMM.train`.
        adversarial_mixing
            Whether to train against a classifier that predicts the batch from the latent space. Ignored for
            a single batch.
        **kwargs
            As in :meth:`vmmscvi.SCVI_VMM.train`.
        """
        fools = adversarial_mixing and self.module.n_batch > 1
        plan = {"adversarial_classifier": fools, **(plan_kwargs or {})}
        super().train(max_epochs=max_epochs, plan_kwargs=plan, **kwargs)

    def check_data(self) -> None:
        """Check genes, peaks and proteins, batches and covariates; cells may lack modalities."""
        for key, integral in {
            REGISTRY_KEYS.X_KEY: True,
            REGISTRY_KEYS.ATAC_X_KEY: False,
            REGISTRY_KEYS.PROTEIN_EXP_KEY: True,
        }.items():
            check_features(self.adata_manager, key, integral, allow_empty=True)
        super().check_data()
