"""Range of seeds on the command line."""

LARGEST_SEED = 2**32 - 1
"""Largest seed of NumPy's legacy generator, which scvi-tools and scikit-learn use."""
