"""Measurements of steering, one a file; benchmarks/steering.py is their command line."""
