r"""Number of clusters of an embedding: a variational Gaussian mixture with a coarsened likelihood and merges.

Clusters of cells are not Gaussian. With more cells, any mixture therefore finds more components, which
describe ever smaller details. A *coarsened* posterior (Miller & Dunson, JASA 2019) asks instead which
mixtures agree with the data up to a departure that ``n_effective`` cells could not distinguish from chance:
the likelihood is raised to the power ``n_effective / n_obs``. The number of components then depends on one
interpretable number, ``n_effective``, and hardly on the number of cells, on step sizes or on the
initialisation.

The model is that of the paper with a conjugate prior on the centres,

.. math::
    \pi \sim Dirichlet(a_0, \ldots), \quad \Lambda_j \sim Wishart(p + 2, c I), \quad
    \mu_j | \Lambda_j \sim N(0, (\kappa_0 \Lambda_j)^{-1}),

so the free energy of responsibilities :math:`r` has a closed form,
:math:`F(r) = \sum_j \log Z_j(r) + \log DM(r) + \omega H(r)`, with :math:`Z_j` the marginal likelihood of a
component, :math:`DM` the Dirichlet-multinomial and :math:`\omega` the power. Responsibilities maximise
:math:`F`; empty components contribute nothing to it.

Components are merged while this raises the integrated classification likelihood (Biernacki, Celeux & Govaert,
IEEE TPAMI 2000), :math:`F(r) - \omega H(r)`. A mixture that describes a density may use several overlapping
components for one cluster; a mixture of clusters must not. The paper's empirical-Bayes step also penalises
the entropy of the assignments, because it keeps the responsibilities in the gradient.

The width and shape of clusters, their similarity and their distances depend on the data: more genes and
deeper counts make clusters narrower, and some directions of an embedding may hardly be used. The scale matrix
and degrees of freedom of the Wishart prior and the confidence :math:`\kappa_0` of the prior on centres are
therefore learned as well. They maximise the likelihood of the clusters and are updated while components are
merged. If clusters have similar covariances, a further cluster costs little more than its centre, and many
small ones can be resolved. If covariances differ, the prior is as vague as in the paper. If clusters are
crowded, as in embeddings of chromatin accessibility, a further centre costs less. Learning the prior only at
the end would be too late: a vague prior merges similar neighbours, and their union then makes the learned
prior expect wide clusters. The result is nearly invariant to linear maps of the embedding. The effect of
depth on the distance of cells from the centre can be removed first (:mod:`vmmscvi.priors._depth`).
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from vmmscvi.priors._depth import Coordinates, undo_depth
from vmmscvi.priors._embeddings import as_finite_matrix
from vmmscvi.priors._evidence import Wishart
from vmmscvi.priors._found_mixture import CoarsenedMixture
from vmmscvi.priors._labelled_cells import LabelledCells
from vmmscvi.priors._merge_search import SearchTask, likelihood_of, one_cluster, search

N_EFFECTIVE = 500.0
"""Default effective sample size."""


def fit_coarsened_mixture(
    z: Tensor | np.ndarray,
    n_components: int = 60,
    n_effective: float | None = None,
    wishart_scale_factor: float | None = None,
    seed: int = 0,
    n_starts: int = 4,
    wishart_df: float | None = None,
    labels: LabelledCells | None = None,
    log_depth: Tensor | None = None,
) -> CoarsenedMixture:
    """Fit a mixture of Gaussians to an embedding, and find its number of components.

    The search is initialised by k-means with many components. It alternates coordinate ascent with the best
    merge while merging raises the integrated classification likelihood, and learns the Wishart prior at the
    same time. Labels of cells are part of the data, see :mod:`vmmscvi.priors._labelled_cells`.

    Parameters
    ----------
    z
        Embedding, shape ``(n_obs, p)``, for example posterior means.
    n_components
        Initial and largest number of components.
    n_effective
        Effective sample size: the weight of the data against the prior, in cells. Smaller values give fewer
        components; a rare group needs a share of about two cells in ``n_effective``. Values above ``n_obs``
        are replaced by ``n_obs``; ``None`` stands for 500.
    wishart_scale_factor
        ``c`` of a Wishart prior on precisions with scale matrix ``c I``. By default, scale matrix and degrees
        of freedom are learned.
    seed
        Seed of k-means.
    n_starts
        Number of searches, each from another k-means; a single search may end with a merge too few or too
        many. The result with the best classification likelihood is returned.
    wishart_df
        With ``wishart_scale_factor``: degrees of freedom, more than ``p - 1``; ``p + 2`` by default.
    labels
        Labels of some cells. Every label receives at least one component; other components stay free.
    log_depth
        Logarithm of each cell's depth, shape ``(n_obs,)``, for embeddings that place shallow cells closer to
        the centre.

    Returns
    -------
    CoarsenedMixture
        The mixture, in float64 on the CPU.

    Raises
    ------
    ValueError
        If ``z`` or ``log_depth`` is not finite or has another shape, or an argument is not positive.
    """
    z = as_finite_matrix(z)
    p = z.shape[1]
    learns_wishart = wishart_scale_factor is None
    centered = z - z.mean(0) if learns_wishart else z  # a given prior is centred at the origin
    c = 1.0 / (p + 2) if wishart_scale_factor is None else wishart_scale_factor
    if (
        n_components < 1
        or n_starts < 1
        or not 0 < c < math.inf
        or not (n_effective is None or n_effective > 0)
    ):
        raise ValueError(
            "`n_components`, `n_effective`, `wishart_scale_factor` and `n_starts` must be positive, found "
            f"n_components={n_components}, n_effective={n_effective}, wishart_scale_factor={c}, "
            f"n_starts={n_starts}."
        )
    if wishart_df is not None and (learns_wishart or not p - 1 < wishart_df < math.inf):
        raise ValueError(
            f"`wishart_df` needs `wishart_scale_factor` and must be more than {p - 1}, found {wishart_df}."
        )
    wishart = Wishart.of_paper(c, p) if wishart_df is None else Wishart(c, wishart_df)
    seeds = np.random.default_rng(seed).integers(2**31, size=n_starts).tolist()
    n_effective = min(N_EFFECTIVE if n_effective is None else n_effective, len(z))
    coordinates = Coordinates(centered) if log_depth is None else undo_depth(centered, log_depth)
    task = SearchTask(coordinates, n_effective, n_components, wishart, learns_wishart, labels)
    best = search(task, task.first_prior(seeds[0]), seeds[0])
    for start in seeds[1:]:
        best = max(best, search(task, best.prior, start), key=likelihood_of)
    return max(best, one_cluster(task), key=likelihood_of).mixture(z)
