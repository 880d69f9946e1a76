"""Decisions made again from what was stored of them."""
