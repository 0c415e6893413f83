"""scVI's VAE with an interchangeable prior, and the pseudo-cells that its centres are encoded from."""

from vmmscvi.module._build_prior import PriorName, build_prior
from vmmscvi.module._pseudo_inputs import PseudoCells, PseudoInputs, PseudoInputSpace
from vmmscvi.module._vmmvae import VMMVAE

__all__ = ["VMMVAE", "PriorName", "PseudoCells", "PseudoInputSpace", "PseudoInputs", "build_prior"]
