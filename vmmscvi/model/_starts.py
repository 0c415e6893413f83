"""Turn a training request into the initialisation of the prior."""

from __future__ import annotations

from scvi.data import AnnDataManager

from vmmscvi.model._request import TrainingRequest
from vmmscvi.model._training_facts import TrainingFacts
from vmmscvi.model._validation import check_n_components, check_start_cells
from vmmscvi.priors import MixturePrior
from vmmscvi.starts import FromCells, FromEmbedding, FromLabels, Start


def start_for(
    request: TrainingRequest,
    facts: TrainingFacts,
    adata_manager: AnnDataManager | None,
    max_components: int | None,
) -> Start | None:
    """Make the initialisation that a request names.

    Parameters
    ----------
    request
        The training request.
    facts
        The model and its data.
    adata_manager
        Manager of the training data, ``None`` if a data module holds them.
    max_components
        Largest number of components that the search may find.

    Returns
    -------
    Start | None
        The initialisation; ``None`` if the prior is not initialised in this training.

    Raises
    ------
    ValueError
        If the data do not suit the initialisation.
    """
    if request.start is None:
        return None
    if request.start == "labels":
        return FromLabels.of_registered(
            adata_manager,
            request.unlabeled_category,
            request.n_effective,
            request.label_noise,
            max_components,
        )
    if request.start == "embedding":
        return FromEmbedding(request.n_effective, max_components)
    prior = facts.prior
    if prior.uses_pseudo_inputs and isinstance(prior, MixturePrior) and adata_manager is not None:
        check_n_components(prior.n_components, facts.n_train or 0)
        check_start_cells(request.start_cells, prior.n_components, facts.n_obs)
    elif request.start_cells is not None:
        raise ValueError(
            "`start_cells` needs AnnData, because cells of a data module have no positions: leave it out."
        )
    return FromCells(request.start_cells)
