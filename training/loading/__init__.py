"""The loader's inside: what runs ahead of the trainer, and in which order."""
