"""Translate messages of the library for the command line: options instead of Python arguments."""

from __future__ import annotations

import re

ARGUMENTS = (
    "batch_key",
    "layer",
    "n_components",
    "n_latent",
    "n_clusters",
    "n_effective",
    "min_size",
    "max_epochs",
    "accelerator",
    "seed",
)
"""Arguments with an option of the same name."""
REPLACED: tuple[tuple[str, str], ...] = (
    (r"with `setup_anndata\(adata, layer=\.\.\.\)`", "with --layer"),
    (
        r", or register the layer that holds the raw counts",
        ", or pass the layer of the raw counts as --layer",
    ),
    (r"`setup_anndata\(adata, layer=\.\.\.\)`", "--layer"),
    (
        r", and `SCVI_VMM\.train` will refuse anything else unless `gene_likelihood='normal'`\. Register",
        ". Register",
    ),
    (
        r"Try a smaller learning rate \(`lr`\), `plan_kwargs=\{'gradient_clip_val': 10\.0\}`, "
        r"`gene_likelihood='nb'`, or a check of the data",
        "Try another --seed, or fewer genes (--hvg), or check the data",
    ),
    (r", for example with `scanpy\.pp\.filter_cells\(.*?\)`, after the selection of genes", " from the file"),
    (r"`adata\.layers\[(['\"])(.+?)\1\]`", r"layer \2"),
    (r"`adata\.obs\[(['\"])(.+?)\1\]`", r"column \2 of obs"),
    (r"`adata\.obs`", "obs"),
    (r"`adata\.X`", "X"),
    (r"`adata`", "the file"),
    (rf"`({'|'.join(ARGUMENTS)})`", r"--\1"),
)
"""Patterns and their replacements, applied in this order."""
OPTION = re.compile(r"--[a-z]+(?:_[a-z]+)+")


def in_options(message: str) -> str:
    """Rewrite a message of the library.

    Parameters
    ----------
    message
        Message of an exception or of the log.

    Returns
    -------
    str
        The message with options instead of arguments.
    """
    for pattern, words in REPLACED:
        message = re.sub(pattern, words, message)
    return OPTION.sub(lambda found: found.group().replace("_", "-"), message)
