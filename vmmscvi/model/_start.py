"""How a prior of cells starts from the embedding: which cells are embedded, and what a mean cell is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from scvi import REGISTRY_KEYS, settings
from scvi.module._constants import MODULE_KEYS
from torch import Tensor
from torch.nn.functional import one_hot

from vmmscvi.model._initialization import dense
from vmmscvi.model._training_cells import training_cells
from vmmscvi.module import PseudoCells
from vmmscvi.module._prior_owner import evaluation_mode
from vmmscvi.train._start import LARGEST_SAMPLE, StartFromClusters

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from vmmscvi.module import VMMVAE, PseudoInputs

LARGEST_MATRIX = 100_000_000
"""Values of the expression matrix of these cells that are held in memory at most (400 MB)."""
SMALLEST_SAMPLE = 2000
"""Cells that are used however many genes there are."""


class StartFromEmbedding(StartFromClusters):
    """The start of a prior from clusters of cells; pseudo-cells are the clusters' mean profiles.

    Parameters
    ----------
    n_warmup_epochs, n_effective
        See :class:`vmmscvi.train._start.StartFromClusters`.
    """

    @property
    def seed(self) -> int:
        """scvi-tools' seed."""
        return settings.seed or 0

    def embed(self, trainer: pl.Trainer, module: VMMVAE) -> Sample:
        """Embed training cells."""
        n_cells = max(SMALLEST_SAMPLE, min(LARGEST_SAMPLE, LARGEST_MATRIX // module.n_input))
        return embed(module, training_cells(trainer.datamodule, n_cells))  # type: ignore[attr-defined]

    def fill_pseudo_inputs(self, module: VMMVAE, sample: Sample, shares: Tensor) -> None:
        """Set the pseudo-cells to the clusters' mean cells."""
        pseudo_inputs = cast("PseudoInputs", module.pseudo_inputs)
        pseudo_inputs.fill(_mean_cells(sample, shares, pseudo_inputs, module.n_batch))

    def note_start(self, trainer: pl.Trainer, n_components: int) -> None:
        """Tell the model, whose saved arguments describe the module."""
        super().note_start(trainer, n_components)
        model: Any = getattr(trainer, "_model", None)
        if model is not None:
            model.init_params_["non_kwargs"]["n_components"] = n_components
            model.has_fitted_prior_ = True


class Sample(NamedTuple):
    """Cells: means and variances of posteriors ``(n, p)``, log1p of counts ``(n, n_genes)``, covariates."""

    z: Tensor
    variance: Tensor
    log_counts: Tensor
    batch: Tensor
    continuous: Tensor | None
    categorical: Tensor | None


@torch.no_grad()
def embed(module: VMMVAE, minibatches: Iterable[dict[str, Tensor]]) -> Sample:
    """Encode cells in evaluation mode, and keep what pseudo-cells are averaged from."""
    columns: dict[str, list[Tensor]] = {name: [] for name in Sample._fields}
    for tensors in minibatches:
        tensors = {**tensors, REGISTRY_KEYS.X_KEY: dense(tensors[REGISTRY_KEYS.X_KEY])}
        with evaluation_mode(module):
            qz = module.inference(**module._get_inference_input(tensors))[MODULE_KEYS.QZ_KEY]
        values = {
            "z": qz.loc,
            "variance": qz.variance,
            "log_counts": torch.log1p(tensors[REGISTRY_KEYS.X_KEY].float()),
            "batch": tensors[REGISTRY_KEYS.BATCH_KEY],
            "continuous": tensors.get(REGISTRY_KEYS.CONT_COVS_KEY),
            "categorical": tensors.get(REGISTRY_KEYS.CAT_COVS_KEY),
        }
        for name, value in values.items():
            if value is not None:
                columns[name].append(value.cpu())
    return Sample(**{name: torch.cat(parts) if parts else None for name, parts in columns.items()})  # type: ignore[arg-type]


def _mean_cells(sample: Sample, shares: Tensor, pseudo_inputs: PseudoInputs, n_batch: int) -> PseudoCells:
    """Mean cell of every cluster on the scale of the encoder; ``shares`` is ``(K, n)``, rows sum to one."""
    device = pseudo_inputs.expression.device
    categorical: tuple[Tensor, ...] = ()
    if sample.categorical is not None:
        n_categories = [logits.shape[-1] for logits in pseudo_inputs.category_logits]
        codes = sample.categorical[:, : len(n_categories)].long().unbind(1)
        categorical = tuple(shares @ one_hot(c, n).float() for c, n in zip(codes, n_categories, strict=True))
    return PseudoCells(
        counts=torch.expm1(shares @ sample.log_counts).to(device),
        batch=(shares @ one_hot(sample.batch.long().ravel(), max(n_batch, 1)).float()).to(device),
        continuous=None if sample.continuous is None else (shares @ sample.continuous.float()).to(device),
        categorical=tuple(probabilities.to(device) for probabilities in categorical),
    )
