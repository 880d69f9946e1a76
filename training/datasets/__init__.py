"""Graphs to train on: `registry.load_dataset` loads one by its name, as checked arrays."""
