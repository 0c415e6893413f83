"""Modules with an interchangeable prior, and the pseudo-inputs that its centres are encoded from."""

from vmmscvi.module._encoder_inputs import EncoderInputs, EncoderLayout, InputValues
from vmmscvi.module._prior_loss import with_prior
from vmmscvi.module._prior_module import PriorModuleMixin
from vmmscvi.module._vmmvae import VMMVAE, PseudoInputSpace

__all__ = [
    "VMMVAE",
    "EncoderInputs",
    "EncoderLayout",
    "InputValues",
    "PriorModuleMixin",
    "PseudoInputSpace",
    "with_prior",
]
