"""A simulated trainer, and comparisons of planners on it."""
