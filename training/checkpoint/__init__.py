"""Checkpoints: what a run needs to go on after it was ended."""
