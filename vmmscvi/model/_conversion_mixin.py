"""Conversion from a trained scVI to this model, and back to scVI for models that build on it."""

from __future__ import annotations

import inspect
from typing import Any, Self

from anndata import AnnData
from scvi.model import SCVI
from scvi.module import VAE

from vmmscvi._upstream import SETUP_ARGS_KEY
from vmmscvi.model._genes import in_order_of, registered_genes

MESSAGE_OF_SCANVI = "Passed in scvi model hasn't been trained yet."


class ConversionMixin:
    """Conversion from and to :class:`scvi.model.SCVI`."""

    module: Any
    adata: AnnData
    is_trained_: bool
    init_params_: dict[str, dict[str, Any]]
    registry_: dict[str, Any]
    has_trained_networks_: bool

    @classmethod
    def from_scvi_model(cls, scvi_model: SCVI, adata: AnnData | None = None, **kwargs: Any) -> Self:
        """Make a model with the networks of a trained scVI.

        Architecture, likelihood, covariates and embedding are those of ``scvi_model``. The prior is not
        fitted yet: :meth:`train` finds clusters in the embedding without a warm-up (``n_warmup_epochs=0``
        unless given), and then trains networks and prior jointly.

        Parameters
        ----------
        scvi_model
            Trained :class:`scvi.model.SCVI` with ``latent_distribution="normal"``.
        adata
            Data with the same genes and batches; those of ``scvi_model`` by default.
        **kwargs
            Arguments of :class:`SCVI_VMM` that scVI does not have, such as ``prior`` or ``n_components``.

        Returns
        -------
        Self
            An untrained model.

        Raises
        ------
        ValueError
            If ``scvi_model`` is not a :class:`scvi.model.SCVI`, is untrained, has no data or minified data,
            has a latent distribution other than normal, or is contradicted by ``kwargs``.
        """
        _check_is_usable(scvi_model, adata)
        architecture = _architecture_of(scvi_model)
        _check_consistent(kwargs, architecture)
        if adata is None:
            adata = scvi_model.adata
        else:
            known = registered_genes(scvi_model.registry_)
            adata = scvi_model._validate_anndata(in_order_of(adata, known, cls.__name__))
        registry = scvi_model.registry_
        cls.setup_anndata(  # type: ignore[attr-defined]
            adata, source_registry=registry, **registry[SETUP_ARGS_KEY]
        )
        model = cls(adata, **{**architecture, **kwargs})  # type: ignore[call-arg]
        model.module.load_state_dict({**model.module.state_dict(), **scvi_model.module.state_dict()})
        model.module.eval()
        model.has_trained_networks_ = True
        return model

    def to_scvi_model(self) -> SCVI:
        """Convert to a stock scVI, for models that are initialised from one.

        Embedding and decoder stay the same. The prior and its clusters are dropped, and the result has scVI's
        N(0, I) prior. For example, :class:`scvi.model.SCANVI` takes encoder and decoder and trains its own
        prior::

            scanvi = SCANVI.from_scvi_model(model.to_scvi_model(), "unknown", labels_key="cell_type")

        Returns
        -------
        SCVI
            A trained :class:`scvi.model.SCVI` of the same data.

        Raises
        ------
        RuntimeError
            If this model has not been trained.
        ValueError
            If the model holds no AnnData, for example after training with a data module.
        """
        if not self.is_trained_:
            raise RuntimeError("The model has not been trained: call `train` first.")
        if self.adata is None:
            raise ValueError("`to_scvi_model` needs the training data: load the model with `adata`.")
        params = {**self.init_params_["non_kwargs"]}
        for more in self.init_params_["kwargs"].values():
            params.update(more)
        known = inspect.signature(VAE).parameters
        SCVI.setup_anndata(self.adata, source_registry=self.registry_, **self.registry_[SETUP_ARGS_KEY])
        model = SCVI(self.adata, **{name: value for name, value in params.items() if name in known})
        state = self.module.state_dict()
        model.module.load_state_dict({name: state[name] for name in model.module.state_dict()})
        model.module.eval()
        model.to_device(self.module.device)
        model.is_trained_ = True
        return model

    def _check_if_trained(self, *args: Any, **kwargs: Any) -> None:
        # `SCANVI.from_scvi_model` calls this first; later it would fail on the prior's arguments
        if kwargs.get("message") == MESSAGE_OF_SCANVI:
            raise ValueError(
                "An SCVI_VMM cannot be converted to SCANVI directly, because SCANVI has its own prior: pass "
                "`model.to_scvi_model()`, which drops the prior."
            )
        super()._check_if_trained(*args, **kwargs)  # type: ignore[misc]


def _check_is_usable(scvi_model: Any, adata: AnnData | None) -> None:
    if not isinstance(scvi_model, SCVI) or type(scvi_model.module) is not VAE:
        raise ValueError(
            f"`scvi_model` must be a `scvi.model.SCVI`, found {type(scvi_model).__module__}."
            f"{type(scvi_model).__name__}."
        )
    if not scvi_model.is_trained:
        raise ValueError("`scvi_model` has not been trained: train it first, or make an SCVI_VMM directly.")
    if scvi_model.module.latent_distribution != "normal":
        raise ValueError(
            f"`scvi_model` has `latent_distribution={scvi_model.module.latent_distribution!r}`; expected "
            "'normal', because the prior is a density on untransformed latent positions."
        )
    if scvi_model.minified_data_type is not None and adata is None:
        raise ValueError("`scvi_model` has minified data: pass the full counts as `adata`.")
    if adata is None and scvi_model.adata is None:
        raise ValueError("`scvi_model` has no data: pass them as `adata`.")


def _architecture_of(scvi_model: SCVI) -> dict[str, Any]:
    """Arguments of the constructor that give the same networks."""
    params: dict[str, Any] = dict(scvi_model.init_params_["non_kwargs"])
    for more in scvi_model.init_params_["kwargs"].values():
        params.update(more)
    # scVI's default differs from that of this model
    params["encode_covariates"] = scvi_model.module.encode_covariates
    return params


def _check_consistent(kwargs: dict[str, Any], architecture: dict[str, Any]) -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(VAE).parameters.items()}
    for name, value in kwargs.items():
        expected = architecture.get(name, defaults.get(name, value))
        if value != expected:
            raise ValueError(
                f"`{name}` is {value!r}, but `scvi_model` has {expected!r}: leave the argument out, or train "
                "an SCVI_VMM from scratch."
            )
