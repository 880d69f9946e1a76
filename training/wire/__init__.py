"""Requests to the graph servers of other partitions, over DGL's RPC."""
