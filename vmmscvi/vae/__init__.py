"""A plain VAE with the priors of this package, for images and other arrays, as scikit-learn estimators."""

from vmmscvi.vae._joint_mixture import JointGaussianMixture
from vmmscvi.vae._networks import cnn_decoder, cnn_encoder, mlp_decoder, mlp_encoder
from vmmscvi.vae._surgery import ElboSurgery, elbo_surgery
from vmmscvi.vae._vade import VaDE
from vmmscvi.vae._vae import VAE

__all__ = [
    "VAE",
    "ElboSurgery",
    "JointGaussianMixture",
    "VaDE",
    "cnn_decoder",
    "cnn_encoder",
    "elbo_surgery",
    "mlp_decoder",
    "mlp_encoder",
]
