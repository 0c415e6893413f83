"""The facts on which a training depends: defaults of the model, its prior, and the split of its cells."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vmmscvi.model._pace import DEFAULT_BATCH_SIZE, LEARNING_RATE
from vmmscvi.priors import Prior
from vmmscvi.train._single_cells import has_batch_norm


@dataclass(frozen=True)
class TrainingDefaults:
    """Training defaults of a class of models.

    Attributes
    ----------
    lr, prior_lr_ratio
        Learning rate of the networks, and the ratio of the prior's learning rate to it.
    batch_size
        Cells in a minibatch.
    kl_warmup
        Share of the warm-up during which the weight of the Kullback-Leibler term rises from 0 to 1.
    plan
        Further arguments of the training plan.
    """

    lr: float = LEARNING_RATE
    prior_lr_ratio: float = 5.0
    batch_size: int = DEFAULT_BATCH_SIZE
    kl_warmup: float = 0.0
    plan: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingFacts:
    """Facts about a model and its data on which a training request depends.

    Attributes
    ----------
    prior
        The prior before training.
    n_obs
        Number of cells, ``None`` if a data module does not provide it.
    n_train, n_validation
        Numbers of training and validation cells; ``None`` if unknown.
    has_trained_networks
        Whether the networks come from another trained model and need no warm-up.
    has_batch_norm
        Whether the networks have batch normalisation, which needs at least two cells.
    defaults
        Training defaults of the model.
    """

    prior: Prior
    n_obs: int | None
    n_train: int | None
    n_validation: int | None
    has_trained_networks: bool = False
    has_batch_norm: bool = True
    defaults: TrainingDefaults = TrainingDefaults()

    @classmethod
    def of(
        cls, model: Any, batch_size: int | None, split: Mapping[str, float | None], kwargs: Mapping[str, Any]
    ) -> TrainingFacts:
        """Collect the facts of a training that is about to start.

        Parameters
        ----------
        model
            The model.
        batch_size
            Cells in a minibatch; ``None`` for the default.
        split
            ``train_size`` and ``validation_size``.
        kwargs
            Further arguments of ``train``.

        Returns
        -------
        TrainingFacts
            Facts of model and data.
        """
        datamodule = kwargs.get("datamodule")
        n_train: int | None
        n_validation: int | None
        if datamodule is None:
            n_obs: int | None = model.adata.n_obs
            size = model.training_defaults.batch_size if batch_size is None else batch_size
            arguments = {**split, "batch_size": size, **(kwargs.get("datasplitter_kwargs") or {})}
            n_train, n_validation = count_split(model._data_splitter_cls, model.adata_manager, arguments)
        else:
            n_obs = getattr(datamodule, "n_obs", None)
            shuffles = kwargs.get("shuffle_set_split", True)
            n_train, n_validation = divide_cells_of(datamodule, split, batch_size, shuffles)
        return cls(
            prior=model.module.latent_prior,
            n_obs=n_obs,
            n_train=n_train,
            n_validation=n_validation,
            has_trained_networks=model.has_trained_networks_,
            has_batch_norm=has_batch_norm(model.module),
            defaults=model.training_defaults,
        )


def check_last_minibatch(
    facts: TrainingFacts, batch_size: int, kwargs: Mapping[str, Any], n_processes: int = 1
) -> None:
    """Check that there is a minibatch, and that none has a single cell if there is batch normalisation.

    Parameters
    ----------
    facts
        The model and its data.
    batch_size
        Cells in a minibatch.
    kwargs
        Further arguments of the training.
    n_processes
        Number of processes; the training cells are divided equally.

    Raises
    ------
    ValueError
        If a check fails; the message suggests an argument.
    """
    drops_last = bool((kwargs.get("datasplitter_kwargs") or {}).get("drop_last"))
    n_train = facts.n_train and math.ceil(facts.n_train / n_processes)
    if kwargs.get("limit_train_batches") == 0 or (drops_last and n_train and n_train < batch_size):
        raise ValueError(
            f"There is no minibatch to train on: found {n_train} training cells, `batch_size={batch_size}`, "
            f"`drop_last={drops_last}`, `limit_train_batches={kwargs.get('limit_train_batches')}`. Change "
            "one of them."
        )
    if batch_size == 1 and facts.has_batch_norm:
        raise ValueError(
            "Every minibatch has a single cell (`batch_size=1`), but batch normalisation needs two. Pass "
            f"`batch_size={_other_batch_size(n_train or 0, DEFAULT_BATCH_SIZE + 1)}`."
        )
    if n_train and n_train % batch_size == 1 and facts.has_batch_norm and not drops_last:
        other = _other_batch_size(n_train, batch_size)
        raise ValueError(
            f"The last minibatch has a single cell ({n_train} training cells, `batch_size={batch_size}`), "
            f"but batch normalisation needs two. Pass `batch_size={other}` or "
            "`datasplitter_kwargs={'drop_last': True}`."
        )


def _other_batch_size(n_train: int, batch_size: int) -> int:
    """Return a similar batch size whose last minibatch has more than one cell."""
    return next((b for b in range(batch_size - 1, 1, -1) if n_train % b != 1), max(n_train, 2))


def count_split(splitter_cls: Any, adata_manager: Any, arguments: Mapping[str, Any]) -> tuple[int, int]:
    """Count training and validation cells in the split of scvi-tools.

    Parameters
    ----------
    splitter_cls
        The splitter's class.
    adata_manager
        Manager of the data.
    arguments
        Arguments of the splitter.

    Returns
    -------
    tuple[int, int]
        Numbers of training and validation cells.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same warnings follow at the actual split
        splitter = splitter_cls(adata_manager, **arguments)
    return int(splitter.n_train), int(splitter.n_val)


def divide_cells_of(
    datamodule: Any, split: Mapping[str, float | None], batch_size: int | None, shuffles: bool
) -> tuple[int, int | None]:
    """Split the cells of a data module as training will, and count both parts.

    scvi-tools 1.5 calls ``set_split`` of a data module when training begins. This is too late to know whether
    there are validation cells, so it is called here with the same arguments.

    Parameters
    ----------
    datamodule
        The data module.
    split
        ``train_size`` and ``validation_size``.
    batch_size
        Cells in a minibatch, or that of the module.
    shuffles
        Whether training cells are shuffled.

    Returns
    -------
    tuple[int, int | None]
        Numbers of training and validation cells; the latter is ``None`` if unknown.
    """
    if hasattr(datamodule, "set_split"):
        sizes = split if any(size is not None for size in split.values()) else {"train_size": 0.9}
        datamodule.set_split(**sizes, shuffle_set_split=shuffles, batch_size=batch_size)
    n_obs = getattr(datamodule, "n_obs", None)
    train_idx = getattr(datamodule, "train_idx", None)
    n_train = int(0.9 * (n_obs or 0)) if train_idx is None else len(train_idx)
    return n_train, getattr(datamodule, "n_val", None)
