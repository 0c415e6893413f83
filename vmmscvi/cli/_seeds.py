"""What a seed on the command line may be."""

LARGEST_SEED = 2**32 - 1
"""NumPy's legacy generator, which scvi-tools and scikit-learn seed, takes no larger one."""
