"""Modules with an interchangeable prior, and the pseudo-inputs from which its centres are encoded."""

from vmmscvi.module._encoder_inputs import EncoderInputs, EncoderLayout, InputValues
from vmmscvi.module._ldvae import LDVMMVAE
from vmmscvi.module._multivae import MULTIVMMVAE
from vmmscvi.module._peakvae import PEAKVMMVAE
from vmmscvi.module._poissonvae import POISSONVMMVAE
from vmmscvi.module._prior_arguments import PriorArgumentsMixin
from vmmscvi.module._prior_loss import with_prior
from vmmscvi.module._prior_module import PriorModuleMixin
from vmmscvi.module._totalvae import TOTALVMMVAE
from vmmscvi.module._vmmvae import VMMVAE, PseudoInputSpace

__all__ = [
    "LDVMMVAE",
    "MULTIVMMVAE",
    "PEAKVMMVAE",
    "POISSONVMMVAE",
    "TOTALVMMVAE",
    "VMMVAE",
    "EncoderInputs",
    "EncoderLayout",
    "InputValues",
    "PriorArgumentsMixin",
    "PriorModuleMixin",
    "PseudoInputSpace",
    "with_prior",
]
