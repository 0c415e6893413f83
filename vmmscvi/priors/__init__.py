"""Priors on a latent space: densities, empirical-Bayes objectives, samples.

Nothing here depends on cells, genes or encoders.
"""

from vmmscvi.priors import functional, hyperpriors
from vmmscvi.priors._adapted_mixture import AdaptedMixture, adapt_mixture, moments_of
from vmmscvi.priors._base import Centers, Prior, entropy
from vmmscvi.priors._bayesian_mixture import BayesianMixturePrior
from vmmscvi.priors._closed_form import EmpiricalBayesLoss
from vmmscvi.priors._component_labels import FREE, ComponentLabels
from vmmscvi.priors._config import PriorConfig, PriorName
from vmmscvi.priors._empirical_bayes import Inference
from vmmscvi.priors._found_mixture import CoarsenedMixture
from vmmscvi.priors._gaussian_mixture import GaussianMixturePrior, VampPriorMixture
from vmmscvi.priors._generative import generative_model
from vmmscvi.priors._labelled_cells import LabelledCells
from vmmscvi.priors._labelled_mixture import LabelledMixturePrior
from vmmscvi.priors._latent_map import GaussianMoments, LatentMap
from vmmscvi.priors._mixture import MixturePrior
from vmmscvi.priors._standard_normal import StandardNormalPrior
from vmmscvi.priors._state import PriorState
from vmmscvi.priors._tree_fitting import fit_cluster_tree
from vmmscvi.priors._vampprior import VampPrior
from vmmscvi.priors._wishart import WishartScale, wishart_scale_factor
from vmmscvi.priors.cluster_tree import ClusterTree
from vmmscvi.priors.coarsened import N_EFFECTIVE, fit_coarsened_mixture

__all__ = [
    "FREE",
    "N_EFFECTIVE",
    "AdaptedMixture",
    "BayesianMixturePrior",
    "Centers",
    "ClusterTree",
    "CoarsenedMixture",
    "ComponentLabels",
    "EmpiricalBayesLoss",
    "GaussianMixturePrior",
    "GaussianMoments",
    "Inference",
    "LabelledCells",
    "LabelledMixturePrior",
    "LatentMap",
    "MixturePrior",
    "Prior",
    "PriorConfig",
    "PriorName",
    "PriorState",
    "StandardNormalPrior",
    "VampPrior",
    "VampPriorMixture",
    "WishartScale",
    "adapt_mixture",
    "entropy",
    "fit_cluster_tree",
    "fit_coarsened_mixture",
    "functional",
    "generative_model",
    "hyperpriors",
    "moments_of",
    "wishart_scale_factor",
]
