"""Replays recorded traces without a cluster, to find what any policy would have fetched."""
