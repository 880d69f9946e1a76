"""Typed tools: what agents may read of a run and what they may change in it."""
