"""Neighbour sampling on one partition's in-edges, and the blocks made of it."""
